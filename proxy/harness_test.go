package proxy_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
)

// patience bounds every wait of a test: reaching it is a failure. It is long because the machine may be busy with other tests.
const patience = time.Minute

// expressVariable names the environment variable that sets [proxy.Config.ExpressAfter] of every proxy that does not say
// it by itself: 1 has the event loop carry whatever it can, as tests do without the variable; -1 nothing.
const expressVariable = "HUBPG_EXPRESS_AFTER"

func TestMain(m *testing.M) {
	if database := os.Getenv(aloneVariable); database != "" {
		os.Exit(serveAlone(database))
	}
	if os.Getenv(childDatabase) != "" {
		log.Fatal(serveAsChild())
	}
	goleak.VerifyTestMain(pgtest.Wrap(m))
}

// rig is a proxy in front of a database of its own.
type rig struct {
	t      testing.TB
	db     *pgtest.DB
	server *proxy.Server
	log    *logBook
	stop   func() error // ends Run and returns what it returned
}

// newRig starts a proxy on a free port in front of db; nil is a fresh database with hubpg's schema.
func newRig(t testing.TB, db *pgtest.DB, change func(*proxy.Config)) *rig {
	t.Helper()
	if db == nil {
		db = pgtest.Migrated(t, migrations.Up)
	}
	r := &rig{t: t, db: db, log: &logBook{}}
	cfg := proxy.Config{
		Listen: "127.0.0.1:0", Upstream: db.URL, Changes: db.Pool(t), DrainTimeout: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if _, ok := t.(*testing.T); ok {
		cfg.ExpressAfter = 1
	}
	if text := os.Getenv(expressVariable); text != "" {
		after, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", expressVariable, err)
		}
		cfg.ExpressAfter = after
	}
	if change != nil {
		change(&cfg)
	}
	server, err := proxy.New(cfg)
	if err != nil {
		t.Fatalf("new proxy: %v", err)
	}
	r.server = server
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("run proxy: %v", err)
		}
		if t.Failed() {
			t.Logf("proxy log:\n%s", r.log.String())
		}
	})
	return r
}

// logBook keeps the proxy's log for failures and for tests that read it.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// url is the database's address through the proxy with parameters like "sslmode=require".
func (r *rig) url(params ...string) string {
	u, err := url.Parse(r.db.URL)
	if err != nil {
		r.t.Fatalf("parse url: %v", err)
	}
	u.Host = r.server.Addr().String()
	query := u.Query()
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		query.Set(name, value)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// connect opens a connection through the proxy, closed when the test ends.
func (r *rig) connect(params ...string) *pgx.Conn {
	r.t.Helper()
	return open(r.t, r.url(params...), nil)
}

func open(t testing.TB, address string, change func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatalf("parse %s: %v", address, err)
	}
	if change != nil {
		change(config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatalf("connect through proxy: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = conn.Close(ctx) // a test may have broken it on purpose
	})
	return conn
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) pgconn.CommandTag {
	t.Helper()
	tag, err := conn.Exec(deadline(t), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag
}

func value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(deadline(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// dial opens a bare connection to the proxy.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := net.DialTimeout("tcp", r.server.Addr().String(), patience)
	if err != nil {
		r.t.Fatalf("dial proxy: %v", err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatalf("set deadline: %v", err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// change appends n changes of a deal's stage to the log in one transaction, the way the applier does.
func (r *rig) change(conn *pgx.Conn, n int) (last int64) {
	r.t.Helper()
	ctx := deadline(r.t)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for range n {
			err := tx.QueryRow(ctx, `
with next as (update hubpg.change_counter set last = last + 1 returning last)
insert into hubpg.changes (seq, schema_name, table_name, record_id, op, changed, before, after, source)
select last, 'hubspot', 'deals', 1000 + last, 'update', '{dealstage}', '{"dealstage":"a"}', '{"dealstage":"b"}', 'follow'
from next
returning seq`).Scan(&last)
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "notify hubpg_wake")
		return err
	})
	if err != nil {
		r.t.Fatalf("append change: %v", err)
	}
	return last
}

func notice(seq int64) string {
	return fmt.Sprintf(`{"seq":%d,"table":"deals","id":%d,"op":"update","changed":["dealstage"],`+
		`"before":{"dealstage":"a"},"after":{"dealstage":"b"}}`, seq, 1000+seq)
}
