package proxy_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestNobodysIncrementIsLost has sessions add to the same value at the same time, alone and in transactions: as in Postgres, who comes
// later adds to what the earlier ones have made of it.
func TestNobodysIncrementIsLost(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	ids := []int64{c.contact("one@example.com"), c.contact("two@example.com")}
	exec(t, c.session(nil), "update contacts set firstname = '0' where id = any ($1)", ids)
	const sessions, each = 4, 5
	var group sync.WaitGroup
	for n := range sessions {
		conn := c.session(nil)
		group.Go(func() {
			for i := range each {
				block := (n+i)%2 == 0
				if block {
					exec(t, conn, "begin")
				}
				exec(t, conn, "update contacts set firstname = (firstname::int + 1)::text where id = any ($1)", ids)
				if block {
					exec(t, conn, "commit")
				}
			}
		})
	}
	group.Wait()
	for _, id := range ids {
		if got := c.hubspot("contacts", id, "firstname"); got != strconv.Itoa(sessions*each) {
			t.Errorf("HubSpot has %s after %d increments", got, sessions*each)
		}
	}
	c.agree("contacts", "firstname")
}

// TestASecondWriterOfARowWaits: while HubSpot is asked, the row is locked; under a snapshot the second fails as in Postgres. A failed
// statement leaves no lock and no savepoint behind.
func TestASecondWriterOfARowWaits(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("one@example.com")
	one, two, three := c.session(nil), c.session(nil), c.session(nil)
	exec(t, three, "begin isolation level repeatable read")
	if got := value[int64](t, three, "select count(*) from contacts"); got != 1 {
		t.Fatalf("%d contacts", got)
	}
	exec(t, one, "begin")
	exec(t, one, "update contacts set firstname = 'First' where id = $1", id)
	wrote := make(chan error, 1)
	go func() {
		_, err := two.Exec(deadline(t), "update contacts set lastname = firstname where id = $1", id)
		wrote <- err
	}()
	eventually(t, "the second waits", func() bool {
		return value[int64](t, c.db.AdminConn(t), "select count(*) from pg_locks where not granted") > 0
	})
	exec(t, one, "commit")
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if got := c.hubspot("contacts", id, "lastname"); got != "First" {
		t.Errorf("HubSpot has %q", got)
	}
	_, err := three.Exec(deadline(t), "update contacts set lastname = 'Third' where id = $1", id)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "40001" {
		t.Errorf("under an old snapshot: %v", err)
	}
	exec(t, three, "rollback")

	exec(t, one, "begin")
	exec(t, one, "savepoint mine")
	if _, err := one.Exec(deadline(t), "update contacts set lifecyclestage = 'nonsense' where id = $1", id); err == nil {
		t.Error("HubSpot took a stage that it does not know")
	}
	exec(t, one, "rollback to mine")
	exec(t, two, "update contacts set lastname = 'Free' where id = $1", id)
	for _, name := range []string{"hubpg_write", "hubpg_rows"} {
		exec(t, one, "savepoint again")
		if _, err := one.Exec(deadline(t), "release savepoint "+name); err == nil {
			t.Errorf("the savepoint %s is left", name)
		}
		exec(t, one, "rollback to again")
	}
	exec(t, one, "update contacts set lastname = 'Mine' where id = $1", id)
	for _, name := range []string{"hubpg_write", "hubpg_rows"} {
		exec(t, one, "savepoint again")
		if _, err := one.Exec(deadline(t), "release savepoint "+name); err == nil {
			t.Errorf("the savepoint %s is left", name)
		}
		exec(t, one, "rollback to again")
	}
	exec(t, one, "commit")
	c.agree("contacts", "firstname")
}
