package proxy_test

import (
	osexec "os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/proxy"
)

// BenchmarkTransfer compares moving a million rows of 1 KiB through the proxy, directly and through pgbouncer's session
// mode where that is installed, with psql as the client. The ratios are medians of the rounds', with their bounds.
//
//	go test -run '^$' -bench 'Transfer$' -benchtime 9x ./proxy
func BenchmarkTransfer(b *testing.B) {
	psql, err := osexec.LookPath("psql")
	if err != nil {
		b.Skip("no psql in PATH")
	}
	const rows = "select repeat('x', 1000) from generate_series(1, 1000000)"
	db := pgtest.New(b)
	r := newRig(b, db, nil)
	p := newPooler(b, db)
	exec(b, db.Conn(b), "create unlogged table taken (line text)")
	for _, way := range []struct{ name, before, sql string }{
		{"select", "", rows},
		{"copy-out", "", "copy (" + rows + ") to stdout"},
		{"copy-in", "truncate taken", `\copy taken from program 'yes ` + line1000 + ` | head -n 1000000'`},
	} {
		b.Run(way.name, func(b *testing.B) {
			legs := []*leg{{name: "direct", url: db.URL}, {name: "proxy", url: r.url()}}
			if p != nil {
				legs = append(legs, &leg{name: "pgbouncer", url: p.url})
			}
			order := slices.Clone(legs)
			for b.Loop() {
				for _, l := range order {
					if way.before != "" {
						took(b, psql, db.URL, way.before)
					}
					l.tps = append(l.tps, 1/took(b, psql, l.url, way.sql))
				}
				slices.Reverse(order)
			}
			for _, l := range legs[1:] {
				l.compare(b, legs[0])
			}
			b.ReportMetric(1/median(legs[0].tps), "direct-s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTransferInTLS compares moving rows to and from a client in TLS on sockets of the event loop with the same on the runtime's,
// in seconds and seconds of processor time.
//
//	go test -run '^$' -bench TransferInTLS -benchtime 7x ./proxy
func BenchmarkTransferInTLS(b *testing.B) {
	psql, err := osexec.LookPath("psql")
	if err != nil {
		b.Skip("no psql in PATH")
	}
	const rows = "select repeat('x', 1000) from generate_series(1, 400000)"
	db := pgtest.New(b)
	cert, key := issue(b, pgtest.Dir(b), "proxy")
	loop := newRig(b, db, func(c *proxy.Config) { c.TLS.CertFile, c.TLS.KeyFile = cert, key })
	runtime := newRig(b, db, func(c *proxy.Config) { c.TLS.CertFile, c.TLS.KeyFile, c.ExpressAfter = cert, key, -1 })
	exec(b, db.Conn(b), "create unlogged table taken (line text)")
	for _, way := range []struct{ name, sql string }{
		{"select", rows},
		{"copy-out", "copy (" + rows + ") to stdout"},
		{"copy-in", `\copy taken from program 'yes ` + line1000 + ` | head -n 400000'`},
	} {
		b.Run(way.name, func(b *testing.B) {
			legs := []*leg{{name: "loop", url: loop.url("sslmode=require")}, {name: "runtime", url: runtime.url("sslmode=require")}}
			for b.Loop() {
				for _, l := range legs {
					took(b, psql, db.URL, "truncate taken")
					before := cpuOf(b, 0)
					l.tps = append(l.tps, 1/took(b, psql, l.url, way.sql))
					l.cpu = append(l.cpu, cpuOf(b, 0)-before)
				}
			}
			for _, l := range legs {
				b.ReportMetric(1/median(l.tps), l.name+"-s")
				b.ReportMetric(median(l.cpu), l.name+"-cpu-s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// line1000 is a line for yes(1), as long as the other rows.
var line1000 = strings.Repeat("x", 1000)

// took runs one statement with psql and returns the seconds that passed.
func took(b *testing.B, psql, address, sql string) float64 {
	b.Helper()
	cmd := apart(psql, "-XAtq", "-o", "/dev/null", "--set", "FETCH_COUNT=0", "-c", sql, address)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("psql: %v\n%s", err, out)
	}
	return time.Since(start).Seconds()
}
