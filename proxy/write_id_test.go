package proxy_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestIDsNeedNotBeGiven holds that a mapper that knows a table from the catalogs alone makes records: they say that the server gives the
// ids, and every way to leave that to it does.
func TestIDsNeedNotBeGiven(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	c.each(func(name string, conn *pgx.Conn) {
		if got := value[string](t, conn, "select attidentity::text from pg_attribute where attrelid = 'hubspot.contacts'::regclass and attname = 'id'"); got != "d" {
			t.Errorf("%s: the catalogs say %q", name, got)
		}
		for i, sql := range []string{
			"insert into contacts (email) values ($1) returning id",
			"insert into contacts (id, email) values (default, $1) returning id",
			"insert into contacts (id, email) values (null, $1) returning id",
			"insert into contacts (id, email) overriding user value values (17, $1) returning id",
			"insert into contacts (id, email) select nextval(pg_get_serial_sequence('hubspot.contacts', 'id')), $1 where false union all select null, $1 returning id",
			"insert into contacts (email) values ($1) on conflict (email) do update set firstname = 'there' returning id",
		} {
			email := fmt.Sprintf("%s%d@example.com", name, i)
			id := value[int64](t, conn, sql, email)
			if id <= 0 {
				t.Errorf("%s: %s: id %d", name, sql, id)
				continue
			}
			if got := c.hubspot("contacts", id, "email"); got != email {
				t.Errorf("%s: %s: HubSpot has %q", name, sql, got)
			}
		}
		for _, id := range []int64{17, 0, -5} {
			if _, err := conn.Exec(deadline(t), "insert into contacts (id, email) values ($1, 'chosen@example.com')", id); !isCode(err, "428C9") {
				t.Errorf("%s: id %d: %v", name, id, err)
			}
		}
	})
	if got := value[int64](t, c.session(nil), "select count(*) from contacts where id < 0"); got != 0 {
		t.Errorf("%d rows have ids of the column's own", got)
	}
	c.agree("contacts", "email")
}
