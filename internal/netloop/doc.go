// Package netloop serves many connections from one event loop.
//
// Go parks a goroutine for each direction of each connection. For a relay of short messages that is most of the work:
// every message costs a read that finds nothing, a switch of goroutines and often the waking of a thread. Here one
// goroutine waits for all connections, and a connection that has a handler is served on it, in place: one read and
// one write for each message.
//
// The guarantee: a [Conn] is a [net.Conn] in every respect (deadlines, concurrent use, Close ends what waits), so code
// that knows nothing of the loop may use it; between [Conn.Attach] and [Conn.Detach] neither Read nor Write ever
// waits, and nothing that was written is lost or reordered on the way back. No wake-up is lost in either direction.
//
// It works on Linux (epoll, edge-triggered). Elsewhere [New] reports [errors.ErrUnsupported] and the caller keeps to
// ordinary connections.
package netloop

import "net"

// ErrAgain says that an attached connection has nothing to read now. It is temporary, so TLS goes on after it.
var ErrAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "nothing to read yet" }
func (again) Timeout() bool   { return false }
func (again) Temporary() bool { return true }
