package netloop

import (
	"sync"
	"sync/atomic"
	"time"
)

// deadline is a moment that can be moved while others wait for it.
type deadline struct {
	over atomic.Bool
	wake chan struct{} // signaled when it is over

	mu    sync.Mutex // guards below
	timer *time.Timer
	moved uint64 // how often it was set: a timer that fires late belongs to an earlier time
}

// set moves the deadline; the zero time is never. Whoever waits already waits for the new one.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moved++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(t)
	switch {
	case t.IsZero():
		d.over.Store(false)
	case left <= 0:
		d.over.Store(true)
		signal(d.wake)
	default:
		d.over.Store(false)
		moved := d.moved
		d.timer = time.AfterFunc(left, func() { d.expire(moved) })
	}
}

func (d *deadline) expire(moved uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moved == moved {
		d.over.Store(true)
		signal(d.wake)
	}
}

// signal wakes whoever waits, or the next who will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
