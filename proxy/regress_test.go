package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"
)

// unlikeDirectly are tests of the suite that pass directly only, and why.
var unlikeDirectly = map[string]string{
	"advisory_lock": "counts all advisory locks of the database, and sees that which marks a proxy as alive",
}

// TestRegressionSuitePassesAsOnPostgresItself runs Postgres's own regression tests in a database that has hubpg, directly and
// through a proxy that hears and writes for it, with kept backends and with backends of their own, as the same superuser,
// against one server, and compares what each test came to. Two fail each way: opr_sanity and type_sanity, which find fault with
// functions and tables that are not Postgres's. HUBPG_REGRESS is src/test/regress of a built source tree; .ci/regress makes one.
func TestRegressionSuitePassesAsOnPostgresItself(t *testing.T) {
	tree := os.Getenv("HUBPG_REGRESS")
	if tree == "" {
		t.Skip("HUBPG_REGRESS names no built regression suite: run .ci/regress")
	}
	dir := pgtest.Dir(t)
	cluster, err := pgtest.Start(deadline(t), pgtest.ClusterConfig{
		Dir: filepath.Join(dir, "data"),
		Settings: map[string]string{
			"shared_buffers": "128MB", "max_connections": "100", "max_prepared_transactions": "2",
		},
	})
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() { _ = cluster.Kill() })
	suite := installSuite(t, tree, dir)

	suite.renew(t, cluster)
	direct := suite.run(t, "direct", cluster.Port())
	if len(direct) < 150 || passing(direct) < len(direct)*9/10 {
		t.Errorf("the suite itself does not do well here: %d of %d tests pass", passing(direct), len(direct))
	}
	for _, name := range []string{"keeping", "through"} {
		db := suite.renew(t, cluster)
		kept := map[string]int{"keeping": 8}[name]
		r := newRig(t, db, func(c *proxy.Config) {
			c.Limits.KeptBackends = kept
			c.Writer = struct{ proxy.Writer }{} // there is nothing of HubSpot's to write to
		})
		through := suite.run(t, name, r.server.Addr().(*net.TCPAddr).Port)
		s := r.server.Stats()
		t.Logf("directly %d of %d tests pass, through the proxy %d of %d; %d backends used again",
			passing(direct), len(direct), passing(through), len(through), s.Reused)
		for test, ok := range direct {
			switch why := unlikeDirectly[test]; {
			case through[test] == ok:
			case ok && why != "":
				t.Logf("%s: %s passes directly only: it %s", name, test, why)
			default:
				t.Errorf("%s, %s: passes directly %v, through the proxy %v", name, test, ok, through[test])
				suite.show(t, name, test)
			}
		}
		if len(through) != len(direct) {
			t.Errorf("%s: %d tests ran directly, %d through the proxy", name, len(direct), len(through))
		}
		if s.Ended["panic"] != 0 || (s.Reused > 0) != (kept > 0) {
			t.Errorf("%d sessions panicked, %d backends used again", s.Ended["panic"], s.Reused)
		}
		if err := r.stop(); err != nil { // before its database goes
			t.Errorf("%s: %v", name, err)
		}
	}
}

// renew makes the suite's database anew, as the suite would have it, with hubpg in it.
func (s *suite) renew(t *testing.T, cluster *pgtest.Cluster) *pgtest.DB {
	t.Helper()
	admin := open(t, cluster.URL("postgres"), nil)
	exec(t, admin, "drop database if exists regression with (force)")
	exec(t, admin, "create database regression template template0")
	for _, setting := range []string{
		"lc_messages to 'C'", "lc_monetary to 'C'", "lc_numeric to 'C'", "lc_time to 'C'", "bytea_output to 'hex'",
		"timezone_abbreviations to 'Default'",
	} {
		exec(t, admin, "alter database regression set "+setting)
	}
	db := &pgtest.DB{Name: "regression", URL: cluster.URL("regression"), Cluster: cluster}
	if err := migrations.Up(deadline(t), open(t, db.URL, nil)); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return db
}

func passing(results map[string]bool) (n int) {
	for _, ok := range results {
		if ok {
			n++
		}
	}
	return n
}

// suite is a copy of the regression tests that the server's user may read and write beside.
type suite struct {
	tree, work string
	psql       string // directory of the client
	as         *syscall.Credential
}

// installSuite copies what the tests need to where the server can read it: they make it load files and libraries.
func installSuite(t *testing.T, tree, dir string) *suite {
	t.Helper()
	binaries, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatalf("find Postgres: %v", err)
	}
	s := &suite{tree: filepath.Join(dir, "regress"), work: dir, psql: binaries.Dir}
	if out, err := osexec.CommandContext(t.Context(), "cp", "-rL", tree, s.tree).CombinedOutput(); err != nil {
		t.Fatalf("copy the suite: %v\n%s", err, out)
	}
	if os.Geteuid() != 0 {
		return s
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatalf("stat %s: %v", dir, err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	s.as = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	account, err := user.LookupId(strconv.Itoa(int(owner.Uid)))
	if err != nil {
		t.Fatalf("look up the server's user: %v", err)
	}
	if out, err := osexec.CommandContext(t.Context(), "chown", "-R", account.Username, s.tree).CombinedOutput(); err != nil {
		t.Fatalf("give the suite to the server: %v\n%s", err, out)
	}
	return s
}

var (
	resultLine = regexp.MustCompile(`^(?:test |\s+)(\w+)\s+\.\.\. (ok|FAILED|failed)`)
	totalLine  = regexp.MustCompile(`All \d+ tests passed|\d+ of \d+ tests failed|differences that caused some tests to fail`)
)

// run runs the parallel schedule and tells of each test whether it passed.
func (s *suite) run(t *testing.T, name string, port int) map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	output := filepath.Join(s.work, name)
	if err := os.Mkdir(output, 0o755); err != nil {
		t.Fatalf("create %s: %v", output, err)
	}
	if s.as != nil {
		if err := os.Chown(output, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatalf("give %s to the server: %v", output, err)
		}
	}
	cmd := osexec.CommandContext(ctx, filepath.Join(s.tree, "pg_regress"),
		"--inputdir="+s.tree, "--outputdir="+output, "--dlpath="+s.tree, "--bindir="+s.psql,
		"--schedule="+filepath.Join(s.tree, "parallel_schedule"), "--max-concurrent-tests=20", "--no-locale", "--encoding=UTF8",
		"--host=127.0.0.1", "--port="+strconv.Itoa(port), "--user=postgres", "--dbname=regression", "--use-existing")
	cmd.Dir = output
	cmd.Env = append(os.Environ(), "PGSSLMODE=disable")
	if s.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("%s: %v", name, time.Since(begin).Round(time.Second))
	if !totalLine.Match(out) {
		t.Fatalf("%s: the suite did not finish: %v\n%s", name, err, out)
	}
	results := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if m := resultLine.FindStringSubmatch(lines.Text()); m != nil {
			results[m[1]] = m[2] == "ok"
			if m[2] != "ok" {
				t.Logf("%s: %s", name, strings.TrimSpace(lines.Text()))
			}
		}
	}
	return results
}

// show logs how the output of a test through the proxy differs from what it was directly.
func (s *suite) show(t *testing.T, run, name string) {
	t.Helper()
	out, _ := osexec.CommandContext(t.Context(), "diff", "-U3", // differences are its exit status
		filepath.Join(s.work, "direct", "results", name+".out"), filepath.Join(s.work, run, "results", name+".out")).CombinedOutput()
	t.Logf("%s", out[:min(len(out), 4000)])
}
