package materialize

import "time"

// restFactor keeps a pass that takes long from taking more than a part of the time.
const restFactor = 4

// lookAgain is the longest that any lane sleeps, so that a changed period counts soon.
const lookAgain = 5 * time.Minute

// rest is the pause between two passes of a lane that walks over everything. It is stored as the pass that was, not as
// the instant of the next, which depends on the period that is configured then.
type rest struct {
	Ended time.Time     `json:"ended,omitzero"` // of the last pass; zero while one is under way
	Took  time.Duration `json:"took,omitempty"`
}

func restAfter(began time.Time) rest {
	now := time.Now()
	return rest{Ended: now, Took: now.Sub(began)}
}

// wait is how long there is left to rest.
func (r rest) wait(period time.Duration) time.Duration {
	if r.Ended.IsZero() {
		return 0
	}
	return time.Until(r.Ended.Add(max(period, restFactor*r.Took)))
}
