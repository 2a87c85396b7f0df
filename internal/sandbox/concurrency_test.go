package sandbox_test

import (
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

func TestWalksSeeEveryLastingRecordWhileOthersChange(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{
		Contacts: 400, IndexLag: 20 * time.Millisecond, Disorder: true, SecondBump: 10 * time.Millisecond, Rollups: true,
	})
	before := h.Snapshot("contacts")
	stop := make(chan struct{})
	var changing, reading sync.WaitGroup
	changing.Go(func() {
		for range 1500 {
			select {
			case <-stop:
				return
			default:
				h.Step()
			}
		}
	})
	for range 3 {
		reading.Go(func() {
			for range 3 {
				seen := map[string]bool{}
				for after := ""; ; {
					page := h.get("/crm/v3/objects/contacts?limit=50&associations=companies" + after)
					if page.status != 200 {
						t.Errorf("status %d", page.status)
						return
					}
					for _, id := range page.ids() {
						if seen[id] {
							t.Errorf("%s twice in one walk", id)
						}
						seen[id] = true
					}
					next := page.text("paging", "next", "after")
					if next == "" {
						break
					}
					after = "&after=" + next
				}
				for _, r := range before {
					if now, ok := h.Lookup("contacts", r.ID); ok && !now.Archived && !seen[str(r.ID)] {
						t.Errorf("%d was missed", r.ID)
					}
				}
				h.post(contactSearch, ascending(where(filter("lastmodifieddate", "GT", "1")), "lastmodifieddate"))
				h.post(linkRead, obj{"inputs": []obj{{"id": str(before[0].ID)}}})
			}
		})
	}
	reading.Wait()
	close(stop)
	changing.Wait()
}
