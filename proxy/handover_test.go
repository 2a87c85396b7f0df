package proxy_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/proxy"

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
