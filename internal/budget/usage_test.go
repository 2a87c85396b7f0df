package budget_test

import (
	"errors"
	"testing"
	"time"

	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

func TestUsageOfOtherAppsIsLearnedFromHubSpotsOwnCount(t *testing.T) {
	t.Parallel()
	b := budget.New(pgtest.Migrated(t, migrations.Up).Pool(t), budget.Config{PortalID: 1, Share: 1})
	if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
		t.Fatal(err)
	}
	b.Observe("object", 200, ofDay("250000"), "")
	resets := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	b.Learn(budget.Usage{Limit: 250_000, Used: 249_900, ResetsAt: resets})
	s := b.Snapshot().Daily
	if s.Limit != 250_000 || s.Remaining != 100 || !s.ResetsAt.Equal(resets) {
		t.Errorf("day %+v", s)
	}
	err := b.Wait(t.Context(), "object", "fresh")
	if e, ok := errors.AsType[*budget.ExhaustedError](err); !ok || e.Until.After(resets) {
		t.Errorf("reads go on into the reserve: %v", err)
	}
	if err := b.Wait(t.Context(), "object", "writes"); err != nil {
		t.Errorf("writes stop: %v", err)
	}
	b.Learn(budget.Usage{Limit: -1, Used: 5})
	b.Learn(budget.Usage{Limit: 250_000, Used: 10, ResetsAt: time.Now().Add(100 * time.Hour)})
	if s := b.Snapshot().Daily; s.Limit != 250_000 || s.Remaining != 249_990 || !s.ResetsAt.Equal(resets) {
		t.Errorf("nonsense was believed: %+v", s)
	}
	if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
		t.Errorf("the day has room again: %v", err)
	}
}

// What HubSpot counted a minute ago is known better than nothing.
func TestACountOfTheDayThatHubSpotHasKeptIsBelieved(t *testing.T) {
	t.Parallel()
	b := budget.New(pgtest.Migrated(t, migrations.Up).Pool(t), budget.Config{PortalID: portal})
	if err := b.Wait(t.Context(), "object", "fresh"); err != nil {
		t.Fatal(err)
	}
	b.Observe("object", 200, ofDay("250000"), "")
	b.Learn(budget.Usage{Limit: 250_000, Used: 249_900, CollectedAt: time.Now().Add(-time.Minute)})
	if s := b.Snapshot().Daily; s.Remaining != 100 {
		t.Errorf("%d calls remain, HubSpot says 100", s.Remaining)
	}
}
