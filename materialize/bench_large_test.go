package materialize_test

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// benchContacts is how many contacts a benchmark has: HUBPG_BENCH_CONTACTS where it is set.
func benchContacts(fallback int) int {
	if n, err := strconv.Atoi(os.Getenv("HUBPG_BENCH_CONTACTS")); err == nil && n > 0 {
		return n
	}
	return fallback
}

// laneMeter counts the calls of each lane.
type laneMeter struct {
	mu    sync.Mutex // guards below
	calls map[materialize.Lane]int
}

func newLaneMeter() *laneMeter { return &laneMeter{calls: map[materialize.Lane]int{}} }

// Step counts the calls of one step.
func (m *laneMeter) Step(s materialize.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[s.Lane] += s.Calls
}

func (m *laneMeter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.calls)
}

// report adds the calls per minute of each lane that made any to the benchmark's line.
func (m *laneMeter) report(b *testing.B, lasting time.Duration) {
	b.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for lane, n := range m.calls {
		if n > 0 {
			b.ReportMetric(float64(n)/lasting.Minutes(), string(lane)+"-calls/min")
		}
	}
}

// filledWorld is an account with contacts that a process has mirrored; the process has ended.
func filledWorld(b *testing.B, contacts int) *world {
	b.Helper()
	w := newWorld(b, sandbox.Config{Contacts: contacts})
	cmd := w.process(childBench + "=1")
	w.awaitLive(time.Hour, "contacts")
	kill(cmd)
	if _, err := w.pool.Exec(b.Context(), `update hubpg.river_job set scheduled_at = now() where state in ('available', 'scheduled')`); err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkFollowOnePercent changes one contact in a hundred at once and measures how long a process, which had been
// following before, takes until all changes are stored, the calls that cost, and the memory it has needed at most. There
// are 10,000 contacts by default; the bar is set for a million.
//
//	HUBPG_BENCH_CONTACTS=1000000 go test ./materialize -run '^$' -bench FollowOnePercent -benchtime 1x -timeout 2h
func BenchmarkFollowOnePercent(b *testing.B) {
	contacts := benchContacts(10_000)
	for b.Loop() {
		b.StopTimer()
		w := filledWorld(b, contacts)
		cmd := w.process(childBench + "=1")
		polls := w.hub.Stats().ByFamily["search"]
		eventually(b, time.Minute, func() string {
			if w.hub.Stats().ByFamily["search"] < polls+3 {
				return "nothing is followed"
			}
			return ""
		})
		live := w.live("contacts")
		before := w.hub.Stats().Calls
		b.StartTimer()
		start, changed := time.Now(), int64(0)
		for i := 0; i < len(live); i += 100 {
			w.must(w.hub.Update("contacts", live[i].ID, map[string]string{"firstname": fmt.Sprint("changed ", i)}))
			changed++
		}
		eventually(b, time.Hour, func() string {
			if n := w.count(`select count(*) from hubpg.changes where 'firstname' = any (changed)`); n < changed {
				return fmt.Sprintf("%d of %d changes are stored", n, changed)
			}
			return ""
		})
		took := time.Since(start)
		b.StopTimer()
		b.ReportMetric(took.Seconds(), "s-all")
		b.ReportMetric(float64(changed)/took.Seconds(), "changes/s")
		b.ReportMetric(float64(w.hub.Stats().Calls-before)/float64(changed), "calls/change")
		b.ReportMetric(peak(cmd.Process.Pid), "MiB-peak")
		kill(cmd)
		if d := w.difference("contacts"); d != "" {
			b.Fatal(d)
		}
		b.StartTimer()
	}
}

// BenchmarkSweepIDs measures one pass of the sweep of ids over contacts of which nothing has changed, and the memory that
// its process has needed at most. There are 10,000 contacts by default.
//
//	HUBPG_BENCH_CONTACTS=1000000 go test ./materialize -run '^$' -bench SweepIDs -benchtime 1x -timeout 2h
//	HUBPG_BENCH_CONTACTS=5000000 go test ./materialize -run '^$' -bench SweepIDs -benchtime 1x -timeout 4h   # memory
func BenchmarkSweepIDs(b *testing.B) {
	contacts := benchContacts(10_000)
	for b.Loop() {
		b.StopTimer()
		w := filledWorld(b, contacts)
		w.must(w.hub.Erase("contacts", w.live("contacts")[contacts/2].ID)) // so that the pass has something to find
		before := w.hub.Stats().ByFamily["list"]
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
		b.StopTimer()
		seconds := float64(w.count(`select (position ->> 'took')::bigint from hubpg.cursors where lane = 'ids' and table_name = 'contacts'`)) / 1e9
		b.ReportMetric(seconds, "s-pass")
		b.ReportMetric(float64(contacts)/seconds, "ids/s")
		b.ReportMetric(float64(w.hub.Stats().ByFamily["list"]-before), "calls")
		b.ReportMetric(peak(cmd.Process.Pid), "MiB-peak")
		kill(cmd)
		if n := w.count(`select count(*) from hubpg.suspects`) + int64(contacts) - w.count(`select count(*) from hubspot.contacts`); n == 0 {
			b.Fatal("the pass has not noticed the erased record")
		}
		b.StartTimer()
	}
}
