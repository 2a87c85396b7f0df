package proxy_test

import (
	osexec "os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/proxy"
)

// BenchmarkWrite measures a one-row UPDATE through the proxy, with a HubSpot that answers at once and one that takes
// 150 ms: all of it, what is added to the time that its calls of HubSpot took (the change, and reading it back), and how
// much of that is the proxy's and Postgres's, the rest being the writer's own records. Beside it an UPDATE of a table of
// the user's own, through the same session, says what the machine was like. The proxy looks at the catalogs as often as it
// does outside of tests.
//
//	go test -run '^$' -bench 'Write$' -benchtime 60x ./proxy
func BenchmarkWrite(b *testing.B) {
	for _, latency := range []time.Duration{0, 150 * time.Millisecond} {
		b.Run(latency.String(), func(b *testing.B) {
			c := newCRMOf(b, sandbox.Config{Latency: latency}, func(cfg *proxy.Config) { cfg.Poll = proxy.DefaultPoll })
			id := c.contact("bench@example.com")
			conn := c.session(nil)
			exec(b, conn, "update contacts set firstname = $1 where id = $2", "warm", id)
			exec(b, conn, "create table app.notes as select 1 as id, 'x' as note")
			var total, added, own, plain []float64
			n := 0
			for b.Loop() {
				n++
				calls := c.wire.spent.Load()
				start := time.Now()
				exec(b, conn, "update contacts set firstname = $1 where id = $2", strconv.Itoa(n), id)
				took := time.Since(start)
				total = append(total, took.Seconds()*1000)
				added = append(added, (took-time.Duration(c.wire.spent.Load()-calls)).Seconds()*1000)
				own = append(own, (took-c.writer.spent()).Seconds()*1000)
				start = time.Now()
				exec(b, conn, "update app.notes set note = $1 where id = 1", strconv.Itoa(n))
				plain = append(plain, time.Since(start).Seconds()*1000)
			}
			b.ReportMetric(median(plain), "plain-p50-ms")
			b.ReportMetric(median(total), "total-p50-ms")
			b.ReportMetric(median(added), "added-p50-ms")
			b.ReportMetric(median(own), "proxy-p50-ms")
			b.ReportMetric(slices.Sorted(slices.Values(added))[len(added)*95/100], "added-p95-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkPgbenchWithWriter compares pgbench through a proxy that may write to HubSpot with one that may not, in
// alternating rounds: by throughput, and by the processor time of a transaction in the proxies, which the machine's other
// work moves less.
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
			without, with := &leg{url: plain.url()}, &leg{url: c.url()}
			for b.Loop() {
				without.measure(b, path, protocol, 8)
				with.measure(b, path, protocol, 8)
			}
			b.ReportMetric(median(with.tps)/median(without.tps), "ratio")
			b.ReportMetric(median(without.cpu)/median(with.cpu), "cpu-ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
