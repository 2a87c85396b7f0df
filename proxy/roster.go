package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	rosterLock     = 26736                  // first half of the advisory lock that a proxy holds; the second is its id
	rosterDelay    = 200 * time.Millisecond // sessions that come and go within it are never written
	rosterSweep    = 15 * time.Second       // between looks for what dead proxies have left
	rosterPage     = 1000                   // sessions written at once
	rosterPatience = 10 * time.Second       // for one round with the database
)

// roster keeps hubpg.sessions: it tells the database of the sessions that have begun and ended, behind their backs and
// many at a time. A login never waits for it, and what it has yet to write is bounded by the sessions there are.
//
// Its connection holds an advisory lock that marks the proxy as alive. A proxy that dies loses it, and with it its
// sessions in the view, at once; its rows are removed by the next look of another, or of its successor.
type roster struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	address string
	wake    chan struct{} // coalesces

	mu     sync.Mutex // guards below
	last   int64
	open   map[*session]*entry
	news   map[*session]struct{} // of open, those to be written
	closed []int64               // written and to be removed
}

// entry is one session on the roster.
type entry struct {
	number  int64
	since   time.Time
	pid     uint32 // 0 without a backend
	written bool
}

func newRoster(config *Config, address string) *roster {
	return &roster{
		pool: config.Changes, log: config.Logger, address: address, wake: make(chan struct{}, 1),
		open: map[*session]*entry{}, news: map[*session]struct{}{},
	}
}

// enter puts a session on the roster, or notes the backend that it has now; pid is 0 for none.
func (r *roster) enter(v *session, pid uint32) {
	if r == nil {
		return
	}
	r.mu.Lock()
	e := r.open[v]
	if e == nil {
		r.last++
		e = &entry{number: r.last, since: time.Now()}
		r.open[v] = e
	}
	e.pid = pid
	r.news[v] = struct{}{}
	r.mu.Unlock()
	r.ring()
}

// leave takes a session off the roster.
func (r *roster) leave(v *session) {
	if r == nil {
		return
	}
	r.mu.Lock()
	if e := r.open[v]; e != nil && e.written {
		r.closed = append(r.closed, e.number)
	}
	delete(r.open, v)
	delete(r.news, v)
	r.mu.Unlock()
	r.ring()
}

func (r *roster) ring() {
	select {
	case r.wake <- struct{}{}:
	default: // rung already
	}
}

// Run writes until ctx ends, through any loss of its connection.
func (r *roster) Run(ctx context.Context) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = 500*time.Millisecond, 30*time.Second
	for {
		err := r.follow(ctx, delay.Reset)
		if ctx.Err() != nil {
			return nil
		}
		wait := delay.NextBackOff()
		r.log.Warn("hubpg.sessions cannot be written", "error", err, "retry", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// follow writes over one connection until that fails. It calls healthy when the proxy is on the roster.
func (r *roster) follow(ctx context.Context, healthy func()) error {
	config := r.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "hubpg sessions"
	config.ConnectTimeout = rosterPatience
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var id int32
	defer func() { r.part(conn, id) }()
	if id, err = r.register(ctx, conn); err != nil {
		return err
	}
	healthy()
	sweep := time.NewTicker(rosterSweep)
	defer sweep.Stop()
	for {
		if err := r.flush(ctx, conn, id); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			if err := r.sweep(ctx, conn, id); err != nil {
				return err
			}
			continue
		case <-r.wake:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rosterDelay):
		}
	}
}

// part removes the proxy from the roster, if it still can, and ends the connection.
func (r *roster) part(conn *pgx.Conn, id int32) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if id != 0 && !conn.IsClosed() {
		_, _ = conn.Exec(ctx, "delete from hubpg.proxies where id = $1", id) // without its lock it counts no more
	}
	_ = conn.Close(ctx) // a failed connection is dropped by the server as well
}

// register adds the proxy and begins anew with all its sessions: the database may have lost what it was told.
func (r *roster) register(ctx context.Context, conn *pgx.Conn) (id int32, err error) {
	ctx, cancel := context.WithTimeout(ctx, rosterPatience)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		const sql = "insert into hubpg.proxies (host, process, address) values ($1, $2, $3) returning id"
		if err := tx.QueryRow(ctx, sql, host, os.Getpid(), r.address).Scan(&id); err != nil {
			return err
		}
		// Before anybody can see the row, so that nobody takes it for a dead one's. The lock outlives the transaction.
		_, err := tx.Exec(ctx, "select pg_advisory_lock($1, $2)", int32(rosterLock), id)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("register proxy: %w", err)
	}
	r.mu.Lock()
	r.closed = nil
	for v, e := range r.open {
		e.written = false
		r.news[v] = struct{}{}
	}
	r.mu.Unlock()
	return id, r.sweep(ctx, conn, id)
}

// sweep removes the proxies that have gone without saying so.
func (r *roster) sweep(ctx context.Context, conn *pgx.Conn, id int32) error {
	ctx, cancel := context.WithTimeout(ctx, rosterPatience)
	defer cancel()
	const sql = `
delete from hubpg.proxies p
where p.id <> $1 and not exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.classid = $2::int::oid and l.objid = p.id::oid and l.objsubid = 2 and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
)`
	if _, err := conn.Exec(ctx, sql, id, int32(rosterLock)); err != nil {
		return fmt.Errorf("remove dead proxies: %w", err)
	}
	return nil
}

// flush writes what has changed since the last time. On an error the caller begins anew.
func (r *roster) flush(ctx context.Context, conn *pgx.Conn, id int32) error {
	for {
		closed, rows, more := r.take()
		if len(closed) == 0 && rows.len() == 0 {
			return nil
		}
		if err := r.write(ctx, conn, id, closed, rows); err != nil {
			return fmt.Errorf("write sessions: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// take returns what is to be removed and to be written, and whether there is more.
func (r *roster) take() (closed []int64, rows *rosterRows, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	closed, r.closed = r.closed, nil
	rows = &rosterRows{}
	for v := range r.news {
		if rows.len() == rosterPage {
			return closed, rows, true
		}
		e := r.open[v]
		rows.add(v, e)
		e.written = true
		delete(r.news, v)
	}
	return closed, rows, false
}

// rosterRows are sessions column by column.
type rosterRows struct {
	numbers                       []int64
	addresses                     []*string
	ports, pids                   []*int32
	secure                        []bool
	roles, databases, application []string
	since                         []time.Time
}

func (c *rosterRows) len() int { return len(c.numbers) }

func (c *rosterRows) add(v *session, e *entry) {
	var address *string
	var port, pid *int32
	if tcp, ok := v.client.RemoteAddr().(*net.TCPAddr); ok {
		text, number := tcp.IP.String(), int32(tcp.Port)
		address, port = &text, &number
	}
	if e.pid != 0 {
		number := int32(e.pid)
		pid = &number
	}
	c.numbers = append(c.numbers, e.number)
	c.addresses, c.ports, c.pids = append(c.addresses, address), append(c.ports, port), append(c.pids, pid)
	c.secure = append(c.secure, v.secure)
	c.roles = append(c.roles, strings.ToValidUTF8(v.startup.Parameter("user"), "?"))
	c.databases = append(c.databases, strings.ToValidUTF8(databaseOf(v), "?"))
	c.application = append(c.application, applicationName(v.startup.Parameter("application_name")))
	c.since = append(c.since, e.since)
}

// applicationName is the name as Postgres keeps it: ASCII, and no longer than an identifier.
func applicationName(name string) string {
	const longest = 63
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, name)
	return clean[:min(len(clean), longest)]
}

func (r *roster) write(ctx context.Context, conn *pgx.Conn, id int32, closed []int64, rows *rosterRows) error {
	ctx, cancel := context.WithTimeout(ctx, rosterPatience)
	defer cancel()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if len(closed) > 0 {
			const sql = "delete from hubpg.proxy_sessions where proxy = $1 and session = any ($2)"
			if _, err := tx.Exec(ctx, sql, id, closed); err != nil {
				return err
			}
		}
		if rows.len() == 0 {
			return nil
		}
		const sql = `
insert into hubpg.proxy_sessions
    (proxy, session, client_addr, client_port, tls, role, database, application_name, backend_pid, since)
select $1, n, a::inet, p, t, r, d, n2, b, s
from unnest($2::bigint[], $3::text[], $4::int[], $5::bool[], $6::text[], $7::text[], $8::text[], $9::int[], $10::timestamptz[])
    as u (n, a, p, t, r, d, n2, b, s)
on conflict (proxy, session) do update set backend_pid = excluded.backend_pid`
		_, err := tx.Exec(ctx, sql, id, rows.numbers, rows.addresses, rows.ports, rows.secure,
			rows.roles, rows.databases, rows.application, rows.pids, rows.since)
		return err
	})
}
