package sandbox_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

func TestTheJournalLeadsToTheTruthWhileEverythingElseIsRead(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 60, IndexLag: 5 * time.Millisecond, ExportTime: time.Millisecond})
	rec := h.receive(nil)
	h.subscribe(sandbox.WebhookSubscription{EventType: "contact.propertyChange", PropertyName: "phone"})
	dev := h.developer()
	h.journalOf(dev, obj{"subscriptionType": "OBJECT", "objectTypeId": "0-1", "properties": []string{"phone"}},
		obj{"subscriptionType": "LIST_MEMBERSHIP"})
	contacts := h.Snapshot("contacts")
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 3 {
		writers.Go(func() {
			for i := range 120 {
				id := contacts[(w*7+i*13)%len(contacts)].ID
				var err error
				switch i % 10 {
				case 8:
					err = h.Update("contacts", id, map[string]string{"lifecyclestage": []string{"lead", "customer"}[i/10%2]})
				case 9:
					h.Step()
				default:
					err = h.Update("contacts", id, map[string]string{"phone": fmt.Sprintf("+%d%03d", w+1, i)})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, path := range []string{
				"/crm/v3/lists/1/memberships", "/settings/users/2026-03", "/marketing/v3/forms", "/crm/v3/objects/contacts",
			} {
				if got := h.get(path); got.status != 200 {
					t.Errorf("%s: %s", path, got.raw)
				}
			}
		}
	})

	// Read the journal while it is written, and once more after.
	phones := map[int64]string{}
	offset, files := "", 0
	read := func() {
		for {
			path := journalPath + "earliest"
			if offset != "" {
				path = journalPath + "offset/" + offset + "/next"
			}
			got := h.as(dev, "GET", path, nil)
			if got.status == 204 {
				return
			}
			offset = got.must(t, 200).text("currentOffset")
			files++
			for _, e := range h.events(got) {
				if changes, ok := e["propertyChanges"].(obj); ok {
					phones[int64(e["objectId"].(float64))] = changes["phone"].(string)
				}
			}
		}
	}
	finished := make(chan struct{})
	go func() { writers.Wait(); close(finished) }()
	for writing := true; writing; {
		select {
		case <-finished:
			writing = false
		default:
		}
		read()
	}
	close(done)
	readers.Wait()
	read()
	// The writers may have been done before the first read; what comes after it is another file.
	if err := h.Update("contacts", contacts[0].ID, map[string]string{"phone": "+999"}); err != nil {
		t.Fatal(err)
	}
	read()
	if len(phones) < 50 || files < 2 {
		t.Errorf("%d contacts in %d files", len(phones), files)
	}
	for id, phone := range phones {
		if truth, ok := h.Lookup("contacts", id); ok && truth.Properties["phone"] != phone {
			t.Errorf("%d: %q in the journal, %q in truth", id, phone, truth.Properties["phone"])
		}
	}
	events := h.settled(rec)
	if st := h.Stats().Webhooks; int64(len(events)) != st.Events || st.Failed != 0 {
		t.Errorf("%d events received, %+v", len(events), st)
	}
}
