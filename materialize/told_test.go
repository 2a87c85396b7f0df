package materialize_test

import (
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// HubSpot says between which types an association has changed. Of the three pairs that each end has, one is read, from
// both ends.
func TestToldAssociationCostsOnePair(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 60}, func(w *world, c *materialize.Config) {
		journaled(w, c)
		c.Objects = []string{"contacts", "companies", "deals", "tickets"}
	})
	w.awaitLive(2 * time.Minute)
	w.awaitJournal()
	settled := func() string {
		if w.count(`select count(*) from hubpg.pending_associations`) > 0 {
			return "associations are due"
		}
		return w.edgeDifference()
	}
	eventually(t, soon, settled)
	before := w.hub.Stats().ByFamily["associations"]
	w.must(w.hub.Associate("contacts", w.live("contacts")[5].ID, "companies", w.live("companies")[1].ID, 279))
	eventually(t, soon, settled)
	if calls := w.hub.Stats().ByFamily["associations"] - before; calls < 1 || calls > 3 {
		t.Errorf("%d calls for one association", calls)
	}
}
