package proxy_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestThePrivilegesOfWhoeverWritesCount holds that a role without the privilege is refused by Postgres before any call, also
// behind SET ROLE, that a function of somebody who has it lends it, and that hubpg.writes names the role.
func TestThePrivilegesOfWhoeverWritesCount(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("role@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		`do $$ begin
  if not exists (select from pg_roles where rolname = 'reads_only') then create role reads_only in role hubspot_reader; end if;
exception when unique_violation or duplicate_object then null; -- another database of the cluster was first
end $$`,
		"grant reads_only to app",
		"create function app.lend(who bigint, name text) returns text language sql security definer as 'update hubspot.contacts set firstname = name where id = who returning firstname'",
		"grant usage on schema app to reads_only",
		"alter function app.lend owner to app",
		"grant execute on function app.lend to reads_only",
	} {
		exec(t, admin, sql)
	}
	c.known("select app.lend($1, 'Known')", id)
	before := len(c.writer.requests())
	c.each(func(name string, conn *pgx.Conn) {
		exec(t, conn, "set role reads_only")
		refused(t, conn, "42501", "update hubspot.contacts set firstname = 'Never' where id = $1", id)
		if got := len(c.writer.requests()); got != before {
			t.Errorf("%s: %d requests", name, got-before)
		}
		if got := value[string](t, conn, "select app.lend($1, $2)", id, name); got != name || c.hubspot("contacts", id, "firstname") != name {
			t.Errorf("%s: the function returned %q, HubSpot has %q", name, got, c.hubspot("contacts", id, "firstname"))
		}
		before++
		requests := c.writer.requests()
		if got := requests[len(requests)-1].Role; got != "reads_only" {
			t.Errorf("%s: the request is of %s", name, got)
		}
	})
	c.agree("contacts", "firstname")
}

// TestRivalsAreSerializedBeforeHubSpotIsAsked holds that of two transactions that change one row under one snapshot each, the
// second fails with 40001 before HubSpot hears of it.
func TestRivalsAreSerializedBeforeHubSpotIsAsked(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("rival@example.com")
	for _, level := range []string{"repeatable read", "serializable"} {
		first, second := c.session(nil), c.session(nil)
		for _, conn := range []*pgx.Conn{first, second} {
			exec(t, conn, "begin isolation level "+level)
			value[int64](t, conn, "select count(*) from contacts")
		}
		exec(t, first, "update contacts set firstname = $1 where id = $2", level, id)
		exec(t, first, "commit")
		before := len(c.writer.requests())
		refused(t, second, "40001", "update contacts set firstname = 'Second' where id = $1", id)
		exec(t, second, "rollback")
		if got := len(c.writer.requests()); got != before {
			t.Errorf("%s: %d requests", level, got-before)
		}
		if got := c.hubspot("contacts", id, "firstname"); got != level {
			t.Errorf("HubSpot has %q, want %q", got, level)
		}
	}
	c.agree("contacts", "firstname")
}

// TestAClientThatVanishesDuringTheCallLeavesTheTruth holds that a statement whose client goes away while HubSpot is being
// called ends as HubSpot decides, in the table too.
func TestAClientThatVanishesDuringTheCallLeavesTheTruth(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.runWriter()
	id := c.contact("vanish@example.com")
	conn := c.session(nil)
	hold := make(chan struct{})
	c.writer.mu.Lock()
	c.writer.hold, c.writer.entered = hold, make(chan struct{}, 1)
	c.writer.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = conn.Exec(context.Background(), "update contacts set firstname = 'Vanished' where id = $1", id)
	}()
	<-c.writer.entered
	if err := conn.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	close(hold)
	eventually(t, "the session and its writes are over", func() bool {
		var open, held int
		err := c.pool.QueryRow(deadline(t), `
select (select count(*) from hubpg.writes where settled_at is null), (select count(*) from pg_stat_activity where pid = $1)`,
			int32(conn.PgConn().PID())).Scan(&open, &held)
		return err == nil && open == 0 && held == 0
	})
	c.agree("contacts", "firstname")
}
