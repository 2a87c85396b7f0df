package budget_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/oauth2"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/internal/signin"
	"hubpg/migrations"
)

// An app of the marketplace has no day. HubSpot tells it all the same how many calls the account's private apps have made:
// that they have used up theirs is nothing to it.
func TestTheDayOfPrivateAppsIsNoneOfTheMarketplaces(t *testing.T) {
	t.Parallel()
	hub := sandbox.New(sandbox.Config{Empty: true, Quiet: true, Limits: true, AutoApprove: true, DailyUsed: 1_000_000})
	srv := httptest.NewServer(hub)
	t.Cleanup(srv.Close)
	app := signin.App{
		ClientID: sandbox.DefaultClientID, ClientSecret: sandbox.DefaultClientSecret,
		AuthorizeURL: srv.URL + "/oauth/authorize", APIURL: srv.URL, RedirectURL: "http://127.0.0.1:0/callback",
		Scopes: []string{"crm.objects.contacts.read"},
	}
	g, err := app.Connect(t.Context(), func(address string) {
		go func() {
			if resp, err := http.Get(address); err == nil {
				resp.Body.Close()
			}
		}()
	})
	if err != nil {
		t.Fatal(err)
	}
	b := budget.New(pgtest.Migrated(t, migrations.Up).Pool(t), budget.Config{PortalID: sandbox.DefaultPortalID})
	client, err := hubapi.New(srv.URL, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: g.AccessToken}), hubapi.WithLimiter(b))
	if err != nil {
		t.Fatal(err)
	}
	usage, err := client.GetDailyUsage(t.Context())
	if err != nil || usage.Used < usage.Limit {
		t.Fatalf("the account's private apps have calls left: %+v, %v", usage, err)
	}
	b.Learn(budget.Usage{Limit: int(usage.Limit), Used: int(usage.Used), CollectedAt: usage.CollectedAt, ResetsAt: usage.ResetsAt})
	if _, err := client.ListObjects(t.Context(), "contacts", hubapi.ListOptions{}); err != nil {
		t.Errorf("HubSpot would have answered: %v", err)
	}
}
