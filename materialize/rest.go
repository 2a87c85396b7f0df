package materialize

import "time"

// restFactor keeps a pass that is much work from taking more than a part of the time.
const restFactor = 4

// lookAgain is the longest that any lane sleeps, so that a changed period counts soon.
const lookAgain = 5 * time.Minute

// rest is the pause between two passes of a lane that walks over everything. It is stored as the pass that was, not as
// the instant of the next, which depends on the period that is configured then.
type rest struct {
	Ended time.Time     `json:"ended,omitzero"` // of the last pass; zero while one is under way
	Took  time.Duration `json:"took,omitempty"`
	// Worked is how much of it steps have taken. The rest of the pass, or of the one under way, was waiting: for HubSpot to be
	// well again, or for a process to run. It does not count, or a day of that would be followed by four without a pass.
	Worked time.Duration `json:"worked,omitempty"`
}

// ended is the rest after a pass of which r was stored so far.
func (s *step) ended(r rest, began time.Time) rest {
	now := time.Now()
	return rest{Ended: now, Took: now.Sub(began), Worked: r.Worked + s.lap()}
}

// work adds to the pass under way what a step has done of it.
func (r *rest) work(d time.Duration) {
	if r.Ended.IsZero() {
		r.Worked += d
	}
}

// wait is how long there is left to rest: never longer than a rest, even if the pass seems to end in the future, by a clock that was wrong.
func (r rest) wait(period time.Duration) time.Duration {
	if r.Ended.IsZero() {
		return 0
	}
	long := max(period, restFactor*r.Worked)
	return min(time.Until(r.Ended.Add(long)), long)
}
