package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/pgtest"
)

// demo starts hubpg demo over dir.
func demo(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	return start(t, nil, append([]string{"demo", "--data", dir, "--proxy", "127.0.0.1:0", "--http", "127.0.0.1:0", "--contacts", "60"}, args...)...)
}

const readyWithin = 2 * time.Minute

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// patch changes a contact as an app would.
func patch(t *testing.T, sandboxURL string, id int64, property, value string) {
	t.Helper()
	patchRecord(t, sandboxURL, "contacts", id, property, value)
}

func patchRecord(t *testing.T, sandboxURL, table string, id int64, property, value string) {
	t.Helper()
	body := fmt.Sprintf(`{"properties":{%q:%q}}`, property, value)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch,
		sandboxURL+"/crm/v3/objects/"+table+"/"+strconv.FormatInt(id, 10), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sandbox")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("change a record of %s: %s", table, resp.Status)
	}
}

// expect waits for a notification that a contact was updated.
func expect(t *testing.T, conn *pgx.Conn, id int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("no notification about contact %d: %v", id, err)
		}
		var payload struct {
			Table string
			ID    int64
			Op    string
			After map[string]any
		}
		if err := json.Unmarshal([]byte(n.Payload), &payload); err != nil {
			t.Fatalf("payload %s: %v", n.Payload, err)
		}
		if payload.Table == "contacts" && payload.ID == id && payload.Op == "update" && payload.After["jobtitle"] == "Head of Tests" {
			return
		}
	}
}

func TestDemoServesListensStopsAndResumes(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	first := demo(t, dir, "--quiet-sandbox")
	proxy := first.line(t, "ready", readyWithin)
	sandboxURL := first.line(t, "sandbox", time.Second)

	app := connect(t, proxy)
	var contacts, id int64
	if err := app.QueryRow(t.Context(), "select count(*), min(id) from hubspot.contacts").Scan(&contacts, &id); err != nil {
		t.Fatal(err)
	}
	if contacts != 60 {
		t.Errorf("%d contacts, want 60", contacts)
	}
	listener := connect(t, proxy)
	direct := connect(t, first.line(t, "direct", time.Second))
	for _, conn := range []*pgx.Conn{listener, direct} {
		if _, err := conn.Exec(t.Context(), "listen hubspot_contacts"); err != nil {
			t.Fatal(err)
		}
	}
	patch(t, sandboxURL, id, "jobtitle", "Head of Tests")
	expect(t, listener, id)
	expect(t, direct, id)

	if r := run(t, nil, "demo", "--data", dir, "--proxy", "127.0.0.1:0", "--http", "127.0.0.1:0"); r.status != exitFailed {
		t.Errorf("a second demo over the same directory: %+v", r)
	} else {
		r.wants(t, exitFailed, "another hubpg demo")
	}

	first.interrupt()
	if r := first.wait(t, time.Minute); r.status != exitDone {
		t.Fatalf("interrupted: %+v", r)
	}
	gone(t, dir)

	second := demo(t, dir, "--quiet-sandbox")
	begin := time.Now()
	proxy = second.line(t, "ready", readyWithin)
	t.Logf("second run ready after %s", time.Since(begin).Round(time.Millisecond))
	var title string
	if err := connect(t, proxy).QueryRow(t.Context(), "select jobtitle from contacts where id = $1", id).Scan(&title); err != nil || title != "Head of Tests" {
		t.Errorf("the change is lost: %q, %v", title, err)
	}
	env := map[string]string{
		"HUBPG_HUBSPOT_URL": second.line(t, "sandbox", time.Second), "HUBPG_HUBSPOT_TOKEN": "sandbox",
		"HUBPG_HUBSPOT_LIMITS": "off", "HUBPG_DATABASE_URL": second.line(t, "direct", time.Second),
	}
	if r := run(t, env, "verify"); r.status != exitDone {
		t.Errorf("verify after the second run: %+v", r)
	}
	if r := run(t, env, "status", "--json"); r.status != exitDone || !strings.Contains(r.stdout, `"ready": true`) {
		t.Errorf("status: %+v", r)
	}
	if r := run(t, env, "status"); r.status != exitDone || !strings.Contains(r.stdout, "hubspot.contacts") {
		t.Errorf("status: %+v", r)
	}
}

// gone checks that no server is left over dir.
func gone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "postgres", "postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("a server was left behind: %v", err)
	}
}

func TestDemoEndsByItselfWhenAskedTo(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	r := demo(t, dir, "--exit-when-ready").wait(t, readyWithin)
	if r.status != exitDone || !strings.Contains(r.stdout, "\nready postgres://") {
		t.Errorf("%+v", r)
	}
	gone(t, dir)
	r = run(t, nil, "demo", "--data", dir, "--contacts", "61", "--proxy", "127.0.0.1:0", "--http", "127.0.0.1:0")
	r.wants(t, exitFailed, "holds a company of 60 contacts")
}

func TestPortsThatTheUserChoseAreNotTakenByOtherPartsOfTheDemo(t *testing.T) {
	t.Parallel()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	chosen := free.Addr().String()
	free.Close()
	release, err := reserve(t.Context(), demoOptions{proxy: chosen, http: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := listenPreferring(t.Context(), chosen)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if other.Addr().String() == chosen {
		t.Error("the sandbox would listen where the proxy is going to")
	}
	release()
	if _, err = reserve(t.Context(), demoOptions{proxy: chosen, http: chosen}); err == nil || !strings.Contains(explain(err).hint, "--http") {
		t.Errorf("both on one port: %v", err)
	}
}

func TestDataDirectoriesThatCannotBeUsedAreNamedWithTheirRemedy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"lock cannot be made": {func(dir string) error { return os.Mkdir(filepath.Join(dir, "lock"), 0o700) }, "cannot write to data directory"},
		"foreign files": {func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "postgres"), 0o700), os.WriteFile(filepath.Join(dir, "postgres", "mine"), nil, 0o600))
		}, "neither empty nor Postgres's"},
		"no version": {func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "postgres"), 0o700), os.WriteFile(filepath.Join(dir, "postgres", "PG_VERSION"), nil, 0o600))
		}, "PG_VERSION is empty"},
		"not a directory": {func(dir string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600))
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(pgtest.Dir(t), "data")
			if err := errors.Join(os.Mkdir(dir, 0o755), test.make(dir)); err != nil {
				t.Fatal(err)
			}
			r := demo(t, dir).wait(t, readyWithin)
			r.wants(t, exitFailed, test.want)
			if strings.Contains(r.stderr, "another hubpg demo") {
				t.Errorf("nobody uses it: %s", r.stderr)
			}
		})
	}
}

func TestDemoInterruptedBeforePostgresIsThereSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := pgtest.Start(ctx, pgtest.ClusterConfig{Dir: pgtest.Dir(t)})
	if f := explain(err); f.message != "interrupted" {
		t.Errorf("got %q", f.message)
	}
}

func TestDemoRefillsAMirrorThatIsAheadOfItsSandbox(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	if r := demo(t, dir, "--exit-when-ready", "--quiet-sandbox").wait(t, readyWithin); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	// What a kill leaves: the mark of a running demo.
	if err := os.WriteFile(filepath.Join(dir, dirtyFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again := demo(t, dir, "--quiet-sandbox")
	again.line(t, "ready", readyWithin)
	env := map[string]string{
		"HUBPG_HUBSPOT_URL": again.line(t, "sandbox", time.Second), "HUBPG_HUBSPOT_TOKEN": "sandbox",
		"HUBPG_HUBSPOT_LIMITS": "off", "HUBPG_DATABASE_URL": again.line(t, "direct", time.Second),
	}
	if r := run(t, env, "verify"); r.status != exitDone {
		t.Errorf("verify: %+v", r)
	}
}

func TestDemoRefusesADataDirectoryOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	if err := os.Mkdir(filepath.Join(dir, "postgres"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postgres", "PG_VERSION"), []byte("9.6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	demo(t, dir).wait(t, time.Minute).wants(t, exitFailed, "was made by Postgres 9.6")
}

func TestDemoNamesThePathThatHoldsNoBinaries(t *testing.T) {
	t.Setenv(pgtest.BinariesVariable, t.TempDir())
	demo(t, pgtest.Dir(t)).wait(t, time.Minute).wants(t, exitFailed, pgtest.BinariesVariable)
}
