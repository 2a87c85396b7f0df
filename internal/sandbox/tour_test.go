package sandbox_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// clientHome is where .ci/drivers installs HubSpot's own client.
func clientHome(t *testing.T) string {
	t.Helper()
	home := os.Getenv("HUBPG_DRIVERS")
	if home == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("find cache: %v", err)
		}
		home = filepath.Join(cache, "hubpg", "drivers")
	}
	home = filepath.Join(home, "hubspot")
	if _, err := os.Stat(filepath.Join(home, ".installed")); err != nil {
		if os.Getenv("HUBPG_DRIVERS_REQUIRED") != "" {
			t.Fatalf("HubSpot's own client is not installed: %v", err)
		}
		t.Skip("HubSpot's own client is not installed: run .ci/drivers")
	}
	return home
}

// TestTheOfficialClientMakesItsTour lets HubSpot's client for node, @hubspot/api-client, use everything that it has in
// common with the sandbox. What each stop expects is in testdata/tour.js.
func TestTheOfficialClientMakesItsTour(t *testing.T) {
	t.Parallel()
	home := clientHome(t)
	server := httptest.NewServer(sandbox.New(sandbox.Config{Contacts: 150, Quiet: true, Limits: true}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "tour.js", server.URL, sandbox.DefaultToken, sandbox.DefaultClientID, sandbox.DefaultClientSecret)
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(home, "node_modules"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("node: %v\n%s", err, out)
	}
	var stops []string
	for line := range strings.Lines(string(out)) {
		if stop, ok := strings.CutPrefix(strings.TrimSpace(line), "ok: "); ok {
			stops = append(stops, stop)
		}
	}
	if want := []string{
		"list every contact", "search in pages", "create, read, change, merge and archive", "batches", "a refusal carries the codes",
		"associations and labels", "properties and groups", "schemas", "owners", "pipelines and stages", "lists and members",
		"forms, emails", "sign-in",
	}; !slices.Equal(stops, want) {
		t.Errorf("the tour went by %q\n%s", stops, out)
	}
}
