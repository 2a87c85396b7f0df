package budget_test

import (
	"context"
	"flag"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/migrations"
)

// runFor is how long the test against real limits lasts; 60 s make more than a thousand calls.
var runFor = flag.Duration("budget.run", 16*time.Second, "duration of the run under real limits")

// TestRealLimitsAreKeptAndUsed lets two processes loose on an account with real limits and 200 ms of latency, on the
// whole quota. HubSpot's own windows are the judge.
func TestRealLimitsAreKeptAndUsed(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{Contacts: 300, Quiet: true, Limits: true, Latency: 200 * time.Millisecond})
	srv := httptest.NewServer(s)
	defer srv.Close()
	db := pgtest.Migrated(t, migrations.Up)
	ctx, cancel := context.WithTimeout(t.Context(), *runFor)
	defer cancel()

	var wg sync.WaitGroup
	var lists, searches atomic.Int64
	contact := s.Snapshot("contacts")[0].ID
	stalled := watch(ctx, &wg)
	for range 2 {
		b := budget.New(db.Pool(t), budget.Config{PortalID: sandbox.DefaultPortalID, Share: 1, Burst: 190})
		c, err := hubapi.New(srv.URL, hubapi.StaticToken(sandbox.DefaultToken), hubapi.WithLimiter(b))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = b.Run(ctx) })
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := c.As(hubapi.Backfill).ListObjects(ctx, "contacts", hubapi.ListOptions{Limit: 10}); err == nil {
						lists.Add(1)
					} else if ctx.Err() == nil {
						t.Errorf("list: %v", err)
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := c.Search(ctx, "contacts", hubapi.SearchRequest{Limit: 1}); err == nil {
						searches.Add(1)
					} else if ctx.Err() == nil {
						t.Errorf("search: %v", err)
					}
					_, _ = c.BatchRead(ctx, "contacts", []int64{contact}, nil)
				}
			})
		}
	}
	wg.Wait()
	stats := s.Stats()
	t.Logf("%d calls, %d lists, %d searches in %v; peaks %v", stats.Calls, lists.Load(), searches.Load(), *runFor, stats.Peak)
	if want := max(190, stalled.most(t, 10250*time.Millisecond, 190/10.25)-1); stats.Peak["burst"] > want {
		t.Errorf("%d calls in 10 s, the limit is 190", stats.Peak["burst"])
	}
	if want := max(5, stalled.most(t, 1249*time.Millisecond, 4)); stats.Peak["search"] > want {
		t.Errorf("%d searches in one second, the limit is 5", stats.Peak["search"])
	}
	if want := stalled.least(10*time.Second, 0.9*19); stats.Peak["burst"] < want {
		t.Errorf("at most %d calls in 10 s, want %d, 90 %% of the limit", stats.Peak["burst"], want)
	}
	if want := int64(stalled.least(*runFor-time.Second, 0.9*4)); searches.Load() < want {
		t.Errorf("%d searches, want at least %d", searches.Load(), want)
	}
}

// TestOneBackfillUsesItsShare is the ordinary case: a third of the quota, one process, one big object.
func TestOneBackfillUsesItsShare(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{Contacts: 300, Quiet: true, Limits: true, Latency: 200 * time.Millisecond})
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := budget.New(pgtest.Migrated(t, migrations.Up).Pool(t), budget.Config{PortalID: sandbox.DefaultPortalID})
	c, err := hubapi.New(srv.URL, hubapi.StaticToken(sandbox.DefaultToken), hubapi.WithLimiter(b))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), *runFor)
	defer cancel()
	var wg sync.WaitGroup
	stalled := watch(ctx, &wg)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.As(hubapi.Backfill).ListObjects(ctx, "contacts", hubapi.ListOptions{Limit: 10}); err != nil && ctx.Err() == nil {
					t.Errorf("list: %v", err)
				}
			}
		})
	}
	wg.Wait()
	stats := s.Stats()
	// The limit of 190 is learned from the first answer's headers.
	most, least := stalled.most(t, 10250*time.Millisecond, 190/3/10.25), stalled.least(10*time.Second, 5.7)
	if peak := stats.Peak["burst"]; peak < least || peak > most {
		t.Errorf("%d calls in the busiest 10 s, the share is 63", peak)
	}
}
