package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
)

// flock is many clients that only listen, small enough for ten thousand of them in one process.
type flock struct {
	t         testing.TB
	address   string
	role      string
	db        string
	admin     string // the database's address for a superuser
	birds     []net.Conn
	wg        sync.WaitGroup
	last      []atomic.Int64 // newest change heard, by client
	latecomer atomic.Int64   // when the last of them was let in
	timed     bool           // somebody wants to know when
	latest    sync.Map       // int64 → *atomic.Int64: when a change has reached one more
	failed    atomic.Pointer[error]
}

// newFlock makes a role that Postgres lets in a few times at once: whoever holds more backends is refused.
func newFlock(t testing.TB, db *pgtest.DB, address string, backends int) *flock {
	t.Helper()
	role := guest(t, db)
	exec(t, db.AdminConn(t), fmt.Sprintf("alter role %s connection limit %d", role, backends))
	f := &flock{t: t, address: address, role: role, db: db.Name, admin: db.AdminURL}
	t.Cleanup(f.leave)
	return f
}

func (f *flock) leave() {
	for _, conn := range f.birds {
		if conn != nil { // not all have come
			conn.Close()
		}
	}
	f.wg.Wait()
	f.birds = nil
}

// settle lets n clients log in and LISTEN, a few at a time, and begins to count what they hear after change after.
func (f *flock) settle(n, atOnce int, sql string, after int64) {
	f.t.Helper()
	f.birds, f.last = make([]net.Conn, n), make([]atomic.Int64, n)
	f.latecomer.Store(time.Now().UnixNano())
	var next atomic.Int64
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && f.failed.Load() == nil; i = int(next.Add(1)) - 1 {
				conn, err := f.enlist(sql)
				if err != nil {
					f.fail(fmt.Errorf("client %d: %w", i, err))
					return
				}
				f.birds[i] = conn
			}
		})
	}
	workers.Wait()
	f.check()
	for i, conn := range f.birds {
		f.last[i].Store(after)
		f.wg.Go(func() { f.hear(i, conn) })
	}
}

func (f *flock) fail(err error) { f.failed.CompareAndSwap(nil, &err) }

func (f *flock) check() {
	f.t.Helper()
	if err := f.failed.Load(); err != nil {
		f.t.Fatal(*err)
	}
}

// enlist logs a client in, as soon as Postgres has room, and has it LISTEN. It gives up when nobody was let in for long.
//
// Postgres counts those that are just being refused against the limit too, until they have ended: several that ask at the
// same time can keep each other out although there is room, and on a busy machine go on doing so. So each waits for longer,
// and differently long, the more often it was refused.
func (f *flock) enlist(sql string) (net.Conn, error) {
	const longest = time.Second
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, longest) {
		conn, err := net.Dial("tcp", f.address)
		if err != nil {
			return nil, err
		}
		if err = exchange(conn, startup("user", f.role, "database", f.db)); err == nil {
			err = exchange(conn, pgwire.AppendQuery(nil, sql))
		}
		if err == nil {
			f.latecomer.Store(time.Now().UnixNano())
			return conn, nil
		}
		conn.Close()
		if !errors.Is(err, errNoRoom) {
			return nil, err
		}
		if time.Since(time.Unix(0, f.latecomer.Load())) > patience {
			return nil, fmt.Errorf("%w; Postgres has %s", err, f.crowd())
		}
		time.Sleep(pause/2 + rand.N(pause))
	}
}

// crowd says who is connected to Postgres.
func (f *flock) crowd() (who string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.admin)
	if err != nil {
		return err.Error()
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `
select coalesce(string_agg(format('%s of %s, %s', n, usename, state), '; '), 'nobody')
from (select usename, state, count(*) n from pg_stat_activity where backend_type = 'client backend' group by 1, 2) s`).Scan(&who)
	if err != nil {
		return err.Error()
	}
	return who
}

var errNoRoom = errors.New("no room")

// exchange sends a packet and reads up to the next ReadyForQuery.
func exchange(conn net.Conn, packet []byte) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	r := pgwire.NewReader(conn, 64<<10)
	for {
		h, message, err := r.Read()
		switch {
		case err != nil:
			return err
		case h.Type == 'E':
			e := pgwire.ParseError(message)
			if e.Code != "53300" {
				return e
			}
			return fmt.Errorf("%w: %s", errNoRoom, e.Message) // of the role, or of the server
		case h.Type == 'Z':
			if len(r.Rest()) > 0 {
				return errors.New("more than was asked for")
			}
			return conn.SetDeadline(time.Time{})
		}
	}
}

// hear reads what one client is told, until its connection is closed.
func (f *flock) hear(i int, conn net.Conn) {
	r := bufio.NewReaderSize(conn, 4<<10)
	for {
		head, err := r.Peek(pgwire.HeaderLen)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			f.fail(fmt.Errorf("client %d, after change %d: %w", i, f.last[i].Load(), err))
			return
		}
		size := int(binary.BigEndian.Uint32(head[1:])) + 1
		message, err := r.Peek(min(size, r.Size()))
		if err != nil && !errors.Is(err, net.ErrClosed) && err != io.EOF {
			f.fail(fmt.Errorf("client %d: %w", i, err))
			return
		}
		seq, ok := seqOf(message)
		if want := f.last[i].Load() + 1; !ok || seq != want {
			f.fail(fmt.Errorf("client %d was told %q, want change %d", i, message, want))
			return
		}
		f.last[i].Store(seq)
		if f.timed {
			if at, wanted := f.latest.Load(seq); wanted {
				at.(*atomic.Int64).Store(time.Now().UnixNano())
			}
		}
		if _, err := r.Discard(size); err != nil {
			return
		}
	}
}

// seqOf reads the number of a change from a notification on hubspot_deals.
func seqOf(message []byte) (int64, bool) {
	const from = pgwire.HeaderLen + 4 + len("hubspot_deals\x00{\"seq\":")
	if len(message) < from || message[0] != 'A' {
		return 0, false
	}
	digits, _, ok := bytes.Cut(message[from:], []byte{','})
	seq, err := strconv.ParseInt(string(digits), 10, 64)
	return seq, ok && err == nil
}

// reach waits until every client has heard of a change.
func (f *flock) reach(seq int64, patience time.Duration) {
	f.t.Helper()
	end := time.Now().Add(patience)
	for i := range f.last {
		for f.last[i].Load() < seq {
			f.check()
			if time.Now().After(end) {
				f.t.Fatalf("client %d has heard of change %d only, not %d", i, f.last[i].Load(), seq)
			}
			time.Sleep(time.Millisecond)
		}
	}
	f.check()
}

// burst appends n changes of a deal's stage to the log in one transaction.
func burst(t testing.TB, conn *pgx.Conn, n int) (last int64) {
	t.Helper()
	const sql = `
with next as (update hubpg.change_counter set last = last + $1 returning last),
added as (insert into hubpg.changes (seq, schema_name, table_name, record_id, op, changed, before, after, source)
    select last - $1 + i, 'hubspot', 'deals', 1000 + last - $1 + i, 'update', '{dealstage}', '{"dealstage":"a"}', '{"dealstage":"b"}', 'follow'
    from next, generate_series(1, $1::bigint) i)
select last, pg_notify('hubpg_wake', '') from next`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.QueryRow(ctx, sql, n).Scan(&last, nil); err != nil {
		t.Fatalf("append %d changes: %v", n, err)
	}
	return last
}

// TestManyListenersHoldFewBackends is the small form of BenchmarkListeners: Postgres itself refuses the role a sixth
// backend.
func TestManyListenersHoldFewBackends(t *testing.T) {
	t.Parallel()
	const listeners, backends, changes = 300, 5, 500
	db := pgtest.Migrated(t, migrations.Up)
	r := newParkRig(t, db, func(c *proxy.Config) { c.ListenerIdle = 20 * time.Millisecond })
	writer := r.db.Conn(t)
	before := r.change(writer, 3)
	f := newFlock(t, db, r.server.Addr().String(), backends)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy: %+v", r.server.Stats())
			r.plight()
		}
	})
	f.settle(listeners, backends, "listen hubspot_deals", before)
	r.parked(listeners)
	var last int64
	for range 5 {
		burst(t, writer, changes/10)
		last = r.change(writer, changes/10)
	}
	f.reach(last, patience)
	// Notifications are counted when they have been written, and may be heard before.
	eventually(t, "every notification is counted", func() bool { return r.server.Stats().Delivered >= listeners*changes })
	if s := r.server.Stats(); s.Delivered != listeners*changes || s.Parked != listeners || s.Attached != 0 {
		t.Errorf("delivered %d, parked %d, attached %d", s.Delivered, s.Parked, s.Attached)
	}
}
