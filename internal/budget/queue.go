package budget

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// queue holds the callers of this process that wait for one limit, and the slots that were reserved for them.
//
// At most one waiter leads at any time. Whoever leads is either in queue.lead or has been handed the lead by a wake-up;
// a waiter that leaves while it leads passes the lead on first.
type queue struct {
	bucket  string
	reserve func(ctx context.Context, c class, want int, horizon time.Duration) (grant, error)

	mu      sync.Mutex // guards below
	waiting [classes][]*waiter
	served  [classes]time.Time // when the class was last served, or began to wait
	led     bool
	slots   []slot
	step    time.Duration // between slots, as last granted
	kick    chan struct{} // size 1: something changed that the leader should not sleep through
	pause   time.Time     // slots before this are void
	granted [classes]int64
	lost    int64 // slots that passed unused
}

func newQueue(bucket string, reserve func(context.Context, class, int, time.Duration) (grant, error)) *queue {
	return &queue{bucket: bucket, reserve: reserve, kick: make(chan struct{}, 1)}
}

// slot is the right to send one call at an instant.
type slot struct {
	at    time.Time
	reads bool // it was taken from the reads' share; others serve writes only
}

// waiter is one caller.
type waiter struct {
	class class
	wake  chan verdict // size 1: the queue sends at most one verdict at a time
	last  verdict      // the verdict under way; guarded by queue.mu
}

// verdict is what a waiter is woken with.
type verdict struct {
	granted bool
	lead    bool
	err     error
}

const (
	// maxBatch bounds what one reservation asks for.
	maxBatch = 32
	// grace is how late a slot may be used. Later, it would crowd the window it falls into.
	grace = 150 * time.Millisecond
	// starvation is how many steps a class is passed over before it goes first once.
	starvation    = 16
	minStarvation = 2 * time.Second
)

// wait blocks until the caller may send one call.
func (q *queue) wait(ctx context.Context, c class) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &waiter{class: c, wake: make(chan verdict, 1)}
	if q.enter(w) {
		return q.lead(ctx, w)
	}
	select {
	case v := <-w.wake:
		if v.lead {
			return q.lead(ctx, w)
		}
		return v.err
	case <-ctx.Done():
		q.leave(w)
		return context.Cause(ctx)
	}
}

// enter adds w and says whether it has to lead.
func (q *queue) enter(w *waiter) (lead bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting[w.class]) == 0 {
		q.served[w.class] = time.Now()
	}
	urgent := !slices.ContainsFunc(q.waiting[:w.class+1], func(ws []*waiter) bool { return len(ws) > 0 })
	q.waiting[w.class] = append(q.waiting[w.class], w)
	if !q.led {
		q.led = true
		return true
	}
	if urgent {
		q.signal()
	}
	return false
}

// leave removes a waiter that gave up, and passes on what it was just handed.
func (q *queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(w)
	switch {
	case w.last.lead:
		q.handOn()
	case w.last.granted:
		q.lost++
	}
}

// lead reserves slots and hands them out until w itself is served.
func (q *queue) lead(ctx context.Context, w *waiter) error {
	for {
		pause, err := q.refill(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			q.failAll(err)
			return err
		case err == nil && pause == 0:
			if q.handOut(w) {
				return nil
			}
			continue
		case err == nil:
			err = q.sleep(ctx, pause)
		}
		if err != nil {
			q.mu.Lock()
			q.remove(w)
			q.handOn()
			q.mu.Unlock()
			return context.Cause(ctx)
		}
	}
}

// refill reserves while there are fewer slots than waiters and the class whose turn it is may reach further. Topping up
// before the slots run out keeps less urgent classes of other processes out, and hides the way to Postgres. It returns
// how long to sleep; 0 when a slot is due now.
func (q *queue) refill(ctx context.Context) (time.Duration, error) {
	q.mu.Lock()
	now := time.Now()
	q.dropStale(now)
	c, want, horizon, reach := q.demand(now)
	held := len(q.slots)
	if held > 0 && (want <= 0 || reach.Add(q.step).After(now.Add(horizon))) {
		defer q.mu.Unlock()
		return max(0, q.slots[0].at.Sub(now)), nil
	}
	q.mu.Unlock()

	g, err := q.reserve(ctx, c, max(1, min(want, maxBatch)), horizon)
	if err != nil && (held == 0 || ctx.Err() != nil) {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now = time.Now()
	if err == nil {
		q.step = g.step
		for i := range g.calls {
			q.slots = append(q.slots, slot{now.Add(g.first + time.Duration(i)*g.step), c != writes})
		}
		slices.SortFunc(q.slots, func(a, b slot) int { return a.at.Compare(b.at) })
	}
	if len(q.slots) == 0 {
		// Look again when the class reaches that far, and not together with all other processes.
		return max(g.first-horizon, 0) + 2*time.Millisecond + rand.N(g.step/8+time.Millisecond), nil
	}
	return max(0, q.slots[0].at.Sub(now)), nil
}

// demand returns the class whose turn it is, how many more slots it and its like could use, how far into the future it
// may reserve and how far it has. A class that starves reaches far for one slot.
func (q *queue) demand(now time.Time) (c class, want int, horizon time.Duration, reach time.Time) {
	c = q.next(now)
	for other, waiting := range q.waiting {
		if (class(other) == writes) == (c == writes) {
			want += len(waiting)
		}
	}
	for _, s := range q.slots {
		if s.reads || c == writes {
			want--
			reach = s.at
		}
	}
	if q.starving(c, now) {
		return c, min(want, 1), starvedHorizon, reach
	}
	return c, want, c.horizon(), reach
}

// dropStale forgets slots that passed unused and those that a pause has made void.
func (q *queue) dropStale(now time.Time) {
	for len(q.slots) > 0 && (now.Sub(q.slots[0].at) > grace || q.slots[0].at.Before(q.pause)) {
		q.slots = q.slots[1:]
		q.lost++
	}
}

// handOut gives the slot at hand to the most urgent waiter and says whether that was w. If so, w no longer leads.
func (q *queue) handOut(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.dropStale(now)
	if len(q.slots) == 0 || q.slots[0].at.After(now) {
		return false
	}
	s := q.slots[0]
	q.slots = q.slots[1:]
	c := writes
	if s.reads {
		c = q.next(now)
	}
	if len(q.waiting[c]) == 0 {
		q.lost++
		return false
	}
	first := q.waiting[c][0]
	q.waiting[c] = q.waiting[c][1:]
	q.served[c] = now
	q.granted[c]++
	if first == w {
		q.handOn()
		return true
	}
	first.last = verdict{granted: true}
	first.wake <- first.last
	return false
}

// next returns the class whose turn it is: the most urgent one that waits, unless another starves.
func (q *queue) next(now time.Time) class {
	urgent := classes
	for c := range classes {
		if len(q.waiting[c]) == 0 {
			continue
		}
		if urgent == classes {
			urgent = c
		} else if q.starving(c, now) {
			return c
		}
	}
	if urgent == classes {
		return sweeps
	}
	return urgent
}

func (q *queue) starving(c class, now time.Time) bool {
	return len(q.waiting[c]) > 0 && now.Sub(q.served[c]) > max(minStarvation, starvation*q.step)
}

// handOn makes another waiter lead, the most urgent one.
func (q *queue) handOn() {
	q.led = false
	for c := range classes {
		for _, w := range q.waiting[c] {
			q.led = true
			w.last = verdict{lead: true}
			w.wake <- w.last
			return
		}
	}
}

// failAll wakes every waiter with err; nobody leads afterwards.
func (q *queue) failAll(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.led = false
	for c := range classes {
		for _, w := range q.waiting[c] {
			w.last = verdict{err: err}
			select {
			case w.wake <- w.last:
			default: // the leader itself, whose channel nobody reads
			}
		}
		q.waiting[c] = nil
	}
}

// hold makes the slots of the next d void.
func (q *queue) hold(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if until := time.Now().Add(d); until.After(q.pause) {
		q.pause = until
	}
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// sleep returns nil after d or after a kick, and an error when ctx ends.
func (q *queue) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-q.kick:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s quota: %w", q.bucket, context.Cause(ctx))
	}
}

func (q *queue) remove(w *waiter) {
	if i := slices.Index(q.waiting[w.class], w); i >= 0 {
		q.waiting[w.class] = slices.Delete(q.waiting[w.class], i, i+1)
	}
}
