package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent makes the kernel stop the server when the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// isServer reports whether pid is a Postgres server and not a stranger that was given the same number.
func isServer(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return false
	}
	return bytes.HasPrefix(name, []byte("postgres")) || bytes.HasPrefix(name, []byte("postmaster"))
}
