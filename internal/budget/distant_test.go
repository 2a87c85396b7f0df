package budget_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// A refusal for the rest of the day is known to every process, and ends when it was to end, however long each of them takes
// to tell of it.
func TestADailyRefusalEndsAtMidnightForAllProcesses(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	now := time.Now().UTC()
	midnight := now.Truncate(time.Second).Add(9 * time.Second)
	zone := time.FixedZone("", int(24*time.Hour.Seconds()-midnight.Sub(midnight.Truncate(24*time.Hour)).Seconds()))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	list := make([]*budget.Budget, 4)
	for i := range list {
		list[i] = budget.NewDistant(db.Pool(t), budget.Config{PortalID: portal, Location: zone}, 300*time.Millisecond)
		wg.Go(func() { _ = list[i].Run(ctx) })
		if err := list[i].Wait(ctx, "object", "fresh"); err != nil {
			t.Fatal(err)
		}
	}
	list[0].Observe("object", http.StatusTooManyRequests, nil, "DAILY")
	eventually(t, db.Pool(t), `select paused_until > now() from hubpg.quota where bucket = 'daily'`)
	for i, b := range list[1:] {
		time.Sleep(400 * time.Millisecond)
		err := b.Wait(ctx, "object", "writes")
		if _, ok := errors.AsType[*budget.ExhaustedError](err); !ok && time.Now().Before(midnight) {
			t.Errorf("process %d does not know of the refusal: %v", i+1, err)
		}
	}
	time.Sleep(time.Until(midnight.Add(3 * time.Second)))
	for i, b := range list {
		if err := b.Wait(ctx, "object", "writes"); err != nil {
			t.Errorf("process %d, three seconds after midnight: %v", i, err)
		}
	}
}
