package proxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hubpg/internal/changes"
	"hubpg/internal/pgwire"
)

// flushBytes is how many bytes of notifications are written at once, and before others may write to the client.
const flushBytes = 16 << 10

// scraps are where notifications are encoded. As many are in use as sessions are being written to.
var scraps = sync.Pool{New: func() any { return new([]byte) }}

// listener is what a session has with the hub: its subscriptions, and the notifications that wait until the client
// may be told. It exists for every session that the hub serves and costs next to nothing until the first LISTEN.
type listener struct {
	*session
	hub  *Hub
	subs map[string]*subscription // by the name that the client wrote; used by back only

	residue residue // under the session's mu

	doom  atomic.Pointer[hubError] // the session must end for this
	start sync.Once                // of run
	wake  chan struct{}            // size 1: there is something to write, replay or end
	stop  context.CancelFunc
	held  int // subscriptions; under the hub's mu

	qmu     sync.Mutex // guards below; taken last
	queue   []bell
	waiting int             // notifications in queue
	replays []*subscription // to be caught up, the first of them now
	closed  bool
}

// bell is notifications waiting, at least one.
type bell struct {
	sub    *subscription
	events []*event // in order; shared with others who listen to the same channel
}

// subscription is one LISTEN in force.
type subscription struct {
	changes.Subscription
	listener *listener
	gone     atomic.Bool // what still waits for it is dropped
	reached  int64       // the replay has queued everything up to this change; under the listener's qmu
	after    int64       // changes up to this one are not for it; under the hub's mu
	live     bool        // the hub rings it; under the hub's mu
}

// hubError is a reason to end a listening session.
type hubError struct {
	*pgwire.Error
	where where
}

func newListener(v *session) *listener {
	return &listener{session: v, hub: v.server.hub, subs: map[string]*subscription{}, wake: make(chan struct{}, 1)}
}

// apply puts the LISTENs and UNLISTENs of a committed transaction into force. It is called by back, under mu.
func (l *listener) apply(ctx context.Context, done []action) {
	for i := range done {
		a := &done[i]
		switch a.kind {
		case actListen:
			l.listen(ctx, a)
		case actUnlisten:
			l.unlisten(a.sub)
		case actUnlistenAll:
			l.unlistenAll()
		}
	}
}

func (l *listener) listen(ctx context.Context, a *action) {
	if l.subs[a.sub.Name] != nil {
		return // as in Postgres, a second LISTEN changes nothing
	}
	if len(l.subs) >= l.server.config.Limits.Listens {
		l.cut(errTooManyListens())
		return
	}
	sub := &subscription{Subscription: a.sub, listener: l, after: a.from}
	if a.from == fromCommit {
		if sub.after = l.newest(ctx); sub.after < 0 {
			return
		}
	}
	sub.reached = sub.after
	l.subs[a.sub.Name] = sub
	l.hub.subscribe(sub)
	l.start.Do(func() {
		ctx, l.stop = context.WithCancel(ctx)
		l.workers.Go(func() {
			defer l.recover()
			l.run(ctx)
		})
	})
	l.qmu.Lock()
	l.replays = append(l.replays, sub)
	l.qmu.Unlock()
	l.nudge()
}

// newest returns the log's newest number, or dooms the session and returns less than 0: its LISTEN has succeeded in
// Postgres and cannot be taken back.
func (l *listener) newest(ctx context.Context) int64 {
	newest, err := l.hub.newest(ctx)
	if err != nil {
		l.log.Error("start subscription", "error", err)
		l.cut(errHubLost())
		return -1
	}
	return newest
}

// unlisten ends the subscription of that name, and those that replayed into the channel of that name.
func (l *listener) unlisten(s changes.Subscription) {
	for name, sub := range l.subs {
		if name == s.Name || !s.Replay && sub.Channel == s.Channel {
			delete(l.subs, name)
			sub.gone.Store(true)
			l.hub.unsubscribe(sub)
		}
	}
}

func (l *listener) unlistenAll() {
	for _, sub := range l.subs {
		sub.gone.Store(true)
		l.hub.unsubscribe(sub)
	}
	clear(l.subs)
}

// close ends the listener with its session.
func (l *listener) close() {
	l.qmu.Lock()
	l.closed = true
	l.qmu.Unlock()
	l.unlistenAll()
	if l.stop != nil {
		l.stop()
	}
}

// push queues notifications. It never blocks: a queue that is full ends the session.
func (l *listener) push(bells ...bell) {
	l.qmu.Lock()
	full := l.waiting >= l.server.config.Limits.ListenerQueue
	if !full && !l.closed {
		l.queue = append(l.queue, bells...)
		for i := range bells {
			l.waiting += len(bells[i].events)
		}
	}
	var place int64
	if full {
		place = l.place(bells)
	}
	l.qmu.Unlock()
	if full {
		l.cut(errTooSlow(place))
		return
	}
	l.nudge()
}

// place returns the change after which the client may go on without a gap on any of its channels, where some bells, at least one, find
// no room. qmu is held.
func (l *listener) place(bells []bell) int64 {
	place := bells[0].events[0].seq - 1
	for i := range l.queue {
		if !l.queue[i].sub.gone.Load() {
			place = min(place, l.queue[i].events[0].seq-1)
		}
	}
	for _, sub := range l.replays {
		if !sub.gone.Load() {
			place = min(place, sub.reached)
		}
	}
	return place
}

// cut ends the session for a reason. A client that does not read has a short time to take it.
func (l *listener) cut(e *hubError) {
	if !l.doom.CompareAndSwap(nil, e) {
		return
	}
	l.qmu.Lock()
	l.queue, l.waiting, l.closed = nil, 0, true
	l.qmu.Unlock()
	if e.where == endSlow {
		l.server.counters.cutOff.Add(1)
	}
	l.ending(e.where)
	_ = l.client.SetWriteDeadline(time.Now().Add(l.server.config.Limits.CutOffGrace))
	l.nudge()
}

func (l *listener) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes notifications while Postgres has nothing to say, and replays the log for subscriptions that start in
// the past, until ctx ends.
func (l *listener) run(ctx context.Context) {
	var idle idleTimer
	defer idle.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.due():
			idle.fired(l)
			continue
		case <-l.wake:
		}
		idle.arm(l)
		l.replay(ctx)
		if err := l.deliver(); err != nil {
			if ctx.Err() == nil && !l.farewell.Load() {
				l.ending(endClient)
			}
			l.hangUp()
			return
		}
	}
}

// deliver writes what waits, letting others write in between.
func (l *listener) deliver() error {
	for {
		l.out.Lock()
		more, err := l.flushSome()
		l.out.Unlock()
		if err != nil || !more {
			return err
		}
	}
}

// flush writes some of what waits, on behalf of back, and leaves the rest to run. out is held.
func (l *listener) flush() error {
	if l.stop == nil && l.doom.Load() == nil {
		return nil // has never listened
	}
	before := l.server.counters.delivered.Load()
	more, err := l.flushSome()
	if more || l.server.counters.delivered.Load() != before {
		l.nudge() // a replay may have waited for room
	}
	return err
}

// flushSome writes one batch of notifications if the client may be told now, and reports whether more wait. out is
// held.
func (l *listener) flushSome() (more bool, err error) {
	if l.doomed() {
		return false, nil
	}
	if !l.idle || !l.boundary {
		return false, nil
	}
	scrap := scraps.Get().(*[]byte)
	defer scraps.Put(scrap)
	out, n, more := l.take((*scrap)[:0])
	*scrap = out[:0]
	if len(out) == 0 {
		return more, nil
	}
	l.boundary = false
	if _, err := l.client.Write(out); err != nil {
		return false, fmt.Errorf("write notifications: %w", err)
	}
	l.boundary = true
	c := &l.server.counters
	c.delivered.Add(int64(n))
	c.bytesOut.Add(int64(len(out)))
	return more, nil
}

// take appends the next notifications to dst, counts them and reports whether more wait.
func (l *listener) take(dst []byte) (out []byte, n int, more bool) {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	for len(l.queue) > 0 && len(dst) < flushBytes {
		b := &l.queue[0]
		heard := len(b.events) // and so done with
		if !b.sub.gone.Load() {
			heard = 1
			e := b.events[0]
			dst = pgwire.AppendNotification(dst, l.cancelKey.pid, b.sub.Name, e.payload)
			n++
		}
		l.waiting -= heard
		if b.events = b.events[heard:]; len(b.events) == 0 {
			*b = bell{} // let the events go
			l.queue = l.queue[1:]
		}
	}
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return dst, n, len(l.queue) > 0
}

// doomed ends the session if the hub wants that. out is held.
func (l *listener) doomed() bool {
	e := l.doom.Load()
	if e == nil {
		return false
	}
	l.finish(e.Error, e.where)
	return true
}

// replay catches up the subscriptions whose start lies behind the hub.
func (l *listener) replay(ctx context.Context) {
	for {
		l.qmu.Lock()
		var sub *subscription
		if len(l.replays) > 0 {
			sub = l.replays[0]
		}
		l.qmu.Unlock()
		if sub == nil {
			return
		}
		if err := l.catchUp(ctx, sub); err != nil && ctx.Err() == nil {
			l.log.Error("replay change log to a listener", "channel", sub.Channel, "error", err)
			l.cut(replayError(err))
		}
		l.qmu.Lock()
		l.replays = l.replays[1:]
		l.qmu.Unlock()
	}
}

// catchUp feeds one subscription from the log until the hub can take it over.
func (l *listener) catchUp(ctx context.Context, sub *subscription) error {
	after, live := l.hub.startOf(sub)
	if live {
		return nil
	}
	if sub.Replay {
		var err error
		if after, err = l.hub.check(ctx, after); err != nil {
			return err
		}
		l.reaches(sub, after)
	}
	for !l.hub.goLive(sub, after) {
		// Everything up to here is in the log before the read, so a page that is not full ends behind it.
		rung := l.hub.Position()
		list, err := l.hub.readAgain(ctx, after)
		if err != nil {
			return err
		}
		for i := range list {
			c := &list[i]
			if rings(c, sub.Channel) {
				if err := l.room(ctx); err != nil {
					return err
				}
				l.push(bell{sub, []*event{l.hub.event(c)}})
			}
			after = c.Seq
			l.reaches(sub, after)
		}
		if len(list) < hubPage {
			after = max(after, rung)
		}
	}
	return nil
}

// reaches notes how far a replay has come.
func (l *listener) reaches(sub *subscription, seq int64) {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	sub.reached = seq
}

// room waits until the queue is half empty: a replay follows its client's pace.
func (l *listener) room(ctx context.Context) error {
	for !l.hasRoom() {
		if err := l.deliver(); err != nil {
			return err
		}
		if l.hasRoom() {
			break
		}
		select {
		case <-ctx.Done():
		case <-l.wake: // back has found the client idle
		}
		if ctx.Err() != nil {
			break
		}
	}
	return ctx.Err()
}

func (l *listener) hasRoom() bool {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	return l.closed || l.waiting <= l.server.config.Limits.ListenerQueue/2
}

func rings(c *changes.Change, channel string) bool {
	return slices.Contains(c.Channels(), channel)
}
