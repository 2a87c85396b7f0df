package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"hubpg/internal/pgwire"
)

// What a takeover does with messages of more than [pgwire.MaxTake]: they are passed on piece by piece where they need not be
// looked at whole, and held, when there is memory for them, where they must.

// passes reports whether a large message need not be looked at whole.
func (t *takeover) passes(h pgwire.Header) bool {
	const names = 4 << 10 // bytes at its beginning in which a Bind has them
	if h.Size > maxStatement || t.pen == nil {
		return true
	}
	switch h.Type {
	case 'S', 'X': // of a client that is up to something
		return false
	case 'Q', 'P', 'E', 'C', 'H':
		return t.void
	case 'B':
		if t.void {
			return true
		}
		head, err := t.client.Head(names)
		return err == nil && !t.vigil.wary && !t.pen.minds(head)
	}
	return true
}

// takeWhole takes a large message when there is memory for it. The client is not read until then.
func (t *takeover) takeWhole(h pgwire.Header) error {
	if err := t.hold(&t.whole, copiesOfStatement*int64(h.Size), h.Type == 'Q'); err != nil {
		if _, gone := t.client.Forward(io.Discard); gone != nil {
			return gone
		}
		t.received(h.Size)
		return t.declined(h.Type == 'Q', err)
	}
	defer func() {
		t.client.Shrink()
		t.whole.release()
	}()
	if err := t.arrive(h); errors.Is(err, errMemorySlow) {
		if gone := t.client.Skip(t.whole.release); gone != nil {
			return gone
		}
		return t.declined(h.Type == 'Q', err)
	} else if err != nil {
		return err
	}
	return t.take()
}

// arrive reads a message to its end. When others wait for memory, it gives way before they give up.
func (t *takeover) arrive(h pgwire.Header) error {
	s, client := t.session.server, t.session.client
	a := s.memory.arrives(s.config.Limits.StatementWait/2, func() {
		_ = client.SetReadDeadline(time.Now()) // a connection on which this fails is about to end
	})
	_, err := t.client.Head(h.Size)
	if !s.memory.arrived(a) {
		return err
	}
	if cleared := client.SetReadDeadline(time.Time{}); cleared != nil {
		return cleared
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errMemorySlow
	}
	return err
}

// hold takes memory, waiting for it if it must. Everything asked before is answered by then, so that a cancel of the client can
// only mean the message at hand; it ends the wait, as the end of the session does.
func (t *takeover) hold(what *holding, bytes int64, query bool) error {
	if what.memory.free(bytes) {
		what.bytes = bytes
		return nil
	}
	if err := t.stage(query); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	t.session.interruptible(cancel)
	defer t.session.interruptible(nil)
	return what.await(ctx, bytes, t.session.server.config.Limits.StatementWait)
}

// declined fails a message of the client, which was read and not passed on, for want of memory.
func (t *takeover) declined(query bool, cause error) error {
	if !errors.Is(cause, errMemoryFull) && !errors.Is(cause, errMemorySlow) && !errors.Is(cause, errMemoryBeyond) && !errors.Is(cause, errCanceled) {
		return cause // the session ends
	}
	if !errors.Is(cause, errCanceled) {
		t.session.server.counters.notHeld.Add(1)
		t.log.Warn("no memory to hold a statement", "reason", cause)
	}
	_, err := t.open(query, false)
	if err == nil && !t.void { // else the client has been told of an earlier error
		_, err = t.refuse(errMemory(cause))
	}
	if err != nil {
		return err
	}
	if query {
		return t.endQuery()
	}
	t.void = true
	return t.flush()
}

// holds reports whether a message of Postgres may be held.
func (t *takeover) holds(h pgwire.Header) bool {
	switch {
	case h.Size <= pgwire.MaxTake:
		return true
	case h.Size > maxAnswer:
		return false
	case t.reply.grow(copiesOfAnswer * int64(h.Size)):
		return true
	}
	t.short = true
	return false
}

// pour passes a message on that is not looked at.
func (t *takeover) pour() error {
	if t.void {
		_, err := t.client.Forward(io.Discard)
		return err
	}
	t.pending = true
	if err := t.flushServer(); err != nil {
		return err
	}
	h, err := t.client.Forward(t.upstream.conn)
	t.received(h.Size)
	return err
}

// stream passes a message of Postgres on that is too large to be held.
func (t *takeover) stream(h pgwire.Header) error {
	if err := t.flush(); err != nil {
		return err
	}
	t.flushes++
	t.filter.Begin()
	defer t.filter.unlock()
	t.filter.Header(h.Type, h.Size)
	t.filter.Scanned()
	t.boundary = false
	if _, err := t.server.Forward(t.session.client); err != nil {
		return errors.Join(errToClient, err)
	}
	t.boundary = true
	return nil
}
