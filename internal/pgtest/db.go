package pgtest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TB is the part of testing.TB that this package needs; it is named here so that hubpg itself does not link the
// testing package.
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Owner is the role that owns every test database. It may log in and create databases' contents, nothing more.
const Owner = "hubpg_owner"

// DB is a database of one test, dropped when the test ends.
type DB struct {
	Name     string
	URL      string // as [Owner]
	AdminURL string // as a superuser
	Cluster  *Cluster
}

// New makes an empty database in the process's shared cluster.
func New(t TB) *DB {
	t.Helper()
	return shared.clone(t, "template1")
}

// Migrated makes a database that up has been applied to. up runs once per process, as [Owner], and every test gets
// a copy of the result.
func Migrated(t TB, up func(context.Context, *pgx.Conn) error) *DB {
	t.Helper()
	template, err := shared.template(t, reflect.ValueOf(up).Pointer(), up)
	if err != nil {
		t.Fatalf("migrate template database: %v", err)
	}
	return shared.clone(t, template)
}

// Pool opens a pool as [Owner], closed when the test ends.
func (d *DB) Pool(t TB) *pgxpool.Pool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	pool, err := pgxpool.New(ctx, d.URL)
	if err != nil {
		t.Fatalf("open pool: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Conn opens a connection as [Owner], closed when the test ends.
func (d *DB) Conn(t TB) *pgx.Conn {
	t.Helper()
	return connect(t, d.URL)
}

// AdminConn opens a connection as a superuser, closed when the test ends.
func (d *DB) AdminConn(t TB) *pgx.Conn {
	t.Helper()
	return connect(t, d.AdminURL)
}

func connect(t TB, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // a test may have broken it on purpose
	})
	return conn
}

// databases numbers the databases of this process.
var databases atomic.Int64

func databaseName(t TB) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return '_'
		}
	}, t.Name())
	if len(name) > 48 {
		name = name[:48]
	}
	return fmt.Sprintf("t%d_%s", databases.Add(1), name)
}
