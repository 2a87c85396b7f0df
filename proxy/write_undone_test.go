package proxy_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// known waits until the proxy has seen what the test has made in the database: then a change by sql reaches HubSpot.
func (c *crm) known(sql string, args ...any) {
	c.t.Helper()
	probe := c.session(nil)
	eventually(c.t, "the proxy knows "+sql, func() bool {
		before := len(c.writer.requests())
		_, err := probe.Exec(deadline(c.t), sql, args...)
		return err == nil && len(c.writer.requests()) > before
	})
}

// TestWhatAStatementTakesBackItselfIsNoWrite holds that rows which a function changes in a block that it leaves by an
// exception are none of HubSpot's business, alone and beside rows that stay, and that the function takes its usual way.
func TestWhatAStatementTakesBackItselfIsNoWrite(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	one, two := c.contact("one@example.com"), c.contact("two@example.com")
	company, err := c.hub.Create("companies", map[string]string{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	c.poll("companies")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create table app.log (what text)",
		"grant all on app.log to app",
		`create function app.undone(sql text, stays text) returns text language plpgsql as $$
declare caught text := 'nothing';
begin -- hubspot.contacts, hubspot.contacts_companies
  begin
    execute sql;
    raise division_by_zero;
  exception when division_by_zero then
    caught := sqlstate;
  end;
  insert into app.log values (caught);
  if stays <> '' then
    execute stays;
  end if;
  return caught;
end $$`,
		"grant execute on all functions in schema app to app",
	} {
		exec(t, admin, sql)
	}
	c.known("select app.undone('select 1', 'update hubspot.contacts set lastname = ''Known''')")
	undone := []string{
		"update hubspot.contacts set firstname = 'Undone' where id = " + itoa(one),
		"delete from hubspot.contacts where id = " + itoa(one),
		"insert into hubspot.contacts (email) values ('undone@example.com')",
		"insert into hubspot.contacts_companies (contact_id, company_id) values (" + itoa(one) + ", " + itoa(company) + ")",
	}
	c.each(func(name string, conn *pgx.Conn) {
		for i, sql := range undone {
			before := len(c.writer.requests())
			if got := value[string](t, conn, "select app.undone($1, '')", sql); got != "22012" {
				t.Errorf("%s: %s: the function has caught %s", name, sql, got)
			}
			if got := len(c.writer.requests()) - before; got != 0 {
				t.Errorf("%s: %s: %d requests", name, sql, got)
			}
			word := name + itoa(int64(i))
			for _, stays := range []string{
				"update hubspot.contacts set firstname = '" + word + "' where id = " + itoa(two),
				"update hubspot.contacts set firstname = '" + word + "' where id = " + itoa(one),
				"insert into hubspot.contacts (email, firstname) values ('" + word + "@example.com', '" + word + "')",
			} {
				if got := value[string](t, conn, "select app.undone($1, $2)", sql, stays); got != "22012" {
					t.Errorf("%s: %s; %s: the function has caught %s", name, sql, stays, got)
				}
			}
		}
		c.agree("contacts", "email")
		c.agree("contacts", "firstname")
	})
	if n := c.edges(one); n != 0 {
		t.Errorf("HubSpot has %d associations", n)
	}
	for _, r := range c.hub.Snapshot("contacts") {
		if r.Archived || r.Properties["firstname"] == "Undone" || r.Properties["email"] == "undone@example.com" {
			t.Errorf("HubSpot has %v", r.Properties)
		}
	}
	if got := value[int64](t, c.session(nil), "select count(*) from app.log where what <> '22012'"); got != 0 {
		t.Errorf("%d other entries in the log", got)
	}
}

// TestAReadOnlyTransactionIsRefusedAsByPostgres holds that the proxy adds nothing of its own to a transaction in which
// nothing may be written: statements that write get Postgres's own error, and those that might and do not are run.
func TestAReadOnlyTransactionIsRefusedAsByPostgres(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("ro@example.com")
	exec(t, c.db.AdminConn(t), `create function app.maybe(who bigint, really boolean) returns text language plpgsql as $$
begin
  if really then
    update hubspot.contacts set firstname = 'Really' where id = who;
  end if;
  return 'done';
end $$`)
	exec(t, c.db.AdminConn(t), "grant execute on function app.maybe to app")
	c.known("select app.maybe($1, true)", id)
	before := len(c.writer.requests())
	c.each(func(name string, conn *pgx.Conn) {
		for _, begin := range []string{"begin read only", "begin isolation level serializable read only deferrable"} {
			exec(t, conn, begin)
			if got := value[string](t, conn, "select app.maybe($1, false)", id); got != "done" {
				t.Errorf("%s: returned %q", name, got)
			}
			e := refused(t, conn, "25006", "update contacts set firstname = 'Never' where id = $1", id)
			if e.Message != "cannot execute UPDATE in a read-only transaction" {
				t.Errorf("%s: %s", name, e.Message)
			}
			exec(t, conn, "rollback")
		}
		exec(t, conn, "set default_transaction_read_only = on")
		if e := refused(t, conn, "25006", "delete from contacts where id = $1", id); e.Message != "cannot execute DELETE in a read-only transaction" {
			t.Errorf("%s: %s", name, e.Message)
		}
		exec(t, conn, "set default_transaction_read_only = off")
	})
	if got := len(c.writer.requests()); got != before {
		t.Errorf("%d requests", got-before)
	}
}

// TestStatementsThatHideAWriteAreSeen holds that a write inside of another kind of statement, or behind a rule, reaches
// HubSpot, and that the guard says what to do about one that is hidden from the proxy.
func TestStatementsThatHideAWriteAreSeen(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("hidden@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create table app.visits (who bigint, name text)",
		"create rule flag as on insert to app.visits do also update hubspot.contacts set firstname = new.name where id = new.who",
		"grant all on app.visits to app",
		`create function app.secret(sql text) returns text language plpgsql as $$ begin execute sql; return 'done'; end $$`,
		`create function app.told(sql text) returns text language plpgsql as $$ begin execute sql; /* hubspot.contacts */ return 'done'; end $$`,
		"grant execute on all functions in schema app to app",
	} {
		exec(t, admin, sql)
	}
	c.known("insert into app.visits values ($1, 'Visited')", id)
	has := func(want string) {
		t.Helper()
		if got := c.hubspot("contacts", id, "firstname"); got != want {
			t.Errorf("HubSpot has %q, want %q", got, want)
		}
	}
	has("Visited")
	conn := c.session(nil)
	var out strings.Builder
	tag, err := conn.PgConn().CopyTo(deadline(t), &out, "copy (update contacts set firstname = 'Copied' where id = "+itoa(id)+" returning firstname) to stdout")
	if err != nil || tag.String() != "COPY 1" || out.String() != "Copied\n" {
		t.Errorf("copy: %s %q %v", tag, out.String(), err)
	}
	has("Copied")
	exec(t, conn, "create table app.kept as with made as (update contacts set firstname = 'Kept' where id = $1 returning firstname) select * from made", id)
	has("Kept")
	if got := value[string](t, conn, "select firstname from app.kept"); got != "Kept" {
		t.Errorf("the new table has %q", got)
	}
	update := "update hubspot.con" + "tacts set firstname = 'Told' where id = " + itoa(id)
	_, err = conn.Exec(deadline(t), "select app.secret(convert_from($1, 'UTF8'))", []byte(update))
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "HS001" || !strings.Contains(e.Hint, "comment") {
		t.Errorf("got %v", err)
	}
	exec(t, conn, "select app.told(convert_from($1, 'UTF8'))", []byte(update)) // as the hint says
	has("Told")
	c.agree("contacts", "firstname")
}

// What does not change a mirrored table is run once, as it is, whatever else its text says: it may end its own transaction.
func TestWhatChangesNothingOfHubSpotIsRunOnce(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("once@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create function app.run(sql text) returns void language plpgsql as $$ begin execute sql; end $$", "grant execute on function app.run to app",
		"create sequence app.runs", "grant all on app.runs to app", "create table app.names (name text)", "grant all on app.names to app",
		`create procedure app.path() language plpgsql as $$ begin perform nextval('app.runs'); commit; execute 'set search_path to app, public';
			perform set_config('search_path', 'public, app', false); insert into app.names values ('x'); commit; end $$`,
		"grant execute on all procedures in schema app to app",
		"create function app.last(who bigint) returns void language sql as $$ update hubspot.contacts set lastname = 'Last' where id = who $$",
		"grant execute on function app.last to app",
	} {
		exec(t, admin, sql)
	}
	c.known("select app.last($1)", id) // and with that all others
	conn := c.session(nil)
	runs := int64(0)
	for _, sql := range []string{
		"do $$ begin perform nextval('app.runs'); insert into app.names select firstname from hubspot.contacts; commit; end $$",
		"do $$ begin perform nextval('app.runs'); perform set_config('role', 'none', false); commit; end $$ -- schema, reset, hubspot.contacts",
		"do language plpgsql 'begin perform nextval(''app.runs''); execute ''create temp table if not exists schema_of_it (n int)''; commit; end'",
		"call app.path()",
	} {
		exec(t, conn, sql)
		if runs++; value[int64](t, conn, "select last_value from app.runs") != runs {
			t.Errorf("%s: was run %d times in all, want %d", sql, value[int64](t, conn, "select last_value from app.runs"), runs)
		}
	}
	for name, sql := range map[string]string{
		"Plain":   "do $$ begin update hubspot.contacts set firstname = 'Plain' where id = %d; end $$",
		"Quoted":  "do 'begin update hubspot.contacts set firstname = ''Quoted'' where id = %d; end'",
		"Escaped": `do E'begin update hubspot.contacts set firstname = \'Escaped\' where id = %d; end'`,
		"Dynamic": "do $$ begin execute 'update hubspot.con' || 'tacts set firstname = ''Dynamic'' where id = %d /* hubspot */'; end $$",
		"Passed":  "do $$ begin perform app.run('update hubspot.contacts set firstname = ''Passed'' where id = %d'); end $$",
		"Bare":    "do $$ begin perform set_config('search_path', 'hubspot', true); update contacts set firstname = 'Bare' where id = %d; end $$",
	} {
		exec(t, conn, fmt.Sprintf(sql, id))
		if got := c.hubspot("contacts", id, "firstname"); got != name {
			t.Errorf("HubSpot has %q, want %q", got, name)
		}
	}
	c.agree("contacts", "firstname")
}

// A procedure that may change a mirrored table and ends its transaction is run as Postgres runs it, but for such a change.
func TestWhatEndsItsTransaction(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("ends@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create table app.names (name text)", "grant all on app.names to app",
		`create procedure app.refresh(who bigint) language plpgsql as $$ begin insert into app.names values ('before'); commit;
			execute 'insert into app.names select firstname from hubspot.contacts where id = $1' using who; commit; end $$`,
		`create procedure app.change(who bigint) language plpgsql as $$ begin insert into app.names values ('before'); commit;
			update hubspot.contacts set firstname = 'Changed' where id = who; commit; end $$`,
		"grant execute on all procedures in schema app to app",
		"create function app.last(who bigint) returns void language sql as $$ update hubspot.contacts set lastname = 'Last' where id = who $$",
		"grant execute on function app.last to app",
	} {
		exec(t, admin, sql)
	}
	c.known("select app.last($1)", id)
	before := c.hubspot("contacts", id, "firstname")
	conn := c.session(nil)
	simply := func(sql string) error {
		_, err := conn.PgConn().Exec(deadline(t), sql).ReadAll()
		return err
	}
	extended := func(sql string) error {
		_, err := conn.PgConn().ExecParams(deadline(t), sql, nil, nil, nil, nil).Close()
		return err
	}
	behind := func(sql string) error { // in a transaction that is not its own
		_, err := conn.PgConn().Exec(deadline(t), "insert into app.names values ('first'); "+sql).ReadAll()
		return err
	}
	for name, p := range map[string]struct {
		say   func(string) error
		sql   string
		names []string
		code  string
	}{
		"reads":                    {simply, "call app.refresh(%d)", []string{"before", before}, ""},
		"reads, extended":          {extended, "call app.refresh(%d)", []string{"before", before}, ""},
		"reads, among others":      {behind, "call app.refresh(%d)", nil, "2D000"},
		"changes":                  {simply, "call app.change(%d)", []string{"before"}, "HS001"},
		"changes, extended":        {extended, "call app.change(%d)", []string{"before"}, "HS001"},
		"changes and commits once": {simply, "do $$ begin update hubspot.contacts set firstname = 'Changed' where id = %d; commit; end $$", nil, "HS001"},
		"changes, among others":    {behind, "call app.change(%d)", nil, "2D000"},
	} {
		exec(t, conn, "truncate app.names")
		err := p.say(fmt.Sprintf(p.sql, id))
		if e, failed := errors.AsType[*pgconn.PgError](err); failed && (e.Code != p.code || !strings.Contains(e.Hint, "COMMIT") || e.Where == "") || !failed && p.code != "" {
			t.Errorf("%s: %+v", name, err)
		}
		got := value[[]string](t, conn, "select coalesce(array_agg(name), '{}') from app.names")
		if !slices.Equal(got, p.names) || conn.PgConn().TxStatus() != 'I' {
			t.Errorf("%s: left %q, want %q; then %c", name, got, p.names, conn.PgConn().TxStatus())
		}
	}
	exec(t, conn, "begin")
	if err := simply(fmt.Sprintf("call app.refresh(%d)", id)); !isCode(err, "2D000") || conn.PgConn().TxStatus() != 'E' {
		t.Errorf("in a block: %v, then %c", err, conn.PgConn().TxStatus())
	}
	exec(t, conn, "rollback")
	batch := &pgconn.Batch{}
	batch.ExecParams("insert into app.names values ('first')", nil, nil, nil, nil)
	batch.ExecParams(fmt.Sprintf("call app.refresh(%d)", id), nil, nil, nil, nil)
	if _, err := conn.PgConn().ExecBatch(deadline(t), batch).ReadAll(); !isCode(err, "2D000") {
		t.Errorf("in a pipeline: %v", err)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != before {
		t.Errorf("HubSpot has %q, want %q", got, before)
	}
	exec(t, conn, "update hubspot.contacts set firstname = 'After' where id = $1", id)
	c.agree("contacts", "firstname")
}

func itoa(id int64) string { return strconv.FormatInt(id, 10) }
