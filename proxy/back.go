package proxy

import (
	"context"
	"errors"

	"hubpg/internal/pgwire"
)

// back is the filter of what Postgres says to the client.
type back struct {
	*session
	ctx     context.Context
	outHeld bool // out is held by this goroutine
	muHeld  bool // mu is held by this goroutine
}

// errToClient marks a failure to write to the client.
var errToClient = errors.New("write to client")

// runBack relays Postgres's messages until it closes the connection, then ends the session; or until the event loop
// carries that, whose it all is from then on.
func (v *session) runBack(next handed) (aboard bool) {
	b := v.filter
	defer func() {
		if !aboard {
			v.hangUp()
		}
	}()
	defer v.recover()
	defer func() {
		if !aboard {
			close(v.baton.gone)
			b.unlock()
		}
	}()
	aboard, err := v.pumpBack(b, next)
	switch {
	case aboard:
	case errors.Is(err, errToClient):
		v.ending(endClient)
	case v.farewell.Load() && !v.fatal:
		// The end that the client asked for.
	default:
		v.out.Lock()
		defer v.out.Unlock()
		v.finish(errUpstreamLost(), endServer)
	}
	return aboard
}

// unlock gives back what is still locked: after a panic, or where there was nothing to write.
func (b *back) unlock() {
	if b.muHeld {
		b.muHeld = false
		b.mu.Unlock()
	}
	if b.outHeld {
		b.outHeld = false
		b.out.Unlock()
	}
}

// Begin implements [pgwire.Filter].
func (b *back) Begin() {
	if !b.outHeld { // the loop has tried the lock before it read
		b.out.Lock()
		b.outHeld = true
	}
	b.mu.Lock()
	b.muHeld = true
}

// Scanned implements [pgwire.Filter].
func (b *back) Scanned() {
	b.muHeld = false
	b.mu.Unlock()
}

// Header implements [pgwire.Filter].
func (b *back) Header(typ byte, _ int) bool {
	switch typ {
	case 'Z':
		return true
	case 'S':
		return b.listener != nil
	case 'A', 'N': // may come at any time and change nothing
		return false
	case 'E':
		if b.listener != nil {
			b.listener.residue.failed(b.ledger.at())
		}
		b.ledger.failed()
	case '1', '2', '3', 'T', 'n', 'I', 's':
		b.ledger.stepped(false)
	case 'C':
		b.ledger.stepped(true)
	case 'G', 'W':
		b.ledger.copyIn()
	}
	b.idle, b.fatal = false, typ == 'E'
	return typ == 'C' && b.listener != nil && b.ledger.listens()
}

// Take implements [pgwire.Filter].
func (b *back) Take(message []byte) []byte {
	switch message[0] {
	case 'Z':
		b.readyForQuery(message)
		return message
	case 'S':
		if p, ok := parameterOf(message); ok {
			b.told.note(p)
		}
		return message
	}
	return b.listener.complete(b.ctx, message)
}

func (b *back) readyForQuery(message []byte) {
	if len(message) != pgwire.HeaderLen+1 {
		return
	}
	status := message[pgwire.HeaderLen]
	if b.listener != nil {
		b.listener.ready(b.ctx, status)
	}
	b.ledger.answer(status)
	b.idle, b.fatal = status == 'I', false
}

// Resting implements [pgwire.Filter]: Postgres waits for a query.
func (b *back) Resting() bool { return b.idle }

// Write implements [pgwire.Filter].
func (b *back) Write(chunk []byte, boundary bool) error {
	defer func() {
		b.outHeld = false
		b.out.Unlock()
	}()
	if len(chunk) > 0 {
		b.server.counters.bytesOut.Add(int64(len(chunk)))
		b.boundary = false
		if _, err := b.client.Write(chunk); err != nil {
			return errors.Join(errToClient, err)
		}
		b.boundary = boundary
	}
	if b.listener != nil {
		if err := b.listener.flush(); err != nil {
			return errors.Join(errToClient, err)
		}
	}
	if b.draining.Load() && b.leaves() {
		b.finish(errDraining(), endDrain)
	}
	return nil
}
