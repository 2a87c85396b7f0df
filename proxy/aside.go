package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"hubpg/internal/handover"
	"hubpg/internal/pgwire"
)

// A cancel request comes over a connection of its own, and while one proxy takes over from another that may reach
// either. One that does not know the key hands the request to the others of its address, and closes the client's
// connection when they have done with it.

// cancelsAside is how many requests of other proxies are served at once; more wait to be accepted.
const cancelsAside = 64

// meet opens the way to the other proxies of the address. Without it their cancel requests are ignored.
func (s *Server) meet() {
	aside, err := handover.Meet(context.Background(), s.Addr())
	switch {
	case errors.Is(err, errors.ErrUnsupported):
	case err != nil:
		s.config.Logger.Warn("cancel requests will not be exchanged with other proxies of the address", "error", err)
	default:
		s.aside = aside
	}
}

// serveAside answers the other proxies of the address until the socket is closed.
func (s *Server) serveAside(ctx context.Context) error {
	if s.aside == nil {
		return nil
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	slots := make(chan struct{}, cancelsAside)
	for {
		conn, err := s.aside.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			select { // out of descriptors, most likely
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		slots <- struct{}{}
		serving.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			if err := s.cancelAside(ctx, conn); err != nil {
				s.config.Logger.Warn("cancel request of another proxy was not forwarded", "error", err)
			}
		})
	}
}

// cancelAside serves the request of another proxy. It is not handed on: the other one asks everybody itself.
func (s *Server) cancelAside(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(s.config.Limits.ConnectTimeout)); err != nil {
		return err
	}
	request, err := pgwire.ReadStartup(conn)
	if err != nil || request.Kind != pgwire.StartCancel {
		return err
	}
	_, err = s.cancelOwn(ctx, request)
	return err
}

// askOthers hands a cancel request to the other proxies of the address and returns when they have done with it.
func (s *Server) askOthers(ctx context.Context, request *pgwire.Startup) error {
	if s.aside == nil {
		return nil
	}
	// The other one may take as long to reach Postgres.
	ctx, cancel := context.WithTimeout(ctx, 2*s.config.Limits.ConnectTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	packet := pgwire.AppendCancelRequest(nil, request.PID, request.Key)
	var failed error
	s.aside.Others(ctx, func(conn net.Conn) bool {
		err := conn.SetDeadline(deadline)
		if err == nil {
			_, err = conn.Write(packet)
		}
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err != nil && !errors.Is(err, io.EOF) {
			failed = err
		}
		return ctx.Err() == nil
	})
	return failed
}
