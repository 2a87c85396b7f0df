package budget_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/budget"
)

// A backfill has taken its part of the day by the morning. Twenty tables are followed with what is left, one of them by steps
// of six calls each, which are given up after three minutes: they get done, and what is left lasts until midnight.
func TestWhatIsLeftOfADayIsEnoughForStepsOfManyCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // starts at midnight UTC
		b, _ := budget.NewInMemory(budget.Config{Burst: 190})
		b.Observe("object", 200, ofDay("250000"), "")
		exhausts(t, b, "backfill", 8)
		day, stop := context.WithTimeout(t.Context(), time.Until(time.Now().Truncate(24*time.Hour).Add(23*time.Hour)))
		defer stop()
		var (
			wg   sync.WaitGroup
			done atomic.Int64
		)
		step := func(calls int) error {
			ctx, cancel := context.WithTimeout(budget.Piece(day), 3*time.Minute)
			defer cancel()
			for range calls {
				if err := b.Wait(ctx, "object", "fresh"); err != nil {
					return err
				}
			}
			return nil
		}
		for lane := range 20 {
			calls := 1
			if lane == 0 {
				calls = 6
			}
			wg.Go(func() {
				for day.Err() == nil {
					rest := 5 * time.Second
					err := step(calls)
					if e, refused := errors.AsType[*budget.ExhaustedError](err); refused {
						rest = min(e.RetryAfter(), 10*time.Minute) * time.Duration(80+rand.IntN(40)) / 100
					} else if err == nil && calls > 1 {
						done.Add(1)
					}
					select {
					case <-day.Done():
					case <-time.After(rest):
					}
				}
			})
		}
		for day.Err() == nil {
			before := done.Load()
			select {
			case <-day.Done():
			case <-time.After(2 * time.Hour):
				if done.Load() == before {
					t.Errorf("at %s no step of six calls was done in two hours", time.Now().Format(time.TimeOnly))
				}
			}
		}
		wg.Wait()
		if reads := b.Snapshot().Daily.Reads; reads >= 83_333 || reads < 80_000 {
			t.Errorf("%d reads of 83333 were made an hour before midnight", reads)
		}
	})
}
