package sqlstmt_test

import (
	"slices"
	"testing"

	"hubpg/internal/sqlstmt"
)

func TestLeavesBehindTrustsOnlyWhatShows(t *testing.T) {
	t.Parallel()
	suspect := func(word string) bool { return word == "nextval" || word == "a view" }
	cases := map[string]sqlstmt.State{
		"":                         sqlstmt.Nothing,
		" ; -- nothing\n":          sqlstmt.Nothing,
		"listen a; unlisten *":     sqlstmt.Nothing,
		"begin; listen a; commit":  sqlstmt.Nothing,
		"notify a, 'x'":            sqlstmt.Nothing,
		"show search_path":         sqlstmt.Nothing,
		"select 1":                 sqlstmt.Nothing,
		"select 'x', -1.5 as a":    sqlstmt.Nothing,
		"SELECT * FROM deals d":    sqlstmt.Nothing,
		"values (1), (2)":          sqlstmt.Nothing,
		"set x = 1":                sqlstmt.Setting,
		"SET SESSION x TO 'a', b;": sqlstmt.Setting,
		"set time zone 'UTC'":      sqlstmt.Setting,
		"reset all":                sqlstmt.Setting,

		"set x = 1; select 1":                     sqlstmt.Anything,
		"begin; set x = 1; rollback":              sqlstmt.Anything,
		"set local x = 1":                         sqlstmt.Anything,
		"set role r":                              sqlstmt.Anything,
		"set session authorization r":             sqlstmt.Anything,
		"reset role":                              sqlstmt.Anything,
		"select NextVal('s')":                     sqlstmt.Anything,
		`select * from "a view"`:                  sqlstmt.Anything,
		`select * from U&"a view"`:                sqlstmt.Anything,
		"select 1 into t":                         sqlstmt.Anything,
		"with x as (delete from t) select 1":      sqlstmt.Anything,
		"select * from t for update":              sqlstmt.Anything,
		`select 'a\'; select nextval(1); --'`:     sqlstmt.Anything,
		"prepare p as select 1":                   sqlstmt.Anything,
		"prepare transaction 'x'":                 sqlstmt.Anything,
		"declare c cursor with hold for select 1": sqlstmt.Anything,
		"create temp table t ()":                  sqlstmt.Anything,
		"do 'begin end'":                          sqlstmt.Anything,
		"select 1; discard all":                   sqlstmt.Anything,
		"load 'x'":                                sqlstmt.Anything,
		"call p()":                                sqlstmt.Anything,
		"(select nextval('s'))":                   sqlstmt.Anything,
		"explain analyze select nextval('s')":     sqlstmt.Anything,
	}
	for text, want := range cases {
		if got := sqlstmt.LeavesBehind(text, suspect); got != want {
			t.Errorf("%q leaves %d behind, want %d", text, got, want)
		}
	}
	for text, want := range map[string]sqlstmt.State{
		"select 1, null, true": sqlstmt.Nothing, "select a from t": sqlstmt.Anything, `select "a"`: sqlstmt.Anything,
	} {
		if got := sqlstmt.LeavesBehind(text, nil); got != want {
			t.Errorf("without knowledge of names %q leaves %d behind, want %d", text, got, want)
		}
	}
}

func TestAQueryIsClearedOnlyOfWhatItCannotHide(t *testing.T) {
	t.Parallel()
	sieve := sqlstmt.NewSieve([]string{"nextval", "a view", "into", "delete"}, nil)
	for text, want := range map[string]struct{ cleared, named bool }{
		"select 1":                                 {true, false},
		" SELECT 1, -1.5;\n":                       {true, false},
		"select x from t where y = 12":             {true, true},
		"SELECT Abalance FROM accounts b WHERE 1;": {true, true},
		"select $1":                                {true, false},
		"select x from t where y=$12 and z>-$1;":   {true, true},

		"select NEXTVAL(1)":                  {},
		"select nextval":                     {},
		"select * from a":                    {}, // the first word of a name that has to be quoted
		"select 1 into t":                    {},
		"with x as (delete from t) select 1": {},
		"select 1; select 2":                 {},
		"select 1; set x = 1":                {},
		"/* */ select 1":                     {},
		"selected 1":                         {},
		"":                                   {},
		"select 'x'":                         {},
		`select "x"`:                         {},
		`select U&"x"`:                       {},
		`select e\x`:                         {},
		"select nextval($1)":                 {},
		"select $":                           {},
		"select y$1":                         {},
		"select $1x":                         {},
		"select $1$a$ x $a$":                 {},
		"select $1$$ x $$":                   {},
		"select $a$ x $a$nextval(1)":         {},
		"select \u00fcber":                   {},
	} {
		cleared, named := sieve.Clears([]byte(text))
		if cleared != want.cleared || cleared && named != want.named {
			t.Errorf("%q: cleared is %v, named %v", text, cleared, named)
		}
		suspect := func(word string) bool { return word == "nextval" || word == "a view" }
		if cleared && sqlstmt.LeavesBehind(text, suspect) != sqlstmt.Nothing {
			t.Errorf("%q is cleared of what it leaves behind", text)
		}
	}
}

func TestEmptyIsCertain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"": true, " ;; \n": true, "-- ping": true, "-- a\n;": true,
		"-- \xff": false, "/* */": false, "select 1": false, "-": false, "-- a\nx": false,
	} {
		if got := sqlstmt.Empty([]byte(text)); got != want {
			t.Errorf("%q: empty is %v", text, got)
		}
	}
}

// FuzzLeavesBehind holds that the quick look at a query clears none that the long one does not.
func FuzzLeavesBehind(f *testing.F) {
	for _, seed := range []string{"select 1", "select a.b from c", "select vol(1)", `select "my view"`, "set a = b", "select 1 into x", "listen a; begin", "select/**/1", "select -- x"} {
		f.Add(seed)
	}
	names := []string{"vol", "my view"}
	s := sqlstmt.NewSieve(append([]string{"into", "insert", "update", "delete", "merge"}, names...), nil)
	f.Fuzz(func(t *testing.T, text string) {
		state := sqlstmt.LeavesBehind(text, func(word string) bool { return slices.Contains(names, word) })
		if cleared, _ := s.Clears([]byte(text)); cleared && state != sqlstmt.Nothing {
			t.Fatalf("%q is cleared, and leaves %v behind", text, state)
		}
	})
}

func TestMayOutlastSeesWhatDiscardAllLeaves(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"": false, "select 1": false, "set x = 1": false, "SET LOCAL x TO 1.5": false, "update t set a = 1.5, b = t.c": false,
		"select 'set my.own = 1'": false, "select 1 -- set my.own = 1": false, "select doc, load, called from t offset 1": false,
		"set session characteristics as transaction read only": false, "insert into settings values (1)": false,

		"set my.own = 1": true, "Set Local my.own to 1": true, "select 1; set session my . own = 1": true, "set/**/my.own = 1": true,
		`set "my.own" = 1`: true, `set U&"my" . own = 1`: true, "select set_config('a.b', $1, false)": true, "select SET_CONFIG($1, $2, true)": true,
		`select pg_catalog."set_config"('a.b', '', false)`: true, `select U&"set\005fconfig"('a.b', '', false)`: true,
		"do $$ begin set my.own = 1; end $$": true, "select 1; DO 'begin end'": true, "load 'auto_explain'": true, "call p()": true,
		"alter function f() set my.own = 1": true, `select E'it\'s set', $$\'$$, 'offset'`: false, `select 'it\'s set'`: true,
	} {
		if got := sqlstmt.MayOutlast([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
