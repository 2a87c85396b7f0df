package materialize_test

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

// classes counts calls by family and class of the quota.
type classes struct {
	mu    sync.Mutex // guards below
	calls map[[2]string]int
}

func (c *classes) Wait(ctx context.Context, family, class string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[[2]string{family, class}]++
	return ctx.Err()
}

func (c *classes) Observe(string, int, http.Header, string) {}

// take returns the counts and begins anew.
func (c *classes) take() map[[2]string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = map[[2]string]int{}
	return calls
}

// TestDetectorsSpendTheShareOfSweeps: in an account in which nothing changes, all that is read besides the polls is read by
// detectors, and comes out of their share of the quota; the first filling has one of its own.
func TestDetectorsSpendTheShareOfSweeps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 300})
	c := &classes{calls: map[[2]string]int{}}
	cfg := w.config()
	client, err := hubapi.New(w.url, hubapi.StaticToken("sandbox"), hubapi.WithLimiter(c))
	w.must(err)
	cfg.Client = client
	cfg.Objects = append([]string{"contacts", "companies"}, surfaceTables()...)
	cfg.Pace.Calculated, cfg.Pace.Counts, cfg.Pace.Lookups, cfg.Pace.Pairs = time.Second, time.Second, time.Second, time.Second
	cfg.Pace.Schema = time.Hour
	w.start(cfg)
	w.awaitLive(120*time.Second, append([]string{"contacts", "companies", "contacts_companies"}, surfaceTables()...)...)
	if filling := c.take(); filling[[2]string{hubapi.FamilyObject, string(hubapi.Backfill)}] == 0 {
		t.Errorf("filling cost %v", filling)
	}
	w.awaitEqual(30 * time.Second)
	w.nothingPends(30 * time.Second)
	time.Sleep(time.Second) // what was under way
	c.take()
	for _, lane := range []string{"ids", "archived", "calculated", "associations", "lookup"} {
		before := w.count(`select sum(revision) from hubpg.cursors where lane = $1`, lane)
		eventually(t, 60*time.Second, func() string {
			if w.count(`select sum(revision) from hubpg.cursors where lane = $1`, lane) < before+2 {
				return lane + " has not looked"
			}
			return ""
		})
	}
	quiet := c.take()
	t.Logf("%v", quiet)
	maps.DeleteFunc(quiet, func(k [2]string, _ int) bool { return k[1] == string(hubapi.Sweeps) })
	delete(quiet, [2]string{hubapi.FamilySearch, string(hubapi.Fresh)}) // polls
	if len(quiet) > 0 {
		t.Errorf("detectors spent %v", quiet)
	}
}
