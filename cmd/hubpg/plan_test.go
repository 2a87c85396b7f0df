package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

func TestPlanTellsTheCostBeforeAnythingIsStored(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{
		Seed: 1, Contacts: 400, Quiet: true, Limits: true, DailyUsed: 1234, WithheldScopes: []string{"crm.objects.quotes.read"},
	})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	env := map[string]string{"HUBPG_HUBSPOT_URL": server.URL, "HUBPG_HUBSPOT_TOKEN": sandbox.DefaultToken}
	r := run(t, env, "plan", "--json", "--changes", "0")
	if r.status != exitDone {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	var got plan
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	rows := map[string]int64{}
	for _, table := range got.Tables {
		rows[table.Table] = table.Rows
	}
	for _, name := range []string{"contacts", "companies", "deals", "notes"} {
		if want := int64(s.Count(name)); rows[name] != want {
			t.Errorf("%s: %d rows, want %d", name, rows[name], want)
		}
	}
	if got.Limits.Burst != 190 || got.Limits.Association != 150 || got.Limits.Daily != 1_000_000 || got.UsedNow < 1234 {
		t.Errorf("limits %+v, used %d", got.Limits, got.UsedNow)
	}
	if !got.Fits || got.Day == 0 || got.Backfill.Seconds <= 0 || got.Allowed != 333_333 {
		t.Errorf("plan %+v", got)
	}
	if len(s.Stats().RateLimited) != 0 {
		t.Errorf("the survey was refused: %v", s.Stats().RateLimited)
	}
}

// TestPlanOfSomeObjects: a plan counts what the setting objects names, and says which of its names nothing has.
func TestPlanOfSomeObjects(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{Seed: 1, Contacts: 40, Quiet: true})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	env := map[string]string{
		"HUBPG_HUBSPOT_URL": server.URL, "HUBPG_HUBSPOT_TOKEN": sandbox.DefaultToken, "HUBPG_OBJECTS": "contacts, lists, dealz",
	}
	r := run(t, env, "plan", "--json")
	if r.status != exitDone {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	var got plan
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if len(got.Tables) != 1 || got.Tables[0].Table != "contacts" || got.Backfill.AssociationCalls != 0 {
		t.Errorf("plan of %+v, %d calls for associations", got.Tables, got.Backfill.AssociationCalls)
	}
	if len(got.Skipped) != 1 || got.Skipped[0].Table != "dealz" || !strings.Contains(got.Skipped[0].Reason, "deals was probably meant") {
		t.Errorf("not mirrored: %+v", got.Skipped)
	}
}

// TestPlanOfASchemaThatHubSpotNamesByHalf goes on with what can be counted.
func TestPlanOfASchemaThatHubSpotNamesByHalf(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{Seed: 1, Contacts: 40, Quiet: true})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "schemas") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"results":[{"name":"ship"}]}`)
			return
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	r := run(t, map[string]string{"HUBPG_HUBSPOT_URL": server.URL, "HUBPG_HUBSPOT_TOKEN": sandbox.DefaultToken}, "plan", "--json")
	if r.status != exitDone || !strings.Contains(r.stdout, `"contacts"`) {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
}
