package budget_test

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/budget"
)

// ofDay is an answer that names the day's limit.
func ofDay(limit string) http.Header {
	h := http.Header{}
	h.Set("X-HubSpot-RateLimit-Daily", limit)
	return h
}

// exhausts makes calls of a class, n at a time, until the day allows none, and returns how many went out.
func exhausts(t *testing.T, b *budget.Budget, class string, n int) int {
	t.Helper()
	var (
		wg  sync.WaitGroup
		out atomic.Int64
	)
	for range n {
		wg.Go(func() {
			for {
				err := b.Wait(t.Context(), "object", class)
				if err != nil {
					if _, ok := errors.AsType[*budget.ExhaustedError](err); !ok {
						t.Error(err)
					}
					return
				}
				out.Add(1)
			}
		})
	}
	wg.Wait()
	return int(out.Load())
}

// The first filling of an account takes most of a day, and fresh reads what is left of it, long before midnight. That must
// not slow down the next day.
func TestADayThatWasUsedUpSlowsDownNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // starts at midnight UTC
		b, _ := budget.NewInMemory(budget.Config{Share: 1})
		b.Observe("object", 200, ofDay("1000"), "")
		exhausts(t, b, "backfill", 20)
		exhausts(t, b, "fresh", 20)
		now := time.Now()
		time.Sleep(time.Until(now.Truncate(24 * time.Hour).Add(24*time.Hour + time.Minute)))
		for range 3 {
			began := time.Now()
			if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("a minute after midnight a fresh read waits %s", took)
			}
		}
	})
}
