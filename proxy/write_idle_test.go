package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestAForgottenTransactionDoesNotKeepRowsFromFollowing leaves transactions open that have changed a row: an applier of
// the row waits until Postgres ends their sessions, and then stores what HubSpot has.
func TestAForgottenTransactionDoesNotKeepRowsFromFollowing(t *testing.T) {
	t.Parallel()
	const idle = 1500 * time.Millisecond
	c := newCRM(t, func(cfg *proxy.Config) { cfg.Limits.IdleAfterWrite = idle })
	id := c.contact("idle@example.com")
	c.each(func(name string, conn *pgx.Conn) {
		exec(t, conn, "begin")
		exec(t, conn, "update contacts set firstname = $1 where id = $2", name, id)
		if got, want := value[string](t, conn, "show idle_in_transaction_session_timeout"), "1500ms"; got != want {
			t.Errorf("%s: the transaction may be idle for %s, want %s", name, got, want)
		}
		if err := c.hub.Update("contacts", id, map[string]string{"firstname": "After " + name}); err != nil {
			t.Fatal(err)
		}
		if err := c.follow("contacts", id); err != nil { // comes again for three seconds
			t.Errorf("%s: an applier of the row failed: %v", name, err)
		}
		if _, err := conn.Exec(deadline(t), "select 1"); err == nil {
			t.Errorf("%s: the session goes on", name)
		}
		c.agree("contacts", "firstname")
	})
	eventually(t, "every write is settled", func() bool {
		settled := c.writer.settlements()
		for _, committed := range settled {
			if committed {
				t.Fatal("a write of a transaction that was ended is settled as committed")
			}
		}
		return len(settled) == 4
	})

	// A shorter time of the client's own holds, and so does its own after the transaction.
	conn := c.session(func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "1s" })
	exec(t, conn, "begin")
	exec(t, conn, "update contacts set firstname = 'Mine' where id = $1", id)
	if got := value[string](t, conn, "show idle_in_transaction_session_timeout"); got != "1s" {
		t.Errorf("the client's own time became %s", got)
	}
	exec(t, conn, "commit")
	conn = c.session(nil)
	for _, end := range []string{"commit", "rollback"} {
		exec(t, conn, "begin")
		exec(t, conn, "update contacts set firstname = $1 where id = $2", end, id)
		exec(t, conn, end)
		if got := value[string](t, conn, "show idle_in_transaction_session_timeout"); got != "0" {
			t.Errorf("after %s the session's time is %s", end, got)
		}
	}
	exec(t, conn, "update contacts set firstname = 'Alone' where id = $1", id)
	if got := value[string](t, conn, "show idle_in_transaction_session_timeout"); got != "0" {
		t.Errorf("after a statement of its own the session's time is %s", got)
	}
}

// follow reads one record as the materializer would.
func (c *crm) follow(table string, id int64) error {
	t := c.tables[table]
	b := &mirror.Batch{Table: t, Columns: t.Readable(), Source: changes.Follow}
	names := make([]string, len(b.Columns))
	for i, column := range b.Columns {
		names[i] = column.Property
	}
	page, err := c.client.BatchRead(context.Background(), t.Path, []int64{id}, hubapi.NewProjection(names))
	if err != nil {
		return err
	}
	b.ReadAt = page.ReadAt
	for _, r := range page.Records {
		b.Rows = append(b.Rows, mirror.Row{ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Values: r.Values})
	}
	return mirror.Store(context.Background(), c.pool, func(tx pgx.Tx) error {
		_, err := c.apply.Upsert(context.Background(), tx, b)
		return err
	})
}

// TestRowsThatAppearAfterTheRehearsalAreRehearsedAgain has statements change nothing at first and something when they are
// then run as they are.
func TestRowsThatAppearAfterTheRehearsalAreRehearsedAgain(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("late@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		// A sequence is what a rehearsal does not take back.
		"create sequence app.calls",
		`create function app.late(who bigint) returns bigint language sql volatile as $$ select case when nextval('app.calls') = 1 then -1 else who end $$`,
		`create function app.touch(who bigint, name text, past bigint) returns bigint language plpgsql as $$
begin
  if nextval('app.calls') > past then
    update hubspot.contacts set firstname = name where id = who;
  end if;
  return who;
end $$`,
		"grant all on sequence app.calls to app",
		"grant execute on all functions in schema app to app",
	} {
		exec(t, admin, sql)
	}
	probe := c.session(nil)
	eventually(t, "the proxy knows the function", func() bool {
		before := len(c.writer.requests())
		_, err := probe.Exec(deadline(t), "select setval('app.calls', 7)")
		if err == nil {
			_, err = probe.Exec(deadline(t), "select app.touch($1, 'Known', 1)", id) // the guard's error until then
		}
		return err == nil && len(c.writer.requests()) > before
	})
	again := func() { exec(t, admin, "select setval('app.calls', 1, false)") }
	c.each(func(name string, conn *pgx.Conn) {
		for _, block := range []bool{false, true} {
			want := fmt.Sprintf("%s %v", name, block)
			if block {
				exec(t, conn, "begin")
			}
			again()
			got := value[string](t, conn, "update contacts set firstname = $1 where id = (select app.late($2)) returning firstname", want, id)
			if got != want {
				t.Errorf("%s: returned %q", want, got)
			}
			again()
			rows, err := conn.Query(deadline(t), "select n, app.touch($1, $2, 3) from generate_series(1, 3) n", id, want+"!")
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			type line struct{ N, Who int64 }
			list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[line])
			if err != nil || fmt.Sprint(list) != fmt.Sprintf("[{1 %d} {2 %d} {3 %d}]", id, id, id) {
				t.Errorf("%s: %v %v", want, list, err)
			}
			if block {
				exec(t, conn, "commit")
			}
			if got := c.hubspot("contacts", id, "firstname"); got != want+"!" {
				t.Errorf("%s: HubSpot has %q", want, got)
			}
		}
		c.agree("contacts", "firstname")

		// What the client has seen cannot be taken back.
		again()
		_, err := conn.Exec(deadline(t), "select repeat('x', 1000), case when n = 5000 then app.touch($1, 'Never', 1) end from generate_series(1, 5000) n", id)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "40001" {
			t.Errorf("%s: a long answer ended with %v", name, err)
		}
		if got := value[int32](t, conn, "select 1"); got != 1 || conn.PgConn().TxStatus() != 'I' {
			t.Errorf("%s: the session is lost", name)
		}
	})
	if got := c.hubspot("contacts", id, "firstname"); got == "Never" {
		t.Error("HubSpot has what the client was told had failed")
	}
	c.agree("contacts", "firstname")
}
