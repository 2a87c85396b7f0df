package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/internal/status"
)

// served is hubpg serve over a small simulated account.
type served struct {
	*running
	account *sandbox.Server
	env     map[string]string
}

// serve starts the roles of a process. Its addresses are on ports that it chose.
func serve(t testing.TB, cfg sandbox.Config, change map[string]string, args ...string) *served {
	t.Helper()
	cfg.Seed, cfg.Quiet = 1, true
	if cfg.Contacts == 0 {
		cfg.Contacts = 20
	}
	return serveAccount(t, sandbox.New(cfg), change, args...)
}

// serveAccount is serve for an account that exists.
func serveAccount(t testing.TB, account *sandbox.Server, change map[string]string, args ...string) *served {
	t.Helper()
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	env := settings(t)
	env["HUBPG_HUBSPOT_URL"], env["HUBPG_LOG_LEVEL"] = server.URL, "info"
	maps.Copy(env, change)
	return &served{start(t, env, append([]string{"serve"}, args...)...), account, env}
}

var servingLine = regexp.MustCompile(`msg=serving .*`)

// addresses waits until the process serves and returns where.
func (s *served) addresses(t testing.TB) (proxy, http string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if line := servingLine.FindString(s.stderr.String()); line != "" {
			return attribute(line, "proxy"), attribute(line, "http")
		}
		if time.Now().After(deadline) || len(s.done) > 0 {
			t.Fatalf("not serving:\n%s", s.stderr.String())
		}
	}
}

func attribute(line, name string) string {
	match := regexp.MustCompile(`\b` + name + `=(\S+)`).FindStringSubmatch(line)
	if match == nil {
		return ""
	}
	return strings.Trim(match[1], `"`)
}

// get asks the process's HTTP side.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// ready waits until /readyz says so and returns the state of the tables.
func ready(t testing.TB, url string) map[string]status.Table {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		code, body := get(t, url+"/readyz")
		if code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", body)
		}
	}
	_, body := get(t, url+"/status.json")
	var report status.Report
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		t.Fatal(err)
	}
	tables := map[string]status.Table{}
	for _, table := range report.Tables {
		tables[table.Name] = table
	}
	return tables
}

func TestServeAnswersOverHTTPAndTheProxy(t *testing.T) {
	t.Parallel()
	s := serve(t, sandbox.Config{}, nil)
	proxy, web := s.addresses(t)
	tables := ready(t, web)
	if got := tables["contacts"].Rows; got != 20 {
		t.Errorf("%d contacts", got)
	}
	if code, body := get(t, web+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s", code, body)
	}
	if code, body := get(t, web+"/"); code != http.StatusOK || !strings.Contains(body, "hubspot.contacts") {
		t.Errorf("page: %d %s", code, body)
	}
	app := connect(t, proxied(s.env["HUBPG_DATABASE_URL"], proxy))
	var n int
	if err := app.QueryRow(t.Context(), "select count(*) from hubspot.contacts").Scan(&n); err != nil || n != 20 {
		t.Errorf("%d contacts through the proxy, %v", n, err)
	}
	_, metrics := get(t, web+"/metrics")
	for _, want := range []string{
		"hubpg_proxy_sessions 1\n", "hubpg_database_up 1\n", `hubpg_table_rows{table="hubspot.contacts"} 20`,
		`hubpg_hubspot_calls_total{class="backfill"`, `hubpg_lane_steps_total{lane="backfill",outcome="ok"}`, `hubpg_quota_calls_total{bucket="burst"`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is not in the metrics", want)
		}
	}
	s.interrupt()
	if r := s.wait(t, time.Minute); r.status != exitDone {
		t.Errorf("interrupted: %+v", r)
	}
}

// proxied turns the address of a database into one through the proxy.
func proxied(url, proxy string) string {
	return regexp.MustCompile(`@[^/]+/`).ReplaceAllString(url, "@"+proxy+"/")
}

func TestRolesRunApartOverOneDatabase(t *testing.T) {
	t.Parallel()
	materializer := serve(t, sandbox.Config{}, nil, "--role", "materialize")
	proxyAddress, web := materializer.addresses(t)
	if proxyAddress != "" {
		t.Errorf("the materializer listens for Postgres clients on %s", proxyAddress)
	}
	ready(t, web)
	// The proxy cannot read the change log at first.
	holder := connect(t, materializer.env["HUBPG_DATABASE_URL"])
	if _, err := holder.Exec(t.Context(), "begin; lock table hubpg.changes in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	// It gets no token: it must not need one.
	relay := serve(t, sandbox.Config{}, map[string]string{
		"HUBPG_DATABASE_URL": materializer.env["HUBPG_DATABASE_URL"], "HUBPG_HUBSPOT_TOKEN": "",
	}, "--role", "proxy")
	proxyAddress, web = relay.addresses(t)
	if code, body := get(t, web+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "has not reached the change log yet") {
		t.Errorf("a proxy that would refuse a LISTEN: %d %s", code, body)
	}
	if _, err := holder.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	ready(t, web)
	listener := connect(t, proxied(relay.env["HUBPG_DATABASE_URL"], proxyAddress))
	if _, err := listener.Exec(t.Context(), "listen hubspot_contacts"); err != nil {
		t.Fatal(err)
	}
	id := materializer.account.Snapshot("contacts")[0].ID
	if err := materializer.account.Update("contacts", id, map[string]string{"jobtitle": "Head of Tests"}); err != nil {
		t.Fatal(err)
	}
	expect(t, listener, id)
}

func TestAProxyBeforeTheFirstMaterializerSaysWhatIsMissingAndWaits(t *testing.T) {
	t.Parallel()
	for _, token := range []string{sandbox.DefaultToken, ""} {
		change := map[string]string{"HUBPG_HUBSPOT_TOKEN": token}
		impatient := serve(t, sandbox.Config{}, change, "--role", "proxy")
		impatient.said(t, "holds no hubpg schema", 1)
		impatient.interrupt()
		if r := impatient.wait(t, time.Minute); r.status != exitDone {
			t.Errorf("interrupted while it waited: %+v", r)
		}
		relay := serve(t, sandbox.Config{}, change, "--role", "proxy")
		relay.said(t, "holds no hubpg schema", 1)
		waiting := attribute(relay.stderr.String(), "http")
		if code, body := get(t, waiting+"/healthz"); code != http.StatusOK {
			t.Errorf("healthz while it waits: %d %s", code, body)
		}
		for _, path := range []string{"/readyz", "/", "/metrics"} {
			if code, body := get(t, waiting+path); code != http.StatusServiceUnavailable || !strings.Contains(body, "holds no hubpg schema") {
				t.Errorf("%s while it waits: %d %s", path, code, body)
			}
		}
		materializer := serve(t, sandbox.Config{}, map[string]string{
			"HUBPG_DATABASE_URL": relay.env["HUBPG_DATABASE_URL"], "HUBPG_HUBSPOT_URL": relay.env["HUBPG_HUBSPOT_URL"],
		}, "--role", "materialize")
		proxyAddress, web := relay.addresses(t)
		if web != waiting {
			t.Errorf("HTTP moved from %s to %s", waiting, web)
		}
		ready(t, web)
		listener := connect(t, proxied(relay.env["HUBPG_DATABASE_URL"], proxyAddress))
		if _, err := listener.Exec(t.Context(), "listen hubspot_contacts"); err != nil {
			t.Error(err)
		}
		lines := strings.Split(strings.TrimSpace(relay.stderr.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "another role than proxy") || !strings.Contains(lines[1], "msg=serving") {
			t.Errorf("token %q: the log says\n%s", token, relay.stderr.String())
		}
		materializer.interrupt()
	}
}

func TestMissingScopeDegradesItsTableOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, sandbox.Config{WithheldScopes: []string{"crm.objects.deals.read"}}, nil)
	_, web := s.addresses(t)
	tables := ready(t, web)
	deals := tables["deals"]
	if deals.Phase != "degraded" || !strings.Contains(deals.Hint, "crm.objects.deals.read") {
		t.Errorf("deals: %+v", deals)
	}
	if contacts := tables["contacts"]; contacts.Phase != "live" || contacts.Rows != 20 || contacts.Error != "" {
		t.Errorf("contacts: %+v", contacts)
	}
}

func TestForeignTableIsNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Conn(t).Exec(t.Context(), "create schema hubspot; create table hubspot.deals as select 'mine' as thesis"); err != nil {
		t.Fatal(err)
	}
	s := serve(t, sandbox.Config{}, map[string]string{"HUBPG_DATABASE_URL": db.URL})
	_, web := s.addresses(t)
	var deals status.Table
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, body := get(t, web+"/status.json")
		var report status.Report
		if err := json.Unmarshal([]byte(body), &report); err != nil {
			t.Fatal(err)
		}
		for _, table := range report.Tables {
			if table.Name == "deals" {
				deals = table
			}
		}
		if deals.Error != "" || time.Now().After(deadline) {
			break
		}
	}
	if deals.Error == "" || deals.Hint == "" {
		t.Errorf("deals: %+v", deals)
	}
	var kept string
	if err := db.Conn(t).QueryRow(t.Context(), "select thesis from hubspot.deals").Scan(&kept); err != nil || kept != "mine" {
		t.Errorf("the user's table holds %q, %v", kept, err)
	}
}

func TestRestartOfPostgresInTheMiddleLosesNothing(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: pgtest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	s := serve(t, sandbox.Config{}, map[string]string{"HUBPG_DATABASE_URL": cluster.URL("postgres")})
	proxy, web := s.addresses(t)
	ready(t, web)
	if err := cluster.Restart(t.Context(), pgtest.Immediate); err != nil {
		t.Fatal(err)
	}
	id := s.account.Snapshot("contacts")[0].ID
	if err := s.account.Update("contacts", id, map[string]string{"jobtitle": "Head of Tests"}); err != nil {
		t.Fatal(err)
	}
	var title *string
	for deadline := time.Now().Add(time.Minute); title == nil || *title != "Head of Tests"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the change did not arrive:\n%s", s.stderr.String())
		}
		conn, err := pgx.Connect(t.Context(), proxied(s.env["HUBPG_DATABASE_URL"], proxy))
		if err != nil {
			continue
		}
		_ = conn.QueryRow(t.Context(), "select jobtitle from hubspot.contacts where id = $1", id).Scan(&title) // asked again
		_ = conn.Close(context.Background())
	}
	env := s.env
	if r := run(t, env, "verify"); r.status != exitDone {
		t.Errorf("verify: %+v", r)
	}
	if len(s.done) > 0 {
		t.Errorf("serve has ended: %s", s.stderr.String())
	}
}
