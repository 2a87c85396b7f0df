package materialize_test

import (
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// unmirrored is an account whose contacts cannot be listed yet, while the associations that deals have with them are
// stored already. It returns contacts that stand in such associations.
func unmirrored(t *testing.T, tune func(*materialize.Pace)) (w *world, linked []int64) {
	t.Helper()
	w = newWorld(t, sandbox.Config{Contacts: 80})
	w.hub.InjectFault(sandbox.Fault{Method: "GET", Path: "/objects/([^/]+/)?(contacts|0-1)$", Kind: sandbox.FaultInternal})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies", "deals"}
	tune(&cfg.Pace)
	w.start(cfg)
	w.awaitLive(60*time.Second, "deals_contacts")
	for _, e := range w.hub.Edges("deals", "contacts") {
		if len(linked) == 0 || linked[len(linked)-1] != e.To {
			linked = append(linked, e.To)
		}
	}
	if len(linked) < 3 {
		t.Fatalf("%d associations", len(linked))
	}
	if n := w.count(`select count(*) from hubspot.contacts`); n != 0 {
		t.Fatalf("%d contacts are stored", n)
	}
	return w, linked
}

// A record that is archived before its page was read never becomes a row; an association with it that was read before
// must go all the same, and not stay until the next pass over the pair.
func TestEdgeToARecordArchivedBeforeItCameGoes(t *testing.T) {
	t.Parallel()
	w, linked := unmirrored(t, func(p *materialize.Pace) { p.Archived = 300 * time.Millisecond })
	w.must(w.hub.Archive("contacts", linked[0]))
	w.hub.ClearFaults()
	w.awaitLive(90*time.Second, "contacts")
	eventually(t, 30*time.Second, w.edgeDifference)
	w.awaitEqual(30*time.Second, "contacts", "deals")
	if n := w.count(`select count(*) from hubpg.changes where op = 'dissociate' and table_name = 'deals_contacts' and source = 'sweep'`); n == 0 {
		t.Error("no event says that the association has gone")
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

// The same with a record that was erased, which is not in the recycle bin either.
func TestEdgeToARecordErasedBeforeItCameGoes(t *testing.T) {
	t.Parallel()
	w, linked := unmirrored(t, func(p *materialize.Pace) { p.IDs, p.Archived = 500*time.Millisecond, 500*time.Millisecond })
	w.must(w.hub.Erase("contacts", linked[1]))
	w.hub.ClearFaults()
	w.awaitLive(90*time.Second, "contacts")
	eventually(t, 30*time.Second, w.edgeDifference)
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}
