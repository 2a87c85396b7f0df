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
// loop: front takes the baton and waits, and the loop moves both pumps, through the same filters, whenever one of the
// two connections has something. Whatever the loop must not do ends the ride: a statement to take over, a LISTEN, a
// buffer that was filled, a peer that does not take what it is sent, a lock held by somebody else, an error. Then front
// and back go on with the very pumps that the loop has moved.

// A ride of fewer steps than shortRide was not worth it: the next must be earned by twice as many reads, up to
// mostCalmReads.
const (
	shortRide     = 64
	mostCalmReads = 1024
)

// errCalm ends the moving of front's pump by front itself.
var errCalm = errors.New("the session may be carried by the loop")

// gauge is a connection of the loop that tells whether the last read filled the buffer.
type gauge struct {
	*netloop.Conn
	filled bool
}

func (g *gauge) TryRead(b []byte) (n int, ready bool, err error) {
	n, ready, err = g.Conn.TryRead(b)
	g.filled = n == len(b)
	return n, ready, err
}

// mount makes both connections the loop's, where they are plain and it has room. Nothing else may be using them.
func (v *session) mount() {
	loop := v.server.loops.take()
	if loop == nil || v.server.config.ExpressAfter <= 0 || !plain(v.client) || !plain(v.upstream.conn) {
		return
	}
	for _, conn := range []*net.Conn{&v.client, &v.upstream.conn} {
		adopted, err := loop.Adopt(*conn)
		if err != nil { // out of descriptors: the session is relayed without the loop
			v.log.Debug("leave a connection to the runtime", "error", err)
			return
		}
		*conn = adopted
	}
}

func plain(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
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
	if c, ok := conn.(*netloop.Conn); ok && len(rest) <= pgwire.SmallBuffer {
		g := &gauge{Conn: c}
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
	if !f.rested || f.ledger.open {
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

// express is a session that the event loop carries.
type express struct {
	*front
	conn   *gauge // to Postgres
	server *pgwire.Pump
	filter *back

	turn  sync.Mutex // guards below, and the pumps while on
	on    bool
	over  chan struct{} // closed when on ends
	moved int           // steps
	ended struct{ front, back error }
}

// ride has the loop carry the session until that ends, and returns what front has to see to: nil for nothing.
func (f *front) ride() error {
	back, err := f.claimBaton(wantPump)
	if err != nil {
		return err
	}
	if back.gauge == nil {
		f.calm = 0
		f.passBaton(back)
		return nil
	}
	e := &express{front: f, filter: f.filter, over: make(chan struct{}), on: true}
	e.conn, e.server = back.gauge, back.pump
	f.riding = true
	f.server.counters.express.Add(1)
	f.server.counters.rides.Add(1)
	client, server := f.gauge.Conn, e.conn.Conn
	e.turn.Lock() // a call that moves one must find both attached
	client.Attach(e.fromClient)
	server.Attach(e.fromServer)
	e.turn.Unlock()
	e.fromClient()
	e.fromServer()
	select {
	case <-e.over:
	case <-client.Closed():
		err = net.ErrClosed
	case <-server.Closed():
		err = net.ErrClosed
	}
	e.turn.Lock() // until a call that is under way is done: detached, it could wait
	e.on = false
	e.turn.Unlock()
	client.Detach()
	server.Detach()
	f.server.counters.express.Add(-1)
	f.riding, f.calm = false, 0
	if e.moved < shortRide {
		f.price = min(2*max(f.price, f.server.config.ExpressAfter), mostCalmReads)
	} else {
		f.price = 0
	}
	f.passBaton(handed{pump: e.server, gauge: e.conn, err: e.ended.back})
	if e.ended.front != nil {
		return raised(e.ended.front)
	}
	if err != nil {
		return err
	}
	// What the loop could not send to Postgres at once goes before what the client says next.
	if _, err := server.Write(nil); err != nil {
		return errors.Join(errToServer, err)
	}
	return nil
}

// fromClient moves what the client has sent. The loop calls it.
func (e *express) fromClient() {
	e.turn.Lock()
	defer e.turn.Unlock()
	if !e.on { // a call that came late: what it would touch is front's and back's again
		return
	}
	defer e.caught(&e.ended.front)
	for e.on {
		err := e.pump.Step()
		if errors.Is(err, netloop.ErrAgain) {
			return
		}
		if e.moved++; err != nil || e.gauge.filled || e.conn.Spilled() {
			e.ended.front = err
			e.leave()
		}
		if !e.gauge.Ended() {
			return
		}
	}
}

// fromServer moves what Postgres has sent. The loop calls it.
func (e *express) fromServer() {
	e.turn.Lock()
	defer e.turn.Unlock()
	if !e.on {
		return
	}
	defer e.caught(&e.ended.back)
	defer e.filter.unlock()
	for e.on {
		if !e.out.TryLock() { // somebody ends the session, and may have to wait for the client
			e.leave()
			return
		}
		e.filter.outHeld = true
		err := e.server.Step()
		e.filter.unlock()
		if errors.Is(err, netloop.ErrAgain) {
			return
		}
		if e.moved++; err != nil || e.conn.filled || e.gauge.Conn.Spilled() {
			e.ended.back = err
			e.leave()
		}
		if !e.conn.Ended() {
			return
		}
	}
}

// leave ends the ride. turn is held.
func (e *express) leave() {
	if e.on {
		e.on = false
		close(e.over)
	}
}

// caught keeps a panic in the session that it belongs to: its own goroutine ends with it.
func (e *express) caught(ended *error) {
	p := recover()
	if p == nil {
		return
	}
	*ended = &panicked{value: p, stack: debug.Stack()}
	e.leave()
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
