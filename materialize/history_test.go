package materialize_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// asked returns how many histories to try and the seed of the first: HUBPG_HISTORIES and HUBPG_SEED where they are
// set. Without, every run tries the same; with a number alone, other ones each time.
func asked(t *testing.T, count int) (histories, first int) {
	t.Helper()
	first = 1
	if os.Getenv("HUBPG_HISTORIES") != "" {
		first = int(time.Now().UnixNano() % 1_000_000)
	}
	for name, number := range map[string]*int{"HUBPG_HISTORIES": &count, "HUBPG_SEED": &first} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			*number = n
		}
	}
	return count, first
}

// TestHistoriesConverge: whatever happens, in the end the tables are what HubSpot has, and the change log replayed
// from empty gives the tables. The engines run in this process; see TestHistoriesOfKilledProcessesConverge.
// HUBPG_HISTORIES sets how many histories are tried, HUBPG_SEED which one comes first.
func TestHistoriesConverge(t *testing.T) {
	t.Parallel()
	count, first := asked(t, 3)
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
	cfg.Objects = append([]string{"contacts", "companies", "boats"}, surfaceTables()...)
	cfg.Pace.Lookups = time.Second
	stop := w.start(cfg)
	p := newPlayer(w.hub, w.url)
	for _, e := range histories(slices.Concat(anything, disasters), 30, 90).Example(seed) {
		switch e.kind {
		case "stop":
			stop()
			stop = w.start(w.config2(cfg))
		case "second":
			w.start(w.config2(cfg))
		case "kill":
			cmd := w.process(childFast + "=1")
			time.Sleep(time.Duration(e.value%500) * time.Millisecond)
			kill(cmd)
		default:
			if err := p.do(e); err != nil {
				t.Fatalf("%s: %v", e.kind, err)
			}
		}
	}
	p.peace()
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	w.awaitEqual(60*time.Second, "contacts", "companies")
	eventually(t, 60*time.Second, func() string { return w.edgeDifference() })
	eventually(t, 60*time.Second, w.surfaceDifference)
	eventually(t, 10*time.Second, w.replayDifference)
}
