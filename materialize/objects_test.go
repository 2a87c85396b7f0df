package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// TestATableThatIsNotWantedAnyMoreIsLeftAndComesBack: it is not emptied, not followed, and says so; when it is wanted
// again, what happened meanwhile is found.
func TestATableThatIsNotWantedAnyMoreIsLeftAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 40})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "deals", "lists"}
	stop := w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "deals", "lists")
	w.awaitEqual(10 * time.Second)
	stop()

	fewer := w.config2(cfg)
	fewer.Objects = []string{"contacts"}
	stop = w.start(fewer)
	eventually(t, 20*time.Second, func() string {
		for _, table := range []string{"deals", "lists"} {
			if s := w.status(table); s.Phase != "gone" || s.Hint == "" {
				return fmt.Sprintf("%s are %q (%s)", table, s.Phase, s.Hint)
			}
			if n := w.count(`select count(*) from hubpg.river_job where args ->> 'table' = $1 and state <> 'completed'`, table); n > 0 {
				return fmt.Sprintf("%d lanes of %s go on", n, table)
			}
		}
		return ""
	})
	deal := w.live("deals")[0].ID
	w.must(w.hub.Update("deals", deal, map[string]string{"dealname": "Unseen"}))
	w.must(w.hub.Archive("deals", w.live("deals")[1].ID))
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "Seen"}))
	w.awaitEqual(20*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.deals where dealname = 'Unseen'`); n != 0 {
		t.Error("a table that is left out is followed")
	}
	stop()

	w.start(w.config2(cfg))
	w.awaitLive(30*time.Second, "contacts", "deals", "lists")
	w.awaitEqual(30*time.Second, "contacts", "deals")
	if d := w.replayDifference(); d != "" {
		t.Error(d)
	}
}
