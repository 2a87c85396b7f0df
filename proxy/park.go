package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unique"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// How a client that only listens gives its backend back.
//
// The listener finds that the client has been silent for a while and that nothing is left in the backend but what
// residue can repeat. It makes front's read fail by a deadline; front takes the baton, ends the backend and goes on
// reading the client, with a few bytes of buffer. The hub's notifications reach the client as before. At the first
// byte that needs Postgres front logs in again, repeats the residue, and gives the baton back.

// dozeBuffer is what front reads into while there is no backend: enough for Terminate and for an empty query.
const dozeBuffer = 32

// errIdle stops front's pump so that the session can be parked.
var errIdle = errors.New("the client is silent")

// errHungOver ends a login that came too late for its session.
var errHungOver = errors.New("the session ended during the login")

// mayPark reports whether the session could do without its backend now. mu is held.
func (l *listener) mayPark() bool {
	g := &l.ledger
	return l.parkable() && g.active && g.settled() && len(g.pending)+len(g.staged) == 0 && !l.draining.Load() &&
		l.residue.proved(l.hub.names.Load())
}

// parkable reports whether the session could do without its backend sometime. mu is held.
func (l *listener) parkable() bool {
	return !l.residue.beyond && !l.dozing && l.renew != nil && l.server.config.ListenerIdle > 0
}

// idleTimer looks after the client's silence on behalf of a listener.
type idleTimer struct {
	*time.Timer
	armed bool
	seen  uint64 // messages counted at the last look
	quiet int    // looks since then
}

// arm starts the timer if the session may be parked some day.
func (t *idleTimer) arm(l *listener) {
	if t.armed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.parkable() {
		return
	}
	t.armed, t.quiet = true, 0
	if interval := l.server.config.ListenerIdle / 2; t.Timer == nil {
		t.Timer = time.NewTimer(interval)
	} else {
		t.Reset(interval)
	}
}

// due is the channel on which the timer fires; nil while it is not armed.
func (t *idleTimer) due() <-chan time.Time {
	if !t.armed {
		return nil
	}
	return t.C
}

func (t *idleTimer) stop() {
	if t.Timer != nil {
		t.Stop()
	}
}

// fired asks front to park the session if the client has been silent for long enough.
func (t *idleTimer) fired(l *listener) {
	t.armed = false
	quiet := t.quiet
	t.arm(l)
	if !t.armed || !l.out.TryLock() {
		return
	}
	defer l.out.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if said := l.ledger.asked + l.ledger.answered; said != t.seen {
		t.seen = said
		return
	}
	if t.quiet = quiet + 1; t.quiet < 2 || !l.boundary || !l.idle || !l.mayPark() {
		return
	}
	l.parking = true
	_ = l.client.SetReadDeadline(time.Now()) // a connection on which this fails is about to end
}

// unpark takes the wish to park back and reports whether there was one. mu is held.
func (v *session) unpark() bool {
	was := v.parking
	if was {
		v.parking = false
		_ = v.client.SetReadDeadline(time.Time{})
	}
	return was
}

// move runs the pump until it ends, or until the client is silent and the session can be parked.
func (f *front) move() error {
	err := f.steps()
	for errors.Is(err, os.ErrDeadlineExceeded) {
		f.mu.Lock()
		wanted := f.unpark()
		f.mu.Unlock()
		if !wanted {
			break
		}
		if f.pump.Between() && len(f.pump.Rest()) == 0 {
			return errIdle
		}
		err = f.steps()
	}
	return err
}

// park ends the backend, waits until the client needs one, logs in again, and returns what the client has said. It
// returns at once where the session cannot be parked after all.
func (f *front) park() (said []byte, err error) {
	rest, err := f.takeBaton()
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 || !f.release() {
		f.returnBaton(rest)
		return nil, nil
	}
	f.server.counters.parked.Add(1)
	f.server.roster.enter(f.session, 0)
	said, err = f.doze()
	f.server.counters.parked.Add(-1)
	if err != nil {
		return nil, err
	}
	if rest, err = f.attach(); err != nil {
		return nil, err
	}
	f.listener.nudge() // for its timer
	f.returnBaton(rest)
	return said, nil
}

// release ends the backend, if that is still right.
func (f *front) release() bool {
	// A cancel on its way to the backend comes first; later ones have nothing to cancel.
	f.life.Lock()
	f.mu.Lock()
	ok := f.listener.mayPark()
	f.dozing = ok
	f.unpark() // the wish may have come again since the pump stopped
	f.mu.Unlock()
	f.life.Unlock()
	if !ok {
		return false
	}
	f.server.roster.enter(f.session, 0)
	conn := f.upstream.conn
	if conn.SetWriteDeadline(time.Now().Add(f.server.config.Limits.CutOffGrace)) == nil {
		_, _ = conn.Write(pgwire.AppendMessage(nil, 'X')) // the connection ends in any case
	}
	conn.Close()
	return true
}

// doze reads the client until it says something that only Postgres can answer.
func (f *front) doze() ([]byte, error) {
	buf := make([]byte, dozeBuffer)
	for {
		n, err := f.client.Read(buf)
		if err != nil {
			return nil, err
		}
		f.server.counters.bytesIn.Add(int64(n))
		message := buf[:n]
		if n < pgwire.HeaderLen || pgwire.SizeOf(message) != n {
			return message, nil
		}
		switch {
		case message[0] == 'X':
			f.farewell.Store(true)
			return nil, errFarewell
		case message[0] == 'S':
			err = f.answer(pgwire.AppendReady(nil, 'I'))
		case message[0] == 'Q' && message[n-1] == 0 && sqlstmt.Empty(message[pgwire.HeaderLen:n-1]):
			err = f.answer(pgwire.AppendReady(pgwire.AppendMessage(nil, 'I'), 'I'))
		default:
			return message, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// errFarewell ends the reading of a client that has said Terminate.
var errFarewell = errors.New("the client said goodbye")

// answer tells the client what Postgres would.
func (f *front) answer(message []byte) error {
	f.out.Lock()
	defer f.out.Unlock()
	if !f.boundary {
		return errHungOver
	}
	f.boundary = false
	if _, err := f.client.Write(message); err != nil {
		return errors.Join(errToClient, err)
	}
	f.boundary = true
	f.server.counters.bytesOut.Add(int64(len(message)))
	return nil
}

// attach gives the session a backend again and returns what that has said beyond the answers to the residue.
func (f *front) attach() ([]byte, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.server.config.Limits.LoginTimeout)
	defer cancel()
	f.link.Lock()
	f.attaching = cancel
	f.link.Unlock()
	in, rest, err := f.renewed(ctx)
	if err != nil {
		f.refuseAgain(err)
		return nil, fmt.Errorf("log in again: %w", err)
	}
	if err := f.relink(in.upstream); err != nil {
		in.conn.Close()
		return nil, err
	}
	f.mu.Lock()
	var differs []byte
	for _, p := range in.status {
		if f.told.note(p) {
			differs = pgwire.AppendParameterStatus(differs, p.Name, p.Value)
		}
	}
	f.mu.Unlock()
	f.server.counters.attached.Add(1)
	f.server.roster.enter(f.session, in.pid)
	if len(differs) == 0 {
		return rest, nil
	}
	return rest, f.answer(differs)
}

// relink makes u the session's connection to Postgres, unless the session has ended.
func (f *front) relink(u *upstream) error {
	f.life.Lock()
	defer f.life.Unlock()
	f.link.Lock()
	defer f.link.Unlock()
	f.attaching = nil
	if f.hungUp {
		return errHungOver
	}
	f.mu.Lock()
	f.dozing = false
	f.claim = claim{} // which was of another login, before which the catalogs may have said something else
	f.mu.Unlock()
	f.upstream = u
	f.server.roster.enter(f.session, u.pid)
	return nil
}

// renewed logs in again and repeats the residue.
func (f *front) renewed(ctx context.Context) (*loginResult, []byte, error) {
	var in *loginResult
	err := f.server.keeper.makeRoom(ctx, func() (err error) {
		in, err = f.renew(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	rest, err := f.repeat(ctx, in)
	if err != nil {
		in.conn.Close()
		return nil, nil, err
	}
	return in, rest, nil
}

// repeat leaves the residue behind in a new backend, adds to in what that has changed, and returns what the backend
// has said beyond. A statement that cannot be prepared any more is left out: its use will be refused as it would be
// for what it refers to. A setting that is refused is an error.
func (f *front) repeat(ctx context.Context, in *loginResult) ([]byte, error) {
	f.mu.Lock()
	messages, rounds := f.listener.residue.again()
	settings := len(f.listener.residue.settings)
	f.mu.Unlock()
	if rounds == 0 {
		return in.rest, nil
	}
	unwatch := context.AfterFunc(ctx, func() { _ = in.conn.SetDeadline(time.Now()) })
	defer unwatch()
	if _, err := in.conn.Write(messages); err != nil {
		return nil, fmt.Errorf("repeat settings: %w", err)
	}
	reader := newMessages(in.conn, in.rest, maxServerLogin)
	for round := 0; round < rounds; {
		h, message, err := reader.Read()
		if err != nil {
			return nil, fmt.Errorf("repeat settings: %w", err)
		}
		switch h.Type {
		case 'Z':
			round++
		case 'S':
			if p, ok := parameterOf(message); ok {
				in.note(p)
			}
		case 'E':
			if e := pgwire.ParseError(message); round < settings || e.Severity == "FATAL" {
				return nil, e
			}
		}
	}
	if !unwatch() {
		return nil, ctx.Err()
	}
	return reader.left(), nil
}

// refuseAgain tells the client why it has no backend any more, and ends the session.
func (f *front) refuseAgain(err error) {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		f.abort(wireError(refused), endServer)
		return
	}
	if refused, ok := errors.AsType[*pgwire.Error](err); ok {
		refused.Severity = "FATAL"
		f.abort(refused, endServer)
		return
	}
	if errors.Is(err, context.Canceled) {
		return // the session has ended meanwhile
	}
	f.log.Error("log in to Postgres again for a client", "user", f.startup.Parameter("user"), "error", err)
	f.abort(errUnreachable(err), endUnreachable)
}

// statuses are the parameters that a client has been told, each name and value shared with all others who were told
// the same.
type statuses []unique.Handle[pgwire.Parameter]

// note takes a parameter in and reports whether that is news.
func (s *statuses) note(p pgwire.Parameter) bool {
	h := unique.Make(p)
	for i, known := range *s {
		if known == h {
			return false
		}
		if known.Value().Name == p.Name {
			(*s)[i] = h
			return true
		}
	}
	*s = append(*s, h)
	return true
}

// parameterOf returns what a ParameterStatus says.
func parameterOf(message []byte) (pgwire.Parameter, bool) {
	name, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok {
		return pgwire.Parameter{}, false
	}
	value, _, ok := pgwire.CutString(rest)
	return pgwire.Parameter{Name: string(name), Value: string(value)}, ok
}

// note replaces a parameter of the server.
func (in *loginResult) note(p pgwire.Parameter) {
	for i := range in.status {
		if in.status[i].Name == p.Name {
			in.status[i] = p
			return
		}
	}
	in.status = append(in.status, p)
}
