package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// soakTime is how long the soak lasts unless HUBPG_SOAK, like "10m", says otherwise.
const soakTime = 3 * time.Second

// visitTime bounds the life of one client: reaching it is a failure. Postgres on a busy machine may take its time.
const visitTime = 2 * time.Minute

// fragile is a client's connection that closes itself after a number of bytes in either direction.
type fragile struct {
	net.Conn
	left atomic.Int64
}

func (f *fragile) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.spend(n)
	return n, err
}

func (f *fragile) Write(p []byte) (int, error) {
	// Cut inside the write, so that the server sees part of a message.
	if left := f.left.Load(); int64(len(p)) > left {
		n, _ := f.Conn.Write(p[:max(left, 0)]) // the connection is to break
		f.Close()
		return n, net.ErrClosed
	}
	n, err := f.Conn.Write(p)
	f.spend(n)
	return n, err
}

func (f *fragile) spend(n int) {
	if f.left.Add(-int64(n)) <= 0 {
		f.Close()
	}
}

// TestNothingIsLeftBehindByClientsThatVanish lets clients log in, query, copy, listen and cancel, over plain text and
// TLS, and break off after a random number of bytes. Then nothing of theirs may be left: no session, goroutine,
// descriptor or backend.
func TestNothingIsLeftBehindByClientsThatVanish(t *testing.T) {
	// Not parallel: it counts the goroutines and descriptors of the process.
	lasts := soakTime
	if text := os.Getenv("HUBPG_SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("HUBPG_SOAK: %v", err)
		}
	}
	var pool *pgxpool.Pool
	r := newHubRig(t, func(c *proxy.Config) {
		pool = c.Changes
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
		c.Limits.LoginTimeout = 30 * time.Second
		c.ListenerIdle = 20 * time.Millisecond
		c.Limits.KeptBackends, c.Limits.KeptFor = 3, 300*time.Millisecond
	})
	writer := r.db.Conn(t)
	counter := r.db.Conn(t)
	exec(t, writer, "create table soak (id bigint, text text)")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ringing sync.WaitGroup
	ringing.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.change(writer, 3)
			}
		}
	})
	// Once before counting, so that what is made once and kept is there.
	fill(t, pool)
	soak(t, r, seed, 300*time.Millisecond, 1)
	settled(t, r)
	eventually(t, "the hub and the list of sessions have their connections", func() bool {
		return value[int](t, counter, `
select count(*)::int from pg_stat_activity
where datname = current_database() and application_name in ('hubpg listen hub', 'hubpg sessions')`) == 2
	})
	goroutines, descriptors, backends := goroutinesHere(), openDescriptors(t), backendsOf(t, counter)
	before := backendsNamed(t, counter)
	defer func() {
		if t.Failed() {
			t.Logf("backends before: %s\nand now: %s", before, backendsNamed(t, counter))
		}
	}()
	const enough = 20
	done, broken := soak(t, r, seed+1, lasts, enough)
	t.Logf("%d clients, %d of them broken off", done, broken)
	if done < enough || broken < done/10 {
		t.Errorf("the soak did too little: %d clients, %d broken off", done, broken)
	}

	settled(t, r)
	eventually(t, "no backend is kept", func() bool { return r.server.Stats().Kept == 0 })
	eventually(t, fmt.Sprintf("as many backends as before, %d", backends), func() bool { return backendsOf(t, counter) <= backends })
	eventually(t, fmt.Sprintf("as many goroutines as before, %d", goroutines), func() bool { return goroutinesHere() <= goroutines })
	eventually(t, fmt.Sprintf("as many descriptors as before, %d", descriptors), func() bool { return openDescriptors(t) <= descriptors })
	cancel()
	ringing.Wait()
	stats := r.server.Stats()
	if stats.Listeners != 0 {
		t.Errorf("%d subscriptions are left", stats.Listeners)
	}
	t.Logf("clients were given a kept backend %d times", stats.Reused)
	if stats.Reused == 0 && lasts > time.Minute {
		t.Error("no backend was kept")
	}
	t.Logf("parked sessions were given a backend again %d times", stats.Attached)
	if stats.Parked != 0 || stats.Attached == 0 && lasts > time.Minute {
		t.Errorf("parked: %d now, attached %d times", stats.Parked, stats.Attached)
	}
	if stats.Ended["panic"] != 0 {
		t.Errorf("%d sessions panicked", stats.Ended["panic"])
	}
	if got := value[int32](t, r.connect(), "select 1"); got != 1 {
		t.Errorf("a client that comes later gets %d", got)
	}
}

// goroutinesHere counts goroutines, but for those with which pgx goes on reading after a slow write of its own: they stay
// with an idle connection until it is used again.
func goroutinesHere() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("\n\ngoroutine ")) + 1 - bytes.Count(stacks, []byte("bgreader.(*BGReader).bgRead("))
}

// fill opens every connection that a pool may hold.
func fill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for pool.Stat().TotalConns() < pool.Config().MaxConns { // what others give back meanwhile is acquired before a new one is made
		conn, err := pool.Acquire(deadline(t))
		if err != nil {
			t.Fatalf("acquire connection: %v", err)
		}
		defer conn.Release()
	}
}

func settled(t *testing.T, r *rig) {
	t.Helper()
	eventually(t, "no session is left", func() bool { return r.server.Stats().Sessions == 0 })
}

// soak runs clients, a few at a time, for a while and until there were enough, and tells how many there were and how many broke off.
func soak(t *testing.T, r *rig, seed uint64, lasts time.Duration, enough int64) (done, broken int64) {
	t.Helper()
	const workers = 12
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var clients, cut atomic.Int64
	var wg sync.WaitGroup
	for i := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil || clients.Load() < enough {
				whole, err := r.visit(random)
				clients.Add(1)
				if err == nil {
					continue
				}
				if !whole {
					cut.Add(1)
				}
				// Its own cancel may reach a client; nothing else may go wrong in one that did not break off itself.
				e, told := errors.AsType[*pgconn.PgError](err)
				if (told || whole) && (!told || e.Code != "57014") || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a client, whole %v, ended with %v", whole, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return clients.Load(), cut.Load()
}

// visit is the life of one client. Half of them, those that are not whole, have a connection that breaks after a
// random number of bytes.
func (r *rig) visit(random *rand.Rand) (whole bool, err error) {
	mode := []string{"sslmode=disable", "sslmode=require"}[random.IntN(2)]
	config, err := pgx.ParseConfig(r.url(mode))
	if err != nil {
		return true, err
	}
	whole = true
	var budget int64 = 1 << 40
	if random.IntN(2) == 0 {
		whole = false
		// Few bytes end the login, many a copy or a result.
		budget = 1 + random.Int64N(int64(1)<<(4+random.IntN(17)))
	}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		f := &fragile{Conn: conn}
		f.left.Store(budget)
		return f, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), visitTime)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return whole, err
	}
	defer func() {
		if random.IntN(3) == 0 {
			conn.PgConn().Conn().Close() // without a word
		}
		_ = conn.Close(ctx) // broken, very likely
	}()
	for range 1 + random.IntN(4) {
		if err := act(ctx, conn, random); err != nil {
			return whole, err
		}
	}
	return whole, nil
}

// act does one of the things that clients do.
func act(ctx context.Context, conn *pgx.Conn, random *rand.Rand) error {
	switch random.IntN(8) {
	case 0:
		_, err := conn.Exec(ctx, "select repeat('x', 1000) from generate_series(1, $1::int)", random.IntN(2000))
		return err
	case 1:
		rows := strings.Repeat("1\tone\n", random.IntN(50_000))
		_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(rows), "copy soak from stdin")
		return err
	case 2:
		_, err := conn.PgConn().Exec(ctx, "copy (select generate_series(1, 50000)) to stdout").ReadAll()
		return err
	case 3:
		if _, err := conn.Exec(ctx, "listen hubspot_deals"); err != nil || conn.PgConn().TxStatus() != 'I' {
			return err // inside of a transaction nothing is heard
		}
		_, err := conn.WaitForNotification(ctx)
		return err
	case 7:
		// Only listen, for long enough to be parked, then ask for something, perhaps.
		if _, err := conn.Exec(ctx, "listen hubspot_deals"); err != nil || conn.PgConn().TxStatus() != 'I' {
			return err
		}
		for until := time.Now().Add(time.Duration(20+random.IntN(100)) * time.Millisecond); time.Now().Before(until); {
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return err
			}
		}
		if random.IntN(3) == 0 {
			return conn.Ping(ctx)
		}
		return nil
	case 4:
		batch := &pgx.Batch{}
		for i := range 20 {
			batch.Queue("select $1::int", i)
		}
		return conn.SendBatch(ctx, batch).Close()
	case 5:
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into soak values (1, 'one')"); err != nil {
			return err
		}
		if random.IntN(2) == 0 {
			return nil // leave it open
		}
		return tx.Rollback(ctx)
	default:
		stop := time.AfterFunc(time.Duration(random.IntN(20))*time.Millisecond, func() {
			_ = conn.PgConn().CancelRequest(ctx) // may come too late or over a broken connection
		})
		defer stop.Stop()
		_, err := conn.Exec(ctx, "select pg_sleep(0.05)")
		return err
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // a system without /proc: goroutines and sessions are still counted
	}
	return len(list)
}

// backendsNamed are those that backendsOf counts, for people to read.
func backendsNamed(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return value[string](t, conn, `
select string_agg(concat_ws(' ', pid, usename, application_name, backend_start::time(0), state, wait_event, left(query, 60)), '; ' order by backend_start)
from pg_stat_activity
where datname = current_database() and backend_type = 'client backend'`)
}

// backendsOf counts what serves clients in the test's database.
func backendsOf(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return value[int](t, conn, "select count(*)::int from pg_stat_activity where datname = current_database() and backend_type = 'client backend'")
}
