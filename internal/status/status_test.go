package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/internal/pgtest"
	"hubpg/internal/status"
	"hubpg/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const account = `
insert into hubpg.accounts (portal_id, schema_name) values (1, 'hubspot');
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, phase, row_count, expected_rows, verified_at)
values (1, 'contacts', 'object', '0-1', 'contacts', 'contact', 'live', 2000, 2000, now() - interval '90 seconds')`

const unfinished = `
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, phase, row_count, expected_rows)
values (1, 'deals', 'object', '0-3', 'deals', 'deal', 'backfill', 100, 500);
insert into hubpg.cursors (portal_id, table_name, lane, position)
values (1, 'deals', 'backfill', '{"rows": 100, "of": 500, "seconds": 10}')`

const degraded = `
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, phase, last_error, hint, error_at)
values (1, 'quotes', 'object', '0-14', 'quotes', 'quote', 'degraded', 'scope <missing>', 'add the scope', now());
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, phase, from_table, to_table)
values (1, 'contacts_quotes', 'association', '0-1:0-14', 'contacts/quotes', 'contact_quote', 'new', 'contacts', 'quotes')`

const calls = `
insert into hubpg.lane_calls (portal_id, table_name, lane, day, today, total)
values (1, 'contacts', 'follow', current_date, 7, 40), (1, 'contacts', 'ids', current_date - 1, 5, 5), (1, '', 'schema', current_date, 2, 9)`

func database(t *testing.T, statements ...string) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.Migrated(t, migrations.Up).Pool(t)
	for _, sql := range statements {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return pool
}

func get(t *testing.T, db status.Database, path string) (int, string) {
	t.Helper()
	h := status.NewHandler(status.Config{
		Database: db, Version: "v1", Role: "all",
		Quota: func() []status.Quota { return []status.Quota{{Bucket: "search", Limit: 5, Granted: 12345}} },
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReportShowsProgressLagAndRemedy(t *testing.T) {
	t.Parallel()
	r, err := status.Read(t.Context(), database(t, account, unfinished, degraded, calls))
	if err != nil {
		t.Fatal(err)
	}
	if r.Ready || !strings.Contains(r.Reason, "deals") {
		t.Errorf("ready %v, reason %q", r.Ready, r.Reason)
	}
	byName := map[string]status.Table{}
	for _, table := range r.Tables {
		byName[table.Name] = table
	}
	if lag := byName["contacts"].Lag; lag == nil || *lag < 90 || *lag > 600 {
		t.Errorf("lag of contacts: %v", lag)
	}
	deals := byName["deals"]
	if deals.Progress == nil || *deals.Progress != 0.2 || deals.ETA == nil || *deals.ETA != 40 {
		t.Errorf("progress %v, ETA %v", deals.Progress, deals.ETA)
	}
	if q := byName["quotes"]; q.Error == "" || q.Hint != "add the scope" {
		t.Errorf("quotes: %+v", q)
	}
	if c := byName["contacts"].Calls; c["follow"] != 40 || c["ids"] != 5 || byName["deals"].Calls["follow"] != 0 {
		t.Errorf("calls of contacts: %v", c)
	}
	var text strings.Builder
	if err := r.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"hubspot.deals", "20%", "40s", "add the scope", "not ready: table deals",
		"by lane: follow 40 (7 today), ids 5 (0 today), schema 9 (2 today)", " 45 ",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
}

func TestARemedyOfManyTablesIsPrintedOnce(t *testing.T) {
	t.Parallel()
	r := status.Report{}
	for _, name := range []string{"deals", "calls_deals", "emails_deals", "notes_deals", "tasks_deals"} {
		r.Tables = append(r.Tables, status.Table{Schema: "hubspot", Name: name, Hint: "add the scope"})
	}
	r.Tables = append(r.Tables, status.Table{Schema: "hubspot", Name: "quotes", Hint: "buy more"})
	var text strings.Builder
	if err := r.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	const want = "\nhubspot.deals, hubspot.calls_deals, hubspot.emails_deals and 2 more: add the scope\nhubspot.quotes: buy more\n"
	if !strings.Contains(text.String(), want) {
		t.Errorf("%q is not in\n%s", want, text.String())
	}
}

func TestReadyzWaitsForEveryTableThatCanBeFilled(t *testing.T) {
	t.Parallel()
	db := database(t)
	if code, body := get(t, db, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "has not been read yet") {
		t.Errorf("empty: %d %s", code, body)
	}
	db = database(t, account, unfinished)
	code, body := get(t, db, "/readyz")
	var answer struct {
		OK     bool
		Reason string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if code != http.StatusServiceUnavailable || answer.OK || !strings.Contains(answer.Reason, "deals") {
		t.Errorf("unfinished: %d %s", code, body)
	}
	if code, body := get(t, database(t, account, degraded), "/readyz"); code != http.StatusOK {
		t.Errorf("a degraded table holds the others up: %d %s", code, body)
	}
	for _, missing := range []string{"", "the log"} {
		h := status.NewHandler(status.Config{Database: database(t, account, degraded), Awaits: func() string { return missing }})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		if (w.Code == http.StatusOK) != (missing == "") || !strings.Contains(w.Body.String(), missing) {
			t.Errorf("a process that waits for %q: %d %s", missing, w.Code, w.Body)
		}
	}
}

func TestHealthzSaysWhetherPostgresAnswers(t *testing.T) {
	t.Parallel()
	db := database(t)
	if code, body := get(t, db, "/healthz"); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	db.Close()
	for _, path := range []string{"/healthz", "/readyz", "/status.json"} {
		if code, body := get(t, db, path); code != http.StatusServiceUnavailable || !strings.Contains(body, "unreachable") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestPageShowsTablesAndEscapes(t *testing.T) {
	t.Parallel()
	code, body := get(t, database(t, account, unfinished, degraded), "/")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{"hubspot.contacts", "2 000", "scope &lt;missing&gt;", "add the scope", "12 345", "Not ready"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not on the page\n%s", want, body)
		}
	}
	if strings.Contains(body, "http://") || strings.Contains(body, "https://") {
		t.Error("the page needs something from outside")
	}
}

func TestDatabaseWithoutSchemaIsNamed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t)
	if _, err := status.Read(t.Context(), pool); !errors.Is(err, status.ErrNoSchema) {
		t.Errorf("got %v", err)
	}
	if code, body := get(t, pool, "/"); code != http.StatusOK || !strings.Contains(body, status.ErrNoSchema.Error()) {
		t.Errorf("%d %s", code, body)
	}
}

const feeds = `
insert into hubpg.feed_state (portal_id, feed, events, heard_at, last_error, hint, off)
values (1, 'journal', 1234, now(), 'scope <refused>', 'give the app the scope', true);
insert into hubpg.feed_state (portal_id, feed, events, heard_at) values (1, 'webhook', 5, now());
insert into hubpg.news (portal_id, table_name, record_id, feed, since) values (1, 'contacts', 7, 'webhook', now() - interval '30 seconds')`

func TestFeedsAreShownWithTheirRemedy(t *testing.T) {
	t.Parallel()
	db := database(t, account, feeds)
	r, err := status.Read(t.Context(), db)
	if err != nil || len(r.Feeds) != 2 || !r.Ready {
		t.Fatalf("report %+v, %v", r, err)
	}
	if j := r.Feeds[0]; j.State != "off" || j.Events != 1234 || j.Hint != "give the app the scope" {
		t.Errorf("journal: %+v", j)
	}
	if w := r.Feeds[1]; w.State != "live" || w.Waiting != 1 || w.Lag < 30 || w.Lag > 300 {
		t.Errorf("webhooks: %+v", w)
	}
	var text strings.Builder
	if err := r.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	_, page := get(t, db, "/")
	for _, want := range []string{"journal: off, 1234 events", "webhook: live, 5 events", "1 records waiting", "give the app the scope"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	for _, want := range []string{"hubspot journal", "1 234", "scope &lt;refused&gt;", "give the app the scope"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}

// TestAFloodOfReadersTakesOneConnection of those that the lanes and the proxy work with.
func TestAFloodOfReadersTakesOneConnection(t *testing.T) {
	t.Parallel()
	db := database(t, account)
	config := db.Config()
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	lock, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "lock table hubpg.objects"); err != nil {
		t.Fatal(err)
	}
	h := status.NewHandler(status.Config{Database: pool})
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/status.json", nil))
			if w.Code != http.StatusOK {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
		})
	}
	var free int
	work, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	time.Sleep(500 * time.Millisecond) // until all of them wait
	if err := pool.QueryRow(work, "select 1").Scan(&free); err != nil {
		t.Errorf("others find no connection: %v", err)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	readers.Wait()
}
