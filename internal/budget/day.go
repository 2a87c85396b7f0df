package budget

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ExhaustedError says that the quota of the day is used up for a class of calls.
type ExhaustedError struct {
	Class  string
	Reason string
	Until  time.Time // when to try again
}

// Error says what is used up.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("daily quota for %s: %s, until %s", e.Class, e.Reason, e.Until.Format(time.RFC3339))
}

// RetryAfter returns the time left until it makes sense to try again.
func (e *ExhaustedError) RetryAfter() time.Duration { return max(time.Second, time.Until(e.Until)) }

// day counts the calls since midnight in the account's time zone.
type day struct {
	cfg Config

	mu       sync.Mutex // guards below
	start    time.Time
	reset    time.Time
	reads    int // not yet written
	writes   int
	limit    int       // learned and not yet written; 0 for none
	left     int       // remaining, learned and not yet written; -1 for none
	refused  time.Time // until when HubSpot refuses, heard by this process and not yet written
	pause    time.Time
	writing  bool
	state    dayState // of all processes when it was last read
	stateAt  time.Time
	leftAt   time.Time // when HubSpot said what remains
	sent     time.Time // the instant up to which fresh reads have used their pace
	sinceNow int       // calls of this process since HubSpot last said what remains
	named    bool      // an answer has named a limit of the day
}

// dayRefresh is how old the shared count may be.
const dayRefresh = time.Second

// maxPause bounds what is believed about the rest of the day: one call an hour finds out whether it is over.
const maxPause = time.Hour

// maxSpread bounds one wait for the day's pace: whoever would wait longer comes again, when HubSpot may have said something new.
const maxSpread = time.Minute

func newDay(cfg Config) *day {
	return &day{cfg: cfg, left: -1, state: dayState{remaining: -1}}
}

// turn starts a new day when midnight has passed. Counts not yet written belong to the day they were made in only by
// a second, so they move on.
func (d *day) turn(now time.Time) {
	if now.Before(d.reset) {
		return
	}
	local := now.In(d.cfg.Location)
	year, month, date := local.Date()
	d.start = time.Date(year, month, date, 0, 0, 0, 0, d.cfg.Location)
	d.reset = time.Date(year, month, date+1, 0, 0, 0, 0, d.cfg.Location)
	d.state.reads, d.state.writes, d.state.remaining = 0, 0, -1
	d.pause, d.sent = time.Time{}, time.Time{}
}

// check returns an error when the class may make no further call today.
func (d *day) check(c class, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used(c, now)
}

// take counts a call that goes out, unless others have taken the last of the day meanwhile.
func (d *day) take(c class, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.used(c, now); err != nil {
		return err
	}
	if c == writes {
		d.writes++
	} else {
		d.reads++
	}
	d.sinceNow++
	return nil
}

// used is check with mu held.
func (d *day) used(c class, now time.Time) error {
	d.turn(now)
	until := d.reset
	if latest := now.Add(maxPause); latest.Before(until) {
		until = latest
	}
	if d.pause.After(now) {
		return &ExhaustedError{Class: c.String(), Reason: "HubSpot refuses further calls", Until: d.pause}
	}
	if c == writes || d.state.limit == 0 {
		return nil
	}
	limit := float64(d.state.limit)
	if used := float64(d.state.reads + d.reads); used >= limit*d.cfg.Share*c.dailyCap() {
		return &ExhaustedError{Class: c.String(), Reason: fmt.Sprintf("%.0f calls made, its share of %.0f is used", used, limit), Until: until}
	}
	if d.state.remaining >= 0 && now.Sub(d.leftAt) < maxPause && float64(d.state.remaining-d.sinceNow) < limit*d.cfg.Reserve {
		return &ExhaustedError{
			Class: c.String(), Until: until,
			Reason: fmt.Sprintf("%d calls are left to all apps of the account, kept in reserve", d.state.remaining),
		}
	}
	return nil
}

// spread returns how long a fresh read has to wait so that the day's share lasts until midnight, or that it is to come again
// later. A tenth of the time left may be run ahead, so that the pace is felt only by a process that is busy for hours. Less
// urgent classes are bounded by their caps instead, and writes by nothing.
func (d *day) spread(c class, begun *atomic.Bool, now time.Time) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c != fresh || d.state.limit == 0 {
		return 0, nil
	}
	left := float64(d.state.limit)*d.cfg.Share - float64(d.state.reads+d.reads)
	rest := d.reset.Sub(now)
	if left < 1 || rest <= 0 {
		return 0, nil
	}
	next := later(d.sent, now.Add(-rest/10)).Add(time.Duration(float64(rest) / left))
	wait := max(0, next.Sub(now))
	switch {
	case begun != nil && begun.Load():
		wait = 0
	case wait > maxSpread:
		return 0, &ExhaustedError{
			Class: c.String(), Until: now.Add(min(wait, maxPause)),
			Reason: fmt.Sprintf("%.0f calls are left of its share of the day, which are to last until midnight", left),
		}
	case begun != nil:
		begun.Store(true)
	}
	d.sent = next
	return wait, nil
}

// learn reads the daily headers; accounts of marketplace apps have none.
func (d *day) learn(h http.Header) {
	limit, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Daily"))
	if err != nil || limit <= 0 || limit > 1<<30 {
		return
	}
	left, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Daily-Remaining"))
	if err != nil || left < 0 || left > limit {
		left = -1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.turn(now)
	d.named = true
	if left >= 0 {
		d.left, d.sinceNow = left, 0
		d.state.remaining, d.leftAt = left, now
	}
	if d.state.limit != limit {
		d.limit = limit
	}
	d.state.limit = limit
}

// learnUsage takes in HubSpot's own count of the day. When the day ends at HubSpot is right when it differs from what the
// account's time zone says. Apps of the marketplace are shown the count of the others too, and have no part in it: no answer to
// them names a limit of the day.
func (d *day) learnUsage(u Usage, now time.Time) {
	if u.Limit <= 0 || u.Limit > 1<<30 || u.Used < 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.named {
		return
	}
	d.turn(now)
	if u.CollectedAt.IsZero() || u.CollectedAt.After(d.leftAt) {
		d.left, d.sinceNow = max(0, u.Limit-u.Used), 0
		d.state.remaining, d.leftAt = d.left, now
	}
	if d.state.limit != u.Limit {
		d.limit = u.Limit
	}
	d.state.limit = u.Limit
	if until := u.ResetsAt.Sub(now); until > 0 && until <= 25*time.Hour {
		d.reset = u.ResetsAt
	}
}

// exhaust notes that HubSpot refuses for the rest of the day.
func (d *day) exhaust(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	d.pause = d.reset
	if latest := now.Add(maxPause); latest.Before(d.pause) {
		d.pause = latest
	}
	d.refused = d.pause
}

// pending says whether there is something to write.
func (d *day) pending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reads > 0 || d.writes > 0 || d.limit > 0 || d.left >= 0 || !d.refused.IsZero()
}

// entry takes what is to be written, when it is time and nobody else is at it.
func (d *day) entry(now time.Time, force bool) (dayEntry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writing || (!force && !d.stateAt.IsZero() && now.Sub(d.stateAt) < dayRefresh) {
		return dayEntry{}, false
	}
	d.turn(now)
	d.writing = true
	e := dayEntry{
		start: d.start, reset: d.reset, reads: d.reads, writes: d.writes, limit: d.limit, remaining: d.left,
		refused: d.refused,
	}
	d.reads, d.writes, d.limit, d.left, d.refused = 0, 0, 0, -1, time.Time{}
	return e, true
}

// settle takes in the shared count, or puts back what could not be written.
func (d *day) settle(e dayEntry, s dayState, err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writing = false
	if err != nil {
		d.reads, d.writes = d.reads+e.reads, d.writes+e.writes
		if d.limit == 0 {
			d.limit = e.limit
		}
		if d.left < 0 {
			d.left = e.remaining
		}
		d.refused = later(d.refused, e.refused)
		return
	}
	switch said := now.Add(-s.remainingAge); {
	case d.left >= 0: // newer than what was just read
		s.remaining = d.left
	case s.remaining >= 0 && said.After(d.leftAt): // another process has heard since
		d.leftAt, d.sinceNow = said, 0
	}
	d.state, d.stateAt = s, now
	if s.pause > 0 {
		d.pause = later(d.pause, now.Add(s.pause))
	}
}
