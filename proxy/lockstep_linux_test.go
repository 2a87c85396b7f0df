package proxy_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/migrations"
	"hubpg/proxy"

	"golang.org/x/sys/unix"
)

// Sizes of a round of BenchmarkLockstep.
const (
	lockstepSessions = 64
	lockstepRounds   = 10 // transactions of each session
)

// BenchmarkLockstep measures the processor time of a transaction of pgbench -S in a relay, apart from when it is served:
// by the proxy, by one that may write to HubSpot, and by pgbouncer in session mode where that is installed. Clients and
// Postgres are one thread, which shares a processor with the relay and lets it run when it has sent on all of 64 sessions.
// So the figures do not depend on who is woken when, and little on what else the machine does: a driver of random wake-ups
// moves them by a tenth. One iteration is one round of each; the ratios are those of the lower quartiles.
//
//	go test -run '^$' -bench Lockstep -benchtime 200x ./proxy
func BenchmarkLockstep(b *testing.B) {
	runtime.LockOSThread() // and never unlocked: it is kept on one processor
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Fatalf("keep to one processor: %v", err)
	}
	db := pgtest.Migrated(b, migrations.Up)
	stand := newStandIn(b)
	relays := []*relay{
		{name: "proxy", start: func() (string, int) { return stand.proxied(b, db, "") }},
		{name: "writer", start: func() (string, int) { return stand.proxied(b, db, "1") }},
	}
	pooled := func() (string, int) { return stand.pooled(b, db) }
	if _, err := os.Stat(pgbouncerProgram); err == nil {
		relays = append(relays, &relay{name: "pgbouncer", start: pooled})
	}
	for _, r := range relays {
		address, pid := r.start()
		r.pid = pid
		for range lockstepSessions {
			r.pairs = append(r.pairs, stand.pair(b, address, db.Name))
		}
	}
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		b.Run(protocol, func(b *testing.B) {
			ask, answer := proxy.PgbenchAsk(protocol), proxy.PgbenchAnswer(protocol)
			for _, r := range relays {
				r.spent = nil
				r.round(b, ask, answer)
			}
			for b.Loop() {
				for _, r := range relays {
					before := r.cpu(b)
					r.round(b, ask, answer)
					r.spent = append(r.spent, float64(r.cpu(b)-before)/lockstepRounds/lockstepSessions/1000)
				}
			}
			quartile := func(r *relay) float64 { return slices.Sorted(slices.Values(r.spent))[len(r.spent)/4] }
			for _, r := range relays {
				b.ReportMetric(quartile(r), r.name+"-µs")
			}
			b.ReportMetric(quartile(relays[1])/quartile(relays[0]), "writer/proxy")
			if len(relays) > 2 {
				b.ReportMetric(quartile(relays[0])/quartile(relays[2]), "proxy/pgbouncer")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// relay is what is measured.
type relay struct {
	name  string
	start func() (address string, pid int)
	pid   int
	pairs []pair
	spent []float64 // microseconds of processor time for a transaction
}

// pair is the two ends of a session.
type pair struct{ client, server int }

// round has every session make its transactions, all at the same pace.
func (r *relay) round(b *testing.B, ask, answer []byte) {
	b.Helper()
	for range lockstepRounds {
		for _, p := range r.pairs {
			sendAll(b, p.client, ask)
		}
		for _, p := range r.pairs {
			receiveAll(b, p.server, len(ask))
		}
		for _, p := range r.pairs {
			sendAll(b, p.server, answer)
		}
		for _, p := range r.pairs {
			receiveAll(b, p.client, len(answer))
		}
	}
}

func sendAll(b *testing.B, fd int, data []byte) {
	if n, err := unix.Write(fd, data); err != nil || n < len(data) {
		b.Fatalf("send: %d of %d, %v", n, len(data), err)
	}
}

func receiveAll(b *testing.B, fd, size int) {
	var buf [4096]byte
	for size > 0 {
		n, err := unix.Read(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 || n > size {
			b.Fatalf("receive: %d of %d, %v: %q", n, size, err, buf[:max(n, 0)])
		}
		size -= n
	}
}

// cpu is the processor time of all threads, in nanoseconds.
func (r *relay) cpu(b *testing.B) (sum int64) {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d/task", r.pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		b.Fatalf("measure processor time: %v", err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(dir + "/" + task.Name() + "/schedstat")
		if err != nil {
			b.Fatalf("measure processor time: %v", err)
		}
		spent, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(spent, 10, 64)
		if err != nil {
			b.Fatalf("measure processor time: %v", err)
		}
		sum += n
	}
	return sum
}

// standIn is a Postgres that lets everybody in and then says nothing by itself.
type standIn struct {
	port   int
	logins chan net.Conn
}

func newStandIn(b *testing.B) *standIn {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatalf("listen: %v", err)
	}
	b.Cleanup(func() { l.Close() })
	s := &standIn{port: l.Addr().(*net.TCPAddr).Port, logins: make(chan net.Conn, 2*lockstepSessions)}
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if letIn(conn) == nil {
				s.logins <- conn
			}
		}
	}()
	return s
}

// letIn answers a start-up packet.
func letIn(conn net.Conn) error {
	if _, err := pgwire.ReadStartup(conn); err != nil {
		conn.Close()
		return err
	}
	hello := pgwire.AppendMessage(nil, 'R', []byte{0, 0, 0, 0})
	for _, p := range []string{"server_version\x0015.0\x00", "client_encoding\x00UTF8\x00", "standard_conforming_strings\x00on\x00"} {
		hello = pgwire.AppendMessage(hello, 'S', []byte(p))
	}
	hello = pgwire.AppendMessage(hello, 'K', make([]byte, 8))
	_, err := conn.Write(pgwire.AppendMessage(hello, 'Z', []byte("I")))
	return err
}

// proxied starts a proxy in a process of its own.
func (s *standIn) proxied(b *testing.B, db *pgtest.DB, writes string) (address string, pid int) {
	b.Helper()
	upstream := fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", pgtest.Owner, s.port, db.Name)
	p := newLonely(b, db, upstreamVariable+"="+upstream, writesVariable+"="+writes, "GOMAXPROCS=2")
	return p.address, p.pid
}

// pooled starts pgbouncer. The server connection that it has already is the one of its first session.
func (s *standIn) pooled(b *testing.B, db *pgtest.DB) (address string, pid int) {
	b.Helper()
	p := newPoolerAt(b, db, s.port, "server_reset_query =")
	u, err := url.Parse(p.url)
	if err != nil {
		b.Fatalf("parse url: %v", err)
	}
	return u.Host, p.pid
}

// pair logs a client in.
func (s *standIn) pair(b *testing.B, address, database string) pair {
	b.Helper()
	client, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatalf("dial: %v", err)
	}
	if err := exchange(client, startup("user", pgtest.Owner, "database", database)); err != nil {
		b.Fatalf("log in: %v", err)
	}
	// pgbouncer gives a session its server connection at its first question.
	ask, answer := proxy.PgbenchAsk("simple"), proxy.PgbenchAnswer("simple")
	p := pair{client: descriptor(b, client)}
	sendAll(b, p.client, ask)
	p.server = descriptor(b, <-s.logins)
	receiveAll(b, p.server, len(ask))
	sendAll(b, p.server, answer)
	receiveAll(b, p.client, len(answer))
	return p
}

// descriptor makes a connection one that is waited for by its thread.
func descriptor(b *testing.B, conn net.Conn) int {
	b.Helper()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		b.Fatalf("take a connection: %v", err)
	}
	conn.Close()
	b.Cleanup(func() { file.Close() })
	return int(file.Fd()) // which makes it blocking
}
