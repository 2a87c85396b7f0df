//go:build linux

package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// carried waits until the event loop carries so many sessions.
func (r *rig) carried(n int64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("the loop carries %d sessions", n), func() bool { return r.server.Stats().Express == n })
}

// chat has a session say a few short things, so that the loop comes to carry it.
func (r *rig) chat(conn *pgx.Conn) {
	r.t.Helper()
	for i := range 16 {
		var got int
		if err := conn.QueryRow(deadline(r.t), "select $1::int", i).Scan(&got); err != nil || got != i {
			r.t.Fatalf("selected %d, got %d: %v", i, got, err)
		}
	}
}

func TestTheLoopCarriesShortMessagesAndLetsGoOfAllElse(t *testing.T) {
	t.Parallel()
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		r := newHubRig(t, func(c *proxy.Config) { c.ExpressAfter = 4 })
		r.carriesWhatIsShort(r.connect())
	})
	t.Run("the client in TLS", func(t *testing.T) {
		t.Parallel()
		r := newHubRig(t, func(c *proxy.Config) {
			c.ExpressAfter = 4
			c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
		})
		r.carriesWhatIsShort(r.connect("sslmode=require"))
	})
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("both in TLS, at once %v", direct), func(t *testing.T) {
			t.Parallel()
			cluster, ca := guarded(t, true)
			user, mode := "open", "sslmode=require"
			if direct { // where a password is asked for inside of the client's TLS, pgconn logs in to Postgres
				user, mode = "scram:s3cret", mode+"&sslnegotiation=direct"
			}
			upstream := fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=verify-full&sslrootcert=%s", cluster.Port(), url.QueryEscape(ca))
			r := newRig(t, &pgtest.DB{Name: "postgres", URL: upstream, Cluster: cluster}, func(c *proxy.Config) {
				c.ExpressAfter, c.Changes = 4, nil
				c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
			})
			r.carriesWhatIsShort(open(t, fmt.Sprintf("postgres://%s@%s/postgres?%s", user, r.server.Addr(), mode), nil))
		})
	}
}

// carriesWhatIsShort checks that the loop carries conn, the only session, as long as that says short things.
func (r *rig) carriesWhatIsShort(conn *pgx.Conn) {
	t := r.t
	t.Helper()
	if _, ok := conn.PgConn().Conn().(io.Reader); !ok {
		t.Fatal("no connection")
	}
	r.chat(conn)
	r.carried(1)
	rides := r.server.Stats().Rides

	// A large result streams.
	var size int
	if err := conn.QueryRow(deadline(t), "select length(repeat('x', 5000000))").Scan(&size); err != nil || size != 5_000_000 {
		t.Fatalf("length %d: %v", size, err)
	}
	var large string
	if err := conn.QueryRow(deadline(t), "select repeat('y', 5000000)").Scan(&large); err != nil {
		t.Fatal(err)
	}
	if large != strings.Repeat("y", 5_000_000) {
		t.Fatalf("read %d bytes, or others", len(large))
	}
	r.carried(0)
	// So does what the client sends, and then it is carried again.
	if err := conn.QueryRow(deadline(t), "select length($1)", large).Scan(&size); err != nil || size != len(large) {
		t.Fatalf("length %d: %v", size, err)
	}
	for range 20 {
		r.chat(conn)
	}
	r.carried(1)
	if r.server.Stats().Rides <= rides {
		t.Error("the session was never let go of")
	}

	// COPY both ways.
	exec(t, conn, "create temp table copied (n int, text text)")
	rows := make([][]any, 20_000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("z", i%100)}
	}
	if n, err := conn.CopyFrom(deadline(t), pgx.Identifier{"copied"}, []string{"n", "text"}, pgx.CopyFromRows(rows)); err != nil || n != 20_000 {
		t.Fatalf("copied %d rows: %v", n, err)
	}
	var out bytes.Buffer
	if _, err := conn.PgConn().CopyTo(deadline(t), &out, "copy copied to stdout"); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 20_000 {
		t.Fatalf("copied %d bytes out: %v", out.Len(), err)
	}

	// LISTEN ends it for good, and is answered.
	for range 20 {
		r.chat(conn)
	}
	r.carried(1)
	if r.server.Stats().HubPosition < 0 { // there is no hub
		return
	}
	exec(t, conn, "listen hubspot_deals")
	r.carried(0)
	r.change(r.db.Conn(t), 1)
	if n, err := conn.WaitForNotification(deadline(t)); err != nil || n.Channel != "hubspot_deals" {
		t.Fatalf("notification %v: %v", n, err)
	}
	r.chat(conn)
	r.carried(0)
}

func TestACancelReachesACarriedSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.ExpressAfter = 1 })
	conn := r.connect()
	r.chat(conn)
	r.carried(1)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(deadline(t), "select pg_sleep(60)")
		done <- err
	}()
	watcher := r.db.Conn(t)
	eventually(t, "the query runs", func() bool {
		var n int
		err := watcher.QueryRow(deadline(t), "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'").Scan(&n)
		return err == nil && n == 1
	})
	if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Fatal(err)
	}
	var e *pgconn.PgError
	if err := <-done; !errors.As(err, &e) || e.Code != "57014" {
		t.Fatalf("canceled query ended with %v", err)
	}
	r.chat(conn)
	r.carried(1)
}

func TestADrainEndsCarriedSessions(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.ExpressAfter = 1 })
	idle, busy := r.connect(), r.connect()
	r.chat(idle)
	r.chat(busy)
	exec(t, busy, "begin")
	r.chat(busy)
	r.carried(2)
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	var e *pgconn.PgError
	eventually(t, "the idle session is ended", func() bool {
		_, err := idle.Exec(deadline(t), "select 1")
		return errors.As(err, &e) || idle.IsClosed()
	})
	r.chat(busy)
	exec(t, busy, "commit")
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if ended := r.server.Stats().Ended["drain"]; ended != 2 {
		t.Errorf("%d sessions ended by the drain, want 2: %v", ended, r.server.Stats().Ended)
	}
}

// A client that asks and does not read must not be waited for by the loop, and gets every answer in the end.
func TestACarriedClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.ExpressAfter = 1 })
	other := r.connect()
	r.chat(other)
	conn := r.dial()
	reader := pgwire.NewReader(conn, 1<<20)
	send := func(b []byte) {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		for {
			if h, _, err := reader.Read(); err != nil {
				t.Fatal(err)
			} else if h.Type == 'Z' {
				return
			}
		}
	}
	send(startup("user", "hubpg_owner", "database", r.db.Name))
	for range 20 { // one round at a time, to be carried
		send(pgwire.AppendQuery(nil, "select 1"))
	}
	r.carried(2)
	const rounds = 3000
	sent := make(chan error, 1)
	go func() { // ends with the connection
		for i := range rounds {
			_, err := conn.Write(pgwire.AppendQuery(nil, fmt.Sprintf("select repeat('%d ', 500)", i)))
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	r.carried(1)
	for range 20 {
		r.chat(other)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	next := 0
	for next < rounds {
		h, message, err := reader.Read()
		if err != nil {
			t.Fatalf("after %d answers: %v", next, err)
		}
		if h.Type == 'D' {
			if want := fmt.Sprintf("%d %d ", next, next); !bytes.Contains(message, []byte(want)) {
				t.Fatalf("answer %d is %.60q", next, message)
			}
			next++
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// A client that has said very much in very small records of TLS is not listened to for as long as that takes while others wait.
func TestManySmallRecordsHoldUpNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.ExpressAfter, c.Changes = 1, nil
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
	})
	gathers := &gathered{Conn: r.dial()}
	conn := tls.Client(gathers, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	reader := pgwire.NewReader(conn, 1<<20)
	answers := func(n int) {
		for n > 0 {
			h, _, err := reader.Read()
			if err != nil {
				t.Fatal(err)
			}
			if h.Type == 'Z' {
				n--
			}
		}
	}
	if _, err := conn.Write(startup("user", "hubpg_owner", "database", r.db.Name)); err != nil {
		t.Fatal(err)
	}
	answers(1)
	r.carried(1)
	rides := r.server.Stats().Rides
	const records = 400
	gathers.hold = true
	for range records {
		if _, err := conn.Write(pgwire.AppendSync(nil)); err != nil {
			t.Fatal(err)
		}
	}
	gathers.hold = false
	if _, err := conn.Write(pgwire.AppendSync(nil)); err != nil {
		t.Fatal(err)
	}
	answers(records + 1)
	eventually(t, "the ride was over, and another one begins", func() bool {
		if _, err := conn.Write(pgwire.AppendSync(nil)); err != nil {
			t.Fatal(err)
		}
		answers(1)
		return r.server.Stats().Rides > rides
	})
}

// gathered is a connection whose writes are sent together once it does not hold them.
type gathered struct {
	net.Conn
	hold bool
	kept []byte
}

func (g *gathered) Write(b []byte) (int, error) {
	if g.kept = append(g.kept, b...); g.hold {
		return len(b), nil
	}
	_, err := g.Conn.Write(g.kept)
	g.kept = nil
	return len(b), err
}

// TestASilentSessionHasNoGoroutine: whatever it has done before, a session that the loop carries takes none, and its end leaves
// none.
func TestASilentSessionHasNoGoroutine(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	p := newLonely(t, db)
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	u.Host = p.address
	before := p.report().Goroutines
	const sessions, others = 40, 10 // others come and go with what the proxy does by itself
	var conns []*pgx.Conn
	for n := range sessions {
		conn := open(t, u.String(), nil)
		for range n % 3 {
			value[int](t, conn, "select 1")
		}
		conns = append(conns, conn)
	}
	eventually(t, "the loop carries all", func() bool { return p.report().Express == sessions })
	eventually(t, "they have no goroutines", func() bool { return p.report().Goroutines < before+others })
	for n, conn := range conns {
		if n%2 == 0 {
			conn.Close(deadline(t))
		}
	}
	eventually(t, "half of them are over", func() bool { return p.report().Sessions == sessions/2 })
	for n, conn := range conns {
		if n%2 == 1 && value[int](t, conn, "select 2") != 2 {
			t.Error("not 2")
		}
	}
	eventually(t, "the others have no goroutines again", func() bool { return p.report().Goroutines < before+others })
}
