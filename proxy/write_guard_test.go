package proxy_test

import (
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestAClientNeverSeesItsPermit holds that what lets the proxy write in a client's session stays out of everything that
// Postgres tells the client: with it, the client could change a mirrored table behind HubSpot's back.
func TestAClientNeverSeesItsPermit(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("permit@example.com")
	permit := regexp.MustCompile(`[0-9a-f]{96}`)
	c.each(func(name string, _ *pgx.Conn) {
		var heard []string
		conn := c.session(func(cfg *pgx.ConnConfig) {
			cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard = append(heard, fmt.Sprint(*n)) }
		})
		for _, sql := range []string{
			"set log_parameter_max_length_on_error = -1", "set client_min_messages = 'debug5'",
			"set debug_print_parse = on", "set debug_print_plan = on", "create sequence if not exists app.turns",
		} {
			exec(t, conn, sql)
		}
		exec(t, conn, "update contacts set firstname = $1 where id = $2", name, id)
		exec(t, conn, "select setval('app.turns', 1, false)")
		_, err := conn.Exec(deadline(t), // the rehearsal finds the row, the performance does not
			"update contacts set firstname = $1 where id = $2 and nextval('app.turns') % 2 = 1", name+"!", id)
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || e.Code != "40001" {
			t.Fatalf("%s: %v", name, err)
		}
		heard = append(heard, fmt.Sprint(*e))
		heard = append(heard, value[string](t, conn, `
select string_agg(query, '; ') from (
    select query from pg_stat_activity where pid = pg_backend_pid() union all
    select statement from pg_prepared_statements union all select statement from pg_cursors) s`))
		for _, text := range heard {
			if permit.MatchString(text) {
				t.Errorf("%s: the client was told %s", name, text)
			}
		}
	})
}
