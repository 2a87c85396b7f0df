package proxy_test

import (
	"math"
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

// shortRound is how many transactions each client makes in a round of BenchmarkPgbenchWithWriter: few, so that both sides of
// a pair meet the same machine.
const shortRound = 1000

// BenchmarkPgbenchWithWriter compares pgbench through a proxy that may write to HubSpot with one that may not, and, to tell
// what is noise, the latter with another one like it. Rounds are short and paired, those of a pair in an order that
// turns about; what is reported is the median of the pairs' ratios and the bounds between which it lies with 95 % certainty:
// of the throughput, and of the processor time of a transaction in the proxy, which the machine's other work moves less.
//
//	go test -run '^$' -bench PgbenchWithWriter -benchtime 60x ./proxy
func BenchmarkPgbenchWithWriter(b *testing.B) {
	path := pgbench(b)
	c := newCRM(b, func(cfg *proxy.Config) { cfg.Poll = proxy.DefaultPoll })
	if out, err := osexec.Command(path, "-i", "-q", "-s", "5", c.db.URL).CombinedOutput(); err != nil {
		b.Fatalf("initialize pgbench: %v\n%s", err, out)
	}
	plain, other := newRig(b, c.db, nil), newRig(b, c.db, nil)
	for _, protocol := range []string{"simple", "prepared"} {
		b.Run(protocol, func(b *testing.B) {
			legs := []*leg{{name: "without", url: plain.url()}, {name: "noise", url: other.url()}, {name: "with", url: c.url()}}
			for _, l := range legs {
				l.round(b, path, protocol, 8, shortRound)
				l.tps, l.cpu = nil, nil // the first one warms up
			}
			order := slices.Clone(legs)
			for b.Loop() {
				for _, l := range order {
					l.round(b, path, protocol, 8, shortRound)
				}
				slices.Reverse(order)
			}
			for _, l := range legs[1:] {
				l.compare(b, legs[0])
			}
			b.ReportMetric(median(legs[0].cpu), "without-cpu-s/10k")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// round measures so many transactions of each client.
func (l *leg) round(b *testing.B, path, protocol string, clients, transactions int) {
	b.Helper()
	before := cpuOf(b, l.pid)
	out, err := apart(path, "-n", "-S", "-t", strconv.Itoa(transactions), "-M", protocol, "-c", strconv.Itoa(clients), "-j", "2", l.url).CombinedOutput()
	if err != nil {
		b.Fatalf("pgbench: %v\n%s", err, out)
	}
	l.cpu = append(l.cpu, (cpuOf(b, l.pid)-before)/float64(clients*transactions)*10_000)
	found := tpsLine.FindSubmatch(out)
	if found == nil {
		b.Fatalf("pgbench said %s", out)
	}
	v, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatalf("pgbench said %s", out)
	}
	l.tps = append(l.tps, v)
}

// compare reports what the leg keeps of the throughput of another one, and how much less processor time it takes, round by
// round. The bounds are those of the sign test: two of the sorted ratios, which have the median between them whatever
// their distribution.
func (l *leg) compare(b *testing.B, with *leg) {
	b.Helper()
	for name, ratios := range map[string][]float64{"": quotients(l.tps, with.tps), "-cpu": quotients(with.cpu, l.cpu)} {
		if len(ratios) == 0 { // not measured
			continue
		}
		slices.Sort(ratios)
		n := float64(len(ratios))
		low := max(0, int(n/2-0.98*math.Sqrt(n)))
		b.ReportMetric(median(ratios), l.name+name+"-ratio")
		b.ReportMetric(ratios[low], l.name+name+"-low")
		b.ReportMetric(ratios[len(ratios)-1-low], l.name+name+"-high")
	}
}

func quotients(list, by []float64) []float64 {
	out := make([]float64, min(len(list), len(by)))
	for i, v := range list[:len(out)] {
		out[i] = v / by[i]
	}
	return out
}
