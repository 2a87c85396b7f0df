package sandbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/sandbox"
)

func TestRunChangesOneOrTwoRecordsASecondUntilItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sandbox.New(sandbox.Config{Contacts: 300})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { err = s.Run(ctx) })
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		if n := s.Stats().Changes; err != nil || n < 60 || n > 120 {
			t.Errorf("%d changes in a minute, error %v", n, err)
		}
	})
}

func TestQuietAccountsDoNotChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sandbox.New(sandbox.Config{Contacts: 50, Quiet: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.Run(ctx); err != nil || s.Stats().Changes != 0 {
			t.Errorf("%d changes, error %v", s.Stats().Changes, err)
		}
	})
}

func TestStepsTouchEveryKindOfThing(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 500})
	before := map[string]map[int64]sandbox.Record{}
	for _, objectType := range h.ObjectTypes() {
		before[objectType] = map[int64]sandbox.Record{}
		for _, r := range h.Snapshot(objectType) {
			before[objectType][r.ID] = r
		}
	}
	edges := len(h.Edges("deals", "contacts"))
	for range 400 {
		h.Step()
	}
	made, changed, archived, stages := 0, 0, 0, 0
	for objectType, old := range before {
		for _, r := range h.Snapshot(objectType) {
			was, ok := old[r.ID]
			switch {
			case !ok:
				made++
			case r.Archived:
				archived++
			case !r.UpdatedAt.Equal(was.UpdatedAt):
				changed++
			}
			if ok && objectType == "deals" && r.Properties["dealstage"] != was.Properties["dealstage"] {
				stages++
			}
		}
	}
	if made < 20 || changed < 100 || archived < 3 || stages < 50 || len(h.Edges("deals", "contacts")) == edges {
		t.Errorf("made %d, changed %d, archived %d, stages moved %d", made, changed, archived, stages)
	}
}

func TestAdminAPIDoesWhatTheMethodsDo(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	admin := func(action string, body obj) answer { return h.post("/_sandbox/"+action, body).must(t, 200) }
	id := admin("create", obj{"type": "contacts", "properties": obj{"email": "a@example.com"}}).text("id")
	other := admin("create", obj{"type": "contacts", "properties": obj{"email": "b@example.com"}}).text("id")
	company := admin("create", obj{"type": "companies", "properties": obj{"name": "Acme"}}).text("id")
	admin("update", obj{"type": "contacts", "id": id, "properties": obj{"city": "Kiel"}})
	admin("associate", obj{"type": "contacts", "id": id, "toType": "companies", "to": company, "typeId": 1})
	admin("calculate", obj{"type": "contacts", "id": id, "name": "hubspotscore", "value": "7"})
	admin("property/add", obj{"type": "contacts", "property": obj{"name": "shoe_size", "label": "Shoe size", "type": "number"}})
	admin("property/change", obj{"type": "contacts", "property": obj{"name": "shoe_size", "label": "Size", "type": "string"}})
	got := h.get("/crm/v3/objects/contacts/"+id+"?properties=city,hubspotscore,shoe_size&associations=companies").must(t, 200)
	if got.at("properties", "city") != "Kiel" || got.at("properties", "hubspotscore") != "7" || got.at("associations", "companies") == nil {
		t.Errorf("got %s", got.raw)
	}
	if got := h.get("/crm/v3/properties/contacts/shoe_size").must(t, 200); got.text("type") != "string" {
		t.Errorf("got %s", got.raw)
	}
	admin("dissociate", obj{"type": "contacts", "id": id, "toType": "companies", "to": company})
	admin("property/archive", obj{"type": "contacts", "name": "shoe_size"})
	admin("archive", obj{"type": "contacts", "id": other})
	admin("restore", obj{"type": "contacts", "id": other})
	merged := admin("merge", obj{"type": "contacts", "id": id, "other": other}).text("id")
	if h.get("/crm/v3/objects/contacts/"+other).text("id") != merged {
		t.Error("not merged")
	}
	admin("erase", obj{"type": "contacts", "id": merged})
	h.get("/crm/v3/objects/contacts/"+merged).must(t, 404)
	typeID := admin("type/add", obj{"schema": obj{"name": "boats", "properties": []obj{{"name": "name", "label": "Name", "type": "string"}}}}).text("typeId")
	h.get("/crm/v3/objects/"+typeID).must(t, 200)
	admin("stamp", obj{"type": "contacts", "count": 100, "at": "2026-11-20T00:00:00Z"})
	stamped := 0
	for _, r := range h.Snapshot("contacts") {
		if r.UpdatedAt.Equal(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)) {
			stamped++
		}
	}
	if stamped != 100 {
		t.Errorf("%d stamped", stamped)
	}
	admin("step", obj{"count": 3})
	admin("fault", obj{"fault": obj{"kind": "internal", "path": "owners"}})
	h.get("/crm/v3/owners").must(t, 500)
	admin("faults/clear", nil)
	admin("scopes/withhold", obj{"scopes": []string{"crm.objects.owners.read"}})
	h.get("/crm/v3/owners").must(t, 403)
	if got := h.get("/_sandbox/stats").must(t, 200); got.at("changes") != 3.0 {
		t.Errorf("got %s", got.raw)
	}
	admin("stats/reset", nil)
	if got := h.get("/_sandbox/types").must(t, 200); fmt.Sprint(got.at("contacts")) == "0" {
		t.Errorf("got %s", got.raw)
	}
	h.post("/_sandbox/update", obj{"type": "contacts", "id": "5"}).must(t, 404)
	h.post("/_sandbox/create", obj{"type": "unicorns"}).must(t, 404)
	h.post("/_sandbox/fault", obj{"fault": obj{"path": "("}}).must(t, 400)
	h.post("/_sandbox/create", "{").must(t, 400)
	h.post("/_sandbox/nope", nil).must(t, 404)
}
