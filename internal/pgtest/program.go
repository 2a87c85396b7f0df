package pgtest

import (
	"os/exec"
	"syscall"
)

// Launch starts a program beside the servers that is not to outlive this process either, however that ends: the kernel
// interrupts it (SIGINT) where there is a way to ask for that. ended is closed when the program has ended.
func Launch(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(cmd.SysProcAttr)
	s, err := launch(cmd)
	if err != nil {
		return nil, err
	}
	return s.done, nil
}
