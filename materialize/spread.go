package materialize

import (
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// tablesAtOnce is how many tables a step works on at a time. It is as many as calls are on the way under the limits, so
// that no table waits for the answer to another's, and what a call asks for is settled only shortly before it goes out.
const tablesAtOnce = 4

// spread does what next hands out, for several tables at a time, until nothing is left or the step has had its time. next
// is told the tables that are in hand; it returns a piece of work for another one, nil when there is none. A table whose
// work fails stays in hand, so that it is not tried again in this step and keeps no other waiting.
func (s *step) spread(next func(inHand []string) (table string, work func() error, err error)) error {
	var (
		mu     sync.Mutex // guards below
		inHand = []string{}
	)
	take := func() (table string, work func() error, err error) {
		mu.Lock()
		defer mu.Unlock()
		if table, work, err = next(inHand); err == nil && work != nil {
			inHand = append(inHand, table)
		}
		return table, work, err
	}
	release := func(table string) {
		mu.Lock()
		defer mu.Unlock()
		inHand = slices.DeleteFunc(inHand, func(other string) bool { return other == table })
	}
	var g errgroup.Group
	for range tablesAtOnce {
		g.Go(func() (err error) {
			defer s.caught(&err)
			for !s.over() {
				table, work, err := take()
				if err != nil || work == nil {
					return err
				}
				if err := work(); err != nil {
					return err
				}
				release(table)
			}
			return nil
		})
	}
	return g.Wait()
}
