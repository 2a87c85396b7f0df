package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"hubpg/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// abroad is another Postgres, so far as the proxy is concerned: a database with an extension that connects to it.
func abroad(t *testing.T, c *crm, extension string) *pgx.Conn {
	t.Helper()
	conn := pgtest.New(t).AdminConn(t)
	if !value[bool](t, conn, "select exists (select from pg_available_extensions where name = $1)", extension) {
		t.Skipf("Postgres has no extension %s: install its contrib package", extension)
	}
	exec(t, conn, "create extension "+extension)
	addr := c.server.Addr().(*net.TCPAddr)
	exec(t, conn, fmt.Sprintf(`
create server hubpg foreign data wrapper %s options (host '%s', port '%d', dbname '%s');
create user mapping for current_user server hubpg options (user 'app', password 'none')`,
		map[string]string{"postgres_fdw": "postgres_fdw", "dblink": "dblink_fdw"}[extension], addr.IP, addr.Port, c.db.Name))
	return conn
}

func TestAnotherPostgresMountsTheTables(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	conn := abroad(t, c, "postgres_fdw")
	exec(t, conn, `
alter server hubpg options (fetch_size '1000', batch_size '100');
create schema hubspot;
import foreign schema hubspot limit to (contacts, companies, contacts_companies) from server hubpg into hubspot;
create table plans (email text primary key, plan text not null);
insert into plans values ('ada@example.com', 'gold'), ('bob@example.com', 'free')`)
	ada, bob := c.contact("ada@example.com"), c.contact("bob@example.com")

	const join = "from hubspot.contacts c join plans p using (email) where p.plan = 'gold'"
	if got := value[int64](t, conn, "select c.id "+join); got != ada {
		t.Errorf("joined with %d, want %d", got, ada)
	}
	// What can be asked of the other side is asked there. Over tables this small a local join would be cheaper.
	exec(t, conn, "set enable_mergejoin = off; set enable_hashjoin = off; set enable_nestloop = off")
	for sql, want := range map[string]string{
		"select count(*) from hubspot.contacts where firstname = 'Ada'":               "Remote SQL: SELECT count(*) FROM hubspot.contacts WHERE ((firstname = 'Ada'",
		"select email from hubspot.contacts order by id limit 1":                      "LIMIT 1",
		"select a.id from hubspot.contacts a join hubspot.companies b on a.id = b.id": "INNER JOIN hubspot.companies",
		"update hubspot.contacts set jobtitle = 'x' where id = 1":                     "Foreign Update",
		"delete from hubspot.contacts where id = 1":                                   "Foreign Delete",
		"select " + fmt.Sprint(ada) + " = any(array_agg(id)) from hubspot.contacts":   "Foreign Scan",
	} {
		rows, err := conn.Query(deadline(t), "explain (verbose, costs off) "+sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("%s: %v: %q is not in\n%s", sql, err, want, strings.Join(lines, "\n"))
		}
	}

	exec(t, conn, "reset enable_mergejoin; reset enable_hashjoin; reset enable_nestloop")

	// Every way in which the wrapper writes: direct, row by row through a join, in batches, several in one transaction.
	exec(t, conn, "update hubspot.contacts set jobtitle = 'Countess' where id = $1", ada)
	if got := c.hubspot("contacts", ada, "jobtitle"); got != "Countess" {
		t.Errorf("direct update: HubSpot has %q", got)
	}
	exec(t, conn, "update hubspot.contacts c set jobtitle = p.plan || ' customer' from plans p where p.email = c.email")
	for id, want := range map[int64]string{ada: "gold customer", bob: "free customer"} {
		if got := c.hubspot("contacts", id, "jobtitle"); got != want {
			t.Errorf("update through a join: HubSpot has %q, want %q", got, want)
		}
	}
	created := value[int64](t, conn, "insert into hubspot.contacts (email, firstname) values ('eve@example.com', 'Eve') returning id")
	if got := c.hubspot("contacts", created, "firstname"); got != "Eve" {
		t.Errorf("insert: HubSpot has %q", got)
	}
	tag := exec(t, conn, "insert into hubspot.contacts (email) select 'many' || n || '@example.com' from generate_series(1, 120) n")
	if n := len(c.hub.Snapshot("contacts")); tag.RowsAffected() != 120 || n != 123 {
		t.Errorf("insert of many: %s; HubSpot has %d contacts", tag, n)
	}
	err := pgx.BeginFunc(deadline(t), conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"update hubspot.contacts set firstname = 'Robert' where email = 'bob@example.com'",
			"insert into plans values ('eve@example.com', 'free')",
			"delete from hubspot.contacts where email = 'eve@example.com'",
		} {
			if _, err := tx.Exec(deadline(t), sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("transaction: %v", err)
	}
	if got := c.hubspot("contacts", bob, "firstname"); got != "Robert" {
		t.Errorf("update in a transaction: HubSpot has %q", got)
	}
	if got := c.hubspot("contacts", created, "firstname"); got != "<none>" {
		t.Errorf("delete in a transaction: HubSpot still has %q", got)
	}
	_, err = conn.Exec(deadline(t), "update hubspot.contacts set lifecyclestage = 'nonsense' where id = $1", ada)
	if err == nil || !strings.Contains(err.Error(), "is not an option of lifecyclestage") {
		t.Errorf("a refusal of HubSpot arrives as %v", err)
	}
	c.agree("contacts", "jobtitle")
	c.agree("contacts", "firstname")
}

func TestDblinkReadsAndWrites(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	conn := abroad(t, c, "dblink")
	ada := c.contact("ada@example.com")
	if got := value[string](t, conn, "select email from dblink('hubpg', 'select id, email from hubspot.contacts') as c (id bigint, email text) where id = $1", ada); got != "ada@example.com" {
		t.Errorf("read %q", got)
	}
	got := value[string](t, conn, fmt.Sprintf("select dblink_exec('hubpg', 'update hubspot.contacts set jobtitle = ''Countess'' where id = %d')", ada))
	if title := c.hubspot("contacts", ada, "jobtitle"); got != "UPDATE 1" || title != "Countess" {
		t.Errorf("%s; HubSpot has %q", got, title)
	}
	exec(t, conn, "select dblink_connect('link', 'hubpg')")
	exec(t, conn, "select dblink_exec('link', 'begin')")
	exec(t, conn, fmt.Sprintf("select dblink_exec('link', 'update hubspot.contacts set firstname = ''Augusta'' where id = %d')", ada))
	exec(t, conn, "select dblink_exec('link', 'commit')")
	if name := c.hubspot("contacts", ada, "firstname"); name != "Augusta" {
		t.Errorf("over a link that was kept open: HubSpot has %q", name)
	}
	exec(t, conn, "select dblink_disconnect('link')")
}
