//go:build !linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Aside is where a process can be reached by the others that serve the same address. There is none on this system.
type Aside struct{ net.Listener }

// Meet fails with [errors.ErrUnsupported].
func Meet(_ context.Context, address net.Addr) (*Aside, error) {
	return nil, fmt.Errorf("listen for other processes of %s: %w", address, errors.ErrUnsupported)
}

// Others does nothing.
func (a *Aside) Others(context.Context, func(net.Conn) bool) {}
