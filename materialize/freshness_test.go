package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// Whatever was changed before the instant to which a table is verified is in the table, for every reader at every time.
func TestTableHoldsWhatItsVerifiedInstantSays(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 60, Latency: 40 * time.Millisecond}, func(c *materialize.Config) {
		c.Pace.Idle = 100 * time.Millisecond
	})
	ids := w.live("contacts")
	type change struct {
		id     int64
		number int
		done   time.Time
	}
	var sent []change
	behind := func() string {
		tx, err := w.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			return err.Error()
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		var verified *time.Time // null until the first poll after the filling
		if err := tx.QueryRow(t.Context(), `select verified_at from hubpg.objects where table_name = 'contacts'`).Scan(&verified); err != nil {
			return err.Error()
		}
		stored := map[int64]int{}
		rows, err := tx.Query(t.Context(), `select id, coalesce(substr(firstname, 8)::int, 0) from hubspot.contacts where firstname like 'number %'`)
		if err != nil {
			return err.Error()
		}
		var id int64
		var number int
		if _, err := pgx.ForEachRow(rows, []any{&id, &number}, func() error {
			stored[id] = number
			return nil
		}); err != nil {
			return err.Error()
		}
		for _, c := range sent {
			if verified != nil && c.done.Before(*verified) && stored[c.id] < c.number {
				return fmt.Sprintf("verified to %s, but record %d lacks what was changed %s before", verified, c.id, verified.Sub(c.done))
			}
		}
		return ""
	}
	for n := 1; n <= 300; n++ {
		id := ids[n%len(ids)].ID
		w.must(w.hub.Update("contacts", id, map[string]string{"firstname": fmt.Sprint("number ", n)}))
		sent = append(sent, change{id, n, time.Now()})
		if d := behind(); d != "" {
			t.Fatalf("after %d changes: %s", n, d)
		}
		time.Sleep(5 * time.Millisecond)
	}
	last := sent[len(sent)-1].done
	eventually(t, 20*time.Second, func() string { // it goes on, too
		if s := w.status("contacts"); s.VerifiedAt == nil || !s.VerifiedAt.After(last) {
			return fmt.Sprintf("verified to %v", s.VerifiedAt)
		}
		return behind()
	})
}

// A session that asks for a fresh table ends the rest of the lane that reads it. What the lane then verifies is the instant
// at which it began to look, each time anew, however it walks over the table.
func TestATableThatIsWishedForIsReadAnewEachTime(t *testing.T) {
	t.Parallel()
	w := surfaced(t, sandbox.Config{Contacts: 60}, func(c *materialize.Config) {
		c.Pace.Lookups, c.Pace.Pairs, c.Pace.Schema = time.Hour, time.Hour, time.Hour
	})
	tables := append(surfaceTables(), "contacts", "contacts_companies", "owners")
	w.awaitLive(120*time.Second, tables...)
	for range 2 {
		for _, table := range tables {
			asked := time.Now()
			eventually(t, 30*time.Second, func() string {
				if s := w.status(table); s.VerifiedAt == nil || !s.VerifiedAt.After(asked) {
					w.exec(`select hubpg.hasten('hubspot', $1)`, table)
					return fmt.Sprintf("%s was asked for at %s and is verified to %v", table, asked, s.VerifiedAt)
				}
				return ""
			})
		}
	}
}
