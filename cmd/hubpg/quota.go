package main

import (
	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/status"
	"hubpg/internal/telemetry"
)

var _ hubapi.Limiter = (*budget.Budget)(nil)

// quotaStats is the budget's state for the metrics, nil in a process that calls nobody.
func (a *App) quotaStats() *telemetry.Quota {
	if a.budget == nil {
		return nil
	}
	s := a.budget.Snapshot()
	q := &telemetry.Quota{
		Refused: s.Refused, DailyUsed: s.Daily.Reads + s.Daily.Writes, DailyRemaining: s.Daily.Remaining,
	}
	for _, b := range s.Buckets {
		q.Buckets = append(q.Buckets, telemetry.Bucket{
			Name: b.Bucket, Limit: perSecond(b), Granted: b.Granted, Waiting: b.Waiting, Paused: !b.PausedUntil.IsZero(),
		})
	}
	return q
}

// quota is the budget's state for the status page.
func (a *App) quota() []status.Quota {
	if a.budget == nil {
		return nil
	}
	var list []status.Quota
	for _, b := range a.budget.Snapshot().Buckets {
		q := status.Quota{Bucket: b.Bucket, Limit: perSecond(b)}
		for class := range b.Granted {
			q.Granted += b.Granted[class]
			q.Waiting += b.Waiting[class]
		}
		if until := b.PausedUntil; !until.IsZero() {
			q.PausedUntil = &until
		}
		list = append(list, q)
	}
	return list
}

func perSecond(b budget.BucketState) float64 {
	if b.Window <= 0 {
		return 0
	}
	return float64(b.Limit) / b.Window.Seconds()
}
