package materialize

import (
	"slices"
	"time"
)

// tablesAtOnce is how many tables a step works on at a time. It is as many as calls are on the way under the limits, so
// that no table waits for the answer to another's, and what a call asks for is settled only shortly before it goes out.
const tablesAtOnce = 4

// spread does what next hands out, for several tables at a time, until nothing is left or the step has had its time. next
// is told what is in hand; it returns a piece of other work and what that is to be called, nil when there is none. While work
// goes on, next is asked again after every pause, so that a long piece keeps no other waiting. Work that fails stays in
// hand, so that it is not tried again in this step, and keeps its place among the several.
func (s *step) spread(
	pause time.Duration, next func(inHand []string) (name string, work func() error, err error),
) (failed error) {
	type outcome struct {
		name string
		err  error
	}
	var (
		done    = make(chan outcome, tablesAtOnce)
		inHand  = []string{}
		working int
		atOnce  = tablesAtOnce
	)
	for {
		var again <-chan time.Time
		if working < atOnce && !s.over() {
			name, work, err := next(inHand)
			switch {
			case err != nil:
				failed, atOnce = err, 0
			case work != nil:
				inHand = append(inHand, name)
				working++
				go func() {
					o := outcome{name: name}
					defer func() { done <- o }()
					defer s.caught(&o.err)
					o.err = work()
				}()
				continue
			default:
				again = time.After(pause)
			}
		}
		if working == 0 {
			return failed
		}
		select {
		case <-again:
		case o := <-done:
			working--
			if o.err == nil {
				inHand = slices.DeleteFunc(inHand, func(name string) bool { return name == o.name })
				continue
			}
			if atOnce--; failed == nil {
				failed = o.err
			}
		}
	}
}
