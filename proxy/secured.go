package proxy

import (
	"crypto/tls"
	"errors"
	"net"

	"hubpg/internal/netloop"
)

// carried is a connection of the event loop: plain, or in TLS on such a one.
type carried interface {
	net.Conn
	TryRead(b []byte) (n int, ready bool, err error)
	AwaitRead() error
	Attach(f func())
	Detach()
	Spilled() bool
	Ended() bool
}

// socket is what a TLS connection reads and writes, so that the event loop may take the place of the runtime below it. From
// then on a Read does not wait: it fails with [netloop.ErrAgain], which TLS takes for a temporary error and goes on after, as
// it does after a deadline.
type socket struct {
	net.Conn
	loop *netloop.Conn // nil before
	dry  bool          // the last read has left nothing, and no news have come since
}

// Read implements [net.Conn].
func (s *socket) Read(b []byte) (int, error) {
	if s.loop == nil {
		return s.Conn.Read(b)
	}
	if s.dry && !s.loop.Ended() {
		return 0, netloop.ErrAgain
	}
	n, ready, err := s.loop.TryRead(b)
	s.dry = err == nil && n < len(b)
	if !ready && err == nil {
		err = netloop.ErrAgain
	}
	return n, err
}

// secured is a TLS connection on a socket that is the event loop's. One goroutine at a time reads it.
type secured struct {
	*tls.Conn
	socket *socket
}

// Read implements [net.Conn].
func (s *secured) Read(b []byte) (int, error) {
	for {
		n, ready, err := s.TryRead(b)
		if ready || err != nil {
			return n, err
		}
		if err := s.AwaitRead(); err != nil {
			return 0, err
		}
	}
}

// TryRead is a Read that is not ready where Read would wait.
func (s *secured) TryRead(b []byte) (n int, ready bool, err error) {
	n, err = s.Conn.Read(b)
	if errors.Is(err, netloop.ErrAgain) {
		return n, n > 0, nil
	}
	return n, true, err
}

// AwaitRead implements carried. What TLS has read beyond a record it must have been asked for before.
func (s *secured) AwaitRead() error {
	if err := s.socket.loop.AwaitRead(); err != nil {
		return err
	}
	s.socket.dry = false
	return nil
}

// Write implements [net.Conn]. A Write of nothing waits until what was spilled has been sent.
func (s *secured) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return s.socket.loop.Write(nil)
	}
	return s.Conn.Write(b)
}

// Attach implements carried.
func (s *secured) Attach(f func()) { s.socket.loop.Attach(f) }

// Detach implements carried.
func (s *secured) Detach() { s.socket.loop.Detach() }

// Spilled implements carried.
func (s *secured) Spilled() bool { return s.socket.loop.Spilled() }

// Ended implements carried.
func (s *secured) Ended() bool { return s.socket.loop.Ended() }

// adopt makes a connection the loop's.
func adopt(loop *netloop.Loop, conn net.Conn) (carried, error) {
	switch c := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return loop.Adopt(conn)
	case *tls.Conn:
		s, ok := c.NetConn().(*socket)
		if !ok {
			return nil, errors.ErrUnsupported
		}
		plain := s.Conn
		if p, ok := plain.(*prefixed); ok { // the prefix was part of the handshake
			plain = p.Conn
		}
		adopted, err := loop.Adopt(plain)
		if err != nil {
			return nil, err
		}
		s.Conn, s.loop = adopted, adopted
		return &secured{Conn: c, socket: s}, nil
	}
	return nil, errors.ErrUnsupported
}
