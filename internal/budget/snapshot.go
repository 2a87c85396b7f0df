package budget

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Snapshot is the state of a Budget, for metrics and status pages.
type Snapshot struct {
	PortalID  int64
	Share     float64
	Unlimited bool
	Buckets   []BucketState
	Daily     DailyState
	Refused   map[string]int64 // 429s that this process was given, by policy
	Exempt    int64            // calls of this process that HubSpot does not count
}

// BucketState is the state of one limit.
type BucketState struct {
	Bucket      string // burst, search, association
	Limit       int    // calls per Window; 0 before the first call
	Window      time.Duration
	PausedUntil time.Time        // zero unless paused
	SlowUntil   time.Time        // zero unless at half pace
	Waiting     map[string]int   // callers of this process, by class
	Granted     map[string]int64 // calls of this process since it started, by class
	Lost        int64            // reserved calls of this process that were not used in time
}

// DailyState is the count since midnight in the account's time zone.
type DailyState struct {
	Limit       int // 0 when there is none or none is known
	Reads       int // by all processes
	Writes      int
	Remaining   int // of all apps, as HubSpot last said; -1 when not known
	ResetsAt    time.Time
	PausedUntil time.Time // zero unless HubSpot refuses for the day
}

// Snapshot returns the state as this process knows it, without asking Postgres.
func (b *Budget) Snapshot() Snapshot {
	now := time.Now()
	s := Snapshot{PortalID: b.cfg.PortalID, Share: b.cfg.Share, Unlimited: b.cfg.Unlimited, Daily: b.day.snapshot(now)}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Refused, s.Exempt = maps.Clone(b.refused), b.exempt
	for bucket, q := range b.queues {
		l := b.learned[bucket]
		state := q.snapshot()
		state.Limit, state.Window = l.calls, l.window
		state.PausedUntil, state.SlowUntil = ifAfter(l.paused, now), ifAfter(l.slow, now)
		if b.cfg.Unlimited && bucket == burstBucket {
			for c := range classes {
				state.Granted[c.String()] += b.free[c]
			}
		}
		s.Buckets = append(s.Buckets, state)
	}
	slices.SortFunc(s.Buckets, func(a, b BucketState) int { return strings.Compare(a.Bucket, b.Bucket) })
	return s
}

func (q *queue) snapshot() BucketState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := BucketState{Bucket: q.bucket, Waiting: make(map[string]int), Granted: make(map[string]int64), Lost: q.lost}
	for c := range classes {
		s.Waiting[c.String()] = len(q.waiting[c])
		s.Granted[c.String()] = q.granted[c]
	}
	return s
}

func (d *day) snapshot(now time.Time) DailyState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DailyState{
		Limit: d.state.limit, Reads: d.state.reads + d.reads, Writes: d.state.writes + d.writes,
		Remaining: d.state.remaining, ResetsAt: d.reset, PausedUntil: ifAfter(d.pause, now),
	}
}

func ifAfter(t, now time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return time.Time{}
}
