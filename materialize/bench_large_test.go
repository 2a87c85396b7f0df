package materialize_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
)

// benchContacts is how many contacts a benchmark has: HUBPG_BENCH_CONTACTS where it is set.
func benchContacts(fallback int) int {
	if n, err := strconv.Atoi(os.Getenv("HUBPG_BENCH_CONTACTS")); err == nil && n > 0 {
		return n
	}
	return fallback
}

// BenchmarkLarge mirrors an account with contacts of 91 columns, limits off, in a process of its own beside the account and
// Postgres. There are 10,000 contacts by default.
//
//   - backfill: the rows a second of the first filling;
//   - follow: how long the same process takes until the changes of one contact in a hundred, made at once, are stored, and
//     the calls that cost;
//   - ids: one pass, in another process, of the sweep of ids over contacts of which one has been erased.
//
// Each reports the memory that its process has needed at most so far.
//
//	HUBPG_BENCH_CONTACTS=1000000 go test ./materialize -run '^$' -bench Large -benchtime 1x -timeout 4h
func BenchmarkLarge(b *testing.B) {
	contacts := benchContacts(10_000)
	w := newWorld(b, sandbox.Config{Contacts: contacts})
	cmd := w.process(childBench + "=1")
	b.Cleanup(func() { kill(cmd) })
	w.awaitLive(3*time.Hour, "contacts")
	b.Run("backfill", func(b *testing.B) {
		var rate float64
		w.must(w.pool.QueryRow(b.Context(), `
select (position ->> 'rows')::float8 / (position ->> 'seconds')::float8
from hubpg.cursors
where lane = 'backfill'`).Scan(&rate))
		b.ReportMetric(rate, "rows/s")
		b.ReportMetric(peak(cmd.Process.Pid), "MiB-peak")
	})
	b.Run("follow", func(b *testing.B) {
		for b.Loop() {
			w.followOnePercent(b)
			b.ReportMetric(peak(cmd.Process.Pid), "MiB-peak")
		}
	})
	if d := w.difference("contacts"); d != "" {
		b.Fatal(d)
	}
	kill(cmd)
	_, err := w.pool.Exec(b.Context(), `update hubpg.river_job set scheduled_at = now() where state in ('available', 'scheduled')`)
	w.must(err)
	b.Run("ids", func(b *testing.B) {
		for b.Loop() {
			w.sweepIDs(b, contacts)
		}
	})
}

func (w *world) followOnePercent(b *testing.B) {
	b.StopTimer()
	rows, err := w.pool.Query(b.Context(), `
select id
from (select id, row_number() over (order by id) from hubspot.contacts) c
where row_number % 100 = 0`)
	w.must(err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	w.must(err)
	polls := w.hub.Stats().ByFamily["search"]
	eventually(b, time.Minute, func() string {
		if w.hub.Stats().ByFamily["search"] < polls+3 {
			return "nothing is followed"
		}
		return ""
	})
	calls, logged := w.hub.Stats().Calls, w.count(`select count(*) from hubpg.changes`)
	b.StartTimer()
	start := time.Now()
	for _, id := range ids {
		w.must(w.hub.Update("contacts", id, map[string]string{"firstname": fmt.Sprint("changed ", start.UnixNano(), id)}))
	}
	eventually(b, time.Hour, func() string {
		if n := w.count(`select count(*) from hubpg.changes`) - logged; n < int64(len(ids)) {
			return fmt.Sprintf("%d of %d changes are stored", n, len(ids))
		}
		return ""
	})
	took := time.Since(start)
	b.ReportMetric(took.Seconds(), "s-all")
	b.ReportMetric(float64(len(ids))/took.Seconds(), "changes/s")
	b.ReportMetric(float64(w.hub.Stats().Calls-calls)/float64(len(ids)), "calls/change")
}

func (w *world) sweepIDs(b *testing.B, contacts int) {
	b.StopTimer()
	var gone int64
	w.must(w.pool.QueryRow(b.Context(), `select id from hubspot.contacts offset $1 limit 1`, contacts/2).Scan(&gone))
	w.must(w.hub.Erase("contacts", gone)) // so that the pass has something to find
	_, err := w.pool.Exec(b.Context(), `delete from hubpg.cursors where lane = 'ids'`)
	w.must(err)
	lists := w.hub.Stats().ByFamily["list"]
	b.StartTimer()
	cmd := w.process(childBench+"=1", childIDs+"=1")
	eventually(b, 2*time.Hour, func() string {
		if w.count(`
select count(*)
from hubpg.cursors
where lane = 'ids' and table_name = 'contacts' and (position ->> 'began') is not null and position ? 'took'`) == 0 {
			return "the pass goes on"
		}
		return ""
	})
	b.ReportMetric(peak(cmd.Process.Pid), "MiB-peak")
	kill(cmd)
	seconds := float64(w.count(`select (position ->> 'took')::bigint from hubpg.cursors where lane = 'ids' and table_name = 'contacts'`)) / 1e9
	b.ReportMetric(seconds, "s-pass")
	b.ReportMetric(float64(contacts)/seconds, "ids/s")
	b.ReportMetric(float64(w.hub.Stats().ByFamily["list"]-lists), "calls")
	if n := w.count(`select count(*) from hubpg.suspects`) + int64(contacts) - w.count(`select count(*) from hubspot.contacts`); n == 0 {
		b.Fatal("the pass has not noticed the erased record")
	}
}
