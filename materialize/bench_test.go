package materialize_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// BenchmarkBackfill fills contacts from a simulated account without limits, end to end in one process with it.
// HUBPG_BENCH_CONTACTS sets how many (20,000 by default; the bar is set for 100,000).
//
//	HUBPG_BENCH_CONTACTS=100000 go test ./materialize -run '^$' -bench Backfill -benchtime 1x
func BenchmarkBackfill(b *testing.B) {
	contacts := 20_000
	if text := os.Getenv("HUBPG_BENCH_CONTACTS"); text != "" {
		contacts, _ = strconv.Atoi(text)
	}
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, sandbox.Config{Contacts: contacts})
		cfg := w.config()
		cfg.Objects, cfg.BackfillEvents, cfg.Pace, cfg.Fetchers = []string{"contacts"}, false, slowSweeps(), 8
		b.StartTimer()
		stop := w.start(cfg)
		w.awaitLive(10*time.Minute, "contacts")
		b.StopTimer()
		var rate float64
		if err := w.pool.QueryRow(context.Background(), `
select (position ->> 'rows')::float8 / (position ->> 'seconds')::float8
from hubpg.cursors
where lane = 'backfill'`).Scan(&rate); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(rate, "rows/s")
		stop()
		b.StartTimer()
	}
}

// BenchmarkFollow measures the time from a change in the account to its row in the change log.
func BenchmarkFollow(b *testing.B) {
	w := newWorld(b, sandbox.Config{Contacts: 500})
	cfg := w.config()
	cfg.Objects, cfg.Pace = []string{"contacts"}, slowSweeps()
	cfg.Pace.Busy, cfg.Pace.Idle = 0, 0 // the defaults of a real account
	w.start(cfg)
	w.awaitLive(time.Minute, "contacts")
	var took []time.Duration
	n := 0
	for b.Loop() {
		n++
		id := w.live("contacts")[n%500].ID
		name := fmt.Sprint("bench ", n)
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
	b.ReportMetric(took[len(took)*95/100].Seconds()*1000, "ms-p95")
}
