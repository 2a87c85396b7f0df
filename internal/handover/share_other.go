//go:build !unix || solaris || illumos || aix

package handover

import "syscall"

// share has nothing to do: an address has one socket here, and taking over fails as any second listening does.
func share(syscall.RawConn) error { return nil }

func favour(syscall.RawConn) error { return nil }
