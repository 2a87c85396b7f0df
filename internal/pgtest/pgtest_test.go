package pgtest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestDatabasesOfTwoTestsAreSeparate(t *testing.T) {
	t.Parallel()
	one, two := pgtest.New(t), pgtest.New(t)
	run(t, one.Conn(t), "create table only_here (id int)")
	var found bool
	err := two.Conn(t).QueryRow(t.Context(), "select to_regclass('only_here') is not null").Scan(&found)
	if err != nil || found {
		t.Fatalf("table of another database is visible: %v, %v", found, err)
	}
}

func TestOwnerIsAnOrdinaryRole(t *testing.T) {
	t.Parallel()
	var super, createRole bool
	var owner string
	err := pgtest.New(t).Conn(t).QueryRow(t.Context(), `
select r.rolsuper, r.rolcreaterole, pg_get_userbyid(d.datdba)
from pg_roles r, pg_database d
where r.rolname = current_user and d.datname = current_database()`).Scan(&super, &createRole, &owner)
	if err != nil {
		t.Fatal(err)
	}
	if super || createRole || owner != pgtest.Owner {
		t.Errorf("superuser %v, createrole %v, owner %q", super, createRole, owner)
	}
}

// migrations counts the runs of migrateOnce; the claim is about the whole process.
var migrations atomic.Int32

func migrateOnce(ctx context.Context, conn *pgx.Conn) error {
	migrations.Add(1)
	_, err := conn.Exec(ctx, "create table migrated as select 1 as id")
	return err
}

func TestMigratedRunsTheMigrationOnce(t *testing.T) {
	t.Parallel()
	for range 3 {
		db := pgtest.Migrated(t, migrateOnce)
		run(t, db.Conn(t), "insert into migrated values (2)") // must not show in the next clone
		var n int
		if err := db.Conn(t).QueryRow(t.Context(), "select count(*) from migrated").Scan(&n); err != nil || n != 2 {
			t.Fatalf("clone has %d rows: %v", n, err)
		}
	}
	if n := migrations.Load(); n != 1 {
		t.Errorf("migration ran %d times", n)
	}
}

func TestCommittedRowsSurviveAKillAndAReuse(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	c := start(t, pgtest.ClusterConfig{Dir: dir})
	run(t, dial(t, c.URL("postgres")), "create table kept as select 1 as id; checkpoint; insert into kept values (2)")
	port := c.Port()
	if err := c.Restart(t.Context(), pgtest.Immediate); err != nil {
		t.Fatal(err)
	}
	if c.Port() != port {
		t.Errorf("port changed from %d to %d over a restart", port, c.Port())
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	c = start(t, pgtest.ClusterConfig{Dir: dir})
	var n int
	err := dial(t, c.URL("postgres")).QueryRow(t.Context(), "select count(*) from kept").Scan(&n)
	if err != nil || n != 2 {
		t.Fatalf("%d rows: %v", n, err)
	}
}

func TestDoneTellsThatTheServerIsGone(t *testing.T) {
	t.Parallel()
	c := start(t, pgtest.ClusterConfig{Dir: pgtest.Dir(t)})
	done := c.Done()
	select {
	case <-done:
		t.Fatal("done while running")
	default:
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("not done after a kill")
	}
}

func TestDataDirectoryOfAnotherVersionIsRefusedWithItsRemedy(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	write(t, filepath.Join(dir, "PG_VERSION"), "9.6\n")
	_, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: dir})
	version, ok := errors.AsType[*pgtest.VersionError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	if hint := version.Hint(); !strings.Contains(err.Error(), "9.6") || strings.Contains(hint, pgtest.BinariesVariable) || !strings.Contains(hint, "remove "+dir) {
		t.Errorf("error %q, hint %q: hubpg cannot use Postgres 9.6", err, hint)
	}
	write(t, filepath.Join(dir, "PG_VERSION"), "99\n")
	_, err = pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: dir})
	if version, ok = errors.AsType[*pgtest.VersionError](err); !ok || !strings.Contains(version.Hint(), pgtest.BinariesVariable) {
		t.Errorf("got %v", err)
	}
}

func TestForeignDirectoryIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	precious := filepath.Join(dir, "thesis.txt")
	write(t, precious, "words")
	if _, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: dir}); err == nil {
		t.Fatal("a directory with other files was accepted")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestStalePIDFileDoesNotPreventAStart(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	c := start(t, pgtest.ClusterConfig{Dir: dir})
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	// This very test process is alive and is no Postgres server: its number was reused, so to speak.
	write(t, filepath.Join(dir, "postmaster.pid"), strconv.Itoa(os.Getpid())+"\n"+dir+"\n")
	start(t, pgtest.ClusterConfig{Dir: dir})
}

func TestDirectoryInUseIsRefused(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	start(t, pgtest.ClusterConfig{Dir: dir})
	_, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: dir})
	busy, ok := errors.AsType[*pgtest.BusyError](err)
	if !ok || busy.PID == 0 {
		t.Fatalf("got %v", err)
	}
	if err := pgtest.StopOrphan(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	start(t, pgtest.ClusterConfig{Dir: dir})
}

func TestPortInUseIsNamed(t *testing.T) {
	t.Parallel()
	c := start(t, pgtest.ClusterConfig{Dir: pgtest.Dir(t)})
	_, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: pgtest.Dir(t), Port: c.Port()})
	if err == nil || !strings.Contains(err.Error(), "could not bind") {
		t.Fatalf("got %v", err)
	}
}

func TestHBADecidesWhoComesInOverTCP(t *testing.T) {
	t.Parallel()
	c := start(t, pgtest.ClusterConfig{Dir: pgtest.Dir(t), HBA: "host all app 127.0.0.1/32 scram-sha-256"})
	run(t, dial(t, c.SocketURL("postgres")), "create role app login password 'right'")
	run(t, dial(t, c.UserURL("app", "right", "postgres")), "select 1")
	for name, url := range map[string]string{
		"wrong password": c.UserURL("app", "wrong", "postgres"),
		"superuser":      c.URL("postgres"),
	} {
		if conn, err := pgx.Connect(t.Context(), url); err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%s was let in", name)
		}
	}
}

func TestLongPathStillHasASocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(pgtest.Dir(t), strings.Repeat("long", 30))
	c := start(t, pgtest.ClusterConfig{Dir: dir})
	run(t, dial(t, c.SocketURL("postgres")), "select 1")
}

func TestBinariesVariableIsBelieved(t *testing.T) {
	t.Setenv(pgtest.BinariesVariable, t.TempDir())
	_, err := pgtest.FindBinaries()
	if _, ok := errors.AsType[*pgtest.VariableError](err); !ok || errors.Is(err, pgtest.ErrNoBinaries) || !strings.Contains(err.Error(), pgtest.BinariesVariable) {
		t.Errorf("got %v", err)
	}
}

func start(t *testing.T, cfg pgtest.ClusterConfig) *pgtest.Cluster {
	t.Helper()
	c, err := pgtest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func dial(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
