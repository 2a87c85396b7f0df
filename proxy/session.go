package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"hubpg/internal/pgwire"
)

// session is one client and the backend that serves it, from the first byte to the last.
//
// Two goroutines relay it: front carries the client's messages to Postgres, back carries Postgres's to the client. A
// third, only while the session listens, rings the client when it is idle. While the event loop carries it, it has none.
// They meet in two places: ledger, what has been asked and answered so far, under mu; and the client's socket, under out.
// Locks are taken in the order out, mu.
type session struct {
	server *Server
	log    *slog.Logger

	network netip.Prefix    // that the client is counted for
	refused verdict         // of the admission
	among   *sync.WaitGroup // that it counts in until it is over
	begun   bool            // it counts as a session

	client   net.Conn
	secure   bool             // client is a TLS connection
	shown    *tls.Certificate // to the client, in its TLS
	role     string           // that the session counts for; empty before it does
	startup  *pgwire.Startup
	upstream *upstream
	deadline time.Time // of the login

	clientRest, serverRest []byte // read during the login, not yet relayed
	cancelKey              cancelKey
	loggedIn               bool
	began                  time.Time // the relay
	claim                  claim     // of the login; zero where the backend ends with the session
	cause                  error     // why the login failed, for the log

	// renew logs in to Postgres as the same client once more; nil where what that takes is not known.
	renew func(context.Context) (*loginResult, error)

	life sync.RWMutex // held for reading by whoever needs the backend to stay this session's
	over bool         // under life

	link      sync.Mutex         // guards below, and upstream where it changes
	hungUp    bool               // whatever connects now comes too late
	attaching context.CancelFunc // ends a login of a parked session; nil if there is none

	mu      sync.Mutex // guards below
	ledger  ledger
	told    statuses
	parking bool // the client's read deadline has passed, so that front may park the session
	dozing  bool // parked: there is no backend, and upstream is closed; written under life too

	out      sync.Mutex // guards writes to client, boundary and idle
	boundary bool       // the client has received whole messages only
	idle     bool       // the last of them said that Postgres waits for a query outside a transaction
	fatal    bool       // the last of them was an error: Postgres has said why it is closing

	farewell atomic.Bool // the client has said Terminate or closed its side
	draining atomic.Bool
	end      atomic.Int32 // 1 + the first where reported
	closing  sync.Once
	listener *listener // nil where the hub serves nothing
	pen      *pen      // nil where there is nothing of HubSpot
	vigil    *vigil    // likewise
	baton    *baton
	filter   *back                                   // of what Postgres says
	writing  atomic.Pointer[context.CancelCauseFunc] // ends a wait for HubSpot
	workers  sync.WaitGroup                          // front, and the listener's
}

// live has the calling goroutine take the session through a part of its life. The session is over at its end, unless it is
// aboard: then it goes on without a goroutine, and nothing of it may be touched any more.
func (v *session) live(part func() (aboard bool)) {
	aboard := false
	defer func() {
		if !aboard {
			v.bury()
		}
	}()
	defer v.recover()
	aboard = part()
}

// bury undoes what the session has done, as far as it came.
func (v *session) bury() {
	defer func() { v.client.Close() }()
	defer v.server.admission.release(v.network, v.refused)
	if !v.begun {
		return
	}
	defer v.server.counters.sessions.Add(-1)
	defer v.close()
	defer v.recover()
	if v.filter == nil { // it was never relayed
		return
	}
	if v.pen != nil {
		defer v.pen.end(v.filter.ctx)
	}
	defer v.server.remove(v)
	defer v.workers.Wait()
	if v.listener != nil {
		defer v.listener.close()
	}
}

// serve takes the connection through start-up, login and relay. The first two have deep stacks, which stay large: so the
// third has not their stack.
func (v *session) serve(work context.Context, in *entrance) (aboard bool) {
	v.deadline = time.Now().Add(v.server.config.Limits.LoginTimeout)
	if v.client.SetDeadline(v.deadline) != nil || !v.apart(func() bool { return v.welcomed(in.greet) }) {
		return false
	}
	v.begun = true
	v.server.counters.sessions.Add(1)
	v.server.counters.sessionsTotal.Add(1)
	return v.apart(func() bool { return v.authenticated(in.login) }) && v.relay(work)
}

// apart runs f on a stack that is given back at its end.
func (v *session) apart(f func() bool) (ok bool) {
	var done sync.WaitGroup
	done.Go(func() {
		defer v.recover()
		ok = f()
	})
	done.Wait()
	return ok
}

// hushed has the end of ctx, that of a phase, make the client's reads fail at once, until stop, which reports whether it
// came first.
func (v *session) hushed(ctx context.Context) (stop func() bool) {
	conn := v.client
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
}

// welcomed is greeted within the time for that.
func (v *session) welcomed(ctx context.Context) bool {
	stop := v.hushed(ctx)
	defer stop()
	within, cancel := context.WithDeadline(ctx, v.deadline)
	defer cancel()
	if !v.greeted(within) {
		return false
	}
	if !stop() {
		v.say(errDraining())
		return false
	}
	return true
}

// authenticated lets the client log in to Postgres and reports whether it has.
func (v *session) authenticated(ctx context.Context) bool {
	stop := v.hushed(ctx)
	defer stop()
	within, cancel := context.WithDeadline(ctx, v.deadline)
	defer cancel()
	if err := v.authenticate(within); err != nil {
		v.loginFailed(ctx, err)
		return false
	}
	if !stop() || v.client.SetDeadline(time.Time{}) != nil {
		v.say(errDraining())
		v.ending(endDrain)
		return false
	}
	return true
}

// greeted handles everything before a session begins and reports whether one should.
func (v *session) greeted(ctx context.Context) bool {
	s := v.server
	g, err := s.greet(ctx, v.client)
	v.client, v.secure, v.shown, v.startup = g.conn, g.secure, g.shown, g.startup
	if err != nil {
		if e, ok := errors.AsType[*pgwire.Error](err); ok {
			v.refuse(e, refusedStartup)
		} else if !errors.Is(err, io.EOF) {
			s.counters.refused[refusedStartup].Add(1)
			v.log.Debug("connection ended before a session", "client", addressOf(v.client), "error", err)
		}
		return false
	}
	switch {
	case g.startup.Kind == pgwire.StartCancel:
		if err := s.cancel(ctx, g.startup); err != nil {
			v.log.Warn("cancel request was not forwarded", "error", err)
		}
	case v.refused.err != nil:
		v.refuse(v.refused.err, v.refused.reason)
	case s.config.TLS.Required && !g.secure && !isUnix(v.client):
		v.refuse(errTLSRequired(), refusedTLS)
	case s.config.TLS.ClientCAFile != "" && !hasCertificate(v.client) && !isUnix(v.client):
		v.refuse(errCertificateRequired(), refusedTLS)
	case wantsReplication(g.startup):
		v.refuse(errReplication(), refusedReplication)
	default:
		return true
	}
	return false
}

func (v *session) refuse(e *pgwire.Error, why refusal) {
	v.server.counters.refused[why].Add(1)
	v.say(e)
}

// say sends a last message outside of the relay.
func (v *session) say(e *pgwire.Error) {
	_ = v.client.SetWriteDeadline(time.Now().Add(v.server.config.Limits.CutOffGrace))
	_, _ = v.client.Write(e.Append(nil)) // to a client that may have gone
}

func (v *session) loginFailed(ctx context.Context, err error) {
	v.ending(endLogin)
	if ctx.Err() != nil {
		err = errDraining()
	}
	if e, ok := errors.AsType[*pgwire.Error](err); ok {
		v.say(e)
	}
	if v.cause != nil {
		v.log.Error("log in to Postgres for a client", "user", v.startup.Parameter("user"),
			"database", v.startup.Parameter("database"), "error", v.cause)
	}
}

// relay carries messages until both sides are done or the event loop carries them.
func (v *session) relay(ctx context.Context) (aboard bool) {
	v.boundary, v.idle = true, true
	v.ledger.ready = 'I'
	v.began = time.Now()
	if v.server.hub.serves(v) {
		v.listener = newListener(v)
	}
	if v.pen = v.server.newPen(v); v.pen != nil {
		v.vigil = newVigil(v)
	}
	v.baton, v.filter = newBaton(), &back{session: v, ctx: ctx}
	v.mount()
	v.server.add(v)
	newFront(ctx, v).start()
	rest := v.serverRest
	v.serverRest = nil
	return v.runBack(handed{rest: rest})
}

// hold keeps the backend this session's until letGo; false if the session is over.
func (v *session) hold() bool {
	v.life.RLock()
	if v.over {
		v.life.RUnlock()
		return false
	}
	return true
}

func (v *session) letGo() { v.life.RUnlock() }

// ending notes where the session broke; the first report counts.
func (v *session) ending(w where) { v.end.CompareAndSwap(0, int32(w)+1) }

// hangUp closes both connections, which ends both directions of the relay.
func (v *session) hangUp() {
	v.closing.Do(func() {
		v.interrupt(errHungUp)
		v.client.Close()
		v.link.Lock()
		defer v.link.Unlock()
		v.hungUp = true
		if v.attaching != nil {
			v.attaching()
		}
		if v.upstream != nil {
			v.upstream.conn.Close()
		}
	})
}

// errHungUp ends a wait for HubSpot together with its session.
var errHungUp = errors.New("the session has ended")

// interruptible lets a cancel request end what is being waited for; nil when that is over.
func (v *session) interruptible(cancel context.CancelCauseFunc) {
	if cancel == nil {
		v.writing.Store(nil)
		return
	}
	v.writing.Store(&cancel)
}

// interrupt ends a wait for HubSpot and reports whether there was one.
func (v *session) interrupt(cause error) bool {
	cancel := v.writing.Load()
	if cancel == nil {
		return false
	}
	(*cancel)(cause)
	return true
}

// close ends the session and counts why.
func (v *session) close() {
	v.server.keys.remove(v)
	v.server.admission.leave(v.role)
	v.life.Lock()
	v.over = true
	v.life.Unlock()
	v.hangUp()
	v.ending(endClean)
	v.server.counters.ended[v.end.Load()-1].Add(1)
}

// finish tells the client why the session ends, if the place in the stream allows, and hangs up. out is held.
func (v *session) finish(e *pgwire.Error, w where) {
	v.ending(w)
	if v.boundary && !v.fatal {
		v.say(e)
	}
	v.boundary = false // nothing more may be written
	v.hangUp()
}

// drain ends the session if it is between transactions, or at once if forced.
func (v *session) drain(force bool) {
	v.draining.Store(true)
	if !v.out.TryLock() {
		if force {
			v.ending(endDrain)
			v.hangUp()
		}
		return // back is writing and will look at draining when it is done, or the next round will
	}
	defer v.out.Unlock()
	if force || v.leaves() {
		v.finish(errDraining(), endDrain)
	}
}

// leaves reports whether a draining server may end the session: nothing is being asked or answered, and it was not let
// in a moment ago. out is held.
func (v *session) leaves() bool {
	if !v.quiet() {
		return false
	}
	v.mu.Lock()
	grace := youngGrace
	if v.ledger.asked == 0 {
		grace = firstGrace
	}
	v.mu.Unlock()
	return time.Since(v.began) >= min(grace, v.server.config.DrainTimeout/2)
}

// quiet reports whether nothing is being asked or answered. out is held.
func (v *session) quiet() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.boundary && v.idle && v.ledger.settled()
}

// recover keeps a bug in one session from the others.
func (v *session) recover() {
	p := recover()
	if p == nil {
		return
	}
	v.end.Store(int32(endPanic) + 1)
	v.log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
	v.abort(errInternal(), endPanic)
}
