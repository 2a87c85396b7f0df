package proxy

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"

	"hubpg/internal/netloop"
	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// How short messages are relayed.
//
// front and back each read one connection and write the other, which is right for a stream. For a question and its
// answer it is mostly waking and parking. So a session that has said little for a few rounds is carried by the event
// loop: front takes the baton, both end, and the loop moves both pumps, through the same filters, whenever one of the
// two connections has something. Whatever the loop must not do ends the ride: a statement to take over, a LISTEN, a
// buffer that was filled, a peer that does not take what it is sent, a lock held by somebody else, an error. Then front
// and back are started again, with the very pumps that the loop has moved. A session begins on the loop: there it takes no
// goroutine, so that one which is silent, as most are most of the time, has no stack.

// A ride of fewer steps than shortRide was not worth it: the next must be earned by twice as many reads, up to
// mostCalmReads.
const (
	shortRide     = 64
	mostCalmReads = 1024
)

// mostInARow is how many steps a ride makes while the others of its loop wait. One that has more to make is over.
const mostInARow = 64

// errCalm ends the moving of front's pump by front itself.
var errCalm = errors.New("the session may be carried by the loop")

// gauge is a connection of the loop that tells whether the last read filled the buffer.
type gauge struct {
	carried
	filled bool
}

func (g *gauge) TryRead(b []byte) (n int, ready bool, err error) {
	n, ready, err = g.carried.TryRead(b)
	g.filled = n == len(b)
	return n, ready, err
}

// news says that the loop has reported something.
func (g *gauge) news() {
	if s, ok := g.carried.(*secured); ok {
		s.socket.dry = false
	}
}

// more reports whether there may be something to read that the loop will not report.
func (g *gauge) more() bool {
	_, ok := g.carried.(*secured) // which reads beyond the record that it was asked for
	return ok || g.Ended()
}

// mount makes both connections the loop's, where it has room. Nothing else may be using them.
func (v *session) mount() {
	loop := v.upstream.loop
	if loop == nil {
		loop = v.server.loops.take()
	}
	if loop == nil || v.server.config.ExpressAfter <= 0 {
		return
	}
	for _, conn := range []*net.Conn{&v.client, &v.upstream.conn} {
		if _, ok := (*conn).(carried); ok { // that of a kept backend
			continue
		}
		adopted, err := adopt(loop, *conn)
		if err != nil { // out of descriptors: the session is relayed without the loop
			v.log.Debug("leave a connection to the runtime", "error", err)
			return
		}
		*conn = adopted
	}
	v.upstream.loop = loop
}

// steps moves the pump until it ends, or until the loop may do so.
func (f *front) steps() error {
	err := f.pump.Resume()
	for err == nil {
		if f.calm >= max(f.price, f.server.config.ExpressAfter) && f.mayRide() {
			return errCalm
		}
		if err = f.pump.Step(); err == nil && f.gauge != nil && !f.gauge.filled {
			f.calm++
		} else {
			f.calm = 0
		}
	}
	return err
}

// newPump returns the pump of the client's messages.
func (f *front) newPump(rest []byte) *pgwire.Pump {
	f.calm = 0
	var p *pgwire.Pump
	p, f.gauge = gaugedPump(f.client, rest, f)
	return p
}

// gaugedPump is newPump, with the gauge that it reads where the event loop can move it: not where a rest is to be read
// first, which no event tells of.
func gaugedPump(conn net.Conn, rest []byte, filter pgwire.Filter) (*pgwire.Pump, *gauge) {
	if c, ok := conn.(carried); ok && len(rest) <= pgwire.SmallBuffer {
		g := &gauge{carried: c}
		return newPump(g, rest, filter), g
	}
	return newPump(conn, rest, filter), nil
}

// mayRide reports whether the session is one that the loop can carry. While front waits for the baton it does not read
// the client: so nothing was under way before what the client has just said, and that ended with a Query or a Sync. Then
// back has at most one answer to deliver.
func (f *front) mayRide() bool {
	if f.gauge == nil || f.draining.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.rested || !f.ledger.over() || f.ledger.doubt {
		return false
	}
	return f.listener == nil || !f.ledger.listens() && !f.ledger.prepares()
}

// alights halts the pump before a message that may take front longer than the loop can wait. It is called from Take.
func (f *front) alights(message []byte) bool {
	if !f.riding || f.listener == nil {
		return false
	}
	text := message[pgwire.HeaderLen:]
	if message[0] == 'P' {
		_, text, _ = pgwire.CutString(text)
	}
	if message[0] != 'P' && message[0] != 'Q' || !sqlstmt.MayListen(text) {
		return false
	}
	f.alighted = true
	f.pump.Halt()
	return true
}

// ride is a session that the event loop carries.
type ride struct {
	*front
	conn   *gauge // to Postgres
	server *pgwire.Pump
	filter *back

	over func() // what comes after it, on a goroutine of its own

	turn  sync.Mutex // guards below, and the pumps while on
	on    bool
	moved int // steps
	ended struct{ front, back error }
}

// errAboard ends front's goroutine while the loop carries the session.
var errAboard = errors.New("the session is carried by the loop")

// board has the loop carry the session, where it can, and returns errAboard then. Back's goroutine, which has the session's
// end to see to, begins the ride and ends as well.
func (f *front) board() error {
	back, err := f.claimBaton(wantPump)
	if err != nil {
		return err
	}
	if back.gauge == nil {
		f.calm = 0
		f.passBaton(back)
		return nil
	}
	r := &ride{front: f, filter: f.filter, conn: back.gauge, server: back.pump, on: true}
	r.over = r.end
	f.riding = true
	select {
	case f.baton.back <- handed{ride: r}:
		return errAboard
	case <-f.baton.gone:
		f.riding = false
		back.close()
		return errToServer
	}
}

// begin has the loop move the pumps. The session counts on while no goroutine has it.
func (r *ride) begin() {
	r.session.among.Add(1)
	c := &r.session.server.counters
	c.express.Add(1)
	c.rides.Add(1)
	r.turn.Lock() // a call that moves one must find both attached
	r.gauge.Attach(r.fromClient)
	r.conn.Attach(r.fromServer)
	r.turn.Unlock()
	r.fromClient()
	r.fromServer()
}

// end starts front and back again.
func (r *ride) end() {
	v, f := r.session, r.front
	defer v.among.Done()
	r.turn.Lock()   // until the call is done that has found the end
	r.turn.Unlock() //nolint:staticcheck // nothing is to be done, but after it
	r.gauge.Detach()
	r.conn.Detach()
	v.server.counters.express.Add(-1)
	f.riding, f.calm = false, 0
	if r.moved < shortRide {
		f.price = min(2*max(f.price, v.server.config.ExpressAfter), mostCalmReads)
	} else {
		f.price = 0
	}
	f.ridden = r
	v.live(func() bool {
		f.start()
		return v.runBack(handed{pump: r.server, gauge: r.conn, err: r.ended.back})
	})
}

// land returns what front has to see to after a ride: nil for nothing.
func (f *front) land() error {
	r := f.ridden
	if r == nil {
		return nil
	}
	f.ridden = nil
	if r.ended.front != nil {
		return raised(r.ended.front)
	}
	// What the loop could not send to Postgres at once goes before what the client says next.
	if _, err := r.conn.Write(nil); err != nil {
		return errors.Join(errToServer, err)
	}
	return nil
}

// fromClient moves what the client has sent. The loop calls it.
func (r *ride) fromClient() {
	r.turn.Lock()
	defer r.turn.Unlock()
	if !r.on { // a call that came late: what it would touch is front's and back's again
		return
	}
	defer r.caught(&r.ended.front)
	r.gauge.news()
	for left := mostInARow; r.on; left-- {
		err := r.pump.Step()
		if errors.Is(err, netloop.ErrAgain) {
			return
		}
		if r.moved++; err != nil || r.gauge.filled || r.conn.Spilled() || left == 1 {
			r.ended.front = err
			r.leave()
		}
		if !r.gauge.more() {
			return
		}
	}
}

// fromServer moves what Postgres has sent. The loop calls it.
func (r *ride) fromServer() {
	r.turn.Lock()
	defer r.turn.Unlock()
	if !r.on {
		return
	}
	defer r.caught(&r.ended.back)
	defer r.filter.unlock()
	r.conn.news()
	for left := mostInARow; r.on; left-- {
		if !r.out.TryLock() { // somebody ends the session, and may have to wait for the client
			r.leave()
			return
		}
		r.filter.outHeld = true
		err := r.server.Step()
		r.filter.unlock()
		if errors.Is(err, netloop.ErrAgain) {
			return
		}
		if r.moved++; err != nil || r.conn.filled || r.gauge.Spilled() || left == 1 {
			r.ended.back = err
			r.leave()
		}
		if !r.conn.more() {
			return
		}
	}
}

// leave ends the ride. turn is held.
func (r *ride) leave() {
	if r.on {
		r.on = false
		go r.over() // ends with the session, or when that is carried again
	}
}

// caught keeps a panic in the session that it belongs to: its own goroutine ends with it.
func (r *ride) caught(ended *error) {
	p := recover()
	if p == nil {
		return
	}
	*ended = &panicked{value: p, stack: debug.Stack()}
	r.leave()
}

// panicked is a panic that happened on the loop.
type panicked struct {
	value any
	stack []byte
}

// raised panics with what panicked on the loop, where that is counted and told, and returns any other error.
func raised(err error) error {
	if p, ok := errors.AsType[*panicked](err); ok {
		panic(p)
	}
	return err
}

func (p *panicked) Error() string { return fmt.Sprintf("%v\n%s", p.value, p.stack) }
