//go:build !unix

package pgtest

import (
	"os"
	"path/filepath"
	"syscall"
)

// account is the operating system's user under which a server runs; here always the process's own.
type account struct{ name string }

func serverAccount() (account, error)      { return account{}, nil }
func (account) apply(*syscall.SysProcAttr) {}
func (account) own(string) error           { return nil }
func (account) reach(string) error         { return nil }
func alive(pid int) bool                   { _, err := os.FindProcess(pid); return err == nil }
func dieWithParent(*syscall.SysProcAttr)   {}
func isServer(int) bool                    { return true }

// Without signals there is one way to stop a server.
var signalFast, signalImmediate os.Signal = os.Kill, os.Kill

func separateGroup(*syscall.SysProcAttr) {}

// create opens a new, empty file in dir.
func (account) create(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}
