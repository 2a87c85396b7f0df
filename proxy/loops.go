package proxy

import (
	"errors"
	"runtime"
	"sync/atomic"

	"hubpg/internal/netloop"

	"golang.org/x/sync/errgroup"
)

// processorsPerLoop is how many processors share an event loop: moving messages is a small part of what they cost.
const processorsPerLoop = 4

// loops are the event loops that carry sessions; none where the system has no such thing.
type loops struct {
	list    []*netloop.Loop
	next    atomic.Uint64
	running errgroup.Group
}

// start opens the loops and runs them until stop.
func (l *loops) start() error {
	for range max(1, runtime.GOMAXPROCS(0)/processorsPerLoop) {
		one, err := netloop.New()
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return errors.Join(err, l.stop())
		}
		l.list = append(l.list, one)
		l.running.Go(one.Run)
	}
	return nil
}

// stop ends the loops. No session may be left.
func (l *loops) stop() error {
	for _, one := range l.list {
		one.Close()
	}
	return l.running.Wait()
}

// take returns the loops in turn; nil if there are none.
func (l *loops) take() *netloop.Loop {
	if len(l.list) == 0 {
		return nil
	}
	return l.list[l.next.Add(1)%uint64(len(l.list))]
}
