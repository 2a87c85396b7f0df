package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "hubpg"

// may lists, for each package of ours, which others of ours its code (not its tests) may import. A package that is not
// here may not exist: add it with a reason.
var may = map[string][]string{
	"hubapi":      nil, // HubSpot as it is; usable alone
	"materialize": {"hubapi", "internal/catalog", "internal/changes", "internal/budget", "internal/mirror"},
	"proxy":       {"internal/catalog", "internal/changes", "internal/handover", "internal/netloop", "internal/pgwire", "internal/scram", "internal/sqlstmt"},
	"migrations":  nil,

	"internal/archtest":  nil,
	"internal/budget":    nil,
	"internal/catalog":   nil,
	"internal/changes":   nil,
	"internal/config":    nil,
	"internal/handover":  nil,
	"internal/mirror":    {"internal/catalog", "internal/changes"}, // the one way into a table
	"internal/netloop":   nil,                                      // sockets; knows no protocol
	"internal/pgtest":    nil,
	"internal/pgwire":    nil,
	"internal/sandbox":   nil,
	"internal/scram":     nil, // pure: no I/O, no keys derived
	"internal/secret":    nil, // sealing; knows nothing of what is sealed
	"internal/signin":    nil, // its Sealer is given by cmd
	"internal/sqlstmt":   nil,
	"internal/status":    nil,
	"internal/telemetry": nil,
	"internal/writeback": {"hubapi", "internal/catalog", "internal/changes", "internal/mirror"},
}

// composition is where everything meets.
const composition = "cmd/"

// homes says which packages may import a dependency, by prefix of its path. Dependencies that are not here are free.
var homes = map[string]struct {
	packages []string
	reason   string
}{
	"github.com/jackc/pgx/v5/pgproto3":           {[]string{"internal/pgwire"}, "messages from strangers are decoded in one place, with caps"},
	"github.com/sqlc-dev/oliphant":               {[]string{"internal/sqlstmt"}, "SQL is parsed behind one depth guard"},
	"google.golang.org/protobuf":                 {[]string{"internal/sqlstmt"}, "the parser's trees are made of it"},
	"github.com/prometheus/":                     {[]string{"internal/telemetry"}, "metrics are named and explained in one place"},
	"github.com/goccy/go-yaml":                   {[]string{"internal/config"}, "one reader of the file"},
	"github.com/spf13/cobra":                     {[]string{"cmd/hubpg"}, "commands are a matter of the command line"},
	"github.com/spf13/pflag":                     {[]string{"internal/config"}, "flags are a source of settings"},
	"github.com/jackc/tern/":                     {[]string{"migrations"}, "the schema changes in one place"},
	"github.com/riverqueue/":                     {[]string{"materialize", "migrations"}, "jobs are lanes, and lanes are the materializer's"},
	"github.com/dgraph-io/ristretto/":            {[]string{"materialize", "proxy", "internal/sqlstmt"}, "a cache needs a reason"},
	"github.com/fergusstrange/embedded-postgres": {[]string{"cmd/hubpg"}, "only the demo may download binaries"},
	"github.com/cenkalti/backoff/":               {[]string{"hubapi", "materialize", "internal/budget", "proxy"}, "a loop that retries needs a reason"},
	"golang.org/x/oauth2":                        {[]string{"hubapi", "internal/signin", "cmd/hubpg"}, "tokens belong to the client and to who obtains them"},
	"github.com/jackc/pgproto3/v2":               {nil, "archived, with CVE-2026-32286; pgx/v5/pgproto3 replaces it"},
	"testing":                                    {nil, "the binary must not link the testing package"},
	"github.com/google/go-cmp":                   {nil, "for tests only"},
	"pgregory.net/rapid":                         {nil, "for tests only"},
	"go.uber.org/goleak":                         {nil, "for tests only"},
	"golang.org/x/net":                           {nil, "for tests only: what any net.Conn must do"},
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
}

// path is the package's path within the module.
func (p pkg) path() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

// packages lists all packages of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Imports,Deps", module+"/...")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, problems.String())
	}
	var list []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestPackagesImportOnlyWhomTheyMayKnow(t *testing.T) {
	t.Parallel()
	list := packages(t)
	if len(list) < 10 {
		t.Errorf("go list found only %d packages", len(list))
	}
	for _, p := range list {
		if strings.HasPrefix(p.path(), composition) {
			continue
		}
		allowed, known := may[p.path()]
		if !known {
			t.Errorf("package %s has no rule: say in this test whom it may know, and why it exists", p.path())
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s, which it may not know", p.path(), other)
			}
		}
	}
}

func TestProxyAndHubSpotNeverMeet(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, dep := range p.Deps {
			other := strings.TrimPrefix(dep, module+"/")
			switch {
			case p.path() == "proxy" && (other == "hubapi" || other == "materialize"),
				(p.path() == "materialize" || p.path() == "hubapi") && other == "proxy",
				strings.HasPrefix(p.path(), "internal/") && (dep == module+"/proxy" || dep == module+"/materialize"):
				t.Errorf("%s depends on %s: they meet in Postgres and in cmd only", p.path(), other)
			}
		}
	}
}

func TestDependenciesStayAtHome(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			for prefix, home := range homes {
				inside := imported == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(imported, strings.TrimSuffix(prefix, "/")+"/")
				if inside && !slices.Contains(home.packages, p.path()) {
					t.Errorf("%s imports %s: %s", p.path(), imported, home.reason)
				}
			}
		}
	}
}

func TestInternalPackagesAreInUse(t *testing.T) {
	t.Parallel()
	used := map[string]bool{"internal/archtest": true}
	list := packages(t)
	for _, p := range list {
		if p.Name != "main" {
			continue
		}
		for _, dep := range p.Deps {
			used[strings.TrimPrefix(dep, module+"/")] = true
		}
	}
	for _, p := range list {
		if p.Name != "main" && !used[p.path()] {
			t.Errorf("no command uses %s: dead code goes, or is wired", p.path())
		}
	}
}
