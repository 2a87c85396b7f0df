package materialize_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
	"hubpg/migrations"
)

// world is a simulated account, a database, and what it takes to keep one in the other.
type world struct {
	t     testing.TB
	hub   *sandbox.Server
	url   string // of the API
	in    string // schema of the account's tables, where the database has others
	db    *pgtest.DB
	dbURL string
	pool  *pgxpool.Pool
	ids   map[string][]int64 // live records that scramble knows, by type
	boats string             // type id of a custom object, where there is one

	boatLink int // the association type from boats to contacts
}

func newWorld(t testing.TB, cfg sandbox.Config) *world {
	t.Helper()
	return newWorldOn(t, cfg, pgtest.Migrated(t, migrations.Up))
}

func newWorldOn(t testing.TB, cfg sandbox.Config, db *pgtest.DB) *world {
	t.Helper()
	cfg.Quiet = true
	hub := sandbox.New(cfg)
	api := httptest.NewServer(hub)
	t.Cleanup(api.Close)
	w := &world{t: t, hub: hub, url: api.URL, db: db, dbURL: sized(db.URL, 16)}
	w.pool = w.newPool()
	return w
}

// sized sets the size of the pools that are opened with url.
func sized(url string, conns int) string {
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	return url + sep + "pool_max_conns=" + strconv.Itoa(conns)
}

func (w *world) newPool() *pgxpool.Pool {
	w.t.Helper()
	pool, err := pgxpool.New(context.Background(), w.dbURL)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(pool.Close)
	return pool
}

// fastPace makes everything happen within a test.
func fastPace() materialize.Pace {
	return materialize.Pace{
		Busy: 50 * time.Millisecond, Idle: 500 * time.Millisecond, Overlap: 3 * time.Second,
		Trailing: 2 * time.Second, Schema: 2 * time.Second, Archived: time.Second, IDs: 2 * time.Second,
		Pairs: 4 * time.Second, Pending: 100 * time.Millisecond, Retry: time.Second, Step: 5 * time.Second,
	}
}

// slowSweeps is fastPace without the lanes that would find a change by looking at everything.
func slowSweeps() materialize.Pace {
	p := fastPace()
	p.Trailing, p.IDs, p.Pairs, p.Archived = time.Hour, time.Hour, time.Hour, time.Hour
	return p
}

func (w *world) config() materialize.Config {
	w.t.Helper()
	client, err := hubapi.New(w.url, hubapi.StaticToken("sandbox"),
		hubapi.WithRetry(hubapi.RetryPolicy{}), hubapi.WithInactivity(10*time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	return materialize.Config{
		Pool: w.newPool(), Client: client, Pace: fastPace(), BackfillEvents: true, RowNotify: false, Fetchers: 4,
		Remember: 10_000, // the default costs half a second of each start under the race detector
		Logger:   logger(w.t),
	}
}

// logger writes to the test's log when it is verbose.
func logger(t testing.TB) *slog.Logger {
	if !testing.Verbose() || os.Getenv("HUBPG_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()})).With("test", t.Name())
}

func logLevel() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(os.Getenv("HUBPG_TEST_LOG"))) // info when it is not a level
	return level
}

// start runs an engine and returns what stops it and waits for it.
func (w *world) start(cfg materialize.Config) (stop func()) {
	w.t.Helper()
	e, err := materialize.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("engine ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			w.t.Error("engine did not stop")
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// eventually waits until check says "".
func eventually(t testing.TB, within time.Duration, check func() string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %s", within, problem)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitLive waits until every object table of the account that has a table is complete.
func (w *world) awaitLive(within time.Duration, tables ...string) {
	w.t.Helper()
	eventually(w.t, within, func() string {
		list, err := materialize.Status(context.Background(), w.pool)
		if err != nil {
			return err.Error()
		}
		live := map[string]bool{}
		var waiting []string
		for _, s := range list {
			live[s.Table] = s.Phase == "live"
			if s.Phase != "live" && s.Phase != "degraded" && len(tables) == 0 {
				waiting = append(waiting, fmt.Sprintf("%s %s %s", s.Table, s.Phase, s.LastError))
			}
		}
		for _, name := range tables {
			if !live[name] {
				waiting = append(waiting, name)
			}
		}
		if len(list) == 0 {
			return "no tables"
		}
		if len(waiting) > 0 {
			return "not live: " + strings.Join(waiting, ", ")
		}
		return ""
	})
}

func (w *world) catalog() *mirror.Catalog {
	w.t.Helper()
	cat, err := w.loadCatalog(context.Background(), w.pool)
	if err != nil {
		w.t.Fatal(err)
	}
	return cat
}

func (w *world) loadCatalog(ctx context.Context, q mirror.Querier) (*mirror.Catalog, error) {
	var portal int64
	if err := q.QueryRow(ctx, `select portal_id from hubpg.accounts where $1 in ('', schema_name)`, w.in).Scan(&portal); err != nil {
		return nil, err
	}
	return mirror.Load(ctx, q, portal)
}

// awaitEqual waits until the tables are what HubSpot has.
func (w *world) awaitEqual(within time.Duration, tables ...string) {
	w.t.Helper()
	eventually(w.t, within, func() string { return w.difference(tables...) })
}

// difference compares tables, all of them by default, with the account's truth, value by value.
func (w *world) difference(tables ...string) string {
	w.t.Helper()
	cat, err := w.loadCatalog(context.Background(), w.pool)
	if err != nil {
		return err.Error()
	}
	if len(cat.Tables) == 0 {
		return "no tables"
	}
	for _, t := range cat.Tables {
		if len(tables) > 0 && !slices.Contains(tables, t.Name) {
			continue
		}
		if d := w.tableDifference(t); d != "" {
			return t.Name + ": " + d
		}
	}
	return ""
}

// compared is how many records are compared at once, as JSON: a temporary table of all columns would have to be made known
// to every backend of the server, hundreds of times.
const compared = 10_000

func (w *world) tableDifference(t *catalog.Table) string {
	records, after := []sandbox.Record{}, int64(math.MinInt64)
	for r := range w.hub.Records(t.Path) {
		if r.Archived {
			continue
		}
		if records = append(records, r); len(records) == compared {
			if d := w.recordsDifference(t, records, after, r.ID); d != "" {
				return d
			}
			records, after = records[:0], r.ID
		}
	}
	if d := w.recordsDifference(t, records, after, math.MaxInt64); d != "" {
		return d
	}
	var counted, counts int64
	if err := w.pool.QueryRow(context.Background(), `
select (select count(*) from `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+` t where `+mirror.Live(t)+`), row_count
from hubpg.objects
join hubpg.accounts using (portal_id)
where table_name = $1 and schema_name = $2`, t.Name, t.Schema).Scan(&counted, &counts); err != nil {
		return err.Error()
	}
	if counted != counts {
		return fmt.Sprintf("%d rows, counted %d", counted, counts)
	}
	return ""
}

// recordsDifference compares the rows with ids behind after and up to upTo with the records that there should be.
func (w *world) recordsDifference(t *catalog.Table, records []sandbox.Record, after, upTo int64) string {
	columns := t.Readable()
	var declare, compare strings.Builder
	for i, c := range columns {
		name := "c" + strconv.Itoa(i)
		declare.WriteString(", " + name + " text")
		if !c.Overflow {
			col := pgx.Identifier{c.Name}.Sanitize()
			fmt.Fprintf(&compare, ", case when t.%s is distinct from e.%s::%s then %s end", col, name, c.Kind.SQL(),
				"'"+c.Name+"'")
		}
	}
	expected := make([]map[string]any, len(records))
	for i, r := range records {
		expected[i] = map[string]any{"id": r.ID, "created_at": r.CreatedAt, "updated_at": r.UpdatedAt}
		for j, c := range columns {
			raw := r.Properties[c.Property]
			if text, ok := c.Kind.AppendText(nil, []byte(raw)); raw != "" && ok {
				expected[i]["c"+strconv.Itoa(j)] = string(text)
			}
		}
	}
	var missing, extra, differing int
	var example string
	err := w.pool.QueryRow(context.Background(), `
select count(*) filter (where t.id is null), count(*) filter (where e.id is null),
       count(*) filter (where t.id = e.id and (t.updated_at is distinct from e.updated_at or d.names <> '{}')),
       coalesce(min(coalesce(e.id, t.id) || ' ' || d.names::text || ' ' || (t.updated_at is distinct from e.updated_at)::text)
         filter (where t.id is null or e.id is null or t.updated_at is distinct from e.updated_at or d.names <> '{}'), '')
from (select * from `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+` t where `+mirror.Live(t)+` and t.id > $2 and t.id <= $3) t
full join json_to_recordset($1) as e (id bigint, created_at timestamptz, updated_at timestamptz`+declare.String()+`) on e.id = t.id
cross join lateral (select array_remove(array[null::text`+compare.String()+`], null) as names) d`, expected, after, upTo).
		Scan(&missing, &extra, &differing, &example)
	if err != nil {
		return err.Error()
	}
	if missing+extra+differing > 0 {
		return fmt.Sprintf("%d missing, %d too many, %d differ of %d, such as %s", missing, extra, differing, len(records), example)
	}
	return ""
}

// edgeDifference compares all association tables with the account's truth.
func (w *world) edgeDifference() string {
	w.t.Helper()
	cat, err := w.loadCatalog(context.Background(), w.pool)
	if err != nil {
		return err.Error()
	}
	for _, p := range cat.Pairs {
		want := map[string]bool{}
		for _, e := range w.hub.Edges(p.A.Path, p.B.Path) {
			want[fmt.Sprintf("%d>%d %d %s %s", e.From, e.To, e.TypeID, e.Category, e.Label)] = true
		}
		rows, err := w.pool.Query(context.Background(), `
select `+pgx.Identifier{p.ColumnA()}.Sanitize()+`, `+pgx.Identifier{p.ColumnB()}.Sanitize()+`, type_id, category, coalesce(label, '')
from `+pgx.Identifier{p.Schema, p.Name}.Sanitize())
		if err != nil {
			return err.Error()
		}
		var (
			a, b            int64
			typeID          int
			category, label string
			extra           string
		)
		if _, err := pgx.ForEachRow(rows, []any{&a, &b, &typeID, &category, &label}, func() error {
			key := fmt.Sprintf("%d>%d %d %s %s", a, b, typeID, category, label)
			if !want[key] {
				extra = key
			}
			delete(want, key)
			return nil
		}); err != nil {
			return err.Error()
		}
		if extra != "" {
			return p.Name + " has " + extra
		}
		for key := range want {
			return fmt.Sprintf("%s lacks %s and %d more", p.Name, key, len(want)-1)
		}
	}
	return ""
}
