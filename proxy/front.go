package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"hubpg/internal/pgwire"
)

// front is the filter of what the client says to Postgres.
type front struct {
	*session
	ctx      context.Context
	locked   bool // mu is held by this goroutine
	pump     *pgwire.Pump
	parting  bool // the pump was halted before Terminate
	executes int  // so many times in the client's round at hand
	settled  bool // everything was answered and no transaction open, before the Query, Parse or Bind at hand
	asking   bool // the client has said something since its last round, before the Query, Parse or Bind at hand

	gauge    *gauge // what pump reads, where the event loop can move it
	calm     int    // reads since one that filled the buffer
	price    int    // reads that the next ride takes, if more than the usual
	rested   bool   // nothing was under way before the last read
	riding   bool   // the loop moves the pump
	alighted bool   // the pump was halted to end the ride, for no other reason
	ridden   *ride  // that has just ended
}

// newFront returns the filter of a session that begins. It begins on the event loop, where that can carry it: most
// sessions are silent most of the time.
func newFront(ctx context.Context, v *session) *front {
	f := &front{session: v, ctx: ctx, rested: len(v.clientRest) == 0}
	f.pump = f.newPump(v.clientRest)
	f.calm = v.server.config.ExpressAfter
	v.clientRest = nil
	return f
}

// start has a goroutine relay the client's messages until it closes its side or breaks the protocol, or until the event
// loop carries the session.
func (f *front) start() {
	f.workers.Go(func() {
		defer f.recover()
		f.live()
	})
}

func (f *front) live() {
	v, aboard := f.session, false
	defer func() {
		if aboard {
			return
		}
		if f.locked {
			v.mu.Unlock()
		}
		close(v.baton.back)
	}()
	err := f.run()
	aboard = errors.Is(err, errAboard)
	switch {
	case aboard: // f is the loop's now, and then the next goroutine's
	case errors.Is(err, pgwire.ErrFraming), errors.Is(err, pgwire.ErrTooLarge):
		v.abort(errProtocol(err), endClient)
	case errors.Is(err, errOutOfStep):
		v.log.Error("perform a write", "error", err)
		v.abort(errInternal(), endServer)
	case errors.Is(err, errToServer):
		// Postgres has closed; what it said on the way out is for back to deliver, whose reading ends for the same reason.
	case errors.Is(err, errFarewell):
		// There is no backend to say it to.
	default:
		v.left(err)
		v.farewell.Store(true)
		_ = closeWrite(v.upstream.conn) // if that fails, the connection is gone, which is what it asks for
	}
}

// run relays, and performs what has to be performed, until the client's side ends.
func (f *front) run() error {
	err := f.land()
	for {
		if err == nil {
			err = f.move()
		}
		if errors.Is(err, errCalm) {
			if err = f.board(); errors.Is(err, errAboard) {
				return err
			}
		}
		if f.parting && errors.Is(err, pgwire.ErrHalted) {
			f.parting = false
			err = f.bequeath()
		}
		if f.alighted || err == nil {
			f.alighted, err = false, nil
			continue
		}
		var rest []byte
		switch {
		case errors.Is(err, errIdle):
			f.pump.Close()
			f.pump = nil
			rest, err = f.park()
		case errors.Is(err, pgwire.ErrHalted):
			rest, err = f.takeOver(f.pump.Rest())
		default:
			f.pump.Close()
		}
		if err != nil {
			return err
		}
		f.pump = f.newPump(rest)
	}
}

// left notes how the client's side ended: because Postgres had said why it ends the session, by its own wish, or
// by a fault.
func (v *session) left(err error) {
	if v.out.TryLock() {
		if v.fatal {
			v.ending(endServer)
		}
		v.out.Unlock()
	}
	if !errors.Is(err, io.EOF) && !v.farewell.Load() { // after a Terminate back may be the first to close
		v.ending(endClient)
	}
}

// abort breaks in on whatever is being written to the client and ends the session.
func (v *session) abort(e *pgwire.Error, w where) {
	v.ending(w)
	_ = v.client.SetWriteDeadline(time.Now().Add(v.server.config.Limits.CutOffGrace))
	v.out.Lock()
	defer v.out.Unlock()
	v.finish(e, w)
}

// errToServer marks a failure to write to Postgres.
var errToServer = errors.New("write to Postgres")

// Begin implements [pgwire.Filter].
func (f *front) Begin() {
	f.mu.Lock()
	f.locked = true
	f.rested = f.ledger.rested()
	f.unpark()
}

// Scanned implements [pgwire.Filter].
func (f *front) Scanned() {
	f.locked = false
	f.mu.Unlock()
}

// Header implements [pgwire.Filter].
func (f *front) Header(typ byte, size int) bool {
	l := &f.ledger
	if f.listener != nil {
		f.listener.residue.header(typ, size, l)
	}
	if typ == 'Q' || typ == 'P' || typ == 'B' {
		f.asking, f.settled = l.open, l.settled()
	}
	if l.uncertain() && !l.open && f.pump != nil && begins(typ) {
		f.pump.Halt()
	}
	switch typ {
	case 'Q', 'F':
		l.ask(false)
		return (f.heeds(typ, size) || typ == 'Q' && (f.listener != nil || f.pen != nil)) && !f.large(size)
	case 'S':
		f.executes = 0
		l.ask(true)
		f.pen.synced()
		f.vigil.synced()
	case 'P':
		l.step()
		return (f.heeds(typ, size) || f.listener != nil || f.pen != nil) && !f.large(size)
	case 'B', 'E', 'C':
		if typ == 'E' {
			f.executes++
		}
		l.step()
		return l.prepares() || typ == 'C' && f.listener.remembers() || (f.pen.prepares() || f.vigil.minds(typ)) && !f.large(size)
	case 'D':
		l.step()
	case 'H':
		if size > pgwire.HeaderLen { // Postgres refuses it
			l.step()
		}
	case 'd':
		l.feeding = true
	case 'c', 'f':
		l.copyDone()
	case 'X':
		f.farewell.Store(true)
		if f.keeps() {
			f.parting = true
			f.pump.Halt()
		}
	}
	return false
}

// begins reports whether a message may be the first of a round.
func begins(typ byte) bool { return bytes.IndexByte([]byte("QFSPBDEC"), typ) >= 0 }

// large halts the pump before a message that it could not show whole, where that may write.
func (f *front) large(size int) bool {
	if f.pen == nil || f.pump == nil || size <= pgwire.MaxTake || size > maxStatement {
		return false
	}
	f.pump.Halt()
	return true
}

// Take implements [pgwire.Filter].
func (f *front) Take(message []byte) []byte {
	if f.ledger.skipping { // by Postgres, which has said so
		return message
	}
	f.heed(message)
	if f.pen != nil && (f.pen.outdated(message, f.settled) || f.pen.claims(message) || f.vigil.claims(message)) {
		f.pump.Halt()
		return nil
	}
	if f.alights(message) {
		return nil
	}
	if f.listener == nil {
		return message
	}
	return f.listener.rewrite(f.ctx, message)
}

// Resting implements [pgwire.Filter]: the client waits for an answer.
func (f *front) Resting() bool {
	f.mu.Lock() // back notes errors
	defer f.mu.Unlock()
	return f.ledger.over()
}

// Write implements [pgwire.Filter].
func (f *front) Write(chunk []byte, _ bool) error {
	if len(chunk) == 0 {
		return nil
	}
	f.server.counters.bytesIn.Add(int64(len(chunk)))
	if _, err := f.upstream.conn.Write(chunk); err != nil {
		return errors.Join(errToServer, err)
	}
	return nil
}
