//go:build npm

package sandbox_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

// TestTheOfficialClientMakesItsTour needs node, npm and the registry:
//
//	go test -tags npm -run TestTheOfficialClientMakesItsTour ./internal/sandbox
func TestTheOfficialClientMakesItsTour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "tour.js"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "npm", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
	server := httptest.NewServer(sandbox.New(sandbox.Config{Contacts: 150, Quiet: true, Limits: true}))
	defer server.Close()
	out := run("node", "tour.js", server.URL, sandbox.DefaultToken, sandbox.DefaultClientID, sandbox.DefaultClientSecret)
	if n := strings.Count(out, "ok: "); n != 10 {
		t.Errorf("%d stops of 10\n%s", n, out)
	}
	t.Log(out)
}
