package handover

import (
	"errors"
	"net"
	"os"
	"time"
)

const (
	// linger is how long Drain keeps accepting: longer than a handshake takes that began before a successor listened.
	linger = 250 * time.Millisecond
	// pause is how long a queue must have been empty to be taken for empty.
	pause = 10 * time.Millisecond
	// longest bounds Drain where no successor takes the new connections.
	longest = 2 * linger
)

// Drain hands to serve what still waits to be accepted, for a moment and until nothing does, and closes l. No other
// goroutine may be accepting from l. Connections that a successor gets are not waited for; without one, those that
// come in this moment are served too.
func Drain(l net.Listener, serve func(net.Conn)) error {
	timed, ok := l.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return l.Close()
	}
	begun := time.Now()
	for end := begun.Add(linger); time.Since(begun) < longest; end = time.Now().Add(pause) {
		// Accept looks at the queue before it waits, but not after its deadline.
		if err := timed.SetDeadline(end); err != nil {
			break
		}
		conn, err := l.Accept()
		switch {
		case err == nil:
			serve(conn)
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return errors.Join(err, l.Close())
		case time.Since(begun) >= linger:
			return l.Close()
		}
	}
	return l.Close()
}
