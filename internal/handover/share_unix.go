//go:build unix && !linux && !solaris && !illumos && !aix

package handover

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// share lets others of the same user bind the address of a socket.
func share(conn syscall.RawConn) error {
	var err error
	if failed := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); failed != nil {
		return failed
	}
	return err
}

// favour has nothing to do: these systems give connections to the newest socket, or offer no choice.
func favour(syscall.RawConn) error { return nil }
