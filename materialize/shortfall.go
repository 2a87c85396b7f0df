package materialize

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// shortfall is what a walk over the records of one millisecond, complete by all else, lacks of the number that HubSpot counts.
// Usually the index has just learnt of a record, and the next walk shows it. A count that goes on including a record that is
// never shown must not keep the lane there for ever, because it would see nothing younger.
type shortfall struct {
	lacking int
	shown   []int64
}

func (f *shortfall) same(o *shortfall) bool {
	return f.lacking == o.lacking && slices.Equal(f.shown, o.shown)
}

// shortError says that a walk has a shortfall.
type shortError struct{ shortfall }

// Error says by how much, and what mostly is the reason.
func (e *shortError) Error() string {
	return fmt.Sprintf("%d of %d records are counted and not shown: %v", e.lacking, e.lacking+len(e.shown), errUnsteady)
}

// Unwrap makes it an [errUnsteady].
func (e *shortError) Unwrap() error { return errUnsteady }

func shortOf(hits []hit, lacking int) *shortError {
	e := &shortError{shortfall{lacking: lacking, shown: make([]int64, len(hits))}}
	for i, h := range hits {
		e.shown[i] = h.id
	}
	return e
}

// moment is one millisecond of one table, from one id on.
type moment struct {
	table     string
	ms, after int64
}

// keepShortfalls is for how long one is remembered: longer than the trailing lane looks back.
const keepShortfalls = 3 * time.Hour

// shortfalls are those that this process has met. They are safe for concurrent use.
type shortfalls struct {
	mu  sync.Mutex // guards below
	met map[moment]*metShortfall
}

type metShortfall struct {
	shortfall
	first, last time.Time
	told        bool
}

func newShortfalls() *shortfalls { return &shortfalls{met: map[moment]*metShortfall{}} }

// stands notes a shortfall, and says whether it has been the same for as long as the index may be late. first is true once,
// when that is so.
func (s *shortfalls) stands(m moment, f *shortfall, late time.Duration) (stands, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for at, met := range s.met {
		if now.Sub(met.last) > keepShortfalls {
			delete(s.met, at)
		}
	}
	met := s.met[m]
	if met == nil || !met.same(f) {
		s.met[m] = &metShortfall{shortfall: *f, first: now, last: now}
		return false, false
	}
	met.last = now
	if now.Sub(met.first) < late {
		return false, false
	}
	first, met.told = !met.told, true
	return true, first
}

// accept takes what a walk has shown for all there is if its shortfall stands. Should the record exist, the trailing lane, the
// listing of ids or a notification brings it.
func (s *step) accept(t *target, m moment, f *shortfall) bool {
	stands, first := s.e.shortfalls.stands(m, f, s.e.cfg.Pace.Overlap)
	if first {
		s.e.log.Warn("hubspot counts records that it does not show", slog.String("object", t.name()),
			slog.Time("modified_at", time.UnixMilli(m.ms).UTC()), slog.Int("lacking", f.lacking),
			slog.String("hint", "hubpg verify "+t.name()+" says whether one is missing"))
	}
	return stands
}
