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

// baton is the right to read what Postgres says. back holds it, except while front performs a write or has parked the
// session.
type baton struct {
	wanted atomic.Bool
	given  chan []byte   // from back: what it has read and not passed on
	back   chan []byte   // to back: the same
	gone   chan struct{} // closed when back has ended
}

func newBaton() *baton {
	return &baton{given: make(chan []byte), back: make(chan []byte), gone: make(chan struct{})}
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
func (v *session) returnBaton(rest []byte) {
	select {
	case v.baton.back <- rest:
	case <-v.baton.gone:
	}
}

// pumpBack runs back's pump, handing the baton over whenever it is wanted.
func (v *session) pumpBack(b *back) error {
	rest := v.serverRest
	v.serverRest = nil
	for {
		left, err := v.pumpUntilWanted(b, rest)
		if err != nil {
			return err
		}
		v.baton.given <- left // takeBaton waits for it
		var ok bool
		if rest, ok = <-v.baton.back; !ok { // front has ended without returning it: while parked, or by a panic
			if v.farewell.Load() {
				return io.EOF
			}
			return errToClient
		}
	}
}

// pumpUntilWanted returns nil and what was read when the baton is wanted and no message is half-way.
func (v *session) pumpUntilWanted(b *back, rest []byte) ([]byte, error) {
	pump := newPump(v.upstream.conn, rest, b)
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
