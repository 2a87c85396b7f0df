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
	wanted atomic.Bool
	given  chan []byte   // from back: what it has read and not passed on
	back   chan returned // to back
	gone   chan struct{} // closed when back has ended
}

// returned is what goes with the baton to back: what was read and not passed on, or the pump that has it, or why
// there is nothing to go on with.
type returned struct {
	rest []byte
	pump *pgwire.Pump
	err  error
}

func newBaton() *baton {
	return &baton{given: make(chan []byte), back: make(chan returned), gone: make(chan struct{})}
}

// take waits until back has stopped between two messages and returns what it had read beyond.
func (v *session) takeBaton() ([]byte, error) {
	b := v.baton
	b.wanted.Store(true)
	defer b.wanted.Store(false)
	if err := v.upstream.conn.SetReadDeadline(time.Now()); err != nil {
		return nil, errors.Join(errToServer, err)
	}
	select {
	case rest := <-b.given:
		if err := v.upstream.conn.SetReadDeadline(time.Time{}); err != nil {
			return rest, errors.Join(errToServer, err)
		}
		return rest, nil
	case <-b.gone:
		return nil, errToServer
	}
}

// returnBaton lets back go on with what was read and not passed on.
func (v *session) returnBaton(rest []byte) { v.passBaton(returned{rest: rest}) }

func (v *session) passBaton(r returned) {
	select {
	case v.baton.back <- r:
	case <-v.baton.gone:
		if r.pump != nil {
			r.pump.Close()
		}
	}
}

// pumpBack runs back's pump, handing the baton over whenever it is wanted.
func (v *session) pumpBack(b *back) error {
	next := returned{rest: v.serverRest}
	v.serverRest = nil
	for {
		if next.err != nil {
			next.pump.Close()
			return next.err
		}
		if next.pump == nil {
			next.pump = newPump(v.upstream.conn, next.rest, b)
		}
		left, err := v.pumpUntilWanted(next.pump)
		if err != nil {
			return err
		}
		v.baton.given <- left // takeBaton waits for it
		var ok bool
		if next, ok = <-v.baton.back; !ok { // front has ended without returning it: while parked, or by a panic
			if v.farewell.Load() {
				return io.EOF
			}
			return errToClient
		}
	}
}

// pumpUntilWanted returns nil and what was read when the baton is wanted and no message is half-way.
func (v *session) pumpUntilWanted(pump *pgwire.Pump) ([]byte, error) {
	defer pump.Close()
	err := pump.Run()
	for v.baton.wanted.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		if pump.Between() {
			return slices.Clone(pump.Rest()), nil
		}
		if err = v.upstream.conn.SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
		if err = pump.Step(); err == nil {
			err = os.ErrDeadlineExceeded
		}
	}
	return nil, err
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

// left ends the reading and returns what was read and not taken.
func (m *messages) left() []byte {
	return append(slices.Clone(m.Rest()), m.source.rest...)
}
