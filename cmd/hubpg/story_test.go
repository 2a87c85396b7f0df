package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
)

// TestTheStoriesOfTheREADMEHappen runs the stories against the demo from the moment that it is ready on.
func TestTheStoriesOfTheREADMEHappen(t *testing.T) {
	t.Parallel()
	d := demo(t, pgtest.Dir(t), "--quiet-sandbox")
	url := d.line(t, "ready", readyWithin)
	sandboxURL := d.line(t, "sandbox", time.Second)
	db := connect(t, url)

	id, err := firstLogin(t.Context(), db, "grace@example.com", "Grace")
	if err != nil {
		t.Fatalf("first login: %v", err)
	}
	if got := property(t, sandboxURL, "contacts", id, "lifecyclestage"); got != "lead" {
		t.Errorf("HubSpot has lifecyclestage %q", got)
	}
	again, err := firstLogin(t.Context(), db, "grace@example.com", "Grace H.")
	if err != nil || again != id {
		t.Errorf("second login: contact %d, %v, want %d", again, err, id)
	}
	if got := property(t, sandboxURL, "contacts", id, "firstname"); got != "Grace H." {
		t.Errorf("HubSpot has firstname %q", got)
	}

	for _, sql := range []string{
		"create schema app",
		"create table app.purchases (email text not null, cents bigint not null)",
		"create table app.invoices (deal_id bigint primary key, amount numeric)",
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	deals := map[string]int64{} // by stage
	for _, stage := range []string{"contractsent", "closedlost"} {
		var deal int64
		err := db.QueryRow(t.Context(), `
with deal as (
  insert into hubspot.deals (dealname, pipeline, dealstage, amount) values ('Engine', 'default', $1, 1200.50) returning id
), link as (
  insert into hubspot.deals_contacts (deal_id, contact_id) select id, $2 from deal
)
select id from deal`, stage, id).Scan(&deal)
		if err != nil {
			t.Fatalf("make a deal: %v", err)
		}
		deals[stage] = deal
	}
	if err := purchase(t.Context(), db, "grace@example.com", 4200); err != nil {
		t.Fatalf("purchase: %v", err)
	}
	if got := property(t, sandboxURL, "deals", deals["contractsent"], "hs_priority"); got != "high" {
		t.Errorf("the open deal has priority %q", got)
	}
	if got := property(t, sandboxURL, "deals", deals["closedlost"], "hs_priority"); got != "" {
		t.Errorf("the lost deal has priority %q", got)
	}

	listener := connect(t, url)
	if _, err := listener.Exec(t.Context(), `listen "hubspot_deals.dealstage"`); err != nil { // the deal may be won before the story begins
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- invoiceWonDeals(ctx, listener) }()
	patchRecord(t, sandboxURL, "deals", deals["contractsent"], "dealstage", "closedwon") // by a colleague, in HubSpot
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(20 * time.Millisecond) {
		var amount string
		err := db.QueryRow(t.Context(), "select coalesce(max(amount)::text, '') from app.invoices where deal_id = $1", deals["contractsent"]).Scan(&amount)
		if err != nil {
			t.Fatal(err)
		}
		if amount == "1200.50" {
			break
		}
		if time.Now().After(deadline) || len(ended) > 0 {
			t.Fatalf("the invoice says %q", amount)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the listener ended with %v", err)
	}
}

// TestTheREADMEShowsTheStoriesThatAreRun compares the programs in the README with those that are run.
func TestTheREADMEShowsTheStoriesThatAreRun(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	stories, err := os.ReadFile("stories_test.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for i, block := range strings.Split(string(readme), "```") {
		program, ok := strings.CutPrefix(block, "go\n")
		if i%2 == 0 || !ok {
			continue
		}
		shown++
		if !strings.Contains(string(stories), program) {
			t.Errorf("the README shows a program that nobody runs:\n%s", program)
		}
	}
	if shown != 3 {
		t.Errorf("the README shows %d programs, want 3", shown)
	}
}

// property reads a record as HubSpot has it.
func property(t *testing.T, sandboxURL, table string, id int64, name string) string {
	t.Helper()
	url := fmt.Sprintf("%s/crm/v3/objects/%s/%d?properties=%s", sandboxURL, table, id, name)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sandbox")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var record struct{ Properties map[string]*string }
	if err := json.NewDecoder(resp.Body).Decode(&record); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("read %s %d: %s %v", table, id, resp.Status, err)
	}
	if v := record.Properties[name]; v != nil {
		return *v
	}
	return ""
}
