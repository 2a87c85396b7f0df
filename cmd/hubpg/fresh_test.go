package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// A session that asks for fresh tables sees what HubSpot has at that moment, from every kind of table, whatever the
// lanes are doing; others go on reading what there is.
func TestASessionSeesHubSpotAsFreshAsItAsks(t *testing.T) {
	t.Parallel()
	s := serve(t, sandbox.Config{}, nil)
	proxy, web := s.addresses(t)
	ready(t, web)
	app := connect(t, proxied(s.env["HUBPG_DATABASE_URL"], proxy))
	var id, company int64
	if err := app.QueryRow(t.Context(), "select (select min(id) from hubspot.contacts), (select min(id) from hubspot.companies)").Scan(&id, &company); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Exec(t.Context(), "set hubpg.max_staleness = '0'"); err != nil {
		t.Fatal(err)
	}
	if err := s.account.Associate("contacts", id, "companies", company, 1); err != nil {
		t.Fatal(err)
	}
	ask := func(sql string, args ...any) (got string) {
		t.Helper()
		began := time.Now()
		if err := app.QueryRow(t.Context(), sql, args...).Scan(&got); err != nil {
			t.Fatalf("%s, after %s: %v", sql, time.Since(began), err)
		}
		return got
	}
	for i := range 5 {
		want := "title " + strconv.Itoa(i)
		if err := s.account.Update("contacts", id, map[string]string{"jobtitle": want}); err != nil {
			t.Fatal(err)
		}
		if got := ask("select jobtitle from hubspot.contacts where id = $1", id); got != want {
			t.Errorf("read %q, HubSpot has %q", got, want)
		}
	}
	if got := ask("select count(*)::text from hubspot.contacts_companies where contact_id = $1 and company_id = $2", id, company); got == "0" {
		t.Error("the association is not there")
	}
	owner, err := s.account.AddOwner("fresh@example.com", "Fresh", "Owner")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask("select coalesce(max(email), 'nobody') from hubspot.owners where last_name = 'Owner' and first_name = 'Fresh'"); got != "fresh@example.com" {
		t.Errorf("owner %v: read %q", owner, got)
	}
	if got := ask("select count(*)::text from hubspot.lists"); got == "" {
		t.Error("no count of lists")
	}
	s.account.WithholdScopes("crm.objects.companies.read")
	var failed error
	for end := time.Now().Add(time.Minute); failed == nil && time.Now().Before(end); {
		_, failed = app.Exec(t.Context(), "select count(*) from hubspot.companies")
	}
	if failed == nil || !strings.Contains(failed.Error(), "HS020") {
		t.Errorf("a table that HubSpot does not show any more: %v", failed)
	}
}
