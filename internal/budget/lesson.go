package budget

import (
	"net/http"
	"strconv"
	"time"
)

// lesson is what this process has learned about one limit: what is still to be told to the others, and what is known.
// It is guarded by Budget.mu.
type lesson struct {
	pauseUntil time.Time // to be told
	slowUntil  time.Time // to be told
	next       *limit    // to be told

	calls  int // known
	window time.Duration
	paused time.Time
	slow   time.Time
}

// told is what a reservation carries, so that it can be put back when the reservation fails.
type told struct {
	pauseUntil, slowUntil time.Time
	next                  *limit
}

// limit notes a limit that HubSpot named.
func (l *lesson) limit(to limit) {
	if l.calls == to.calls && l.window == to.window {
		return
	}
	l.next = &to
}

// react notes what a refusal calls for.
func (l *lesson) react(r reaction, now time.Time) {
	if r.pause > 0 {
		l.pauseUntil = later(l.pauseUntil, now.Add(r.pause))
	}
	if r.slow > 0 {
		l.slowUntil = later(l.slowUntil, now.Add(r.pause+r.slow))
	}
}

// news says whether there is something to tell.
func (l *lesson) news() bool {
	return l.next != nil || !l.pauseUntil.IsZero() || !l.slowUntil.IsZero()
}

// take moves what is to be told into r.
func (l *lesson) take(r *reservation, now time.Time) told {
	t := told{l.pauseUntil, l.slowUntil, l.next}
	r.pause, r.slow, r.learned = max(0, t.pauseUntil.Sub(now)), max(0, t.slowUntil.Sub(now)), t.next
	l.pauseUntil, l.slowUntil, l.next = time.Time{}, time.Time{}, nil
	return t
}

// putBack restores what was not told after all.
func (l *lesson) putBack(t told) {
	l.pauseUntil, l.slowUntil = later(l.pauseUntil, t.pauseUntil), later(l.slowUntil, t.slowUntil)
	if l.next == nil {
		l.next = t.next
	}
}

// know notes the state that all processes share.
func (l *lesson) know(g grant, now time.Time) {
	l.calls, l.window = g.limit, g.window
	l.paused, l.slow = now.Add(g.pause), now.Add(g.slow)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// reaction is what a refusal calls for.
type reaction struct {
	policy string
	pause  time.Duration // of the limit
	slow   time.Duration // half pace after the pause
	daily  bool          // nothing goes out before midnight
}

// reactionTo returns the reaction to a 429; the limit stands in for a policy that HubSpot did not name.
func reactionTo(policy, bucket string) reaction {
	switch {
	case policy == "DAILY":
		return reaction{policy: policy, daily: true}
	case policy == "SECONDLY", policy == "" && bucket == searchBucket:
		return reaction{policy: "SECONDLY", slow: 10 * time.Second}
	}
	return reaction{policy: "TEN_SECONDLY_ROLLING", pause: 5 * time.Second, slow: 20 * time.Second}
}

// contradicted says that a refusal in the name of the rolling window tells, in its headers, that the window has room. It
// was a fault of HubSpot's then: whoever was refused comes back later, and all others need not wait with them.
func contradicted(r reaction, h http.Header) bool {
	left, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Remaining"))
	return err == nil && left > 0 && r.policy == "TEN_SECONDLY_ROLLING"
}

// burstLimit reads the burst limit from the headers of an answer.
func burstLimit(h http.Header) (limit, bool) {
	calls, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Max"))
	if err != nil {
		return limit{}, false
	}
	interval, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Interval-Milliseconds"))
	if err != nil {
		return limit{}, false
	}
	// Outside these bounds the headers are not HubSpot's.
	if calls < 10 || calls > 10_000 || interval < 1000 || interval > 60_000 {
		return limit{}, false
	}
	return limit{burstBucket, calls, time.Duration(interval) * time.Millisecond}, true
}

// associationLimit derives the association limit of the plan that has a burst limit.
func associationLimit(burst limit) limit {
	calls := 100
	switch {
	case burst.calls >= 250:
		calls = 200
	case burst.calls >= 190:
		calls = 150
	}
	return limit{associationBucket, calls, 10 * time.Second}
}
