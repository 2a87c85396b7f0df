package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestATakeOverRefusesNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := newRig(t, nil, func(c *proxy.Config) { c.Socket, c.DrainTimeout = dir, time.Minute })
	port := first.server.Addr().(*net.TCPAddr).Port
	same := func(takeOver bool) proxy.Config {
		return proxy.Config{
			Listen: first.server.Addr().String(), Socket: dir, TakeOver: takeOver,
			Upstream: first.db.URL, Changes: first.db.Pool(t), DrainTimeout: time.Minute,
		}
	}
	if server, err := proxy.New(same(false)); err == nil {
		server.Close()
		t.Fatal("a second proxy was let onto the port without asking to take over")
	}

	ctx, stop := context.WithCancel(context.Background())
	var connected atomic.Int64
	var clients sync.WaitGroup
	defer func() { stop(); clients.Wait() }()
	for _, address := range []string{
		first.url(), first.url(), fmt.Sprintf("host=%s port=%d user=hubpg_owner dbname=%s sslmode=disable", dir, port, first.db.Name),
	} {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := ask(address); err != nil {
					t.Errorf("connection %d: %v", connected.Load(), err)
					return
				}
				connected.Add(1)
			}
		})
	}
	wait := func(what string, n int64) {
		t.Helper()
		from := connected.Load()
		for end := time.Now().Add(patience); connected.Load() < from+n && !t.Failed(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no connections %s", what)
			}
		}
	}
	wait("before", 20)
	second := newRig(t, first.db, func(c *proxy.Config) {
		c.Listen, c.Socket, c.TakeOver, c.DrainTimeout = first.server.Addr().String(), dir, true, time.Minute
	})
	wait("beside each other", 20)
	if err := first.stop(); err != nil {
		t.Errorf("end of the first: %v", err)
	}
	begun := second.server.Stats().SessionsTotal
	wait("after", 20)
	if got := second.server.Stats().SessionsTotal; begun == 0 || got <= begun {
		t.Errorf("the second has served %d sessions, then %d", begun, got)
	}
	if got := first.server.Stats(); got.Sessions != 0 {
		t.Errorf("the first has ended with %d sessions", got.Sessions)
	}
}

// ask connects, asks one question and leaves.
func ask(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, address)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select 1").ReadAll(); err != nil {
		return err
	}
	_ = conn.Close(ctx) // a session that has its answer may be ended at any time
	return nil
}

func TestADrainingProxyCountsOnNoOneSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.DrainTimeout = time.Minute })
	silent := r.dial()
	r.connect() // so that the silent one has been accepted before
	begun := time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(begun); took > 45*time.Second {
		t.Errorf("a connection that says nothing held the end up for %s", took)
	}
	if _, err := silent.Read(make([]byte, 64)); err != nil && silent.SetDeadline(time.Now()) != nil {
		t.Errorf("read: %v", err)
	}
}

// A cancel request comes over a connection of its own, which the successor accepts.
func TestATakeOverLosesNoCancelRequest(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("proxies of one address meet on Linux only")
	}
	first := newRig(t, nil, func(c *proxy.Config) { c.DrainTimeout = 2 * patience })
	begin := func(r *rig) (conn *pgx.Conn, canceled <-chan error) {
		conn = r.connect()
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_sleep(300)")
			done <- err
		}()
		return conn, done
	}
	old, oldDone := begin(first)
	second := newRig(t, first.db, func(c *proxy.Config) {
		c.Listen, c.TakeOver, c.DrainTimeout = first.server.Addr().String(), true, 2*patience
	})
	young, youngDone := begin(second)
	watcher := open(t, first.db.URL, nil)
	eventually(t, "both sleep", func() bool { // a session that asks nothing is ended at once
		return value[int](t, watcher, "select count(*) from pg_stat_activity where query = 'select pg_sleep(300)' and state = 'active' and datname = current_database()") == 2
	})
	stopped := make(chan error, 1)
	go func() { stopped <- first.stop() }()
	cancelAndWait := func(name string, conn *pgx.Conn, done <-chan error) {
		t.Helper()
		// The sleep may begin a little later than the request comes, and Postgres ignores one that finds nothing to do.
		for end := time.Now().Add(patience); ; {
			if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatalf("cancel request for the session of the %s: %v", name, err)
			}
			select {
			case err := <-done:
				if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
					t.Errorf("session of the %s: got %v, want 57014", name, err)
				}
				return
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(end) {
				t.Fatalf("no cancel request has reached the session of the %s", name)
			}
		}
	}
	cancelAndWait("first", old, oldDone)
	cancelAndWait("second", young, youngDone)
	if n := second.server.Stats().Cancels; n == 0 {
		t.Error("the second has served no cancel request of its own")
	}
	stranger := dialCancel(t, second, old.PgConn().PID())
	if _, err := io.ReadAll(stranger); err != nil {
		t.Errorf("a cancel request with a wrong key: %v, want the end of the connection", err)
	}
	_ = old.Close(t.Context())
	if err := <-stopped; err != nil {
		t.Errorf("end of the first: %v", err)
	}
}

// dialCancel sends a cancel request with a key that nobody has.
func dialCancel(t *testing.T, r *rig, pid uint32) net.Conn {
	t.Helper()
	conn := r.dial()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(pgwire.AppendCancelRequest(nil, pid, []byte{1, 2, 3, 4})); err != nil {
		t.Fatalf("write: %v", err)
	}
	return conn
}
