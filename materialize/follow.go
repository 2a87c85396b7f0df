package materialize

import (
	"context"
	"time"

	"hubpg/internal/changes"
)

// Bounds of the follow lane.
const (
	// clockSkew is how far this machine's clock may be off HubSpot's without the follow lane losing anything: windows
	// reach so far into the future, and a new table's first window so far into the past. Beyond it the trailing lane,
	// which looks back an hour, still finds what was missed.
	clockSkew = 2 * time.Minute
	// shortOverlap is what the overlap shrinks to while so much changes that looking back costs extra pages.
	shortOverlap = 2 * time.Second
	// fillingPause is the shortest pause while the table is being filled: its freshness promises nothing yet.
	fillingPause = 5 * time.Second
	// The pause grows by a quarter with every poll that finds nothing, and doubles where changes are told.
	pauseGrowth = 5.0 / 4
	toldGrowth  = 2
)

// followPosition is the cursor of the follow lane.
type followPosition struct {
	Since   int64         `json:"since"`         // epoch ms: every change before it, as far as the index knew, is stored
	Tie     int64         `json:"tie,omitempty"` // of Since's own millisecond, ids up to this one are stored too
	Overlap time.Duration `json:"overlap"`       // how far Since stays behind the newest poll
	Pause   time.Duration `json:"pause"`         // before the next poll
	Polled  int64         `json:"polled"`        // epoch ms: when the last poll began that was finished
	Amiss   int64         `json:"amiss"`         // epoch ms: when a poll last found what should have been told
}

// follow learns from the index which records changed, reads those whose version is not stored yet, and stores them with
// the cursor. The cursor trails by the overlap, because the index shows changes late and in any order.
func (s *step) follow(ctx context.Context) (time.Duration, error) {
	t, err := s.target(ctx)
	if err != nil {
		return 0, err
	}
	var p followPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	pace := s.e.cfg.Pace
	told := false
	if pace.Idle, told, err = s.idle(ctx); err != nil {
		return 0, err
	}
	began := s.hubTime()
	untold := p.untold(began, told, pace)
	if told = told && began.Sub(time.UnixMilli(p.Amiss)) > toldAmiss; told {
		pace.Idle = max(pace.Idle, pace.Told)
	}
	if soonest := began.Add(-clockSkew).UnixMilli(); c.revision == 0 || p.Since > began.UnixMilli() { // by a clock that was wrong
		p.Since, p.Tie = soonest, 0
	}
	p.Overlap = min(max(p.Overlap, shortOverlap), pace.Overlap)
	p.Pause = min(max(p.Pause, pace.Busy), pace.Idle)
	var (
		found, fresh int
		finished     bool
	)
	w := window{p.Since, began.Add(clockSkew).UnixMilli()}
	err = s.walk(ctx, t, w, p.Tie, func(part part, hits []hit, last bool) error {
		ids, err := s.unseen(ctx, t, hits)
		if err != nil {
			return err
		}
		found += len(hits)
		fresh += len(ids)
		if holds(untold, hits, ids) {
			p.Amiss = began.UnixMilli()
		}
		m := move{cursor: c, position: &p}
		if finished = last; last {
			m.verified = began
			p.Polled = began.UnixMilli()
			p.adapt(found, fresh, told && p.Amiss != began.UnixMilli(), pace)
		}
		p.advance(part, began)
		return s.refresh(ctx, t, ids, changes.Follow, m)
	})
	if err != nil || !finished {
		return 0, err
	}
	if s.phase != phaseLive {
		return max(p.Pause, min(fillingPause, pace.Idle)), nil
	}
	return p.Pause, nil
}

// hubTime is now by HubSpot's clock where that is behind this machine's: a cursor that ran ahead of it would pass by what is
// modified next.
func (s *step) hubTime() time.Time { return time.Now().Add(-s.client.Ahead()) }

// advance moves the cursor past a verified part, but never to what is younger than the overlap.
func (p *followPosition) advance(done part, began time.Time) {
	limit := began.Add(-p.Overlap).UnixMilli()
	to := done.to
	if done.tie > 0 {
		to = done.from
	}
	if to = min(to, limit); to < p.Since {
		return
	}
	p.Since, p.Tie = to, 0
	if done.tie > 0 && to == done.from {
		p.Tie = done.tie
	}
}

// untold is when records were modified that must have been told by now, were changes told: since the poll before, unless
// that was long ago.
func (p *followPosition) untold(began time.Time, told bool, pace Pace) window {
	if !told || began.Sub(time.UnixMilli(p.Polled)) > 2*pace.Told {
		return window{}
	}
	return window{p.Polled, began.Add(-toldWithin).UnixMilli()}
}

// holds reports whether one of the hits with these ids, which are in their order, was modified in w.
func holds(w window, hits []hit, ids []int64) bool {
	for _, h := range hits {
		if len(ids) == 0 {
			return false
		}
		if h.id != ids[0] {
			continue
		}
		if ids = ids[1:]; w.from <= h.updated && h.updated < w.to {
			return true
		}
	}
	return false
}

// adapt sets the pace of the next poll by what this one found. Where changes are told it has found them first, by chance.
func (p *followPosition) adapt(found, fresh int, told bool, pace Pace) {
	switch {
	case told:
		p.Pause = min(p.Pause*toldGrowth, pace.Idle)
	case fresh > 0:
		p.Pause = pace.Busy
	default:
		p.Pause = min(time.Duration(float64(p.Pause)*pauseGrowth), pace.Idle)
	}
	const page, half = 200, 100
	switch {
	case found > page && fresh < found/2 && !told: // else the pause was long
		p.Overlap = max(p.Overlap/2, shortOverlap)
	case found < half:
		p.Overlap = min(p.Overlap*2, pace.Overlap)
	}
}
