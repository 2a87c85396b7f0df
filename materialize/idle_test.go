package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// A table that does not change is polled once in Pace.Idle. More rarely it is polled where the day's quota is short, and
// while the journal is read to its end, because that tells of changes.
func TestQuietTablesArePolledAsTheDayAndTheJournalAllow(t *testing.T) {
	t.Parallel()
	for name, because := range map[string]string{
		"neither": `select`,
		"day": `insert into hubpg.quota_buckets (portal_id, bucket, max_calls, share)
select portal_id, 'daily', 1000, 0.5 from hubpg.accounts`,
		"journal": `insert into hubpg.feed_state (portal_id, feed, read_to)
select portal_id, 'journal', clock_timestamp() + interval '1 hour' from hubpg.accounts`,
		"journal in trouble": `insert into hubpg.feed_state (portal_id, feed, read_to, last_error)
select portal_id, 'journal', clock_timestamp() + interval '1 hour', 'away' from hubpg.accounts`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := liveContacts(t, sandbox.Config{Contacts: 20}, func(c *materialize.Config) {
				c.Pace.Idle, c.Pace.Told = 200*time.Millisecond, time.Minute
			})
			_, err := w.pool.Exec(t.Context(), because)
			w.must(err)
			rare := name == "day" || name == "journal"
			eventually(t, time.Minute, func() string {
				pause := time.Duration(w.count(`select (position ->> 'pause')::bigint from hubpg.cursors where lane = 'follow'`))
				if pause > time.Second || !rare && pause == 200*time.Millisecond {
					return ""
				}
				return fmt.Sprintf("the pause is %s", pause)
			})
			if !rare {
				before := w.hub.Stats().ByFamily["search"]
				eventually(t, 30*time.Second, func() string { // a minute's pause would bring one
					if polls := w.hub.Stats().ByFamily["search"] - before; polls < 5 {
						return fmt.Sprintf("%d polls", polls)
					}
					return ""
				})
			}
		})
	}
}
