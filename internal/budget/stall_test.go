package budget_test

import (
	"context"
	"sync"
	"testing"
	"time"
)

// stalls measures how long this machine keeps a goroutine waiting beyond its time. A busy machine delays calls by as
// much, so that a window of length W may hold what was meant for W plus the longest stall.
type stalls struct {
	mu    sync.Mutex
	worst time.Duration
	total time.Duration // of stalls beyond a tick
}

// watch measures until ctx ends.
func watch(ctx context.Context, wg *sync.WaitGroup) *stalls {
	s := new(stalls)
	wg.Go(func() {
		const tick = 2 * time.Millisecond
		for ctx.Err() == nil {
			before := time.Now()
			time.Sleep(tick)
			s.add(time.Since(before) - tick)
		}
	})
	return s
}

func (s *stalls) add(late time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst = max(s.worst, late)
	if late > 10*time.Millisecond {
		s.total += late
	}
}

// join takes in what another process measured at the same time.
func (s *stalls) join(worst, total time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst, s.total = max(s.worst, worst), max(s.total, total)
}

// most is the number of calls that a window may hold at a pace of perSecond.
func (s *stalls) most(t *testing.T, window time.Duration, perSecond float64) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.worst > 20*time.Millisecond {
		t.Logf("the machine stalled for up to %v", s.worst)
	}
	// The stall that hits a call need not hit the watch: twice the longest one is allowed for.
	return int((window+2*s.worst).Seconds()*perSecond) + 1
}

// least is the number of calls that the time left after stalls was enough for.
func (s *stalls) least(run time.Duration, perSecond float64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int((run - 3*s.total - s.worst).Seconds() * perSecond)
}
