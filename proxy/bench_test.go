package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/proxy"
)

// A round of BenchmarkPgbench: what the first seconds make is left out, in which the backends of new connections read the catalogs
// and map the shared buffers; pgbouncer's, which outlive its clients, have done so.
const (
	warmSeconds  = 2
	roundSeconds = 3
)

// BenchmarkPgbench compares pgbench -S through the proxy with pgbench on Postgres itself and, where that is installed, through
// pgbouncer in session mode, in rounds that turn about. One iteration is one round of each. What is reported of each is the
// ratio of its median throughput to Postgres's own, and its processor time; and of the proxy the median of the rounds' ratios to
// pgbouncer, with the bounds between which that lies with 95 % certainty.
//
//	go test -run '^$' -bench 'Pgbench$/' -benchtime 15x -timeout 2h ./proxy
func BenchmarkPgbench(b *testing.B) {
	path := pgbench(b)
	db := pgtest.New(b)
	if out, err := osexec.Command(path, "-i", "-q", "-s", "2", db.URL).CombinedOutput(); err != nil {
		b.Fatalf("initialize pgbench: %v\n%s", err, out)
	}
	r := newRig(b, db, nil)
	p := newPooler(b, db)
	for _, clients := range []int{1, 8, 64} {
		for _, protocol := range []string{"simple", "extended", "prepared"} {
			b.Run(fmt.Sprintf("%s-%d", protocol, clients), func(b *testing.B) {
				legs := []*leg{{name: "direct", url: db.URL, pid: -1}, {name: "proxy", url: r.url()}}
				if p != nil {
					legs = append(legs, &leg{name: "pgbouncer", url: p.url, pid: p.pid})
				}
				order := slices.Clone(legs)
				for b.Loop() {
					for _, l := range order {
						l.measure(b, path, protocol, clients)
					}
					slices.Reverse(order)
				}
				for _, l := range legs[1:] {
					l.report(b, legs[0])
				}
				if p != nil {
					legs[1].compare(b, legs[2])
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkPgbenchInTLS compares sessions whose client is in TLS: carried by the event loop, relayed by goroutines, and through
// pgbouncer, as BenchmarkPgbench does.
//
//	go test -run '^$' -bench PgbenchInTLS -benchtime 15x ./proxy
func BenchmarkPgbenchInTLS(b *testing.B) {
	path := pgbench(b)
	db := pgtest.New(b)
	if out, err := osexec.Command(path, "-i", "-q", "-s", "2", db.URL).CombinedOutput(); err != nil {
		b.Fatalf("initialize pgbench: %v\n%s", err, out)
	}
	cert, key := issue(b, pgtest.Dir(b), "proxy")
	carried := newRig(b, db, func(c *proxy.Config) { c.TLS.CertFile, c.TLS.KeyFile = cert, key })
	relayed := newRig(b, db, func(c *proxy.Config) { c.TLS.CertFile, c.TLS.KeyFile, c.ExpressAfter = cert, key, -1 })
	p := newPooler(b, db, "client_tls_sslmode = allow", "client_tls_cert_file = "+cert, "client_tls_key_file = "+key)
	const mode = "sslmode=require"
	for _, clients := range []int{1, 8, 64} {
		b.Run(strconv.Itoa(clients), func(b *testing.B) {
			legs := []*leg{{name: "proxy", url: carried.url(mode)}, {name: "goroutines", url: relayed.url(mode)}}
			if p != nil {
				legs = append(legs, &leg{name: "pgbouncer", url: strings.Replace(p.url, "sslmode=disable", mode, 1), pid: p.pid})
			}
			order := slices.Clone(legs)
			for b.Loop() {
				for _, l := range order {
					l.measure(b, path, "prepared", clients)
				}
				slices.Reverse(order)
			}
			for _, l := range legs {
				b.ReportMetric(median(l.tps), l.name+"-tps")
				b.ReportMetric(median(l.cpu), l.name+"-cpu-s/10k")
			}
			if p != nil {
				legs[0].compare(b, legs[2])
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// pgbench finds the program next to the server's.
func pgbench(b *testing.B) string {
	b.Helper()
	binaries, err := pgtest.FindBinaries()
	if err != nil {
		b.Fatalf("find Postgres: %v", err)
	}
	path, err := osexec.LookPath(filepath.Join(binaries.Dir, "pgbench"))
	if err != nil {
		b.Skip("no pgbench beside the server")
	}
	return path
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

func tps(b *testing.B, path, address, protocol string, clients int, more ...string) float64 {
	b.Helper()
	args := append(more, "-n", "-S", "-T", strconv.Itoa(roundSeconds), "-M", protocol, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), address)
	out, err := apart(path, args...).CombinedOutput()
	if err != nil {
		b.Fatalf("pgbench: %v\n%s", err, out)
	}
	found := tpsLine.FindSubmatch(out)
	if found == nil {
		b.Fatalf("pgbench said %s", out)
	}
	v, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatalf("pgbench said %s", out)
	}
	return v
}

// apart is a command in a session of its own, as a program is that an init system or another terminal has started. Every
// backend of Postgres is one, and Linux shares the processors out between sessions first (sched_autogroup): with the proxy or
// the pooler in that of the load, the two would have to make do with the share of one backend.
func apart(path string, args ...string) *osexec.Cmd {
	cmd := osexec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// BenchmarkRing measures the time from the commit of a change to the last of many listeners, and what the commit
// itself takes with them and without.
//
//	go test -run '^$' -bench Ring -benchtime 200x ./proxy
func BenchmarkRing(b *testing.B) {
	for _, listeners := range []int{0, 1, 60} {
		b.Run(strconv.Itoa(listeners), func(b *testing.B) {
			r := newHubRig(b, nil)
			writer := r.db.Conn(b)
			heard := make(chan time.Time, listeners)
			for range listeners {
				conn := r.connect()
				exec(b, conn, "listen hubspot_deals")
				go func() { // ends when the connection is closed
					for {
						if _, err := conn.WaitForNotification(context.Background()); err != nil {
							return
						}
						heard <- time.Now()
					}
				}()
			}
			var commits, rings []float64
			for b.Loop() {
				start := time.Now()
				r.change(writer, 1)
				done := time.Now()
				commits = append(commits, done.Sub(start).Seconds()*1000)
				last := done
				for range listeners {
					if at := <-heard; at.After(last) {
						last = at
					}
				}
				rings = append(rings, last.Sub(done).Seconds()*1000)
			}
			b.ReportMetric(median(commits), "commit-p50-ms")
			b.ReportMetric(median(rings), "last-p50-ms")
			b.ReportMetric(slices.Sorted(slices.Values(rings))[len(rings)*99/100], "last-p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkIdleSession reports the memory that a session holds while it waits, and while it listens.
func BenchmarkIdleSession(b *testing.B) {
	for name, script := range map[string]string{"waiting": "select 1", "listening": "listen hubspot"} {
		b.Run(name, func(b *testing.B) {
			const sessions = 120
			r := newHubRig(b, nil)
			for b.Loop() {
				before := inUse()
				var clients []net.Conn
				for range sessions {
					conn := r.dial()
					clients = append(clients, conn)
					say(b, conn, startup("user", "hubpg_owner", "database", r.db.Name))
					say(b, conn, pgwire.AppendMessage(nil, 'Q', []byte(script+"\x00")))
				}
				b.ReportMetric(float64(inUse()-before)/sessions/1024, "KiB/session")
				for _, conn := range clients {
					conn.Close()
				}
				eventually(b, "the sessions are over", func() bool { return r.server.Stats().Sessions == 0 })
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// say sends a packet and reads up to the next ReadyForQuery.
func say(b *testing.B, conn net.Conn, packet []byte) {
	b.Helper()
	if _, err := conn.Write(packet); err != nil {
		b.Fatalf("write: %v", err)
	}
	got := make([]byte, 0, 2048)
	for !bytes.HasSuffix(got, []byte{'Z', 0, 0, 0, 5, 'I'}) {
		n, err := conn.Read(got[len(got):cap(got)])
		if err != nil {
			b.Fatalf("read: %v", err)
		}
		got = got[:len(got)+n]
	}
}

// inUse is the memory that goroutines and live objects take.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
