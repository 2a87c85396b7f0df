package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"hubpg/proxy"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// What a transaction has listened to and then undone is what Postgres says of channels of its own.
func TestSavepointsUndoWhatTheyUndoInPostgres(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.ListenerIdle = -1 })
	writer := r.db.Conn(t)
	for _, script := range []string{
		"begin; listen A; savepoint a; listen B; savepoint b; listen C; rollback to a; commit",
		"begin; listen A; savepoint a; listen B; savepoint b; listen C; rollback to a; listen C; commit",
		"begin; savepoint a; listen A; savepoint b; listen B; rollback to a; listen C; rollback to b; commit",
		"begin; savepoint s; listen A; savepoint a; savepoint b; release a; listen B; rollback to s; listen C; commit",
		"begin; listen A; savepoint s; listen B; savepoint s; listen C; rollback to s; commit",
		"begin; listen A; savepoint s; listen B; savepoint s; listen C; release s; rollback to s; commit",
		`begin; listen A; savepoint s; listen B; savepoint "S"; listen C; rollback work to savepoint S; commit`,
		"begin; listen A; savepoint s; listen B; rollback and chain; listen C; commit",
		"begin; listen A; savepoint s; listen B; commit and chain; listen C; rollback",
		"begin; listen A; savepoint s; unlisten A; listen B; rollback to s; listen C; abort",
		"begin; listen A; savepoint s; select 1/0; rollback to s; listen B; savepoint t; listen C; rollback to nosuch; commit",
		"begin; listen A; savepoint s; select 1/0; rollback to s; listen B; release s; commit",
		"listen A; begin; savepoint s; unlisten *; listen B; savepoint t; listen C; rollback transaction to t; release savepoint s; end",
		"begin; savepoint s; listen A; rollback to s; savepoint t; listen B; savepoint u; listen C; rollback to t; listen A; commit",
	} {
		for _, how := range []string{"statements", "one text", "pipeline", "prepared"} {
			script := script
			if how == "one text" {
				script = strings.ReplaceAll(script, "select 1/0; ", "") // would end the text
			}
			// By the hub's channels, all of which ring for one change, and by three of Postgres's own.
			conn := r.connect()
			perform(t, conn, how, strings.NewReplacer("A", "hubspot", "B", "hubspot_deals", "C", `"hubspot_deals.dealstage"`).Replace(script))
			seq := r.change(writer, 1)
			exec(t, conn, `listen "hubspot_deals.dealstage"`)
			last, heard := r.change(writer, 1), map[string]bool{}
			for {
				n, err := conn.WaitForNotification(deadline(t))
				if err != nil {
					t.Fatalf("wait: %v", err)
				}
				if n.Payload == notice(seq) {
					heard[n.Channel] = true
				} else if n.Channel == "hubspot_deals.dealstage" && n.Payload == notice(last) {
					break
				}
			}
			conn = r.connect()
			perform(t, conn, how, strings.NewReplacer("A", "x_hubspot", "B", "x_hubspot_deals", "C", `"x_hubspot_deals.dealstage"`).Replace(script))
			want := map[string]bool{}
			for name := range strings.FieldsSeq(value[string](t, conn, "select coalesce(string_agg(substr(c, 3), ' '), '') from pg_listening_channels() c")) {
				want[name] = true
			}
			if diff := cmp.Diff(want, heard); diff != "" {
				t.Errorf("%s; as %s (-Postgres +proxy):\n%s", script, how, diff)
			}
		}
	}
}

// perform has Postgres do the statements of a script, errors and all, in one of several ways, and ends what it has left open.
func perform(t *testing.T, conn *pgx.Conn, how, script string) {
	t.Helper()
	defer exec(t, conn, "rollback")
	statements := strings.Split(script, "; ")
	switch how {
	case "statements":
		for _, sql := range statements {
			_, _ = conn.Exec(deadline(t), sql) // its errors are part of the script
		}
	case "one text":
		_, _ = conn.PgConn().Exec(deadline(t), script).ReadAll()
	case "pipeline", "prepared":
		p := conn.PgConn().StartPipeline(deadline(t))
		for i, sql := range statements {
			if how == "prepared" {
				p.SendPrepare(fmt.Sprint(i), sql, nil)
				p.SendQueryPrepared(fmt.Sprint(i), nil, nil, nil)
			} else {
				p.SendQueryParams(sql, nil, nil, nil, nil)
			}
			if err := p.Sync(); err != nil {
				t.Fatalf("sync: %v", err)
			}
		}
		_ = p.Close()
	}
}
