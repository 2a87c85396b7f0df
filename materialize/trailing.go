package materialize

import (
	"context"
	"time"

	"hubpg/internal/changes"
)

// trailingPosition is the cursor of the trailing lane.
type trailingPosition struct {
	rest
	At    int64     `json:"at"`            // epoch ms: the pass has verified everything before it
	Tie   int64     `json:"tie,omitempty"` // of At's own millisecond, ids up to this one too
	To    int64     `json:"to"`            // end of the pass
	Began time.Time `json:"began,omitzero"`
}

// trailing re-reads the last hour, and what has become an hour old since the pass before: HubSpot's index may show a
// change late, and what it shows near now is neither ordered nor complete. Every instant is read again at least once when it
// is older than Pace.Settle; until then the table counts as verified, from then on as settled. The passes go on while the
// table is being filled, because changes are followed then already.
func (s *step) trailing(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	t, err := s.target(ctx)
	if err != nil {
		return 0, err
	}
	var p trailingPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	now := s.hubTime()
	if c.revision == 0 { // nothing has been followed yet that could have been missed
		p = trailingPosition{Began: now, rest: s.ended(rest{}, now)}
		return jitter(pace.Trailing), s.commit(ctx, t.name(), move{cursor: c, position: &p}, nil)
	}
	if wait := p.wait(pace.Trailing); wait > 0 {
		return wait, nil
	}
	if p.At >= p.To { // a new pass: whatever was younger than Settle when the last one began has to be read once more
		from := min(p.Began.UnixMilli(), now.UnixMilli()) - (pace.Settle + clockSkew).Milliseconds()
		p = trailingPosition{At: from, To: now.Add(clockSkew).UnixMilli(), Began: now}
	}
	finished := false
	err = s.walk(ctx, t, window{p.At, p.To}, p.Tie, func(part part, hits []hit, last bool) error {
		ids, err := s.unseen(ctx, t, hits)
		if err != nil {
			return err
		}
		if p.At, p.Tie = part.to, part.tie; part.tie > 0 {
			p.At = part.from
		}
		m := move{cursor: c, position: &p}
		if finished = last; last {
			m.settled = p.Began.Add(-pace.Settle)
			p.rest = s.ended(p.rest, p.Began.Add(s.client.Ahead()))
		}
		return s.refresh(ctx, t, ids, changes.Trailing, m)
	})
	if err != nil || !finished {
		return 0, err
	}
	return jitter(p.wait(pace.Trailing)), nil
}

// waitForLife is the pause of a lane that has nothing to do until its table is complete.
func (p Pace) waitForLife() time.Duration { return min(2*time.Second, p.Trailing) }
