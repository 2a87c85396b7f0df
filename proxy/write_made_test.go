package proxy_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
)

// TestWhatASessionHasMadeIsKnownAtOnce holds that a function, view, rule or trigger through which mirrored tables are changed works from
// the session's next statement on, as the next step of a migration would have it. The proxy looks at the catalogs once an hour here.
func TestWhatASessionHasMadeIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) { cfg.Poll = time.Hour })
	exec(t, c.db.AdminConn(t), "grant usage on schema hubspot to app")
	for name, mode := range map[string]pgx.QueryExecMode{"simple": pgx.QueryExecModeSimpleProtocol, "prepared": pgx.QueryExecModeCacheStatement} {
		t.Run(name, func(t *testing.T) {
			conn := c.session(func(cfg *pgx.ConnConfig) { cfg.DefaultQueryExecMode = mode })
			email := func(way string) string { return name + "." + way + "@example.com" }
			taken := func(way string) {
				t.Helper()
				id := value[int64](t, conn, "select id from hubspot.contacts where email = $1", email(way))
				if got := c.hubspot("contacts", id, "email"); got != email(way) {
					t.Errorf("%s: HubSpot has %q", way, got)
				}
			}
			exec(t, conn, "create function app."+name+"(e text) returns bigint language sql as 'insert into hubspot.contacts (email) values (e) returning id'")
			exec(t, conn, "select app."+name+"($1)", email("function"))
			taken("function")

			exec(t, conn, "create view app."+name+"_people as select email from hubspot.contacts")
			exec(t, conn, "insert into app."+name+"_people values ($1)", email("view"))
			taken("view")

			exec(t, conn, "create table app."+name+"_ruled (email text)")
			exec(t, conn, "create rule through as on insert to app."+name+"_ruled do instead insert into hubspot.contacts (email) values (new.email)")
			exec(t, conn, "insert into app."+name+"_ruled values ($1)", email("rule"))
			taken("rule")

			exec(t, conn, "create table app."+name+"_signups (email text)")
			exec(t, conn, "create function app."+name+"_follow() returns trigger language plpgsql as 'begin insert into hubspot.contacts (email) values (new.email); return new; end'")
			exec(t, conn, "create trigger follow after insert on app."+name+"_signups for each row execute function app."+name+"_follow()")
			exec(t, conn, "insert into app."+name+"_signups values ($1)", email("trigger"))
			taken("trigger")

			exec(t, conn, "begin")
			exec(t, conn, "create function app."+name+"_later(e text) returns bigint language sql as 'insert into hubspot.contacts (email) values (e) returning id'")
			exec(t, conn, "select app."+name+"_later($1)", email("same"))
			exec(t, conn, "create view app."+name+"_seen as select email from hubspot.contacts")
			exec(t, conn, "insert into app."+name+"_seen values ($1)", email("seen"))
			exec(t, conn, "create table app."+name+"_late (email text)")
			exec(t, conn, "create trigger follow after insert on app."+name+"_late for each row execute function app."+name+"_follow()")
			exec(t, conn, "insert into app."+name+"_late values ($1)", email("late"))
			exec(t, conn, "commit")
			taken("same")
			taken("seen")
			taken("late")
			exec(t, conn, "select app."+name+"_later($1)", email("transaction"))
			taken("transaction")

			exec(t, conn, "begin")
			exec(t, conn, "create function app."+name+"_undone(e text) returns bigint language sql as 'insert into hubspot.contacts (email) values (e) returning id'")
			exec(t, conn, "rollback")
			exec(t, conn, "create function app."+name+"_undone(e text) returns text language sql as 'select e'")
			if got := value[string](t, conn, "select app."+name+"_undone('of another kind')"); got != "of another kind" {
				t.Errorf("%q", got)
			}
		})
	}
	c.agree("contacts", "email")
}

// TestAFunctionIsMadeUsedAndDroppedInOneText is how Sequelize's findOrCreate inserts.
func TestAFunctionIsMadeUsedAndDroppedInOneText(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) { cfg.Poll = time.Hour })
	conn := c.session(func(cfg *pgx.ConnConfig) { cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol })
	for _, block := range []bool{false, true} { // Sequelize opens a transaction for it
		email := fmt.Sprintf("one.text.%t@example.com", block)
		if block {
			exec(t, conn, "begin")
		}
		results, err := conn.PgConn().Exec(deadline(t), `create or replace function pg_temp.testfunc(out response hubspot.contacts, out caught text) returns record as $func$
begin
	insert into hubspot.contacts (email, firstname) values ('`+email+`', 'Found or created') returning * into response;
exception when unique_violation then
	get stacked diagnostics caught = pg_exception_detail;
end
$func$ language plpgsql;
select (testfunc.response).id, testfunc.caught from pg_temp.testfunc();
drop function if exists pg_temp.testfunc();`).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if block {
			exec(t, conn, "commit")
		}
		if len(results) != 3 || len(results[1].Rows) != 1 || results[1].Rows[0][1] != nil {
			t.Fatalf("results %v", results)
		}
		id, err := strconv.ParseInt(string(results[1].Rows[0][0]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.hubspot("contacts", id, "email"); got != email {
			t.Errorf("in a transaction %t: HubSpot has %q", block, got)
		}
	}
	c.agree("contacts", "email")
}

// TestARowThatWasTakenBackKeepsItsAnswer: a function that inserts rows in a loop, and goes on where one is there already, is performed
// as it was rehearsed, each row with HubSpot's answer to itself.
func TestARowThatWasTakenBackKeepsItsAnswer(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	c.contact("there@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create table app.log (address text, id bigint, what text)",
		"grant all on app.log to app",
		`create function app.load(addresses text[]) returns void language plpgsql as $$
declare address text; made bigint;
begin
	foreach address in array addresses loop
		begin
			insert into hubspot.contacts (email) values (address) returning id into made;
			insert into app.log values (address, made, 'made');
		exception when unique_violation then
			insert into app.log values (address, null, 'was there');
		end;
	end loop;
end $$`,
		"grant execute on all functions in schema app to app",
	} {
		exec(t, admin, sql)
	}
	c.known("select app.load('{probe@example.com}')")
	exec(t, c.session(nil), "select app.load('{there@example.com,new@example.com,probe@example.com,newer@example.com}')")
	const log = "select string_agg(address || ' ' || what, ', ' order by address) from app.log"
	if got, want := value[string](t, admin, log), "new@example.com made, newer@example.com made, probe@example.com made, probe@example.com was there, "+
		"there@example.com was there"; got != want {
		t.Errorf("the log says %s", got)
	}
	if n := value[int](t, admin, "select count(*) from app.log l join hubspot.contacts c on c.id = l.id and c.email = l.address"); n != 3 {
		t.Errorf("%d of 3 new rows have their ids", n)
	}
	c.agree("contacts", "email")
}
