package budget_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/budget"
)

// load keeps n callers of a class busy until ctx ends and notes when each call went out.
func load(ctx context.Context, wg *sync.WaitGroup, b *budget.Budget, n int, family, class string, out *calls) {
	for range n {
		wg.Go(func() {
			for b.Wait(ctx, family, class) == nil {
				out.add(class)
			}
		})
	}
}

// calls is a record of what went out.
type calls struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (c *calls) add(class string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = make(map[string][]time.Time)
	}
	c.at[class] = append(c.at[class], time.Now())
}

func (c *calls) count(class string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at[class])
}

func TestOneClassUsesTheWholeShareEvenly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 190})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var out calls
		load(ctx, &wg, b, 8, "object", "backfill", &out)
		wg.Wait()
		const share = 190.0 / 3 * 6
		if n := float64(out.count("backfill")); n > share || n < 0.95*share {
			t.Errorf("%v calls in a minute, the share is %v", n, share)
		}
		if lost := b.Snapshot().Buckets[1].Lost; lost > 0 {
			t.Errorf("%d slots were lost", lost)
		}
	})
}

func TestUrgentClassesGoFirstAndNoneStarves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 190})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var out calls
		load(ctx, &wg, b, 8, "object", "sweeps", &out)
		load(ctx, &wg, b, 8, "object", "backfill", &out)
		load(ctx, &wg, b, 8, "object", "fresh", &out)
		wg.Wait()
		fresh, backfill, sweeps := out.count("fresh"), out.count("backfill"), out.count("sweeps")
		if total := fresh + backfill + sweeps; fresh < total*8/10 {
			t.Errorf("fresh %d, backfill %d, sweeps %d: fresh reads do not go first", fresh, backfill, sweeps)
		}
		if backfill < 10 || sweeps < 10 {
			t.Errorf("fresh %d, backfill %d, sweeps %d: a class starves", fresh, backfill, sweeps)
		}
	})
}

func TestFreshCallWaitsOneStepBehindABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 190})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var out calls
		load(ctx, &wg, b, 30, "object", "backfill", &out)
		time.Sleep(5 * time.Second)
		for range 10 {
			start := time.Now()
			if err := b.Wait(ctx, "object", "fresh"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 200*time.Millisecond {
				t.Errorf("a fresh call waited %v behind backfill", took)
			}
			time.Sleep(333 * time.Millisecond)
		}
		cancel()
		wg.Wait()
	})
}

func TestWritesReachBeyondTheShareOfReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 190})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var out calls
		load(ctx, &wg, b, 8, "object", "fresh", &out)
		load(ctx, &wg, b, 8, "object", "writes", &out)
		wg.Wait()
		writes, fresh := out.count("writes"), out.count("fresh")
		if fresh > 64 || writes+fresh > 190 || writes+fresh < 170 || fresh == 0 {
			t.Errorf("%d writes and %d fresh reads in 10 s under a limit of 190", writes, fresh)
		}
	})
}

func TestCallersThatGiveUpLeaveNoGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 100})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var out calls
		for i := range 20 { // leaders and followers among them
			wg.Go(func() {
				for ctx.Err() == nil {
					short, done := context.WithTimeout(ctx, time.Duration(10+37*i)*time.Millisecond)
					if b.Wait(short, "object", "fresh") == nil {
						out.add("fresh")
					}
					done()
				}
			})
		}
		load(ctx, &wg, b, 2, "object", "fresh", &out)
		wg.Wait()
		if n := out.count("fresh"); n < 90 || n > 100 {
			t.Errorf("%d calls in 30 s, want nearly 100", n)
		}
	})
}

func TestPostgresAwayFailsEveryCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, ledger := budget.NewInMemory(budget.Config{})
		boom := errors.New("connection refused")
		ledger.Fail(boom)
		start := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := b.Wait(t.Context(), "object", "fresh"); !errors.Is(err, boom) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 5*time.Second || took > 15*time.Second {
			t.Errorf("gave up after %v", took)
		}
		ledger.Fail(nil)
		if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
			t.Errorf("after Postgres came back: %v", err)
		}
	})
}

func TestRefusalVoidsReservedSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 190})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var out calls
		load(ctx, &wg, b, 8, "object", "fresh", &out)
		time.Sleep(3 * time.Second)
		before := out.count("fresh")
		b.Observe("object", http.StatusTooManyRequests, nil, "TEN_SECONDLY_ROLLING")
		time.Sleep(4900 * time.Millisecond)
		if during := out.count("fresh") - before; during > 0 {
			t.Errorf("%d calls went out in the pause after a refusal", during)
		}
		wg.Wait()
		// Twelve seconds at half the pace of 6.1 a second.
		if after := out.count("fresh") - before; after < 34 || after > 40 {
			t.Errorf("%d calls after the pause", after)
		}
		if got := b.Snapshot().Refused["TEN_SECONDLY_ROLLING"]; got != 1 {
			t.Errorf("snapshot shows %d refusals", got)
		}
	})
}

func TestRefusalThatContradictsItselfSlowsNobodyDown(t *testing.T) {
	t.Parallel()
	for left, paused := range map[string]bool{"7": false, "0": true, "": true, "many": true} {
		t.Run("left "+left, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := budget.NewInMemory(budget.Config{Burst: 190})
				b.Observe("object", http.StatusTooManyRequests, http.Header{"X-Hubspot-Ratelimit-Remaining": {left}}, "TEN_SECONDLY_ROLLING")
				start := time.Now()
				if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); (took > time.Second) != paused {
					t.Errorf("the next call waited %v", took)
				}
				if got := b.Snapshot().Refused["TEN_SECONDLY_ROLLING"]; got != 1 {
					t.Errorf("snapshot shows %d refusals", got)
				}
			})
		})
	}
}

func TestDailyRefusalStopsEverythingUntilMidnight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // starts at midnight UTC
		b, _ := budget.NewInMemory(budget.Config{Location: time.FixedZone("", -30*60)}) // half past eleven there
		b.Observe("object", http.StatusTooManyRequests, nil, "DAILY")
		for _, class := range []string{"writes", "fresh", "sweeps"} {
			err := b.Wait(t.Context(), "search", class)
			e, ok := errors.AsType[*budget.ExhaustedError](err)
			if !ok || e.RetryAfter() != 30*time.Minute {
				t.Errorf("%s: %v", class, err)
			}
		}
		time.Sleep(30 * time.Minute)
		if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
			t.Errorf("after midnight: %v", err)
		}
	})
}

func TestReadsStopAtTheReserveOfTheDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{})
		h := http.Header{}
		h.Set("X-HubSpot-RateLimit-Daily", "1000")
		h.Set("X-HubSpot-RateLimit-Daily-Remaining", "51")
		b.Observe("object", 200, h, "")
		if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
			t.Fatal(err)
		}
		if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
			t.Fatal(err)
		}
		_, stopped := errors.AsType[*budget.ExhaustedError](b.Wait(t.Context(), "object", "fresh"))
		if !stopped {
			t.Error("a read went out of the reserve")
		}
		if err := b.Wait(t.Context(), "object", "writes"); err != nil {
			t.Errorf("a write was held back: %v", err)
		}
	})
}

func TestUnlimitedCountsOnly(t *testing.T) {
	t.Parallel()
	b, ledger := budget.NewInMemory(budget.Config{Unlimited: true})
	for range 100 {
		if err := b.Wait(t.Context(), "object", "backfill"); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.Snapshot(); s.Buckets[1].Granted["backfill"] != 100 || ledger.Asked != 0 {
		t.Errorf("snapshot %+v, %d reservations", s, ledger.Asked)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Wait(cancelled, "object", "fresh"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFreshReadsLastTheDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // starts at midnight UTC
		b, _ := budget.NewInMemory(budget.Config{Share: 1})
		h := http.Header{}
		h.Set("X-HubSpot-RateLimit-Daily", "10000")
		b.Observe("object", 200, h, "")
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour-time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var out calls
		load(ctx, &wg, b, 2, "object", "fresh", &out)
		time.Sleep(time.Hour)
		if n := out.count("fresh"); n < 1000 || n > 2000 {
			t.Errorf("%d calls in the first hour: a burst of about a tenth of the day is meant to pass", n)
		}
		time.Sleep(22 * time.Hour)
		before := out.count("fresh")
		wg.Wait()
		if last := out.count("fresh") - before; last < 50 || before+last > 10000 {
			t.Errorf("%d calls in the last hour after %d of 10000", last, before)
		}
	})
}

func TestLeadSurvivesACrowdThatGivesUpAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Burst: 100, Share: 1})
		for round := range 50 {
			crowd, leave := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var out calls
			load(crowd, &wg, b, 20, "object", "fresh", &out)
			synctest.Wait()
			stay, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			wg.Go(func() {
				if err := b.Wait(stay, "object", "fresh"); err != nil {
					t.Errorf("round %d: the one who stayed was forgotten: %v", round, err)
				}
			})
			synctest.Wait()
			leave()
			wg.Wait()
			cancel()
		}
	})
}
