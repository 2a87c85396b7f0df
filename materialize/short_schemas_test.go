package materialize_test

import (
	"net/http"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// On bad days HubSpot lists nothing with status 200; an object is gone when HubSpot says so of the object.
func TestAnEmptyListOfCustomObjectsRetiresNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	boats, err := w.hub.AddObjectType(boatType("sails"))
	w.must(err)
	w.launch(boats, "sails", 5)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "boats"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats")
	w.hub.InjectFault(sandbox.Fault{
		Method: http.MethodGet, Path: "/schemas$", Kind: sandbox.FaultStatus, Status: http.StatusOK, Body: `{"results":[]}`,
	})
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if s := w.status("boats"); s.Phase != "live" {
			t.Fatalf("boats are %s: %s", s.Phase, s.Hint)
		}
	}
	w.must(w.hub.Update(boats, w.live(boats)[0].ID, map[string]string{"sails": "torn"}))
	w.awaitEqual(20*time.Second, "boats")
}
