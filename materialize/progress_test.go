package materialize_test

import (
	"math"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// TestProgressIsRightOnceATenthIsDone: the share that is shown and the time that is left are within a tenth of what they turn
// out to have been. HubSpot's own pace bounds the filling here, as it does wherever limits are in force.
func TestProgressIsRightOnceATenthIsDone(t *testing.T) {
	t.Parallel()
	const records = 4000
	w := newWorld(t, sandbox.Config{Contacts: records, Latency: time.Second})
	cfg := w.config()
	cfg.Objects, cfg.Fetchers, cfg.Pace = []string{"contacts"}, 1, slowSweeps()
	w.start(cfg)
	type look struct {
		at       time.Time
		progress float64 // of a hundred
		rows     int64
		eta      time.Duration
	}
	var looks []look
	for {
		s := w.status("contacts")
		if s.Phase == "live" {
			break
		}
		if s.Progress != nil && *s.Progress >= 10 && s.ETA != nil {
			looks = append(looks, look{time.Now(), *s.Progress, s.Rows, *s.ETA})
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
		if i%20 == 0 {
			t.Logf("at %5.1f s, %4.1f %%: %5.1f s left, it were %5.1f s", whole-ended.Sub(l.at).Seconds(), l.progress, l.eta.Seconds(), ended.Sub(l.at).Seconds())
		}
		worst = max(worst, math.Abs(l.eta.Seconds()-ended.Sub(l.at).Seconds())/whole)
	}
	t.Logf("%d looks in %.1f s, the time left was off by %.1f %% of the whole at most", len(looks), whole, 100*worst)
	if worst > 0.1 {
		t.Errorf("the time left was off by %.1f %% of the whole", 100*worst)
	}
}
