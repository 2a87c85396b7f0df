package proxy

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"hubpg/internal/pgwire"
)

// baton is the right to read what Postgres says. back holds it, except while front performs a write, has parked the
// session or has it carried by the event loop.
type baton struct {
	wanted atomic.Uint32 // a demand
	given  chan handed   // from back
	back   chan handed   // to back
	gone   chan struct{} // closed when back has ended
}

// demand is what back is asked for.
type demand uint32

const (
	wantNothing demand = iota
	wantRest           // what it has read, once it is between two messages: Postgres may have to be made to end one
	wantPump           // its pump, wherever that is
)

// handed is what goes with the baton: what was read and not passed on, or the pump that has it, or why there is nothing
// to go on with. Or the ride that is to begin.
type handed struct {
	rest  []byte
	pump  *pgwire.Pump
	gauge *gauge // what pump reads; nil where the event loop cannot move it
	err   error
	ride  *ride
}

func newBaton() *baton {
	return &baton{given: make(chan handed), back: make(chan handed), gone: make(chan struct{})}
}

// takeBaton waits until back has stopped between two messages and returns what it had read beyond.
func (v *session) takeBaton() ([]byte, error) {
	h, err := v.claimBaton(wantRest)
	return h.rest, err
}

// claimBaton waits until back has stopped.
func (v *session) claimBaton(what demand) (handed, error) {
	b := v.baton
	b.wanted.Store(uint32(what))
	defer b.wanted.Store(uint32(wantNothing))
	if err := v.upstream.conn.SetReadDeadline(time.Now()); err != nil {
		return handed{}, errors.Join(errToServer, err)
	}
	select {
	case h := <-b.given:
		if err := v.upstream.conn.SetReadDeadline(time.Time{}); err != nil {
			h.close()
			return handed{}, errors.Join(errToServer, err)
		}
		return h, nil
	case <-b.gone:
		return handed{}, errToServer
	}
}

func (h *handed) close() {
	if h.pump != nil {
		h.pump.Close()
	}
}

// returnBaton lets back go on with what was read and not passed on.
func (v *session) returnBaton(rest []byte) { v.passBaton(handed{rest: rest}) }

func (v *session) passBaton(h handed) {
	select {
	case v.baton.back <- h:
	case <-v.baton.gone:
		h.close()
	}
}

// pumpBack runs back's pump, handing the baton over whenever it is wanted, until that fails or the loop runs it.
func (v *session) pumpBack(b *back, next handed) (aboard bool, err error) {
	for {
		if next.err != nil {
			next.close()
			return false, raised(next.err)
		}
		if next.pump == nil {
			next.pump, next.gauge = gaugedPump(v.upstream.conn, next.rest, b)
		} else if err := v.deliverSpilled(); err != nil {
			next.close()
			return false, err
		}
		next.rest = nil
		if err := v.pumpUntilWanted(&next); err != nil {
			return false, err
		}
		v.baton.given <- next // claimBaton waits for it
		var ok bool
		if next, ok = <-v.baton.back; !ok { // front has ended without returning it: while parked, or by a panic
			if v.farewell.Load() {
				return false, io.EOF
			}
			return false, errToClient
		}
		if next.ride != nil {
			next.ride.begin()
			return true, nil
		}
	}
}

// deliverSpilled waits until the client has taken what the event loop could not send it at once.
func (v *session) deliverSpilled() error {
	v.out.Lock()
	defer v.out.Unlock()
	if _, err := v.client.Write(nil); err != nil {
		return errors.Join(errToClient, err)
	}
	return nil
}

// pumpUntilWanted returns nil when the baton is wanted and h is what is to be handed over.
func (v *session) pumpUntilWanted(h *handed) error {
	err := h.pump.Run()
	for errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, errToClient) {
		wanted := demand(v.baton.wanted.Load())
		if wanted == wantPump {
			return nil
		}
		if wanted == wantNothing {
			break
		}
		if h.pump.Between() {
			h.rest = slices.Clone(h.pump.Rest())
			h.close()
			h.pump, h.gauge = nil, nil
			return nil
		}
		if err = v.upstream.conn.SetReadDeadline(time.Time{}); err != nil {
			break
		}
		if err = h.pump.Step(); err == nil {
			err = os.ErrDeadlineExceeded
		}
	}
	h.close()
	return err
}

// newPump is [pgwire.NewPump] for a rest of any size.
func newPump(src reader, rest []byte, filter pgwire.Filter) *pgwire.Pump {
	if len(rest) > pgwire.SmallBuffer {
		return pgwire.NewPump(&replayed{rest: rest, src: src}, nil, filter)
	}
	return pgwire.NewPump(src, rest, filter)
}

// reader is what a pump reads.
type reader interface{ Read(b []byte) (int, error) }

// replayed is a stream of which a piece was read already.
type replayed struct {
	rest []byte
	src  reader
}

func (r *replayed) Read(b []byte) (int, error) {
	if len(r.rest) > 0 {
		n := copy(b, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	}
	return r.src.Read(b)
}

// messages is a stream taken one message at a time, after and before a pump.
type messages struct {
	*pgwire.Reader
	source *replayed
}

func newMessages(src reader, rest []byte, limit int) *messages {
	source := &replayed{rest: slices.Clone(rest), src: src}
	return &messages{pgwire.NewReader(source, limit), source}
}

// buffered is what has been read of the messages to come.
func (m *messages) buffered() []byte {
	if b := m.Buffered(); len(b) > 0 {
		return b
	}
	return m.source.rest
}

// left ends the reading and returns what was read and not taken.
func (m *messages) left() []byte {
	return append(slices.Clone(m.Rest()), m.source.rest...)
}
