package main

import (
	"context"
	"log/slog"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/budget"
)

// usageEvery is the pause between two looks at HubSpot's own count of the day. Headers tell the same, but only of calls
// that carry them, and never when the day ends.
const usageEvery = 10 * time.Minute

// followUsage tells the budget what HubSpot counts, until ctx ends. What cannot be asked is no reason to stop: the
// budget counts by itself.
func (a *App) followUsage(ctx context.Context) error {
	if a.hubspot == nil || a.cfg.HubSpot.Limits == "off" {
		return nil
	}
	client := a.hubspot.As(hubapi.Fresh)
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		usage, err := client.GetDailyUsage(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.Debug("daily usage not read", slog.String("error", err.Error()))
		case usage.Status == "SUCCESS" || usage.Status == "CACHED":
			a.budget.Learn(budget.Usage{
				Limit: int(usage.Limit), Used: int(usage.Used), CollectedAt: usage.CollectedAt, ResetsAt: usage.ResetsAt,
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
