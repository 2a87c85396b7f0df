package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// dialTimeout bounds the look whether somebody answers on a Unix socket.
const dialTimeout = time.Second

// TCP listens on an address, host:port. With takeOver it may be one on which a process of the same user listens by
// this package.
func TCP(ctx context.Context, address string, takeOver bool) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets cannot be told whom to favour
	if takeOver {
		lc.Control = func(_, _ string, conn syscall.RawConn) error { return share(conn) }
	}
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil && takeOver {
		err = favour(raw)
	} else if err == nil {
		_ = share(raw) // where that fails, a successor will be told that the address is in use
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take over %s: %w", address, err), l.Close())
	}
	return l, nil
}

// Unix listens on a socket at path. One that nobody answers on is replaced, as Postgres does with a stale one; one
// that somebody answers on only with takeOver.
func Unix(ctx context.Context, path string, takeOver bool) (net.Listener, error) {
	if takeOver {
		return replace(ctx, path)
	}
	l, err := listenUnix(ctx, path)
	if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, dialErr := dialer.DialContext(ctx, "unix", path)
	if dialErr == nil {
		conn.Close()
	}
	if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err // somebody is there, if only without room for another connection, or for other users
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode().Type() != os.ModeSocket {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return listenUnix(ctx, path)
}

// replace listens under another name and then gives the socket that of the old one, at once: there is no moment
// without a socket at path.
func replace(ctx context.Context, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, &net.OpError{Op: "listen", Net: "unix", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	interim := filepath.Join(filepath.Dir(path), ".hubpg."+strconv.Itoa(os.Getpid()))
	if err := os.Remove(interim); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := listenUnix(ctx, interim)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(interim, path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.(*unixListener).path = path
	return l, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u := &unixListener{UnixListener: l.(*net.UnixListener), path: path}
	u.SetUnlinkOnClose(false) // the name may be a successor's by then
	if u.file, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return u, nil
}

// unixListener removes its name when it closes, if that is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	file os.FileInfo
}

// Addr is the name that clients know.
func (u *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }

// Close stops listening.
func (u *unixListener) Close() error {
	if now, err := os.Lstat(u.path); err == nil && os.SameFile(now, u.file) {
		_ = os.Remove(u.path) // one that stays is stale, and replaced by the next process
	}
	return u.UnixListener.Close()
}
