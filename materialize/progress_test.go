package materialize_test

import (
	"math"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// TestProgressIsRightOnceATenthIsDone: the share that is shown and the time that is left are within a tenth of what they turn
// out to have been. HubSpot's own pace bounds the filling here, as it does wherever limits are in force; where the machine
// changes the pace meanwhile, nobody can know, and so much is allowed for.
func TestProgressIsRightOnceATenthIsDone(t *testing.T) {
	t.Parallel()
	const records = 4000
	w := newWorld(t, sandbox.Config{Contacts: records, Latency: time.Second})
	cfg := w.config()
	cfg.Objects, cfg.Fetchers, cfg.Pace = []string{"contacts"}, 1, slowSweeps()
	w.start(cfg)
	type look struct {
		at       time.Time
		before   time.Time // when the rows were last fewer
		since    time.Time // when they were first this many
		progress float64   // of a hundred
		rows     int64
		eta      time.Duration
	}
	var looks []look
	var first, last look // with a record, with as many as now
	seen := time.Now()   // the look before
	for {
		s := w.status("contacts")
		if s.Phase == "live" {
			break
		}
		now := time.Now()
		if s.Rows != last.rows {
			last = look{before: seen, since: now, rows: s.Rows}
		}
		seen = now
		if first.rows == 0 {
			first = last
		}
		if s.Progress != nil && *s.Progress >= 10 && s.ETA != nil {
			looks = append(looks, look{now, last.before, last.since, *s.Progress, s.Rows, *s.ETA})
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(looks) < 50 {
		t.Fatalf("the filling was looked at %d times", len(looks))
	}
	began, ended := looks[0].at, time.Now()
	whole := ended.Sub(began).Seconds() / (1 - looks[0].progress/100) // from the first record on
	worst := 0.0
	for i, l := range looks {
		if share := 100 * float64(l.rows) / records; math.Abs(share-l.progress) > 10 {
			t.Errorf("%.1f %% are shown, %.1f %% are stored", l.progress, share)
		}
		left := ended.Sub(l.at).Seconds()
		// What has been read in the time that it took says so much of the rest. When rows came is known as well as was looked.
		rest := float64(records-l.rows) / float64(l.rows-first.rows)
		ofThePace := rest * l.since.Sub(first.since).Seconds()
		least, most := rest*l.before.Sub(first.since).Seconds(), rest*l.since.Sub(first.before).Seconds()
		changed := max(math.Abs(ofThePace-left), math.Abs(least-left), math.Abs(most-left)) // since then
		worst = max(worst, (math.Abs(l.eta.Seconds()-left)-changed)/whole)
		if i%20 == 0 {
			t.Logf("at %5.1f s, %4.1f %%: %5.1f s left, it were %5.1f s, of the pace %5.1f",
				whole-left, l.progress, l.eta.Seconds(), left, ofThePace)
		}
	}
	t.Logf("%d looks in %.1f s, the time left was off by %.1f %% of the whole at most", len(looks), whole, 100*worst)
	if worst > 0.1 {
		t.Errorf("the time left was off by %.1f %% of the whole more than the pace has changed", 100*worst)
	}
}
