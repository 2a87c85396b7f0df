package budget_test

import (
	"context"
	"testing"
	"time"

	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// The clock of Postgres is set back by an hour, or another server with such a clock takes over.
func TestAClockOfPostgresThatIsSetBackStopsNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Migrated(t, migrations.Up).Pool(t)
	b := budget.New(pool, quick)
	if err := b.Wait(t.Context(), "search", "fresh"); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `
update hubpg.quota_buckets
set free_at = free_at + interval '1 hour', read_free_at = read_free_at + interval '1 hour', counted_from = counted_from + interval '1 hour'
where bucket = 'search'`); err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{"fresh", "writes"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := b.Wait(ctx, "search", class); err != nil {
			t.Errorf("%s: %v", class, err)
		}
		cancel()
	}
}
