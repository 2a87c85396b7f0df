package pgtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// shared is the one cluster of a test process. It is package state because tests have no other place in common.
var shared = &sharedCluster{templates: map[uintptr]*template{}}

// sharedCluster starts on first use and stops in [Main].
type sharedCluster struct {
	mu        sync.Mutex // guards all below
	cluster   *Cluster
	dir       string
	admin     *pgxpool.Pool // creates and drops databases
	err       error         // why it could not start; every later test says the same
	templates map[uintptr]*template
}

// template is a database that a migration has been applied to.
type template struct {
	once sync.Once
	name string
	err  error
}

// Runner is what Main runs: *testing.M.
type Runner interface{ Run() int }

// Main runs the tests of a package, stops the shared cluster and exits. Call it from TestMain.
func Main(m Runner) { os.Exit(Wrap(m).Run()) }

// Wrap returns a Runner that stops the shared cluster after m has run, for goleak.VerifyTestMain.
func Wrap(m Runner) Runner { return wrapped{m} }

type wrapped struct{ m Runner }

// Run runs the tests, then stops the shared cluster.
func (w wrapped) Run() int {
	code := w.m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	return code
}

// Dir makes a directory for a data directory that the server's user can reach (the directories of testing.T are
// closed to it when tests run as root). It is removed when the test ends.
func Dir(t TB) string {
	t.Helper()
	dir, err := serverDir("hubpg-data-")
	if err != nil {
		t.Fatalf("create directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

const dirPrefix = "hubpg-pgtest-"

// serverDir makes a temporary directory, owned by the server's user, named with this process's id.
func serverDir(prefix string) (string, error) {
	acct, err := serverAccount()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", err
	}
	return dir, acct.own(dir)
}

// sweep removes the directories of test processes that were killed.
func sweep() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // only a malformed pattern fails
	for _, dir := range found {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || alive(pid) {
			continue
		}
		if server, err := readPID(dir); err != nil || server != 0 && alive(server) && isServer(server) {
			continue
		}
		_ = os.RemoveAll(dir) // another process may be sweeping too
	}
}

// get returns the running cluster and the pool of its superuser.
func (s *sharedCluster) get() (*Cluster, *pgxpool.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		s.err = s.start()
	}
	return s.cluster, s.admin, s.err
}

func (s *sharedCluster) start() error {
	sweep()
	dir, err := serverDir(dirPrefix)
	if err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	s.dir = dir
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := Start(ctx, ClusterConfig{Dir: dir})
	if err != nil {
		return fmt.Errorf("start shared cluster: %w", err)
	}
	pool, err := pgxpool.New(ctx, c.SocketURL("postgres"))
	if err == nil {
		_, err = pool.Exec(ctx, "create role "+Owner+" login")
	}
	if err != nil {
		_ = c.Kill()
		return fmt.Errorf("prepare shared cluster: %w", err)
	}
	s.cluster, s.admin = c, pool
	return nil
}

func (s *sharedCluster) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return nil
	}
	s.admin.Close()
	err := s.cluster.Kill() // the data is thrown away: no need for a clean end
	s.cluster.removeSocketDir()
	if err == nil {
		err = os.RemoveAll(s.dir)
	}
	s.cluster = nil
	return err
}

// clone makes a database of t from a template.
func (s *sharedCluster) clone(t TB, from string) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, admin, err := s.get()
	if err != nil {
		t.Fatalf("%v", err)
	}
	name := databaseName(t)
	if err := create(ctx, admin, name, from); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		// Left-over sessions are ended with the database; a failure costs only space in a temporary directory.
		_, _ = admin.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)")
	})
	return &DB{Name: name, URL: c.UserURL(Owner, "", name), AdminURL: c.URL(name), Cluster: c}
}

func create(ctx context.Context, admin *pgxpool.Pool, name, from string) error {
	_, err := admin.Exec(ctx, fmt.Sprintf("create database %s template %s owner %s",
		pgx.Identifier{name}.Sanitize(), pgx.Identifier{from}.Sanitize(), Owner))
	return err
}

// template returns the name of the database that up has been applied to, making it on the first call for key.
func (s *sharedCluster) template(t TB, key uintptr, up func(context.Context, *pgx.Conn) error) (string, error) {
	c, admin, err := s.get()
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	tpl := s.templates[key]
	if tpl == nil {
		tpl = &template{name: "template_" + strconv.Itoa(len(s.templates)+1)}
		s.templates[key] = tpl
	}
	s.mu.Unlock()
	tpl.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if tpl.err = create(ctx, admin, tpl.name, "template1"); tpl.err != nil {
			return
		}
		tpl.err = migrate(ctx, c.UserURL(Owner, "", tpl.name), up)
	})
	return tpl.name, tpl.err
}

func migrate(ctx context.Context, url string, up func(context.Context, *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := up(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return err
	}
	return conn.Close(ctx) // a template that somebody is connected to cannot be cloned
}
