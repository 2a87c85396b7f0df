package main

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
)

// browser is standard output read by someone who opens the address in it.
type browser struct {
	bytes.Buffer
	once sync.Once
	wg   sync.WaitGroup
}

var addressLine = regexp.MustCompile(`(?m)^  (http\S+)$`)

func (b *browser) Write(p []byte) (int, error) {
	n, err := b.Buffer.Write(p)
	if m := addressLine.FindSubmatch(b.Bytes()); m != nil {
		b.once.Do(func() {
			b.wg.Go(func() {
				if resp, err := http.Get(string(m[1])); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		})
	}
	return n, err
}

// appSettings is an environment that connects through the sandbox's app.
func appSettings(t *testing.T, cfg sandbox.Config) map[string]string {
	t.Helper()
	server := httptest.NewServer(sandbox.New(cfg))
	t.Cleanup(server.Close)
	return map[string]string{
		"HUBPG_HUBSPOT_URL": server.URL, "HUBPG_HUBSPOT_CLIENT_ID": sandbox.DefaultClientID,
		"HUBPG_HUBSPOT_CLIENT_SECRET": sandbox.DefaultClientSecret, "HUBPG_HUBSPOT_AUTHORIZE_URL": server.URL + "/oauth/authorize",
		"HUBPG_HUBSPOT_REDIRECT_URL": "http://127.0.0.1:0/callback", "HUBPG_DATABASE_URL": pgtest.New(t).URL,
		"HUBPG_SECRET_KEY": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32)), "HUBPG_LOG_LEVEL": "warn",
	}
}

func TestConnectedAccountNeedsNoToken(t *testing.T) {
	t.Parallel()
	env := appSettings(t, sandbox.Config{Seed: 1, Contacts: 20, Quiet: true, AutoApprove: true})
	run(t, env, "plan").wants(t, exitFailed, "no HubSpot account is connected")
	var out browser
	var errs strings.Builder
	p := &Program{Stdout: &out, Stderr: &errs, LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	if status := p.Run(t.Context(), []string{"connect"}); status != exitDone {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	out.wg.Wait()
	if !strings.Contains(out.String(), "Connected HubSpot account") {
		t.Errorf("output: %s", out.String())
	}
	if r := run(t, env, "plan"); r.status != exitDone || !strings.Contains(r.stdout, "contacts") {
		t.Errorf("plan: %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	env["HUBPG_SECRET_KEY"] = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))
	run(t, env, "plan").wants(t, exitFailed, "sealed with a key that is not in the keyring")
	env["HUBPG_SECRET_KEY"] = "too short"
	run(t, env, "connect").wants(t, exitFailed, "the secret key cannot be used")
}

func TestConnectWithoutAnAppSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HUBPG_DATABASE_URL": "postgres://127.0.0.1:1/x"}
	run(t, env, "connect").wants(t, exitFailed, "hubspot.client_id: no app")
	env["HUBPG_HUBSPOT_CLIENT_ID"] = "a"
	run(t, env, "connect").wants(t, exitFailed, "hubspot.client_secret")
	env["HUBPG_HUBSPOT_CLIENT_SECRET"], env["HUBPG_HUBSPOT_REDIRECT_URL"] = "b", "https://example.com/x"
	run(t, env, "connect").wants(t, exitFailed, "loopback")
}
