package main

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
)

// eventually waits until check says "".
func eventually(t *testing.T, check func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still: %s", problem)
		}
	}
}

// text is the one value of a query.
func text(t *testing.T, conn *pgx.Conn, sql string, args ...any) (value string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// hear serves an account that an app's id and secret are given for: HubSpot's webhooks tell of job titles, and its journal
// is followed.
func hear(t *testing.T) (s *served, proxy, web string, db *pgx.Conn) {
	t.Helper()
	s = serve(t, sandbox.Config{}, map[string]string{
		"HUBPG_HUBSPOT_CLIENT_ID": sandbox.DefaultClientID, "HUBPG_HUBSPOT_CLIENT_SECRET": sandbox.DefaultClientSecret,
	})
	proxy, web = s.addresses(t)
	ready(t, web)
	if err := s.account.SetWebhookTarget(sandbox.DefaultClientID, web+webhookPath, 10); err != nil {
		t.Fatal(err)
	}
	sub := sandbox.WebhookSubscription{EventType: "contact.propertyChange", PropertyName: "jobtitle", Active: true}
	if _, err := s.account.Subscribe(sandbox.DefaultClientID, sub); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.account.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	db = connect(t, s.env["HUBPG_DATABASE_URL"])
	eventually(t, func() string {
		if text(t, db, "select (count(*) > 0)::text from hubpg.feeds where feed = 'journal' and state = 'live'") != "true" {
			return "the journal is not followed"
		}
		return ""
	})
	return s, proxy, web, db
}

// An app's id and secret are all it takes: webhooks are believed, the journal is followed, and both are shown.
func TestServeHearsWebhooksAndTheJournal(t *testing.T) {
	t.Parallel()
	s, _, web, db := hear(t)
	id := s.account.Snapshot("contacts")[0].ID
	if err := s.account.Update("contacts", id, map[string]string{"jobtitle": "Head of Tests"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if text(t, db, "select coalesce((select jobtitle from hubspot.contacts where id = $1), '')", id) != "Head of Tests" {
			return "the change has not arrived"
		}
		_, metrics := get(t, web+"/metrics")
		for _, want := range []string{`hubpg_webhook_deliveries_total [1-9]`, `hubpg_feed_events_total\{feed="hubspot\.webhook"\} [1-9]`, `hubpg_feed_error\{feed="hubspot\.journal"\} 0`} {
			if !regexp.MustCompile(want).MatchString(metrics) {
				return want + " is not in the metrics"
			}
		}
		return ""
	})
	if r := run(t, s.env, "status"); !strings.Contains(r.stdout, "hubspot webhook: live, ") || !strings.Contains(r.stdout, "hubspot journal: live, ") {
		t.Errorf("status: %s", r.stdout)
	}
	if resp, err := http.Post(web+webhookPath, "application/json", strings.NewReader("[]")); err != nil || resp.Body.Close() != nil ||
		resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged delivery: %v, %v", resp, err)
	}
	r := run(t, s.env, "config")
	if leak := s.stderr.String() + r.stdout; strings.Contains(leak, sandbox.DefaultClientSecret) {
		t.Error("the app's secret is shown")
	}
}

func TestWebhooksWithoutASecretHaveNoAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, sandbox.Config{}, nil)
	_, web := s.addresses(t)
	resp, err := http.Post(web+webhookPath, "application/json", strings.NewReader("[]"))
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d, %v", resp.StatusCode, err)
	}
}

// The schema lane, which starts fills too, comes by every five minutes.
func TestIncludedColumnIsFilledAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, sandbox.Config{}, nil)
	_, web := s.addresses(t)
	ready(t, web)
	db := connect(t, s.env["HUBPG_DATABASE_URL"])
	id := s.account.Snapshot("contacts")[0].ID
	if err := s.account.Update("contacts", id, map[string]string{"fax": "123"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		return map[bool]string{false: "fax has not arrived"}[text(t, db, "select coalesce((select fax from hubspot.contacts where id = $1), '')", id) == "123"]
	})
	for range 2 { // the second time its process knows that all is filled
		for _, verb := range []string{"exclude", "include"} {
			if r := run(t, s.env, "schema", verb, "contacts", "fax"); r.status != exitDone {
				t.Fatalf("%s: %+v", verb, r)
			}
		}
		start := time.Now()
		eventually(t, func() string {
			if text(t, db, "select coalesce((select fax from hubspot.contacts where id = $1), '')", id) != "123" {
				return "the column is empty"
			}
			if r := run(t, s.env, "schema", "list", "contacts"); strings.Contains(r.stdout, "being filled") {
				return "the column is being filled"
			}
			return ""
		})
		t.Logf("filled after %s", time.Since(start))
	}
}
