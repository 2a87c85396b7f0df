package handover_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubpg/internal/handover"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// kinds are the two sorts of sockets, each with an address of its own per test.
var kinds = map[string]func(t *testing.T) func(takeOver bool) (net.Listener, error){
	"TCP": func(t *testing.T) func(bool) (net.Listener, error) {
		address := "127.0.0.1:0"
		return func(takeOver bool) (net.Listener, error) {
			l, err := handover.TCP(t.Context(), address, takeOver)
			if err == nil {
				address = l.Addr().String()
			}
			return l, err
		}
	},
	"Unix": func(t *testing.T) func(bool) (net.Listener, error) {
		path := filepath.Join(t.TempDir(), "s")
		return func(takeOver bool) (net.Listener, error) { return handover.Unix(t.Context(), path, takeOver) }
	},
}

func TestAnAddressInUseIsRefusedUnlessTakenOver(t *testing.T) {
	t.Parallel()
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen := kind(t)
			first, err := listen(false)
			if err != nil {
				t.Fatalf("first: %v", err)
			}
			if l, err := listen(false); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("second, by mistake: %v, %v", l, err)
			}
			if name == "TCP" && runtime.GOOS != "linux" {
				return // whether it can be taken over is the system's affair
			}
			second, err := listen(true)
			if err != nil {
				t.Fatalf("successor: %v", err)
			}
			if l, err := listen(false); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("third, by mistake: %v, %v", l, err)
			}
			first.Close()
			if l, err := listen(false); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("after the first has gone: %v, %v", l, err)
			}
			talk(t, second)
			second.Close()
			third, err := listen(false)
			if err != nil {
				t.Fatalf("after both have gone: %v", err)
			}
			talk(t, third)
			third.Close()
		})
	}
}

// talk makes a connection to l and sees that l accepts it.
func talk(t *testing.T, l net.Listener) {
	t.Helper()
	conn := dial(t, l)
	defer conn.Close()
	var group sync.WaitGroup
	group.Go(func() { // there may be connections that only looked whether somebody listens
		for {
			accepted, err := l.Accept()
			if err != nil {
				return
			}
			answer(accepted)
		}
	})
	hear(t, conn)
	if err := l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now()); err != nil {
		t.Errorf("set deadline: %v", err)
	}
	group.Wait()
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(t.Context(), l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return conn
}

func answer(conn net.Conn) {
	_, _ = conn.Write([]byte("!"))
	conn.Close()
}

// hear holds that somebody has answered.
func hear(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 1 {
		t.Errorf("nobody answered: %v", err)
	}
}

func TestWhoWaitsToBeAcceptedIsServedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("who gets new connections is the system's affair")
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen := kind(t)
			first, err := listen(false)
			if err != nil {
				t.Fatalf("first: %v", err)
			}
			const each = 50
			var clients []net.Conn
			more := func() {
				for range each {
					clients = append(clients, dial(t, first))
				}
			}
			more() // these wait at the first
			second, err := listen(true)
			if err != nil {
				t.Fatalf("successor: %v", err)
			}
			more() // and these at the second
			served := 0
			if err := handover.Drain(first, func(conn net.Conn) { served++; answer(conn) }); err != nil {
				t.Errorf("drain: %v", err)
			}
			if served != each {
				t.Errorf("the first served %d of %d", served, each)
			}
			more() // and these come after the first has gone
			var group sync.WaitGroup
			group.Go(func() {
				for range 2 * each {
					conn, err := second.Accept()
					if err != nil {
						t.Errorf("accept: %v", err)
						return
					}
					answer(conn)
				}
			})
			for _, conn := range clients {
				hear(t, conn)
				conn.Close()
			}
			group.Wait()
			if err := second.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestDrainingEndsThoughClientsKeepComing(t *testing.T) {
	t.Parallel()
	l, err := handover.TCP(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	clients.Go(func() {
		var dialer net.Dialer
		for ctx.Err() == nil {
			if conn, err := dialer.DialContext(ctx, "tcp", l.Addr().String()); err == nil {
				conn.Close()
			}
		}
	})
	done := make(chan error, 1)
	go func() { done <- handover.Drain(l, func(conn net.Conn) { conn.Close() }) }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("drain: %v", err)
		}
	case <-time.After(patience):
		t.Error("still draining")
	}
	cancel()
	clients.Wait()
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, takeOver := range []bool{false, true} {
		if l, err := handover.Unix(t.Context(), dir, takeOver); err == nil {
			l.Close()
			t.Errorf("a directory was taken over (%v)", takeOver)
		}
	}
}
