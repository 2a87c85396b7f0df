package handover

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSeats is how many processes of one address may meet: two while one takes over, more where take-overs overlap.
const maxSeats = 4

// Aside is where a process can be reached by the others that serve the same address, before or after it: of connections
// to the address itself none can say whom it reaches. It is a Unix socket in Linux's own name space, which leaves nothing
// behind. Only processes of the same user get through.
type Aside struct {
	net.Listener
	address string
	seat    int
}

// Meet opens the Aside of an address. It fails where there are too many, and with [errors.ErrUnsupported] where the
// system has no such sockets.
func Meet(ctx context.Context, address net.Addr) (*Aside, error) {
	a := &Aside{address: address.Network() + " " + address.String()}
	var lc net.ListenConfig
	for ; a.seat < maxSeats; a.seat++ {
		l, err := lc.Listen(ctx, "unix", a.name(a.seat))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listen for other processes of %s: %w", address, err)
		}
		a.Listener = l
		return a, nil
	}
	return nil, fmt.Errorf("listen for other processes of %s: there are %d already", address, maxSeats)
}

// name is that of a seat: as long for every address.
func (a *Aside) name(seat int) string {
	sum := sha256.Sum256([]byte(a.address))
	return fmt.Sprintf("@hubpg-%d-%x-%d", os.Getuid(), sum[:16], seat)
}

// Accept returns the next connection of another process of the same user.
func (a *Aside) Accept() (net.Conn, error) {
	for {
		conn, err := a.Listener.Accept()
		if err != nil || sameUser(conn) {
			return conn, err
		}
		conn.Close()
	}
}

// Others connects to every other process of the address, in turn, until f returns false.
func (a *Aside) Others(ctx context.Context, f func(net.Conn) bool) {
	dialer := net.Dialer{Timeout: dialTimeout}
	for seat := range maxSeats {
		if seat == a.seat {
			continue
		}
		conn, err := dialer.DialContext(ctx, "unix", a.name(seat))
		if err != nil {
			continue // nobody there
		}
		more := true
		if sameUser(conn) { // and not one who has taken the name to hear what is said
			more = f(conn)
		}
		conn.Close()
		if !more {
			return
		}
	}
}

// sameUser reports whether a process of this one's user is at the other end.
func sameUser(conn net.Conn) bool {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	err = control(raw, func(fd int) (err error) {
		peer, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	return err == nil && int(peer.Uid) == os.Getuid()
}
