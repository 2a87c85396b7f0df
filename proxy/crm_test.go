package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const crmPortal = 4711

// crm is a rig whose proxy writes to a simulated HubSpot account, and the account.
type crm struct {
	*rig
	hub    *sandbox.Server
	hubURL string
	wire   *timed // what calls of HubSpot take
	writer *scribe
	pool   *pgxpool.Pool
	tables map[string]*catalog.Table
	apply  *mirror.Applier
	client *hubapi.Client
}

// timed adds up how long calls take, and counts those about records.
type timed struct {
	next  http.RoundTripper
	spent atomic.Int64 // nanoseconds
	calls atomic.Int64
	late  atomic.Pointer[func(*http.Request)] // called when HubSpot has carried out a request, before its answer arrives
}

func (w *timed) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/objects/") {
		w.calls.Add(1)
	}
	start := time.Now()
	defer func() { w.spent.Add(int64(time.Since(start))) }()
	answer, err := w.next.RoundTrip(r)
	if late := w.late.Load(); late != nil && err == nil {
		if (*late)(r); r.Context().Err() != nil {
			_ = answer.Body.Close() // nobody waits for it any more
			return nil, r.Context().Err()
		}
	}
	return answer, err
}

// scribe is the writer of the tests: the real one, watched and disturbed.
type scribe struct {
	*writeback.Writer

	mu      sync.Mutex // guards below
	asked   []proxy.WriteRequest
	settled map[int64]bool
	took    time.Duration // of the last Write
	hold    chan struct{} // if set, Write waits for it or for its context
	entered chan struct{} // if set, told when Write begins
	before  func()        // if set, called when Settle begins
}

func (s *scribe) Write(ctx context.Context, r proxy.WriteRequest) (proxy.WriteResult, error) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	hold, entered := s.hold, s.entered
	s.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return proxy.WriteResult{}, context.Cause(ctx)
		}
	}
	in := writeback.Request{
		Permit: r.Permit, PID: r.PID, Role: r.Role, Database: r.Database, Application: r.Application, Client: r.Client,
		SQL: r.SQL, DryRun: r.Mode == proxy.WriteDryRun, SkipBadRows: r.SkipBadRows,
	}
	for _, row := range r.Rows {
		in.Rows = append(in.Rows, writeback.Row(row))
	}
	start := time.Now()
	out, err := s.Writer.Write(ctx, in)
	s.mu.Lock()
	s.took = time.Since(start)
	s.mu.Unlock()
	result := proxy.WriteResult{ID: out.ID, Answers: out.Answers}
	for _, n := range out.Notices {
		result.Notices = append(result.Notices, proxy.WriteNotice(n))
	}
	if refused, ok := errors.AsType[*writeback.Error](err); ok {
		e := proxy.WriteError(*refused)
		return result, &e
	}
	return result, err
}

// settling has a function called whenever Settle begins; nil ends that.
func (s *scribe) settling(before func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *scribe) Settle(ctx context.Context, id int64, committed bool) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before()
	}
	err := s.Writer.Settle(ctx, id, committed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled[id] = committed
	return err
}

// requests returns what was asked so far.
func (s *scribe) requests() []proxy.WriteRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]proxy.WriteRequest(nil), s.asked...)
}

// spent is how long the last Write took.
func (s *scribe) spent() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took
}

// settlements returns what became of the writes settled so far.
func (s *scribe) settlements() map[int64]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.settled)
}

// newCRM mirrors an empty account and serves it. change may alter the proxy's configuration.
func newCRM(t testing.TB, change func(*proxy.Config)) *crm {
	t.Helper()
	return newCRMOf(t, sandbox.Config{}, change)
}

// newCRMOf is newCRM with a HubSpot that is as hub says.
func newCRMOf(t testing.TB, hub sandbox.Config, change func(*proxy.Config)) *crm {
	t.Helper()
	hub.Seed, hub.Empty, hub.Quiet, hub.PortalID = 1, true, true, crmPortal
	c := &crm{hub: sandbox.New(hub), tables: map[string]*catalog.Table{}}
	server := httptest.NewServer(c.hub)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	c.hubURL = server.URL
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	c.wire = &timed{next: server.Client().Transport}
	c.client, err = hubapi.New(server.URL, hubapi.StaticToken(sandbox.DefaultToken), hubapi.WithTransport(c.wire),
		hubapi.WithRetry(hubapi.RetryPolicy{Tries: 2, Initial: time.Millisecond}))
	must(err)
	db := pgtest.Migrated(t, migrations.Up)
	admin := db.AdminConn(t)
	for _, sql := range []string{
		`do $$ begin
  if not exists (select from pg_roles where rolname = 'app') then
    create role hubspot_reader; create role hubspot_writer; create role app login in role hubspot_writer;
  end if;
exception when unique_violation or duplicate_object then null; -- another database of the cluster was first
end $$`,
		"create schema app authorization app",
	} {
		_, err := admin.Exec(t.Context(), sql)
		must(err)
	}
	c.pool = db.Pool(t)
	mapper := mirror.NewMapper(mirror.MapperConfig{PortalID: crmPortal})
	must(mapper.EnsureAccount(t.Context(), c.pool))
	_, err = mapper.EnsureRoles(t.Context(), c.pool)
	must(err)
	must(mapper.EnsureLookups(t.Context(), c.pool))
	for _, typ := range hubapi.StandardTypes() {
		if typ.Name != "contacts" && typ.Name != "companies" && typ.Name != "deals" {
			continue
		}
		def := &mirror.ObjectDef{
			ObjectType: typ.TypeID, Name: typ.Name, Singular: typ.Singular, Path: typ.Name, ModifiedProperty: typ.ModifiedProperty,
		}
		properties, err := c.client.ListProperties(t.Context(), typ.Name, false)
		must(err)
		for _, p := range properties {
			def.Properties = append(def.Properties, mirror.PropertyDef{
				Name: p.Name, Type: p.Type, FieldType: p.FieldType, Label: p.Label, Calculated: p.Calculated,
				ReadOnly: p.Modification.ReadOnlyValue, Hidden: p.Hidden,
			})
		}
		c.tables[typ.Name], _, err = mapper.EnsureObject(t.Context(), c.pool, def)
		must(err)
	}
	_, _, err = mapper.EnsurePair(t.Context(), c.pool, c.tables["contacts"], c.tables["companies"])
	must(err)
	c.apply = mirror.NewApplier(mirror.Config{PortalID: crmPortal})
	w, err := writeback.New(writeback.Config{Pool: c.pool, Client: c.client, PortalID: crmPortal, Every: 50 * time.Millisecond, Landing: 5 * time.Second})
	must(err)
	c.writer = &scribe{Writer: w, settled: map[int64]bool{}}
	c.rig = newRig(t, db, func(cfg *proxy.Config) {
		cfg.Writer, cfg.Changes, cfg.Poll = c.writer, c.pool, 20*time.Millisecond
		if change != nil {
			change(cfg)
		}
	})
	c.warm()
	return c
}

// unique gives contacts.email its unique index, as the writer does in its own time.
func (c *crm) unique() {
	c.t.Helper()
	if _, err := c.pool.Exec(c.t.Context(), "update hubpg.objects set phase = 'live'"); err != nil {
		c.t.Fatal(err)
	}
	stop := c.runWriter()
	eventually(c.t, "email has an index", func() bool {
		var n int
		err := c.pool.QueryRow(deadline(c.t), "select count(*) from pg_indexes where schemaname = 'hubspot' and indexdef like 'CREATE UNIQUE INDEX % (email)'").Scan(&n)
		return err == nil && n == 1
	})
	stop()
	known, err := mirror.Load(c.t.Context(), c.pool, crmPortal)
	if err != nil {
		c.t.Fatal(err)
	}
	for name := range c.tables {
		c.tables[name] = known.Named(name)
	}
}

// runWriter lets the writer do what it does in the background, until the function returned is called.
func (c *crm) runWriter() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.writer.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(stop)
	return stop
}

// warm waits until the proxy knows the tables.
func (c *crm) warm() {
	c.t.Helper()
	probe := c.session(nil)
	eventually(c.t, "the proxy knows the tables", func() bool {
		_, err := probe.Exec(deadline(c.t), "set search_path = hubspot, public; update contacts set firstname = 'x' where id = -1")
		return err == nil
	})
	before := len(c.writer.requests())
	eventually(c.t, "the proxy rehearses", func() bool {
		_, err := probe.Exec(deadline(c.t), "set hubpg.writes = 'dry_run'; insert into contacts (email) values ('warm@example.com')")
		return err == nil && len(c.writer.requests()) > before
	})
	c.writer.mu.Lock()
	c.writer.asked = nil
	c.writer.mu.Unlock()
}

// session connects as app, an ordinary role that may write.
func (c *crm) session(change func(*pgx.ConnConfig)) *pgx.Conn {
	c.t.Helper()
	return open(c.t, c.url(), func(cfg *pgx.ConnConfig) {
		cfg.User = "app"
		cfg.RuntimeParams["search_path"] = "hubspot, app, public"
		if change != nil {
			change(cfg)
		}
	})
}

// in opens a session for each way that pgx speaks to Postgres.
func (c *crm) each(run func(name string, conn *pgx.Conn)) {
	c.t.Helper()
	for name, mode := range map[string]pgx.QueryExecMode{
		"simple": pgx.QueryExecModeSimpleProtocol, "prepared": pgx.QueryExecModeCacheStatement,
		"described": pgx.QueryExecModeCacheDescribe, "exec": pgx.QueryExecModeExec,
	} {
		run(name, c.session(func(cfg *pgx.ConnConfig) { cfg.DefaultQueryExecMode = mode }))
	}
}

// contact makes a contact in HubSpot and in the table.
func (c *crm) contact(email string) int64 {
	c.t.Helper()
	id, err := c.hub.Create("contacts", map[string]string{"email": email, "firstname": "Ada"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.poll("contacts")
	return id
}

// poll reads all records of a type as the materializer would.
func (c *crm) poll(table string) {
	c.t.Helper()
	if err := c.read(c.t.Context(), table); err != nil {
		c.t.Fatal(err)
	}
}

// read is poll for whoever may go on after the test has ended.
func (c *crm) read(ctx context.Context, table string) error {
	t := c.tables[table]
	b := &mirror.Batch{Table: t, Columns: t.Readable(), Source: changes.Follow}
	names := make([]string, len(b.Columns))
	for i, column := range b.Columns {
		names[i] = column.Property
	}
	var ids []int64
	for _, r := range c.hub.Snapshot(table) {
		if !r.Archived {
			ids = append(ids, r.ID)
		}
	}
	page, err := c.client.BatchRead(ctx, t.Path, ids, hubapi.NewProjection(names))
	if err != nil {
		return err
	}
	b.ReadAt = page.ReadAt
	for _, r := range page.Records {
		b.Rows = append(b.Rows, mirror.Row{ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Values: r.Values})
	}
	return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		_, err := c.apply.Upsert(ctx, tx, b)
		return err
	})
}

// hubspot is a property of a record in HubSpot, "<none>" when there is no such record.
func (c *crm) hubspot(table string, id int64, property string) string {
	r, ok := c.hub.Lookup(table, id)
	if !ok || r.Archived {
		return "<none>"
	}
	return r.Properties[property]
}

// agree holds that a property of all records is the same in HubSpot and in the table.
func (c *crm) agree(table, property string) {
	c.t.Helper()
	want := map[int64]string{}
	for _, r := range c.hub.Snapshot(table) {
		if !r.Archived {
			want[r.ID] = r.Properties[property]
		}
	}
	rows, err := c.pool.Query(deadline(c.t), fmt.Sprintf("select id, coalesce(%s::text, '') from hubspot.%s", property, table))
	if err != nil {
		c.t.Fatal(err)
	}
	got := map[int64]string{}
	var id int64
	var value string
	if _, err := pgx.ForEachRow(rows, []any{&id, &value}, func() error { got[id] = value; return nil }); err != nil {
		c.t.Fatal(err)
	}
	if len(got) != len(want) {
		c.t.Errorf("%s: %d rows, HubSpot has %d records", table, len(got), len(want))
	}
	for id, value := range want {
		if got[id] != value {
			c.t.Errorf("%s %d: %s is %q, in HubSpot %q", table, id, property, got[id], value)
		}
	}
}

// refused runs a statement that must fail with the code.
func refused(t testing.TB, conn *pgx.Conn, code, sql string, args ...any) *pgconn.PgError {
	t.Helper()
	_, err := conn.Exec(deadline(t), sql, args...)
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != code {
		t.Fatalf("%s: got %v, want %s", sql, err, code)
	}
	return e
}
