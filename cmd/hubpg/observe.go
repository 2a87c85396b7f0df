package main

import (
	"context"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/status"
	"hubpg/internal/telemetry"
	"hubpg/materialize"
)

// What the parts count, in the words of those who show it.

var _ materialize.Meter = meter{}

// meter hands steps of lanes to the metrics.
type meter struct{ metrics *telemetry.Metrics }

// Step counts one.
func (m meter) Step(s materialize.Step) {
	m.metrics.ObserveStep(telemetry.Step{Lane: string(s.Lane), Rows: s.Rows, Calls: s.Calls, Took: s.Took, Failed: s.Err != nil})
}

func (a *App) observeCall(c hubapi.Call) {
	if a.metrics == nil {
		return
	}
	a.metrics.ObserveCall(telemetry.Call{Family: c.Family, Class: string(c.Class), Status: c.Status, Took: c.Duration})
}

func (a *App) proxyStats() telemetry.Proxy {
	if a.proxy == nil {
		return telemetry.Proxy{}
	}
	s := a.proxy.Stats()
	return telemetry.Proxy{
		Sessions: s.Sessions, SessionsTotal: s.SessionsTotal, Refused: s.Refused, Ended: s.Ended,
		BytesIn: s.BytesIn, BytesOut: s.BytesOut, Cancels: s.Cancels,
		Listeners: s.Listeners, Parked: s.Parked, Delivered: s.Delivered, CutOff: s.CutOff, Position: s.HubPosition, HubFailures: s.HubFailures,
		Kept: s.Kept, Reused: s.Reused, Waits: s.Waits, Stale: s.Stale, Held: s.Held, NotHeld: s.NotHeld, Spooled: s.Spooled,
	}
}

// awaits says why a client that is sent here now would be refused what it will be given in a moment: a LISTEN, until the
// proxy has found its place in the log of changes.
func (a *App) awaits() string {
	if a.proxy != nil && a.proxy.Stats().HubPosition < 0 {
		return "the proxy has not reached the change log yet"
	}
	return ""
}

func (a *App) tableStats(ctx context.Context) ([]telemetry.Table, error) {
	report, err := status.Read(ctx, a.pool)
	if err != nil {
		return nil, err
	}
	tables := make([]telemetry.Table, 0, len(report.Tables))
	for _, t := range report.Tables {
		lag := time.Duration(-1)
		if t.Lag != nil {
			lag = time.Duration(*t.Lag * float64(time.Second))
		}
		tables = append(tables, telemetry.Table{
			Name: t.Schema + "." + t.Name, Rows: float64(t.Rows), Lag: lag, Ready: t.Phase == "live", Error: t.Error != "",
		})
	}
	return tables, nil
}

func (a *App) feedStats(ctx context.Context) ([]telemetry.Feed, error) {
	list, err := status.ReadFeeds(ctx, a.pool)
	if err != nil {
		return nil, err
	}
	feeds := make([]telemetry.Feed, 0, len(list))
	for _, f := range list {
		feeds = append(feeds, telemetry.Feed{
			Name: f.Schema + "." + f.Name, Events: f.Events, Ignored: f.Ignored, Waiting: f.Waiting, Error: f.Error != "",
			Lag: time.Duration(f.Lag * float64(time.Second)),
		})
	}
	return feeds, nil
}

func (a *App) webhookStats() *telemetry.Webhooks {
	if a.receiver == nil {
		return nil
	}
	s := a.receiver.Stats()
	return &telemetry.Webhooks{Deliveries: s.Deliveries, Refused: s.Refused}
}
