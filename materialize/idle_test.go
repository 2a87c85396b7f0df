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
		"told of":          `update hubpg.objects set told_at = clock_timestamp() where table_name = 'contacts'`,
		"told of long ago": `update hubpg.objects set told_at = clock_timestamp() - interval '2 hours' where table_name = 'contacts'`,
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
			rare := name == "day" || name == "journal" || name == "told of"
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

// Where changes are told, a poll that finds one first does not bring on more of them. One that finds what should have been
// told does.
func TestPollsStayRareWhileChangesAreTold(t *testing.T) {
	t.Parallel()
	const idle = 200 * time.Millisecond
	w, _ := liveContacts(t, sandbox.Config{Contacts: 20}, func(c *materialize.Config) {
		c.Pace.Busy, c.Pace.Idle, c.Pace.Told = idle/2, idle, 15*time.Second
	})
	_, err := w.pool.Exec(t.Context(), `update hubpg.objects set told_at = clock_timestamp() where table_name = 'contacts'`)
	w.must(err)
	ids := w.live("contacts")
	changes := 0
	change := func() {
		changes++
		w.must(w.hub.Update("contacts", ids[changes%len(ids)].ID, map[string]string{"firstname": fmt.Sprint(changes)}))
	}
	of := func(field string) int64 {
		return w.count(`select (position ->> $1)::bigint from hubpg.cursors where lane = 'follow' and table_name = 'contacts'`, field)
	}
	eventually(t, time.Minute, func() string {
		change() // and a poll is the first to find it
		if pause := time.Duration(of("pause")); pause < 2*time.Second {
			return fmt.Sprintf("the pause is %s", pause)
		}
		return ""
	})
	if of("amiss") > 0 {
		t.Errorf("what was found at once counts as not told")
	}
	_, err = w.pool.Exec(t.Context(), `update hubpg.cursors set position = position || '{"pause": 15000000000}' where lane = 'follow'`)
	w.must(err)
	polled := int64(0)
	eventually(t, 2*time.Minute, func() string {
		if last := of("polled"); last != polled {
			polled = last
			change() // so that it is as old as the pause when it is found
		}
		if pause := time.Duration(of("pause")); pause > idle {
			return fmt.Sprintf("the pause is %s", pause)
		}
		return ""
	})
}
