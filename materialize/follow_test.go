package materialize_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// liveContacts starts an engine that can learn of changes in contacts only by following them.
func liveContacts(t *testing.T, cfg sandbox.Config, tune func(*materialize.Config)) (*world, func()) {
	t.Helper()
	w := newWorld(t, cfg)
	mc := w.config()
	mc.Pace, mc.Objects = slowSweeps(), []string{"contacts"}
	if tune != nil {
		tune(&mc)
	}
	stop := w.start(mc)
	w.awaitLive(120*time.Second, "contacts")
	w.awaitCursor("trailing", "ended", 1)
	return w, stop
}

func TestChangeBecomesAnEventSoon(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 200}, nil)
	ids := w.live("contacts")
	var took []time.Duration
	for i := range 20 {
		id := ids[i].ID
		name := fmt.Sprintf("soon %d", i)
		start := time.Now()
		w.must(w.hub.Update("contacts", id, map[string]string{"firstname": name}))
		eventually(t, 10*time.Second, func() string {
			if w.count(`select count(*) from hubpg.changes where record_id = $1 and after ->> 'firstname' = $2`, id, name) == 0 {
				return "no event"
			}
			return ""
		})
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	if p95 := took[18]; p95 > 3*time.Second {
		t.Fatalf("p95 from change to event is %s", p95)
	}
	t.Logf("change to event: median %s, p95 %s", took[10], took[18])
}

func TestLateIndexLosesNothing(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 300, IndexLag: 2500 * time.Millisecond, Disorder: true}, nil)
	for i := range 120 {
		w.scramble("contacts", i*10) // updates only
		if i%20 == 0 {
			time.Sleep(150 * time.Millisecond) // lets polls fall between changes
		}
	}
	w.awaitEqual(40*time.Second, "contacts")
}

// The index shows these changes only after the follow lane has left them behind; the trailing lane must find them.
func TestTrailingLaneFindsWhatTheIndexShowsTooLate(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 100, IndexLag: 5 * time.Second}, func(c *materialize.Config) {
		c.Pace.Overlap = 100 * time.Millisecond // shorter than the lag; the lane allows no less than two seconds
		c.Pace.Trailing, c.Pace.Settle = time.Second, 10*time.Second
	})
	for i := range 20 {
		w.scramble("contacts", i*10)
	}
	w.awaitEqual(40*time.Second, "contacts")
	if n := w.count(`select count(*) from hubpg.changes where source = 'trailing'`); n == 0 {
		t.Fatal("the trailing lane found nothing; the test does not show what it says")
	}
	eventually(t, 30*time.Second, func() string {
		if s := w.status("contacts"); s.SettledAt == nil || time.Since(*s.SettledAt) > 30*time.Second {
			return "settled instant does not move"
		}
		return ""
	})
}

// manyBoats is an account with a custom object of few properties and n records, kept live by an engine that is stopped.
func manyBoats(t *testing.T, n int) (w *world, start func()) {
	t.Helper()
	w = newWorld(t, sandbox.Config{Contacts: 10})
	typeID, err := w.hub.AddObjectType(sandbox.SchemaDef{
		Name: "boats", SingularLabel: "Boat", PluralLabel: "Boats", PrimaryDisplayProperty: "name",
		Properties: []sandbox.PropertyDef{{Name: "name", Label: "Name", Type: "string", FieldType: "text"}},
	})
	w.must(err)
	w.boats = typeID
	for i := range n {
		_, err := w.hub.Create(typeID, map[string]string{"name": fmt.Sprint("boat ", i)})
		w.must(err)
	}
	cfg := w.config()
	cfg.Pace, cfg.Objects, cfg.BackfillEvents = slowSweeps(), []string{"boats"}, false
	stop := w.start(cfg)
	w.awaitLive(120*time.Second, "boats")
	w.awaitCursor("trailing", "ended", 1)
	stop()
	return w, func() { w.start(w.config2(cfg)) }
}

func TestMoreTiesThanASearchShows(t *testing.T) {
	t.Parallel()
	w, start := manyBoats(t, 12_500)
	w.must(w.hub.StampAll(w.boats, 12_000, time.Now()))
	start()
	w.awaitEqual(120*time.Second, "boats")
	if n := w.count(`select count(*) from hubpg.changes where table_name = 'boats'`); n != 0 {
		t.Fatalf("%d events for stamps", n)
	}
}

func TestMoreChangesInOneWindowThanASearchShows(t *testing.T) {
	t.Parallel()
	w, start := manyBoats(t, 11_000)
	for i, r := range w.live(w.boats) {
		w.must(w.hub.Update(w.boats, r.ID, map[string]string{"name": fmt.Sprint("many ", i)}))
	}
	start()
	w.awaitEqual(120*time.Second, "boats")
}

func TestThrottleStormKeepsRowsAndConverges(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 400}, nil)
	for _, f := range []sandbox.Fault{
		{Kind: sandbox.FaultRateBurst, Probability: 0.2},
		{Kind: sandbox.FaultInternal, Probability: 0.1},
		{Kind: sandbox.FaultCut, Probability: 0.1},
		{Kind: sandbox.FaultDrop, Probability: 0.05},
		{Path: "/search$", Kind: sandbox.FaultRateSearch, Probability: 0.2},
		{Path: "/search$", Kind: sandbox.FaultEmptyPage, Probability: 0.1},
	} {
		w.hub.InjectFault(f)
	}
	for i := range 60 {
		w.scramble("contacts", i*10)
		if n := w.count(`select count(*) from hubspot.contacts`); n != 400 {
			t.Fatalf("%d rows in the storm", n)
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.hub.ClearFaults()
	w.awaitEqual(90*time.Second, "contacts")
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

func TestCursorTrailsThePoll(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 50}, nil)
	var last int64
	for range 20 {
		var since int64
		if err := w.pool.QueryRow(context.Background(),
			`select (position ->> 'since')::bigint from hubpg.cursors where lane = 'follow'`).Scan(&since); err != nil {
			t.Fatal(err)
		}
		if since < last {
			t.Fatalf("cursor went back from %d to %d", last, since)
		}
		if behind := time.Since(time.UnixMilli(since)); behind < 2*time.Second {
			t.Fatalf("cursor is only %s behind the clock", behind)
		}
		last = since
		time.Sleep(60 * time.Millisecond)
	}
}

// TestPollsAreRareWhereNothingChanges: the pause of a quiet table grows to the longest, and one change makes it the shortest.
func TestPollsAreRareWhereNothingChanges(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 40}, func(c *materialize.Config) {
		c.Pace.Busy, c.Pace.Idle = 100*time.Millisecond, 3*time.Second
	})
	pause := func() time.Duration {
		return time.Duration(w.count(`select (position ->> 'pause')::bigint from hubpg.cursors where table_name = 'contacts' and lane = 'follow'`))
	}
	grown := time.Duration(0)
	eventually(t, 120*time.Second, func() string {
		p := pause()
		if p < grown {
			t.Fatalf("the pause shrank from %s to %s although nothing changed", grown, p)
		}
		if grown = p; p < 3*time.Second {
			return fmt.Sprint("the pause is ", p)
		}
		return ""
	})
	searches := w.hub.Stats().ByFamily["search"]
	time.Sleep(6 * time.Second)
	if n := w.hub.Stats().ByFamily["search"] - searches; n > 4 {
		t.Errorf("%d polls of a quiet table in 6 s, want one in 3 s", n)
	}
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "busy"}))
	eventually(t, 20*time.Second, func() string {
		if p := pause(); p > 2*100*time.Millisecond {
			return fmt.Sprint("the pause is still ", p)
		}
		return ""
	})
}
