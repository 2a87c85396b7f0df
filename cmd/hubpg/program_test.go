package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// buffer is a stream that may be read while it is written.
type buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// result is what a finished command left.
type result struct {
	status         int
	stdout, stderr string
}

// running is a command under way.
type running struct {
	stdout, stderr buffer
	interrupt      context.CancelFunc
	hangup         chan struct{}
	done           chan int
}

// start runs a command in this process, in an environment of its own.
func start(t testing.TB, env map[string]string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{interrupt: cancel, hangup: make(chan struct{}), done: make(chan int, 1)}
	p := &Program{Stdout: &r.stdout, Stderr: &r.stderr, Hangup: r.hangup, LookupEnv: func(name string) (string, bool) {
		text, ok := env[name]
		return text, ok
	}}
	go func() { r.done <- p.Run(ctx, args) }() // ended by wait, which every test reaches through Cleanup
	t.Cleanup(func() { cancel(); <-r.done; close(r.done) })
	return r
}

// wait returns when the command has ended.
func (r *running) wait(t *testing.T, limit time.Duration) result {
	t.Helper()
	select {
	case status := <-r.done:
		r.done <- status // for Cleanup
		return result{status, r.stdout.String(), r.stderr.String()}
	case <-time.After(limit):
		t.Fatalf("still running after %s\n%s%s", limit, r.stdout.String(), r.stderr.String())
		panic("unreachable")
	}
}

// line waits for a line of standard output that begins with name and returns the rest of it.
func (r *running) line(t *testing.T, name string, limit time.Duration) string {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		for line := range strings.Lines(r.stdout.String()) {
			if rest, ok := strings.CutPrefix(line, name+" "); ok && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(rest)
			}
		}
		if time.Now().After(deadline) || len(r.done) > 0 {
			t.Fatalf("no line %q\nstdout: %s\nstderr: %s", name, r.stdout.String(), r.stderr.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func run(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	return start(t, env, args...).wait(t, 90*time.Second)
}

// wants checks that a command failed as it should: with the status, in one line that says want, and one with the next step.
func (r result) wants(t *testing.T, status int, want string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	message, next, _ := strings.Cut(lastFailure(r.stderr), "\n")
	if !strings.HasPrefix(message, "hubpg: ") || !strings.Contains(message, want) {
		t.Errorf("the failure does not say %q:\n%s", want, r.stderr)
	}
	if !strings.HasPrefix(next, "  next: ") || strings.Count(next, "\n") != 1 {
		t.Errorf("no single next step:\n%s", r.stderr)
	}
	for _, leak := range []string{"goroutine ", "panic", "&{", "0xc0", ".go:", "pat-secret", "hidden-password"} {
		if strings.Contains(r.stderr, leak) {
			t.Errorf("%q is shown:\n%s", leak, r.stderr)
		}
	}
}

// lastFailure is standard error from the failure's line on.
func lastFailure(stderr string) string {
	at := strings.LastIndex(stderr, "hubpg: ")
	if at < 0 {
		return stderr
	}
	return stderr[at:]
}

func TestUsageErrorsEndWithStatusTwo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"command":       {[]string{"serv"}, `unknown command "serv"`},
		"flag":          {[]string{"serve", "--prozy"}, "unknown flag: --prozy"},
		"argument":      {[]string{"status", "now"}, `unexpected argument "now"`},
		"flag value":    {[]string{"demo", "--contacts", "many"}, `--contacts cannot be "many": it is a whole number`},
		"too large":     {[]string{"sandbox", "--contacts", "99999999999999999999"}, `--contacts cannot be "99999999999999999999"`},
		"duration":      {[]string{"sandbox", "--latency", "5"}, `--latency cannot be "5": it is a length of time`},
		"demo's proxy":  {[]string{"demo", "--proxy", "6543"}, `--proxy "6543" is not host:port`},
		"no proxy":      {[]string{"demo", "--proxy", ""}, "--proxy"},
		"demo's http":   {[]string{"demo", "--http", "x"}, "--http"},
		"demo's log":    {[]string{"demo", "--log-level", "loud"}, "--log-level"},
		"contacts":      {[]string{"demo", "--contacts", "0"}, "--contacts"},
		"limits":        {[]string{"sandbox", "--limits", "some"}, "--limits"},
		"latency":       {[]string{"sandbox", "--latency", "-1s"}, "--latency"},
		"verify's flag": {[]string{"verify", "--nothing"}, "--nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, nil, test.args...).wants(t, exitUsage, test.want)
		})
	}
}

func TestHelpFitsAScreen(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"demo", "-h"}, {"serve", "-h"}, {"sandbox", "-h"}, {"status", "-h"}, {"verify", "-h"}, {"config", "-h"}} {
		r := run(t, nil, args...)
		if lines := strings.Count(r.stdout, "\n"); r.status != exitDone || lines > 40 || lines < 5 {
			t.Errorf("%v: status %d, %d lines\n%s", args, r.status, lines, r.stdout)
		}
	}
}

// account serves a small simulated account.
func account(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(sandbox.New(sandbox.Config{Seed: 1, Contacts: 20, Quiet: true}))
	t.Cleanup(server.Close)
	return server.URL
}

// settings is an environment with which serve runs.
func settings(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{
		"HUBPG_HUBSPOT_URL": account(t), "HUBPG_HUBSPOT_TOKEN": sandbox.DefaultToken, "HUBPG_HUBSPOT_SHARE": "1",
		"HUBPG_HUBSPOT_LIMITS": "off", "HUBPG_DATABASE_URL": pgtest.New(t).URL, "HUBPG_LOG_LEVEL": "warn",
		"HUBPG_PROXY_LISTEN": "127.0.0.1:0", "HUBPG_HTTP_LISTEN": "127.0.0.1:0",
	}
}

func TestBadSettingsGiveOneLineAndTheNextStep(t *testing.T) {
	t.Parallel()
	lost := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(lost.Close)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	file := filepath.Join(t.TempDir(), "hubpg.yaml")
	if err := os.WriteFile(file, []byte("role: all\nproxy:\n  listne: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	readOnly := pgtest.New(t)
	if _, err := readOnly.AdminConn(t).Exec(t.Context(),
		fmt.Sprintf("alter database %q set default_transaction_read_only = on", readOnly.Name)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change map[string]string
		args   []string
		want   string
	}{
		"no database":          {change: map[string]string{"HUBPG_DATABASE_URL": ""}, want: "no database is given"},
		"unreachable database": {change: map[string]string{"HUBPG_DATABASE_URL": "postgres://u:hidden-password@127.0.0.1:1/d"}, want: "connection refused"},
		"unknown host":         {change: map[string]string{"HUBPG_DATABASE_URL": "postgres://u@nowhere.invalid/d"}, want: "does not resolve"},
		"unknown role":         {change: map[string]string{"HUBPG_DATABASE_URL": strings.Replace(readOnly.URL, pgtest.Owner, "nobody_knows", 1)}, want: "nobody_knows"},
		"read-only database":   {change: map[string]string{"HUBPG_DATABASE_URL": readOnly.URL}, want: "read-only"},
		"wrong token":          {change: map[string]string{"HUBPG_HUBSPOT_TOKEN": "pat-secret"}, want: "refuses the token"},
		"wrong path":           {change: map[string]string{"HUBPG_HUBSPOT_URL": lost.URL}, want: "404"},
		"nobody there":         {change: map[string]string{"HUBPG_HUBSPOT_URL": "http://127.0.0.1:1"}, want: "HubSpot cannot be reached"},
		"unreadable url":       {change: map[string]string{"HUBPG_DATABASE_URL": "postgres://u:hidden-password@h/d?sslmode=funny"}, want: "cannot be understood: sslmode is invalid"},
		"no url":               {change: map[string]string{"HUBPG_HUBSPOT_URL": "api.hubapi.com"}, want: "hubspot.url"},
		"unknown key":          {args: []string{"--config", file}, want: file + ":3"},
		"no file":              {args: []string{"--config", file + ".old"}, want: "no such file"},
		"proxy port":           {change: map[string]string{"HUBPG_PROXY_LISTEN": taken.Addr().String()}, want: "the proxy cannot listen on " + taken.Addr().String()},
		"http port":            {change: map[string]string{"HUBPG_HTTP_LISTEN": taken.Addr().String()}, want: "the status page cannot listen on " + taken.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := settings(t)
			maps.Copy(env, test.change)
			run(t, env, append([]string{"serve"}, test.args...)...).wants(t, exitFailed, test.want)
		})
	}
	t.Run("sandbox port", func(t *testing.T) {
		t.Parallel()
		run(t, nil, "sandbox", "--listen", taken.Addr().String()).wants(t, exitFailed, "the port is in use")
	})
	for _, flag := range []string{"--proxy", "--http"} {
		t.Run("demo "+flag, func(t *testing.T) {
			t.Parallel()
			args := []string{"demo", "--data", pgtest.Dir(t), "--proxy", "127.0.0.1:0", "--http", "127.0.0.1:0", flag, taken.Addr().String()}
			r := run(t, nil, args...)
			r.wants(t, exitFailed, "the port is in use")
			if !strings.Contains(r.stderr, flag) {
				t.Errorf("the flag is not named: %s", r.stderr)
			}
		})
	}
}

func TestStatusOfADatabaseWithoutHubpgSaysSo(t *testing.T) {
	t.Parallel()
	run(t, map[string]string{"HUBPG_DATABASE_URL": pgtest.New(t).URL}, "status").wants(t, exitFailed, "no hubpg schema")
}

func TestConfigPrintsTheSettingsInForce(t *testing.T) {
	t.Parallel()
	r := run(t, map[string]string{"HUBPG_HUBSPOT_TOKEN": "pat-secret"}, "config", "--role", "proxy")
	if r.status != exitDone || !strings.Contains(r.stdout, "role: proxy # --role") || strings.Contains(r.stdout, "pat-secret") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestVersionIsPrinted(t *testing.T) {
	t.Parallel()
	if r := run(t, nil, "version"); r.status != exitDone || !strings.HasPrefix(r.stdout, "hubpg ") {
		t.Errorf("%+v", r)
	}
}

func TestSandboxAnswersAtTheAddressItPrints(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "sandbox", "--listen", "127.0.0.1:0", "--contacts", "20", "--token", "pat-test")
	url := r.line(t, "ready", 30*time.Second)
	for token, want := range map[string]int{"pat-test": http.StatusOK, "other": http.StatusUnauthorized} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/crm/v3/objects/contacts", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("token %s: status %d, want %d", token, resp.StatusCode, want)
		}
	}
	r.interrupt()
	if got := r.wait(t, 10*time.Second); got.status != exitDone {
		t.Errorf("interrupted: %+v", got)
	}
}
