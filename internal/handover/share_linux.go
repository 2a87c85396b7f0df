package handover

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// share lets others of the same user bind the address of a socket.
func share(conn syscall.RawConn) error {
	return control(conn, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// favour sends connections to come to the second socket of the address, if there is one.
func favour(conn syscall.RawConn) error {
	const second = 1
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: second}}
	return control(conn, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

func control(conn syscall.RawConn, set func(fd int) error) error {
	var err error
	if failed := conn.Control(func(fd uintptr) { err = set(int(fd)) }); failed != nil {
		return failed
	}
	return err
}
