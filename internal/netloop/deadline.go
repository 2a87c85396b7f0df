package netloop

import (
	"sync"
	"time"
)

// deadline is a moment that can be moved while others wait for it.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	moved  uint64        // how often it was set: a timer that fires late belongs to an earlier time
	passed chan struct{} // closed when it has passed
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
	if d.passed == nil || isClosed(d.passed) {
		d.passed = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.passed)
		return
	}
	moved := d.moved
	d.timer = time.AfterFunc(left, func() { d.expire(moved) })
}

func (d *deadline) expire(moved uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moved == moved {
		close(d.passed)
	}
}

// wait returns what is closed when the deadline has passed.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
