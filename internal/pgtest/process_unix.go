//go:build unix && !linux

package pgtest

import "syscall"

// dieWithParent has no equivalent here; the next start over the same data directory stops the orphan.
func dieWithParent(*syscall.SysProcAttr) {}

// isServer cannot tell a reused process id from a server here, so it believes the pid file.
func isServer(int) bool { return true }
