package proxy

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// What netloop reads in large pieces needs 256 KiB of room.
func TestBuffersWithinTheMachineAreBoundedAndLargeEnough(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	size := func(option int) (n int) {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option) }); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sends := size(unix.SO_SNDBUF)
	tune(conn)
	if got := size(unix.SO_RCVBUF); got < 256<<10 || got > 2*nearBuffer {
		t.Errorf("%d bytes wait to be read", got)
	}
	if got := size(unix.SO_SNDBUF); got != sends {
		t.Errorf("what is sent to Postgres has %d bytes of room, %d before", got, sends)
	}
	confine(conn)
	if got := size(unix.SO_SNDBUF); got > 2*nearBuffer || got == sends {
		t.Errorf("%d bytes wait for a client", got)
	}
}
