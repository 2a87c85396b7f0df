//go:build !linux

package netloop

import (
	"errors"
	"fmt"
	"net"
)

// Loop watches connections. There is none on this system.
type Loop struct{}

// New fails with [errors.ErrUnsupported].
func New() (*Loop, error) { return nil, fmt.Errorf("open event loop: %w", errors.ErrUnsupported) }

// Run does nothing.
func (l *Loop) Run() error { return nil }

// Close does nothing.
func (l *Loop) Close() {}

// Adopt fails with [errors.ErrUnsupported] and leaves conn as it is.
func (l *Loop) Adopt(net.Conn) (*Conn, error) {
	return nil, fmt.Errorf("adopt connection: %w", errors.ErrUnsupported)
}

// Conn is a connection that a [Loop] watches.
type Conn struct{ net.Conn }

// Attach does nothing.
func (c *Conn) Attach(func()) {}

// Detach does nothing.
func (c *Conn) Detach() {}

// TryRead is Read.
func (c *Conn) TryRead(b []byte) (n int, ready bool, err error) {
	n, err = c.Read(b)
	return n, true, err
}

// AwaitRead does nothing.
func (c *Conn) AwaitRead() error { return nil }

// Spilled is false.
func (c *Conn) Spilled() bool { return false }

// Ended is false.
func (c *Conn) Ended() bool { return false }
