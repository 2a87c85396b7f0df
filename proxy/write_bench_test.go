package proxy_test

import (
	osexec "os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"hubpg/proxy"
)

// BenchmarkWrite measures a one-row UPDATE through the proxy, and how much of it the writer took (its own records of
// the write and HubSpot, here a sandbox without latency): the rest is what the proxy adds.
//
//	go test -run '^$' -bench Write -benchtime 100x ./proxy
func BenchmarkWrite(b *testing.B) {
	c := newCRM(b, nil)
	id := c.contact("bench@example.com")
	conn := c.session(nil)
	var total, own, settle []float64
	n := 0
	for b.Loop() {
		n++
		start := time.Now()
		exec(b, conn, "update contacts set firstname = $1 where id = $2", strconv.Itoa(n), id)
		took := time.Since(start)
		total = append(total, took.Seconds()*1000)
		settle = append(settle, c.writer.settling.Seconds()*1000)
		own = append(own, (took-c.writer.spent()).Seconds()*1000)
	}
	b.ReportMetric(median(settle), "settle-p50-ms")
	b.ReportMetric(median(total), "total-p50-ms")
	b.ReportMetric(median(own), "proxy-p50-ms")
	b.ReportMetric(slices.Sorted(slices.Values(own))[len(own)*95/100], "proxy-p95-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPgbenchWithWriter compares pgbench through a proxy that may write to HubSpot with one that may not, in
// alternating rounds.
//
//	go test -run '^$' -bench PgbenchWithWriter -benchtime 5x ./proxy
func BenchmarkPgbenchWithWriter(b *testing.B) {
	path := pgbench(b)
	c := newCRM(b, func(cfg *proxy.Config) { cfg.Poll = time.Second })
	if out, err := osexec.Command(path, "-i", "-q", "-s", "5", c.db.URL).CombinedOutput(); err != nil {
		b.Fatalf("initialize pgbench: %v\n%s", err, out)
	}
	plain := newRig(b, c.db, nil)
	for _, protocol := range []string{"simple", "prepared"} {
		b.Run(protocol, func(b *testing.B) {
			var with, without []float64
			for b.Loop() {
				without = append(without, tps(b, path, plain.url(), protocol, 8))
				with = append(with, tps(b, path, c.url(), protocol, 8))
			}
			b.ReportMetric(median(with)/median(without), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
