package writeback_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/writeback"
)

// earlier is how a proxy of an earlier version asks for what it does on its client's backend. Such proxies go on while the
// schema is brought up to date under them; what they ask must keep its name, its form and its meaning.
type earlier struct {
	rehearse, captured string
	locks              bool // it takes those that captured gives it, and asks for others only if there are none
	perform            []string
	done               string
}

var earlierProxies = map[string]earlier{
	"004": {
		rehearse: "select hubpg.rehearse($1)",
		captured: "select n, schema_name, table_name, op, old_row, new_row from hubpg.captured($1) order by n",
		perform:  []string{"select hubpg.answer($1, $2::jsonb)", "select hubpg.perform($1)"},
		done:     "select hubpg.performed($1), hubpg.unlock_tables()",
	},
	"007": {
		rehearse: "select current_user, r.* from hubpg.rehearse($1) r",
		captured: "select * from hubpg.captured($1)",
		locks:    true,
		perform:  []string{"select hubpg.perform($1, $2)"},
		done:     "select hubpg.performed($1, $2)",
	},
}

// write does what such a proxy does with a statement, and reports how many rows were captured. A proxy that gives up does so
// before it has asked for locks.
func (e *earlier) write(s *session, sql string, giveUp bool) int {
	s.a.t.Helper()
	t := s.a.t
	s.exec("begin")
	s.exec("savepoint hubpg_write")
	if n := len(s.ask(e.rehearse, s.permit)); n != 1 {
		t.Fatalf("%s: %d rows", e.rehearse, n)
	}
	s.exec(sql)
	var rows []writeback.Row
	var locks any
	for _, r := range s.ask(e.captured, s.permit) {
		if want := map[bool]int{false: 6, true: 7}[e.locks]; len(r) != want {
			t.Fatalf("%s: %d columns, want %d", e.captured, len(r), want)
		}
		row := writeback.Row{Schema: string(r[1]), Table: string(r[2]), Op: string(r[3]), Old: r[4], New: r[5]}
		row.N = int64(len(rows) + 1)
		if rows = append(rows, row); e.locks && r[6] != nil {
			locks = string(r[6])
		}
	}
	s.exec("rollback to savepoint hubpg_write")
	switch {
	case len(rows) == 0:
		s.exec(sql)
		s.exec("release savepoint hubpg_write")
		s.exec("commit")
		return 0
	case giveUp:
		s.exec("rollback")
		return len(rows)
	case locks == nil:
		s.exec("select hubpg.lock_tables($1, $2::text[])", s.permit, []string{rows[0].Schema + "." + rows[0].Table})
	}
	res, err := s.writer.Write(t.Context(), writeback.Request{Permit: s.permit, PID: s.conn.PgConn().PID(), Role: "app", SQL: sql, Rows: rows})
	s.a.must(err)
	s.open = append(s.open, res.ID)
	s.exec("rollback to savepoint hubpg_write")
	for _, ask := range e.perform {
		args := []any{s.permit, string(res.Answers)}
		s.exec(ask, args[:strings.Count(ask, "$")]...)
	}
	s.exec(sql)
	args := []any{s.permit, locks}
	s.exec(e.done, args[:strings.Count(e.done, "$")]...)
	s.exec("release savepoint hubpg_write")
	s.exec("commit")
	s.ended(true)
	return len(rows)
}

// ask returns the rows of a statement in text.
func (s *session) ask(sql string, args ...any) [][][]byte {
	s.a.t.Helper()
	rows, err := s.conn.Query(s.a.t.Context(), sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	s.a.must(err)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([][]byte, error) {
		var columns [][]byte
		for _, raw := range row.RawValues() {
			if raw != nil {
				raw = append([]byte{}, raw...)
			}
			columns = append(columns, raw)
		}
		return columns, nil
	})
	s.a.must(err)
	return list
}

// TestProxiesOfEarlierVersionsGoOn holds that a proxy which has not been replaced yet writes as before when the schema has
// been brought up to date, and leaves neither a lock nor a right behind.
func TestProxiesOfEarlierVersionsGoOn(t *testing.T) {
	t.Parallel()
	for version, proxy := range earlierProxies {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			a.contact("one@example.com")
			s := a.session()
			clean := func(after string) {
				t.Helper()
				if got := a.text("select count(*) from pg_locks where locktype = 'advisory' and pid = $1", int32(s.conn.PgConn().PID())); got != "0" {
					t.Errorf("after %s the session holds %s locks", after, got)
				}
				if got := a.text("select count(*) from hubpg.write_sessions"); got != "0" {
					t.Errorf("after %s %s sessions may write", after, got)
				}
				a.agree("contacts", "email", "firstname")
			}
			for _, test := range []struct {
				sql    string
				giveUp bool
				rows   int
			}{
				{"update hubspot.contacts set firstname = 'Never'", true, 1},
				{"update hubspot.contacts set firstname = 'Nobody' where id = -7", false, 0},
				{"insert into hubspot.contacts (email, firstname) values ('two@example.com', 'Two')", false, 1},
				{"update hubspot.contacts set firstname = 'Both'", false, 2},
				{"delete from hubspot.contacts where email = 'two@example.com'", false, 1},
			} {
				if got := proxy.write(s, test.sql, test.giveUp); got != test.rows {
					t.Errorf("%s: %d rows captured, want %d", test.sql, got, test.rows)
				}
				clean(test.sql)
			}
		})
	}
}
