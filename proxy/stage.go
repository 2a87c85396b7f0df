package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"hubpg/internal/pgwire"
)

// How a takeover catches up with what was asked before.

// stage makes back stop reading and passes on what was asked in earlier rounds; round says that the message at hand is one of
// its own. Where an error has Postgres skip that message, void is set.
func (t *takeover) stage(round bool) error {
	if t.server != nil {
		return nil
	}
	// back stops between two messages, and Postgres may keep half of one until it hears more.
	t.toServer = pgwire.AppendMessage(t.toServer, 'H')
	if err := t.flushServer(); err != nil {
		return err
	}
	rest, err := t.takeBaton()
	if err != nil {
		return err
	}
	t.server = newMessages(t.upstream.conn, rest, maxAnswer)
	for {
		t.mu.Lock()
		l := &t.ledger
		due, skipped, doubt := l.flight.rounds, l.skipping, l.doubt
		hungry := l.copying && !l.flight.fed()
		t.status = l.ready
		t.mu.Unlock()
		if round {
			due--
		}
		switch {
		case doubt:
			return t.fathom()
		case hungry && t.hand == 'S': // Postgres ignores it
			return nil
		case hungry:
			if err := t.breakOff(); err != nil {
				return err
			}
		case due > 0 && !skipped:
			if err := t.forward(); err != nil {
				return err
			}
		case skipped:
			_, err := t.settleEarlier(false)
			return err
		default:
			return nil
		}
	}
}

// breakOff ends a COPY amid whose data the client says something else, and then the session, as Postgres would. A COPY that
// has failed by itself is over: what is meant for it is ignored.
func (t *takeover) breakOff() error {
	const why = "the client has broken off its data"
	t.toServer = pgwire.AppendMessage(t.toServer, 'f', []byte(why+"\x00"))
	if err := t.flushServer(); err != nil {
		return err
	}
	for {
		h, err := t.server.Peek()
		if err != nil {
			return errors.Join(errToServer, err)
		}
		if !t.holds(h) {
			if err := t.stream(h); err != nil || h.Type == 'E' {
				return err
			}
			continue
		}
		_, message, err := t.server.Read()
		if err != nil {
			return errors.Join(errToServer, err)
		}
		if h.Type == 'E' && bytes.Contains(message, []byte(why)) {
			return fmt.Errorf("%w: message type %q in copy data", pgwire.ErrFraming, t.hand)
		}
		if err := t.tell(message); err != nil {
			return err
		}
		if h.Type == 'E' {
			return t.flush()
		}
	}
}

// forward passes messages of Postgres on up to one by which the ledger learns what is still to come: an error, a ReadyForQuery,
// the beginning or the end of a COPY.
func (t *takeover) forward() error {
	for {
		h, err := t.server.Peek()
		if err != nil {
			return errors.Join(errToServer, err)
		}
		if !t.holds(h) {
			if err := t.stream(h); err != nil {
				return err
			}
			if h.Type == 'E' {
				return nil
			}
			continue
		}
		_, message, err := t.server.Read()
		if err != nil {
			return errors.Join(errToServer, err)
		}
		if err := t.tell(message); err != nil {
			return err
		}
		if h.Type == 'Z' || h.Type == 'E' || h.Type == 'G' || h.Type == 'C' && t.copies() {
			return t.flush()
		}
	}
}

// unsure reports whether what is in flight has to be found out before the message at hand goes on.
func (t *takeover) unsure() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server == nil && t.ledger.uncertain() && begins(t.hand)
}

// fathom passes on what Postgres has still to answer where the ledger does not know how much that is. It asks something
// whose answer cannot be taken for another, in any state of a transaction: the types of parameters, which Postgres repeats
// without a look at them.
func (t *takeover) fathom() error {
	types := []byte{0, 4}
	for range types[1] {
		types = binary.BigEndian.AppendUint32(types, rand.Uint32()|1<<31)
	}
	t.toServer = pgwire.AppendSync(t.toServer) // Postgres may be skipping
	t.toServer = pgwire.AppendClose(t.toServer, 'S', ownName)
	t.toServer = pgwire.AppendMessage(t.toServer, 'P', []byte(ownName+"\x00rollback\x00"), types)
	t.toServer = pgwire.AppendMessage(t.toServer, 'D', []byte("S"+ownName+"\x00"))
	t.toServer = pgwire.AppendClose(t.toServer, 'S', ownName)
	t.toServer = pgwire.AppendSync(t.toServer)
	if err := t.flushServer(); err != nil {
		return err
	}
	const before = 3 // ReadyForQuery, CloseComplete and ParseComplete come before them
	var kept [][]byte
	found := false
	t.mu.Lock()
	skipping := t.ledger.errored // up to a Sync that the client has not sent before the message at hand
	t.mu.Unlock()
	say := func(message []byte) error {
		switch message[0] {
		case 'E':
			skipping = true
		case 'Z':
			skipping = false
		default:
			return t.tell(message)
		}
		if err := t.tell(message); err != nil {
			return err
		}
		return t.flush()
	}
	for {
		h, err := t.server.Peek()
		if err != nil {
			return errors.Join(errToServer, err)
		}
		var message []byte
		if t.holds(h) {
			if _, message, err = t.server.Read(); err != nil {
				return errors.Join(errToServer, err)
			}
		}
		switch {
		case found && h.Type == 'Z':
			t.status = message[pgwire.HeaderLen]
			t.split, t.void = true, skipping && t.hand != 'S'
			t.mu.Lock()
			t.ledger.fathomed(t.hand, t.void)
			t.mu.Unlock()
			return t.flush()
		case found && (h.Type == 'n' || h.Type == '3'):
			continue
		case h.Type == 't' && message != nil && bytes.Equal(message[pgwire.HeaderLen:], types):
			found, kept = true, nil
			continue
		case !found && (h.Type == 'Z' || h.Type == '3' || h.Type == '1'):
			if kept = append(kept, bytes.Clone(message)); len(kept) <= before {
				continue
			}
			message, kept = kept[0], kept[1:]
		default:
			for _, m := range kept {
				if err := say(m); err != nil {
					return err
				}
			}
			kept = nil
		}
		if message != nil {
			err = say(message)
		} else {
			skipping = skipping || h.Type == 'E'
			err = t.stream(h)
		}
		if err != nil {
			return err
		}
	}
}

// call makes a fast-path call amid a round whose transaction is the proxy's: it ends that, as it would Postgres's.
func (t *takeover) call(message []byte) error {
	if err := t.answers(); err != nil || t.void {
		return err
	}
	t.toServer = append(t.toServer, message...)
	if err := t.flushServer(); err != nil {
		return err
	}
	var failed []byte
	for {
		h, err := t.server.Peek()
		if err != nil {
			return errors.Join(errToServer, err)
		}
		if !t.holds(h) && h.Type != 'E' {
			if err := t.stream(h); err != nil {
				return err
			}
			continue
		}
		var answer []byte
		if h.Size > maxAnswer {
			answer, err = t.shortened()
		} else {
			_, answer, err = t.server.Read()
		}
		if err != nil {
			return errors.Join(errToServer, err)
		}
		switch h.Type {
		case 'E':
			failed = bytes.Clone(answer)
			continue
		case 'Z':
			t.status = answer[pgwire.HeaderLen]
			if failed != nil {
				_, err = t.fail(failed)
			} else {
				err = t.commit()
			}
			if err != nil {
				return err
			}
			return t.ready()
		}
		if err := t.tell(answer); err != nil {
			return err
		}
	}
}

// endQuery ends the round of a Query that is over, unless an error before it in its round has it skipped.
func (t *takeover) endQuery() error {
	if err := t.flush(); err != nil {
		return err
	}
	t.mu.Lock()
	skipped := t.ledger.skipping
	t.mu.Unlock()
	if t.void = skipped; skipped {
		return nil
	}
	return t.ready()
}

// fed reports whether the client has sent the end of its COPY data, if Postgres takes some.
func (t *takeover) fed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ledger.flight.fed()
}

// copies reports whether Postgres takes COPY data, as far as the filter has seen.
func (t *takeover) copies() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ledger.copying
}

// ignored reports whether the client's Sync at hand was ignored amid the data of a COPY.
func (t *takeover) ignored() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ledger.flight.rounds == 0
}
