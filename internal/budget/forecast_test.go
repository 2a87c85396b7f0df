package budget_test

import (
	"testing"
	"time"

	"hubpg/internal/budget"
)

func TestForecastAddsUpWhatEachLaneCosts(t *testing.T) {
	t.Parallel()
	rhythm := budget.Rhythm{
		Busy: 500 * time.Millisecond, Idle: time.Minute, Trailing: 5 * time.Minute, Schema: 5 * time.Minute,
		Archived: 10 * time.Minute, IDs: 6 * time.Hour, Pairs: 24 * time.Hour,
		Calculated: 12 * time.Hour, Counts: 5 * time.Minute, Lookups: 10 * time.Minute,
	}
	limits := budget.Limits{Burst: 190, Association: 150, Search: 5, Daily: 1_000_000}
	load := budget.Load{
		Tables: []budget.TableLoad{
			{Name: "contacts", Rows: 1_000_000, Wide: true}, {Name: "deals", Rows: 50_001, Pipelines: true},
		},
		Pairs: []budget.PairLoad{{Name: "contacts_companies", Rows: 1_000_000}},
	}
	cfg := budget.Config{Share: 1.0 / 3}
	f := cfg.Forecast(load, limits, rhythm)
	if f.Backfill.ObjectCalls != 2*10_000+501 || f.Backfill.AssociationCalls != 1000 {
		t.Errorf("backfill %+v", f.Backfill)
	}
	// 20,501 calls at 64, which is 190/3 rounded up, in 10.4 s.
	if want := 3331 * time.Second; f.Backfill.Takes.Round(time.Second) != want || f.Backfill.Bound != "burst" {
		t.Errorf("backfill takes %s (%s), want %s", f.Backfill.Takes, f.Backfill.Bound, want)
	}
	want := map[string]int64{
		"follow": 2 * 1440, "trailing": 2 * 288, "schema": 288 * (5 + 2 + 1), "archived": 2 * 144, "ids": 4 * 10_501, "associations": 1000,
		"calculated": 2 * 10_501, "counts": 288, "lookup": 144 * 11,
	}
	var sum int64
	for _, lane := range f.Lanes {
		if lane.Calls != want[lane.Lane] {
			t.Errorf("%s costs %d, want %d", lane.Lane, lane.Calls, want[lane.Lane])
		}
		sum += lane.Calls
	}
	if f.Day != sum || f.Allowed != 333_333 || !f.Fits || len(f.Lanes) != len(want) {
		t.Errorf("day %d of %d, fits %t", f.Day, f.Allowed, f.Fits)
	}
	load.ChangesPerDay = 1_000_000
	busy := cfg.Forecast(load, limits, rhythm)
	if busy.Fits || busy.Day <= f.Day+2*load.ChangesPerDay-1 {
		t.Errorf("a million changes cost %d", busy.Day-f.Day)
	}
	for _, lane := range busy.Lanes {
		if lane.Lane == "changes: polls" && float64(lane.Calls+2880) > 2/1.25*86400 {
			t.Errorf("%d searches a day exceed their pace", lane.Calls)
		}
	}
}

func TestForecastCountsRangesThatTurnOutEmpty(t *testing.T) {
	t.Parallel()
	load := budget.Load{Fetchers: 8, Tables: []budget.TableLoad{{Rows: 0}, {Rows: 100}, {Rows: 101}, {Rows: 1000, Wide: true}}}
	f := budget.Config{}.Forecast(load, budget.Limits{Burst: 100}, budget.Rhythm{})
	if want := int64(1 + 1 + 2 + 8 + 20 + 8); f.Backfill.ObjectCalls != want {
		t.Errorf("%d calls, want %d", f.Backfill.ObjectCalls, want)
	}
}

func TestForecastNamesTheTightestLimit(t *testing.T) {
	t.Parallel()
	limits := budget.Limits{Burst: 100, Association: 100, Search: 5, Daily: 3000}
	cfg := budget.Config{Share: 1}
	big := budget.Load{Tables: []budget.TableLoad{{Rows: 1_000_000}}}
	if b := cfg.Forecast(big, limits, budget.Rhythm{}).Backfill; b.Bound != "daily" || b.Takes < 3*24*time.Hour || b.Takes > 4*24*time.Hour {
		t.Errorf("10,001 calls at 2,550 a day: %+v", b)
	}
	linked := budget.Load{Pairs: []budget.PairLoad{{Rows: 2_000_000}}}
	if b := cfg.Forecast(linked, limits, budget.Rhythm{}).Backfill; b.Bound != "association" {
		t.Errorf("%+v", b)
	}
	limits.Daily = 0
	if f := cfg.Forecast(big, limits, budget.Rhythm{}); f.Backfill.Bound != "burst" || !f.Fits || f.Allowed != 0 {
		t.Errorf("without a daily limit: %+v", f)
	}
}

func TestQuietTablesArePolledLessOftenWhereTheDayIsShort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tables, daily int64
		want          time.Duration
	}{
		{20, 0, 12 * time.Second},                   // no limit is known
		{20, 1_000_000 / 3, 12 * time.Second},       // a poll each 10.4 s would do
		{20, 250_000 / 3, 41472 * time.Millisecond}, // half of 83,333 for 20 tables
		{4, 250_000 / 3, 12 * time.Second},
	} {
		if got := budget.QuietPause(12*time.Second, c.tables, c.daily); got.Round(time.Millisecond) != c.want {
			t.Errorf("%d tables on %d calls a day: %s, want %s", c.tables, c.daily, got, c.want)
		}
	}
	f := budget.Config{Share: 1.0 / 3}.Forecast(budget.Load{Tables: make([]budget.TableLoad, 20)},
		budget.Limits{Burst: 100, Daily: 250_000}, budget.Rhythm{Busy: time.Second, Idle: 12 * time.Second})
	if polls := f.Lanes[0].Calls; polls < 41_000 || polls > 250_000/6 {
		t.Errorf("%d polls a day", polls)
	}
}

func TestChangedRecordsGatherWhereTheDayIsShort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		round, daily int64
		want         time.Duration
	}{
		{38, 0, time.Second},                        // no limit is known
		{38, 1_000_000, 26266 * time.Millisecond},   // an eighth of a million for rounds of 38
		{38, 1_000_000 / 3, time.Minute},            // no longer than that
		{2, 1_000_000 / 3, 4147 * time.Millisecond}, //
		{0, 1_000_000 / 3, time.Second},
	} {
		if got := budget.GatherPause(time.Second, time.Minute, c.round, c.daily); got.Round(time.Millisecond) != c.want {
			t.Errorf("rounds of %d on %d calls a day: %s, want %s", c.round, c.daily, got, c.want)
		}
	}
}
