package materialize_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// budgeted makes cfg draw on a budget with a share of the account's quota.
func (w *world) budgeted(cfg *materialize.Config, share float64) *budget.Budget {
	w.t.Helper()
	b := budget.New(cfg.Pool, budget.Config{PortalID: sandbox.DefaultPortalID, Share: share, Burst: 190, Association: 150})
	client, err := hubapi.New(w.url, hubapi.StaticToken("sandbox"), hubapi.WithLimiter(b))
	w.must(err)
	cfg.Client = client
	return b
}

// BenchmarkBackfillUnderLimits reports which part of the calls that the budget allows in the time a backfill makes, with
// HubSpot's limits on and 200 ms latency.
//
//	go test ./materialize -run '^$' -bench BackfillUnderLimits -benchtime 1x
func BenchmarkBackfillUnderLimits(b *testing.B) {
	const share = 1.0 / 3
	for b.Loop() {
		w := newWorld(b, sandbox.Config{Contacts: 12_000, Limits: true, Latency: 200 * time.Millisecond})
		cfg := w.config()
		cfg.Objects, cfg.BackfillEvents, cfg.Pace, cfg.Fetchers = []string{"contacts"}, false, slowSweeps(), 8
		w.budgeted(&cfg, share)
		stop := w.start(cfg)
		eventually(b, time.Minute, func() string {
			if w.hub.Stats().ByFamily["list"] < 10 {
				return "backfill has not begun"
			}
			return ""
		})
		// The first calls come out of the burst that an idle account has saved up.
		from, start := w.hub.Stats(), time.Now()
		time.Sleep(12 * time.Second)
		to, took := w.hub.Stats(), time.Since(start)
		calls := to.ByFamily["list"] - from.ByFamily["list"]
		others := to.Calls - from.Calls - calls - (to.ByFamily["search"] - from.ByFamily["search"]) -
			(to.ByFamily["associations"] - from.ByFamily["associations"])
		allowed := 19.0*share*took.Seconds() - float64(others)
		b.ReportMetric(100*float64(calls)/allowed, "%-of-share")
		b.ReportMetric(float64(to.Violations["burst"]), "over-limit")
		stop()
	}
}

// peak is the largest resident size that a process has had, where the system tells.
func peak(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	return kib / 1024
}

// BenchmarkFollow measures the time from a change to its row in the change log for one type on the whole search quota,
// with HubSpot's limits on and 200 ms latency. Changes come up to five seconds apart.
//
//	go test ./materialize -run '^$' -bench 'Follow$' -benchtime 30x
func BenchmarkFollow(b *testing.B) {
	w := newWorld(b, sandbox.Config{Contacts: 300, Limits: true, Latency: 200 * time.Millisecond})
	cfg := w.config()
	cfg.Objects, cfg.Pace, cfg.BackfillEvents = []string{"contacts"}, materialize.Pace{}, false
	w.budgeted(&cfg, 1)
	w.start(cfg)
	w.awaitLive(time.Minute, "contacts")
	ids := w.live("contacts")
	random := rand.New(rand.NewPCG(1, 2))
	var took []time.Duration
	n := 0
	for b.Loop() {
		n++
		time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
		id, name := ids[n%len(ids)].ID, fmt.Sprint("bench ", n)
		start := time.Now()
		w.must(w.hub.Update("contacts", id, map[string]string{"firstname": name}))
		eventually(b, 30*time.Second, func() string {
			if w.count(`select count(*) from hubpg.changes where record_id = $1 and after ->> 'firstname' = $2`, id, name) == 0 {
				return "no event"
			}
			return ""
		})
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "s-p50")
	b.ReportMetric(took[len(took)*95/100].Seconds(), "s-p95")
}
