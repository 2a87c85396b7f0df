package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"
)

// driverSuite is a driver's own tests, built by .ci/suites.
type driverSuite struct {
	dir, binary string
	setup       []string                                 // of its database
	env         func(port int, database string) []string // of how to get there
}

// suitesIn are the suites in a directory.
func suitesIn(root string) map[string]driverSuite {
	suites := map[string]driverSuite{
		"pq": {
			dir: filepath.Join(root, "pq"), binary: filepath.Join(root, "bin", "pq.test"),
			env: func(port int, database string) []string {
				return []string{"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(port), "PGUSER=postgres", "PGDATABASE=" + database, "PGSSLMODE=disable"}
			},
		},
	}
	for _, name := range []string{".", "pgconn", "pgxpool", "stdlib", "pgtype"} {
		dir := filepath.Join(root, "pgx", name)
		suites[filepath.Base(dir)] = driverSuite{
			dir: dir, binary: filepath.Join(root, "bin", filepath.Base(dir)+".test"),
			setup: []string{"create extension hstore", "create extension ltree", "create domain uint64 as numeric(20,0)"},
			env: func(port int, database string) []string {
				return []string{fmt.Sprintf("PGX_TEST_DATABASE=host=127.0.0.1 port=%d user=postgres database=%s sslmode=disable", port, database)}
			},
		}
	}
	return suites
}

// unlike are tests that pass directly only, and have to, before a version of Postgres: it has 3.2 of the protocol from 18 on, and this
// test holds that older ones have short cancel keys. The proxy's are long wherever the client speaks 3.2.
var unlike = map[string]int{"TestConnectProtocolVersion32": 180000}

// TestDriversPassTheirOwnSuitesAsOnPostgresItself runs the tests that Go's drivers come with directly and through a proxy that hears and
// writes for its database, with backends of their own and with kept ones, and compares what each test came to. HUBPG_SUITES is where
// .ci/suites has built them.
func TestDriversPassTheirOwnSuitesAsOnPostgresItself(t *testing.T) {
	root := os.Getenv("HUBPG_SUITES")
	if root == "" {
		t.Skip("HUBPG_SUITES names no built suites: run .ci/suites")
	}
	cluster, err := pgtest.Start(deadline(t), pgtest.ClusterConfig{
		Dir: filepath.Join(pgtest.Dir(t), "data"), Settings: map[string]string{"max_connections": "400", "max_prepared_transactions": "5"},
	})
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() { _ = cluster.Kill() })
	admin := open(t, cluster.URL("postgres"), nil)
	exec(t, admin, `create user " tricky, ' } "" \ test user " superuser password 'secret'`) // whom pgtype's tests name
	version := value[int](t, admin, "select current_setting('server_version_num')::int")
	for name, s := range suitesIn(root) {
		t.Run(name, func(t *testing.T) {
			ports := map[string]int{"direct": cluster.Port()}
			exec(t, admin, "create database "+name+"_direct")
			rigs := map[string]*rig{}
			for _, way := range []string{"through", "keeping"} {
				rigs[way] = newSuiteRig(t, cluster, name, way)
				ports[way] = rigs[way].server.Addr().(*net.TCPAddr).Port
			}
			results := s.runAll(t, cluster, name, ports)
			direct := results["direct"].passed
			if out := results["direct"].out; passing(direct) < max(50, len(direct)*9/10) || !endLine.Match(out) {
				t.Errorf("the suite itself does not do well here: %d of %d tests pass\n%s", passing(direct), len(direct), out)
			}
			for test, ok := range direct {
				if !ok {
					t.Logf("%s fails directly", test)
				}
			}
			for _, way := range []string{"through", "keeping"} {
				got := results[way]
				t.Logf("directly %d of %d tests pass, %s %d of %d", passing(direct), len(direct), way, passing(got.passed), len(got.passed))
				for test, ok := range direct {
					before, known := unlike[test]
					if excused := known && version < before; !ok || got.passed[test] || excused {
						continue
					}
					// Some depend on how busy the machine is, directly too.
					if s.passesAlone(t, test, ports[way], name+"_"+way) {
						t.Logf("%s: %s passes when it is run again", way, test)
						continue
					}
					t.Errorf("%s: %s passes directly only\n%s", way, test, got.excerpt(test))
				}
			}
			for way, r := range rigs {
				stats := r.server.Stats()
				t.Logf("%s: %d sessions, %d backends used again", way, stats.SessionsTotal, stats.Reused)
				if stats.Ended["panic"] != 0 || stats.SessionsTotal == 0 || (stats.Reused > 0) != (way == "keeping") {
					t.Errorf("%s: %d sessions panicked of %d, %d backends used again", way, stats.Ended["panic"], stats.SessionsTotal, stats.Reused)
				}
			}
		})
	}
}

// newSuiteRig starts a proxy for a suite's database that has hubpg's schema.
func newSuiteRig(t *testing.T, cluster *pgtest.Cluster, name, way string) *rig {
	t.Helper()
	db := &pgtest.DB{Name: name + "_" + way, Cluster: cluster}
	db.URL = cluster.URL(db.Name)
	exec(t, open(t, cluster.URL("postgres"), nil), "create database "+db.Name)
	if err := migrations.Up(deadline(t), open(t, db.URL, nil)); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return newRig(t, db, func(c *proxy.Config) {
		c.Writer = struct{ proxy.Writer }{} // there is nothing of HubSpot's to write to
		if way == "keeping" {
			c.Limits.KeptBackends = 8
		}
	})
}

// suiteResult is what each test came to, and all that they said.
type suiteResult struct {
	passed map[string]bool
	out    []byte
}

// runAll runs the suite each way at the same time, in a database for each: most of its tests wait most of the time.
func (s driverSuite) runAll(t *testing.T, cluster *pgtest.Cluster, name string, ports map[string]int) map[string]suiteResult {
	t.Helper()
	results := map[string]suiteResult{}
	var mu sync.Mutex // guards results
	var running sync.WaitGroup
	for way, port := range ports {
		database := name + "_" + way
		own := open(t, cluster.URL(database), nil)
		for _, sql := range s.setup {
			exec(t, own, sql)
		}
		running.Go(func() {
			begin := time.Now()
			out, err := s.run(t.Context(), port, database)
			t.Logf("%s: %v, %v", way, time.Since(begin).Round(time.Second), err)
			mu.Lock()
			defer mu.Unlock()
			results[way] = suiteResult{verdicts(out), out}
		})
	}
	running.Wait()
	return results
}

// passesAlone runs one test again, up to three times.
func (s driverSuite) passesAlone(t *testing.T, test string, port int, database string) bool {
	t.Helper()
	top, _, _ := strings.Cut(test, "/")
	for range 3 {
		out, err := s.run(t.Context(), port, database, "-test.run", "^"+top+"$")
		if err == nil && verdicts(out)[test] {
			return true
		}
	}
	return false
}

// run returns what the suite says, and how it ended.
func (s driverSuite) run(ctx context.Context, port int, database string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := osexec.CommandContext(ctx, s.binary, append(args, "-test.v", "-test.timeout", "8m")...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env(port, database)...)
	return cmd.CombinedOutput()
}

var (
	verdictLine = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+)`)
	endLine     = regexp.MustCompile(`(?m)^(PASS|FAIL)$`) // what all of them came to: not said by one that has panicked
	randomPart  = regexp.MustCompile(`\d{6,}`)            // of a name: that of a temporary directory
)

// verdicts reads which tests did not fail.
func verdicts(out []byte) map[string]bool {
	passed := map[string]bool{}
	for _, m := range verdictLine.FindAllSubmatch(out, -1) {
		passed[randomPart.ReplaceAllString(string(m[2]), "N")] = string(m[1]) != "FAIL"
	}
	return passed
}

// excerpt is what a test that failed has said, or how all of them ended.
func (r suiteResult) excerpt(test string) []byte {
	const before, behind = 1000, 2000
	i := bytes.Index(r.out, []byte("--- FAIL: "+test))
	if i < 0 {
		i = len(r.out)
	}
	return r.out[max(0, i-before):min(len(r.out), i+behind)]
}
