package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// An erased record leaves nothing but a count that is off by one. The sweeps' own periods are an hour here.
func TestCountThatDisagreesHastensTheSweeps(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 300}, func(c *materialize.Config) { c.Pace.Counts = 300 * time.Millisecond })
	w.awaitCursor("ids", "ended", 1)
	w.awaitCursor("archived", "ended", 1)
	live := w.live("contacts")
	start := time.Now()
	w.must(w.hub.Erase("contacts", live[7].ID))
	w.awaitEqual(120*time.Second, "contacts")
	t.Logf("the erased record was gone after %s", time.Since(start))
	if n := w.count(`select count(*) from hubpg.changes where op = 'delete' and record_id = $1 and source = 'sweep'`, live[7].ID); n != 1 {
		t.Fatalf("%d events for the record that is gone", n)
	}
	w.must(w.hub.Archive("contacts", live[8].ID))
	w.awaitEqual(120*time.Second, "contacts")

	// As long as the counts agree nothing is swept.
	eventually(t, 120*time.Second, func() string {
		if n := w.count(`select count_gap from hubpg.objects where table_name = 'contacts'`); n != 0 {
			return fmt.Sprintf("the counts are %d apart", n)
		}
		return ""
	})
	if n := w.status("contacts").HubSpotRows; n == nil || *n != 298 {
		t.Errorf("hubspot's count is shown as %v", n)
	}
}

// A gap that a sweep leaves as it was is a reason for another one ever more rarely: HubSpot may count otherwise.
func TestGapThatStaysIsSweptEverMoreRarely(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 120})
	w.hub.InjectFault(sandbox.Fault{
		Path: "/limits/.*/records$|/limits/records$", Kind: sandbox.FaultStatus, Status: 200,
		Body: `{"hubspotDefinedObjectTypes":[{"objectTypeId":"0-1","usage":150}]}`,
	})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	cfg.Pace.Counts = 100 * time.Millisecond
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts")
	pass := `select coalesce(max(revision), 0) from hubpg.cursors where table_name = 'contacts' and lane = 'ids'`
	eventually(t, 120*time.Second, func() string {
		if n := w.count(`select coalesce(swept_gap, 0) from hubpg.objects where table_name = 'contacts'`); n != 30 {
			return fmt.Sprintf("swept for a gap of %d", n)
		}
		if n := w.count(pass); n < 2 {
			return "no sweep"
		}
		return ""
	})
	times := `select swept_times from hubpg.objects where table_name = 'contacts'`
	eventually(t, 120*time.Second, func() string {
		if w.count(times) < 3 {
			return "the gap is not looked into again"
		}
		return ""
	})
	from := w.count(times)
	time.Sleep(3 * time.Second) // thirty looks; after three times the next is due after 1.6 s, then after 3.2 s
	if n := w.count(times) - from; n > 2 {
		t.Fatalf("swept %d times more", n)
	}
	if d := w.difference("contacts"); d != "" {
		t.Fatal(d)
	}
}
