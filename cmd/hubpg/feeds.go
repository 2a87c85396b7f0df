package main

import (
	"context"
	"net/http"

	"golang.org/x/time/rate"

	"hubpg/hubapi"
	"hubpg/internal/signin"
	"hubpg/materialize"
)

// webhookPath is where HubSpot's webhooks are taken.
const webhookPath = "/webhooks/hubspot"

// journalScopes are what the journal wants of the app's own token.
var journalScopes = []string{
	"developer.webhooks_journal.read", "developer.webhooks_journal.subscriptions.read", "developer.webhooks_journal.subscriptions.write",
}

var _ hubapi.Refresher = (*signin.AppTokens)(nil)

// addReceiver makes what takes webhooks, where the secret is given that their signatures are checked with. Without it the
// address does not exist.
func (a *App) addReceiver() (err error) {
	if a.http == nil || a.cfg.HubSpot.ClientSecret == "" {
		return nil
	}
	a.receiver, err = materialize.NewReceiver(materialize.ReceiverConfig{
		Pool: a.pool, Schema: a.cfg.Schema, Secret: a.cfg.HubSpot.ClientSecret.Reveal(),
		Legacy: a.cfg.Webhooks.Signatures == "any", URL: a.cfg.Webhooks.URL, Logger: a.log,
	})
	return err
}

// withWebhooks adds the webhooks' address to what is served over HTTP.
func (a *App) withWebhooks(rest http.Handler) http.Handler {
	if a.receiver == nil {
		return rest
	}
	mux := http.NewServeMux()
	mux.Handle(webhookPath, a.receiver)
	mux.Handle("/", rest)
	return mux
}

// journalClient makes the client that reads the webhooks journal, nil where no app is given or it is switched off.
func (a *App) journalClient() (*hubapi.Client, error) {
	h := a.cfg.HubSpot
	if a.cfg.Journal == "off" || h.ClientID == "" || h.ClientSecret == "" {
		return nil, nil
	}
	return hubapi.New(h.URL, hubspotApp(a.cfg).Journal(journalScopes...),
		hubapi.WithLimiter(journalPace{rate.NewLimiter(journalRate, journalRate)}), hubapi.WithLogger(a.log),
		hubapi.WithProductVersion(version()), hubapi.WithObserver(a.observeCall))
}

// journalRate is how many calls a second go to the journal: HubSpot allows ten for subscriptions, more for files, and
// counts them against no other limit.
const journalRate = 8

// journalPace is the journal's own limit. One lane reads it, so that one process keeps the pace.
type journalPace struct{ calls *rate.Limiter }

// Wait returns when the next call may go out.
func (p journalPace) Wait(ctx context.Context, _, _ string) error { return p.calls.Wait(ctx) }

// Observe has nothing to learn: the journal's answers name no limits.
func (journalPace) Observe(string, int, http.Header, string) {}
