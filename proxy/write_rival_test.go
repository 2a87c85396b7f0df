package proxy_test

import (
	"context"
	"net/http"
	"strings"
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

// TestWhatEndsAStatementDuringTheCallLeavesTheTruth holds that a statement whose time is up, that is cancelled or whose backend
// dies while HubSpot's answer is on its way tells no lie, and that the table has what HubSpot has taken.
func TestWhatEndsAStatementDuringTheCallLeavesTheTruth(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.runWriter()
	admin := c.db.AdminConn(t)
	for name, test := range map[string]struct {
		sql string
		end func(conn *pgx.Conn)
	}{
		"timeout": {"update contacts set firstname = 'timeout' where id = $1", nil},
		"cancel":  {"update contacts set firstname = 'cancel' where id = $1", func(conn *pgx.Conn) { _ = conn.PgConn().CancelRequest(deadline(t)) }},
		"terminate": {"update contacts set firstname = 'terminate' where id = $1", func(conn *pgx.Conn) {
			exec(t, admin, "select pg_terminate_backend($1, 5000)", int32(conn.PgConn().PID()))
		}},
	} {
		id := c.contact(name + "@example.com")
		conn := c.session(nil)
		exec(t, conn, "update contacts set lastname = 'Warm' where id = $1", id)
		exec(t, conn, "set statement_timeout = "+map[bool]string{true: "'300ms'", false: "0"}[test.end == nil])
		arrived, release := make(chan struct{}, 10), make(chan struct{})
		late := func(r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/batch/update") {
				return
			}
			arrived <- struct{}{}
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}
		c.wire.late.Store(&late)
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), test.sql, id)
			done <- err
		}()
		<-arrived
		if test.end != nil {
			test.end(conn)
		}
		if name == "terminate" { // nothing is read from the backend until HubSpot has answered
			close(release)
		}
		err := <-done
		c.wire.late.Store(nil)
		if name == "terminate" {
			if err == nil {
				t.Errorf("%s: the statement succeeded", name)
			}
		} else if err != nil && !isCode(err, "57014") {
			t.Errorf("%s: %v", name, err)
		} else if err == nil {
			if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != name {
				t.Errorf("%s: it was told as done, and the table has %q", name, got)
			}
		}
		eventually(t, "the table has what HubSpot took", func() bool {
			var first string
			return c.pool.QueryRow(deadline(t), "select firstname from hubspot.contacts where id = $1", id).Scan(&first) == nil && first == name
		})
	}
	c.settledAll()
	c.agree("contacts", "firstname")
}
