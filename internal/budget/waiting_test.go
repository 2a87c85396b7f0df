package budget_test

import (
	"testing"
	"testing/synctest"

	"hubpg/internal/budget"
)

// Callers that wait when the share of the day ends are not let through by having asked before.
func TestTheShareOfADayIsNotExceededByThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := budget.NewInMemory(budget.Config{Share: 0.5})
		b.Observe("object", 200, ofDay("60"), "")
		if n := exhausts(t, b, "backfill", 50); n != 26 {
			t.Errorf("%d reads went out on a day that has 26 for them, 85 %% of its share", n)
		}
	})
}
