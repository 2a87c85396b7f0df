package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// Every call that HubSpot has counted stands in hubpg.calls, by lane, once the engine has stopped.
func TestCallsAreWrittenDownByLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 250})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies", "lists", "marketing_emails"}
	stop := w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies", "lists", "marketing_emails")
	w.must(w.hub.Update("contacts", w.live("contacts")[4].ID, map[string]string{"firstname": "Costs a call"}))
	w.awaitEqual(120*time.Second, "contacts")
	eventually(t, 120*time.Second, func() string { // while it runs, too
		if n := w.count(`select count(*) from hubpg.calls where total > 0`); n < 5 {
			return fmt.Sprintf("%d lanes have calls written down", n)
		}
		return ""
	})
	stop()
	first := w.count(`select sum(total)::bigint from hubpg.calls`)
	// One call asks whose token it is, before there are lanes.
	if calls := w.hub.Stats().Calls; first != calls-1 {
		t.Errorf("%d calls are written down, HubSpot has counted %d", first, calls)
	}
	if n := w.count(`select count(*) from hubpg.calls where today > total or day < current_date - 1`); n != 0 {
		t.Errorf("%d lanes have more calls today than ever", n)
	}
	for _, lane := range []string{"backfill", "follow", "associations", "schema", "lookup"} {
		if n := w.count(`select coalesce(sum(total), 0)::bigint from hubpg.calls where lane = $1`, lane); n == 0 {
			t.Errorf("lane %s has no calls", lane)
		}
	}
	if s := w.status("contacts"); s.Calls["backfill"] < 3 || s.Calls["follow"] == 0 {
		t.Errorf("status shows calls %v", s.Calls)
	}

	stop = w.start(w.config2(cfg)) // counts go on from what is written
	eventually(t, 120*time.Second, func() string {
		if w.count(`select sum(total)::bigint from hubpg.calls`) <= first {
			return "no further calls"
		}
		return ""
	})
	stop()
	if sum, calls := w.count(`select sum(total)::bigint from hubpg.calls`), w.hub.Stats().Calls; sum != calls-2 {
		t.Errorf("after another start %d calls are written down, HubSpot has counted %d", sum, calls)
	}
}
