package sqlstmt_test

import (
	"runtime"
	"strings"
	"testing"

	"hubpg/internal/sqlstmt"

	"github.com/google/go-cmp/cmp"
)

// told is an effect as the tables below write it.
type told struct {
	Text     string
	Control  sqlstmt.Control
	Point    string
	Targets  string
	Calls    string
	CopyIn   bool
	Do       bool
	Code     string
	Executes string
	Prepares string
}

func tell(text string) []told {
	var out []told
	for _, e := range sqlstmt.Effects(text) {
		t := told{
			Text: text[e.Start:e.End], Control: e.Control, Point: e.Savepoint, CopyIn: e.CopyIn, Do: e.Do, Code: e.Code,
			Executes: e.Executes, Prepares: e.Prepares, Targets: join(e.Targets),
		}
		for _, c := range e.Calls {
			if c.Name == "f" {
				t.Calls = join([]sqlstmt.Name{c})
			}
		}
		out = append(out, t)
	}
	return out
}

func join(names []sqlstmt.Name) string {
	var parts []string
	for _, n := range names {
		if n.Schema != "" {
			n.Name = n.Schema + "." + n.Name
		}
		parts = append(parts, n.Name)
	}
	return strings.Join(parts, ",")
}

func TestEffectsNamesWhatAStatementMakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`create function f() returns int language sql as 'select 1'`:                                       "f",
		`CREATE OR REPLACE FUNCTION pg_temp.testfunc(OUT a hubspot.contacts) RETURNS record AS $$ x $$`:    "pg_temp.testfunc",
		`create procedure "App"."Do It"(a int) language sql begin atomic select 1; end`:                    "App.Do It",
		`create or replace temp recursive view v (a) as select 1`:                                          "v",
		`create trigger t after update of a, b or insert on app.signups for each row execute function f()`: "app.signups",
		`create constraint trigger t after insert on signups for each row execute function f()`:            "signups",
		`create rule r as on insert to app.v do instead insert into hubspot.contacts values (1)`:           "app.v",
		`create or replace rule "on" as on update to db.app.v do nothing`:                                  "app.v",
		`create index on app.t (f(a))`:      "",
		`create table f (a int)`:            "",
		`drop function f()`:                 "",
		`create function`:                   "",
		`create trigger t on`:               "",
		`grant select on app.t to function`: "",
		`select create_function('f')`:       "",
	} {
		if got := join([]sqlstmt.Name{sqlstmt.Effects(text)[0].Makes}); got != want {
			t.Errorf("%s: makes %q, want %q", text, got, want)
		}
	}
}

func TestEffectsNamesWhatAStatementChanges(t *testing.T) {
	t.Parallel()
	for text, targets := range map[string]string{
		`insert into hubspot.contacts (email) values ('a') returning id`:                           "hubspot.contacts",
		`INSERT INTO "hubspot"."contacts" AS c VALUES (1)`:                                         "hubspot.contacts",
		`insert into crm.hubspot.deals default values`:                                             "hubspot.deals",
		`insert /* into a */ into -- b` + "\n" + ` Contacts select 1`:                              "contacts",
		`update only contacts set a = 1 from b`:                                                    "contacts",
		`update contacts set a = 'x;y' where b in (select 1)`:                                      "contacts",
		`delete from hubspot . deals using contacts c`:                                             "hubspot.deals",
		`delete from only (deals)`:                                                                 "deals",
		`merge into tickets t using x on true when matched then delete`:                            "tickets",
		`with a as (insert into x select 1 returning *), b as (delete from y) update z set q = 1`:  "x,y,z",
		`copy contacts (a, b) from stdin with (format csv)`:                                        "contacts",
		`copy hubspot.contacts from '/etc/passwd'`:                                                 "hubspot.contacts",
		`copy contacts to stdout`:                                                                  "",
		`copy (select 1) to stdout`:                                                                "",
		`copy (update contacts set a = 1 returning id) to stdout`:                                  "contacts",
		`copy (with x as (delete from deals returning 1) select 1 from x) to stdout (format csv)`:  "deals",
		`create temp table t as with x as (update contacts set a = 1 returning 1) select 1 from x`: "contacts",
		`create table t (a int references contacts on delete cascade on update cascade)`:           "cascade",
		`create or replace function f() returns int begin atomic update contacts set a = 1; end`:   "",
		`explain update contacts set a = 1`:                                                        "",
		`explain analyze update contacts set a = 1`:                                                "contacts",
		`explain (analyze, buffers) update contacts set a = 1`:                                     "contacts",
		`insert into a select 'update contacts set x', $$delete from deals$$`:                      "a",
		`insert into a values (E'it\'s; update contacts')`:                                         "a",
		`create rule r as on insert to a do (update contacts set b = 1; delete from c)`:            "",
		`create view v as select 1`:                                                                "",
		`grant update on contacts to x`:                                                            "",
		`update "we""ird" set a = 1`:                                                               `we"ird`,
	} {
		got := sqlstmt.Effects(text)
		if len(got) != 1 {
			t.Errorf("%s: %d statements", text, len(got))
			continue
		}
		if diff := cmp.Diff(targets, join(got[0].Targets)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestEffectsNamesNothingHarmful(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`select * from contacts for update`, `select * from a for no key update of contacts`,
		`insert into a values (1) on conflict (id) do update set contacts = 1`,
		`create trigger t before update or delete on contacts for each row execute function f()`,
	} {
		for _, e := range sqlstmt.Effects(text) {
			for _, n := range e.Targets {
				if n.Name == "contacts" {
					t.Errorf("%s: names contacts", text)
				}
			}
		}
	}
}

func TestEffectsSplitsAsPostgresDoes(t *testing.T) {
	t.Parallel()
	cases := map[string][]told{
		`;; select 1 ; -- end` + "\n;": {{Text: "select 1"}},
		`begin; update a set b = ';' ; commit and chain;`: {
			{Text: "begin", Control: sqlstmt.Begin},
			{Text: "update a set b = ';'", Targets: "a"},
			{Text: "commit and chain", Control: sqlstmt.Commit},
		},
		`savepoint "A b"; rollback work to savepoint "A b"; release A; abort; end; start transaction read only`: {
			{Text: `savepoint "A b"`, Control: sqlstmt.Savepoint, Point: "A b"},
			{Text: `rollback work to savepoint "A b"`, Control: sqlstmt.RollbackTo, Point: "A b"},
			{Text: `release A`, Control: sqlstmt.Release, Point: "a"},
			{Text: "abort", Control: sqlstmt.Rollback},
			{Text: "end", Control: sqlstmt.Commit},
			{Text: "start transaction read only", Control: sqlstmt.Begin},
		},
		`prepare transaction 'x'; commit prepared 'x'; rollback prepared 'x'`: {
			{Text: "prepare transaction 'x'", Control: sqlstmt.PrepareTwice},
			{Text: "commit prepared 'x'"},
			{Text: "rollback prepared 'x'"},
		},
		`prepare P (int) as update a set b = $1; execute p(1); explain analyze execute p(2)`: {
			{Text: "prepare P (int) as update a set b = $1", Targets: "a", Prepares: "p"},
			{Text: "execute p(1)", Executes: "p"},
			{Text: "explain analyze execute p(2)", Executes: "p"},
		},
		`select f(1), g(2); call x.f(); do $a$ begin f(); end $a$; copy t from stdin`: {
			{Text: "select f(1), g(2)", Calls: "f"},
			{Text: "call x.f()", Calls: "x.f"},
			{Text: "do $a$ begin f(); end $a$", Do: true, Code: " begin f(); end "},
			{Text: "copy t from stdin", Targets: "t", CopyIn: true},
		},
		`do language plpgsql 'begin ''x''; end'; DO $$;$$ LANGUAGE "plpgsql"; do $x$a$b$x$ language PLpgSQL`: {
			{Text: "do language plpgsql 'begin ''x''; end'", Do: true, Code: "begin 'x'; end"},
			{Text: `DO $$;$$ LANGUAGE "plpgsql"`, Do: true},
			{Text: "do $x$a$b$x$ language PLpgSQL", Do: true, Code: "a$b"},
		},
		`do E'a'; do 'a\b'; do 'a' 'b'; do $$ a $$ language plpython3u; do; do language; do $$; do 'a`: {
			{Text: "do E'a'", Do: true},
			{Text: `do 'a\b'`, Do: true},
			{Text: "do 'a' 'b'", Do: true},
			{Text: "do $$ a $$ language plpython3u", Do: true},
			{Text: "do", Do: true},
			{Text: "do language", Do: true},
			{Text: "do $$; do 'a", Do: true},
		},
		"do '": {{Text: "do '", Do: true}},
		`create function h() returns int begin atomic select case when true then 1 end; select 2; end; select 3`: {
			{Text: `create function h() returns int begin atomic select case when true then 1 end; select 2; end`},
			{Text: "select 3"},
		},
		`select $1, a$b$c; select "x;y", U&"z;" from t$; select 'open ; `: {
			{Text: "select $1, a$b$c"}, {Text: `select "x;y", U&"z;" from t$`}, {Text: "select 'open ; "},
		},
	}
	for text, want := range cases {
		if diff := cmp.Diff(want, tell(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestSieveLetsNoWriteThrough(t *testing.T) {
	t.Parallel()
	s := sqlstmt.NewSieve([]string{"contacts", "deals_contacts", "hubspot", "My Table"}, nil)
	for _, text := range []string{
		"update contacts set a = 1", "UPDATE Contacts", `insert into "hubspot"."x"`, "select 1; delete from contacts",
		"with a as (delete from deals_contacts) select 1", `delete from "My Table"`, "/* x */ update contacts",
	} {
		if !s.MayChange([]byte(text)) {
			t.Errorf("lost %q", text)
		}
	}
	for _, text := range []string{
		"", "select * from contacts", " SELECT * FROM hubspot.contacts; ", "update contacts2 set a = 1", "insert into mycontacts",
		"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 2",
	} {
		if s.MayChange([]byte(text)) {
			t.Errorf("cried wolf on %q", text)
		}
	}
	if !sqlstmt.NewSieve(nil, []string{"flag_deal"}).MayChange([]byte("select flag_deal(1)")) {
		t.Error("lost a function")
	}
}

func TestControlOfLooksAtTheFirstWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]sqlstmt.Control{
		"BEGIN": sqlstmt.Begin, " commit;": sqlstmt.Commit, "select 1": sqlstmt.NoControl, "/* x */ rollback": sqlstmt.Rollback,
		"rollback to a": sqlstmt.RollbackTo, "prepare a as select 1": sqlstmt.NoControl, "beginning": sqlstmt.NoControl, "": sqlstmt.NoControl,
	} {
		if got := sqlstmt.ControlOf([]byte(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func FuzzEffects(f *testing.F) {
	for _, seed := range []string{"update a set b = 1; delete from c", "select 'x", `"`, "$a$", "begin atomic", "(;)", "U&'", "copy ("} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		for _, e := range sqlstmt.Effects(text) {
			if e.Start < last || e.End <= e.Start || e.End > len(text) {
				t.Fatalf("range %d..%d after %d in %q", e.Start, e.End, last, text)
			}
			last = e.End
		}
		sqlstmt.ControlOf([]byte(text))
	})
}

// FuzzSieve holds that no statement which is seen to change a table gets past the sieve.
func FuzzSieve(f *testing.F) {
	for _, seed := range []string{"update contacts set a = 1", `insert into "hubspot"."x"`, "merge into Hubspot . contacts", "select 1; delete from only contacts", "copy contacts from stdin", `update"contacts"`} {
		f.Add(seed)
	}
	s := sqlstmt.NewSieve([]string{"contacts", "hubspot"}, []string{"f"})
	f.Fuzz(func(t *testing.T, text string) {
		for e := range sqlstmt.EachEffect(text) {
			for _, n := range e.Targets {
				if (n.Name == "contacts" || n.Schema == "hubspot") && !s.MayChange([]byte(text)) {
					t.Fatalf("the sieve lost %+v of %q", n, text)
				}
			}
		}
	})
}

func BenchmarkSieve(b *testing.B) {
	s := sqlstmt.NewSieve([]string{"contacts", "companies", "deals", "hubspot"}, nil)
	for name, text := range map[string]string{
		"select": "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
		"update": "UPDATE pgbench_accounts SET abalance = abalance + 12 WHERE aid = 12345;",
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				if s.MayChange(text) {
					b.Fatal("found")
				}
			}
		})
	}
}

func TestEffectsOfATextOfManyStatementsTakeNoMemory(t *testing.T) {
	text := strings.Repeat("a;", 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for range sqlstmt.EachEffect(text) {
		n++
	}
	_, one := sqlstmt.Single(text)
	runtime.ReadMemStats(&after)
	if n != 1<<20 || one {
		t.Errorf("%d statements, one: %v", n, one)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 { // all of them take 128 MiB
		t.Errorf("%d bytes", took)
	}
	for text, want := range map[string]bool{"": false, " ; ;": false, "a": true, ";a ; ": true, "a;b": false} {
		if e, one := sqlstmt.Single(text); one != want || one && text[e.Start:e.End] == "" {
			t.Errorf("%q: %+v, %v", text, e, one)
		}
	}
}

func TestEnclosedStatementsKeepTheirOrderAndText(t *testing.T) {
	const before, behind = "create function pg_temp.hubpg() returns void begin atomic ", "\n; end"
	for text, want := range map[string]string{
		"":                                      "",
		"select 1; select 2":                    "select 1; select 2",
		"begin; update t set n = 1; end":        "start transaction; update t set n = 1; commit",
		"Begin Work read only;\nEND work--;end": "start transaction read only;\ncommit work--;end",
		"/*;*/ BEGIN transaction ; commit":      "/*;*/ start transaction ; commit",
		"start transaction; end and chain":      "start transaction; commit and chain",
		"select 'begin; end'; \"end\"":          "select 'begin; end'; \"end\"",
		"create function f() begin atomic select case when true then 1 end; end; begin": "create function f() begin atomic select case when true then 1 end; end; start transaction",
	} {
		if got := sqlstmt.Enclose(text); got != before+want+behind {
			t.Errorf("%q became %q", text, got)
		}
	}
}
