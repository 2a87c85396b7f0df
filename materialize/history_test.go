package materialize_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubpg/internal/sandbox"
)

// event is one thing that happens to the account, or to the materializer.
type event struct {
	kind  string
	index int // of the record among the live ones, modulo their number
	other int
	value int
}

// histories generates what happens, in order.
func histories() *rapid.Generator[[]event] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			kind: rapid.SampledFrom([]string{
				"update", "update", "update", "update", "clear", "create", "create", "archive", "restore", "erase", "merge", "stamp",
				"associate", "associate", "dissociate", "property", "calculated", "fault", "calm", "pause", "stop", "second", "kill",
			}).Draw(t, "kind"),
			index: rapid.IntRange(0, 1000).Draw(t, "index"),
			other: rapid.IntRange(0, 1000).Draw(t, "other"),
			value: rapid.IntRange(0, 1_000_000).Draw(t, "value"),
		}
	}), 30, 90)
}

// TestHistoriesConverge: whatever happens, in the end the tables are what HubSpot has, and the change log replayed
// from empty gives the tables. HUBPG_HISTORIES sets how many histories are tried, HUBPG_SEED which one comes first.
func TestHistoriesConverge(t *testing.T) {
	t.Parallel()
	count, first := 3, int(time.Now().UnixNano()%1_000_000)
	if text := os.Getenv("HUBPG_HISTORIES"); text != "" {
		count, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("HUBPG_SEED"); text != "" {
		first, _ = strconv.Atoi(text)
	}
	for i := range count {
		t.Run(fmt.Sprintf("seed=%d", first+i), func(t *testing.T) {
			t.Parallel()
			live(t, first+i)
		})
	}
}

// live plays one history and waits for the end to be right.
func live(t *testing.T, seed int) {
	w := newWorld(t, sandbox.Config{
		Seed: int64(seed), Contacts: 40, IndexLag: time.Duration(seed%4) * 300 * time.Millisecond, Disorder: seed%2 == 0,
	})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies"}
	stop := w.start(cfg)
	var archived []int64
	for i, e := range histories().Example(seed) {
		contacts := w.live("contacts")
		if len(contacts) < 5 {
			break
		}
		record := contacts[e.index%len(contacts)].ID
		other := contacts[e.other%len(contacts)].ID
		switch e.kind {
		case "update":
			w.must(w.hub.Update("contacts", record, map[string]string{"firstname": fmt.Sprint("v", e.value)}))
		case "clear":
			w.must(w.hub.Update("contacts", record, map[string]string{"firstname": ""}))
		case "create":
			_, err := w.hub.Create("contacts", map[string]string{"email": fmt.Sprintf("h%d.%d@example.com", i, e.value)})
			w.must(err)
		case "archive":
			w.must(w.hub.Archive("contacts", record))
			archived = append(archived, record)
		case "restore":
			if len(archived) > 0 {
				w.must(w.hub.Restore("contacts", archived[0]))
				archived = archived[1:]
			}
		case "erase":
			w.must(w.hub.Erase("contacts", record))
		case "merge":
			if record != other {
				_, err := w.hub.Merge("contacts", record, other)
				w.must(err)
			}
		case "stamp":
			w.must(w.hub.StampAll("contacts", 1+e.value%len(contacts), time.Now()))
		case "associate", "dissociate":
			companies := w.live("companies")
			company := companies[e.other%len(companies)].ID
			if e.kind == "associate" {
				w.must(w.hub.Associate("contacts", record, "companies", company, 279))
			} else {
				_ = w.hub.Dissociate("contacts", record, "companies", company, 279) // may not be there
			}
		case "property":
			name := fmt.Sprintf("extra_%d", e.value%3)
			_ = w.hub.AddProperty("contacts", sandbox.PropertyDef{Name: name, Label: name, Type: "string", FieldType: "text"}) // may be there
		case "calculated":
			w.must(w.hub.Update("contacts", record, map[string]string{"lastname": fmt.Sprint("w", e.value)}))
		case "fault":
			kinds := []sandbox.FaultKind{sandbox.FaultInternal, sandbox.FaultCut, sandbox.FaultDrop, sandbox.FaultRateBurst, sandbox.FaultEmptyPage}
			w.hub.InjectFault(sandbox.Fault{Kind: kinds[e.value%len(kinds)], Probability: 0.3})
		case "calm":
			w.hub.ClearFaults()
		case "pause":
			time.Sleep(time.Duration(e.value%400) * time.Millisecond)
		case "stop":
			stop()
			stop = w.start(w.config2(cfg))
		case "second":
			w.start(w.config2(cfg))
		case "kill":
			cmd := w.process(childFast + "=1")
			time.Sleep(time.Duration(e.value%500) * time.Millisecond)
			kill(cmd)
		}
	}
	w.hub.ClearFaults()
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	w.awaitEqual(60*time.Second, "contacts", "companies")
	eventually(t, 60*time.Second, func() string { return w.edgeDifference() })
	eventually(t, 10*time.Second, w.replayDifference)
}
