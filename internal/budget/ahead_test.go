package budget_test

import (
	"testing"
	"time"

	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// One machine's clock is a year ahead. Its calls count as everybody's do, and the days of the others begin as before.
func TestAClockThatIsAheadKeepsNoDayFromBeginning(t *testing.T) {
	t.Parallel()
	pool := pgtest.Migrated(t, migrations.Up).Pool(t)
	if err := budget.New(pool, budget.Config{PortalID: portal}).Wait(t.Context(), "object", "fresh"); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "update hubpg.quota_buckets set day_start = default, reads = 0 where bucket = 'daily'"); err != nil {
		t.Fatal(err)
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for _, c := range []struct {
		start time.Time
		want  int // reads of the day, two of which are new
	}{
		{today.AddDate(0, 0, -2), 2},
		{today.AddDate(1, 0, 0), 4}, // ahead
		{today.AddDate(0, 0, -2), 6},
		{today.AddDate(0, 0, -1), 2},
		{today.AddDate(1, 0, 0), 4},  // ahead
		{today.AddDate(0, 0, -2), 6}, // behind: it still counts the day before
		{today, 2},
	} {
		if got, err := budget.Reads(t.Context(), pool, portal, c.start, 2); err != nil || got != c.want {
			t.Errorf("day %s: %d reads, want %d (%v)", c.start.Format(time.DateOnly), got, c.want, err)
		}
	}
}
