package handover_test

import (
	"errors"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hubpg/internal/handover"
)

// A process that has no room for another connection does not answer, and is there all the same.
func TestASocketWhoseQueueIsFullIsNotTakenForStale(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	open := func() int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	first := open()
	if err := unix.Bind(first, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(first, 1); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		err = unix.Connect(open(), &unix.SockaddrUnix{Name: path})
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("the queue is not full: %v", err)
	}
	if l, err := handover.Unix(t.Context(), path, false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another process, by mistake: %v, %v", l, err)
		if err == nil {
			l.Close()
		}
	}
	for { // what waits is accepted at last
		fd, _, err := unix.Accept(first)
		if err != nil {
			break
		}
		_ = unix.Close(fd)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first has lost its socket: %v", err)
	}
	conn.Close()
}
