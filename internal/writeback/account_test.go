package writeback_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
	"hubpg/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const portal = 4711

// account is a simulated HubSpot account, mirrored, with a writer.
type account struct {
	t       testing.TB
	hub     *sandbox.Server
	url     string
	client  *hubapi.Client
	db      *pgtest.DB
	pool    *pgxpool.Pool
	applier *mirror.Applier
	writer  *writeback.Writer
	tables  map[string]*catalog.Table
	pair    *catalog.Pair                       // contacts with companies
	arrives atomic.Pointer[func(*http.Request)] // called before HubSpot looks at a request
	bends   atomic.Pointer[bend]                // changes what HubSpot answers
}

// bend changes the answer to the calls of one path.
type bend struct {
	path  string
	with  func(body map[string]any)
	calls atomic.Int64  // so many, then no more
	late  time.Duration // HubSpot's clock is behind by that
}

// bend has the next calls of a path answered otherwise than HubSpot does.
func (a *account) bend(path string, calls int64, with func(body map[string]any)) {
	b := &bend{path: path, with: with}
	b.calls.Store(calls)
	a.bends.Store(b)
}

// serve has a request carried out and its answer bent.
func (b *bend) serve(hub http.Handler, w http.ResponseWriter, r *http.Request) {
	r.Header.Set("Accept-Encoding", "identity")
	said := httptest.NewRecorder()
	hub.ServeHTTP(said, r)
	var body map[string]any
	_ = json.Unmarshal(said.Body.Bytes(), &body) // what is not JSON stays as it is
	if body != nil {
		b.with(body)
		text, _ := json.Marshal(body) // it was JSON before
		said.Body.Reset()
		_, _ = said.Body.Write(text)
	}
	maps.Copy(w.Header(), said.Header())
	w.Header().Del("Content-Length")
	w.Header().Set("Date", time.Now().Add(-b.late).UTC().Format(http.TimeFormat))
	w.WriteHeader(said.Code)
	_, _ = w.Write(said.Body.Bytes()) // a client that has gone reads nothing
}

func newAccount(t testing.TB) *account {
	t.Helper()
	return newAccountWith(t, mirror.MapperConfig{PortalID: portal})
}

func newAccountWith(t testing.TB, cfg mirror.MapperConfig) *account {
	t.Helper()
	return newAccountOf(t, cfg, sandbox.Config{})
}

// newAccountOf makes a mirrored account in which HubSpot is as hub says. Where it has limits, calls come out of a budget.
func newAccountOf(t testing.TB, cfg mirror.MapperConfig, hub sandbox.Config) *account {
	t.Helper()
	hub.Seed, hub.Empty, hub.Quiet, hub.PortalID = 1, true, true, portal
	a := &account{t: t, hub: sandbox.New(hub), tables: map[string]*catalog.Table{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if arrives := a.arrives.Load(); arrives != nil {
			(*arrives)(r)
		}
		if b := a.bends.Load(); b != nil && strings.HasSuffix(r.URL.Path, b.path) && b.calls.Add(-1) >= 0 {
			b.serve(a.hub, w, r)
			return
		}
		a.hub.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.url = server.URL
	a.db = pgtest.Migrated(t, migrations.Up)
	a.roles()
	a.pool = a.db.Pool(t)
	options := []hubapi.Option{hubapi.WithRetry(hubapi.RetryPolicy{Tries: 2, Initial: time.Millisecond})}
	if hub.Limits {
		options = append(options, hubapi.WithLimiter(budget.New(a.pool, budget.Config{PortalID: portal, Share: 1})))
	}
	var err error
	a.client, err = hubapi.New(server.URL, hubapi.StaticToken(sandbox.DefaultToken), options...)
	a.must(err)
	mapper := mirror.NewMapper(cfg)
	a.must(mapper.EnsureAccount(t.Context(), a.pool))
	if roles, err := mapper.EnsureRoles(t.Context(), a.pool); err != nil || !roles.Writer {
		t.Fatal(roles, err)
	}
	a.must(mapper.EnsureLookups(t.Context(), a.pool))
	for _, typ := range hubapi.StandardTypes() {
		if typ.Name != "contacts" && typ.Name != "companies" && typ.Name != "deals" {
			continue
		}
		a.mirror(mapper, &mirror.ObjectDef{
			ObjectType: typ.TypeID, Name: typ.Name, Singular: typ.Singular, Path: typ.Name, ModifiedProperty: typ.ModifiedProperty,
		})
	}
	a.pair, _, err = mapper.EnsurePair(t.Context(), a.pool, a.tables["contacts"], a.tables["companies"])
	a.must(err)
	a.applier = mirror.NewApplier(mirror.Config{PortalID: portal})
	a.writer = a.newWriter()
	return a
}

// mirror makes the table of an object type.
func (a *account) mirror(mapper *mirror.Mapper, def *mirror.ObjectDef) {
	a.t.Helper()
	properties, err := a.client.ListProperties(a.t.Context(), def.Path, false)
	a.must(err)
	for _, p := range properties {
		def.Properties = append(def.Properties, mirror.PropertyDef{
			Name: p.Name, Type: p.Type, FieldType: p.FieldType, Label: p.Label, Calculated: p.Calculated,
			ReadOnly: p.Modification.ReadOnlyValue, Hidden: p.Hidden,
		})
	}
	a.tables[def.Name], _, err = mapper.EnsureObject(a.t.Context(), a.pool, def)
	a.must(err)
}

func (a *account) newWriter() *writeback.Writer {
	a.t.Helper()
	w, err := writeback.New(writeback.Config{Pool: a.pool, Client: a.client, PortalID: portal, Every: 50 * time.Millisecond, Landing: 100 * time.Millisecond})
	a.must(err)
	a.t.Cleanup(w.Close)
	return w
}

func (a *account) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// roles makes the group roles and app, an ordinary role that may write. Roles belong to the cluster, which tests share.
func (a *account) roles() {
	a.t.Helper()
	admin := a.db.AdminConn(a.t)
	for _, sql := range []string{
		`do $$ begin
  if not exists (select from pg_roles where rolname = 'app') then
    create role hubspot_reader; create role hubspot_writer; create role app login in role hubspot_writer;
  end if;
exception when unique_violation or duplicate_object then null; -- another database of the cluster was first
end $$`,
		"create schema app authorization app",
	} {
		_, err := admin.Exec(a.t.Context(), sql)
		a.must(err)
	}
}

// connect opens a session of the ordinary role.
func (a *account) connect() *pgx.Conn {
	a.t.Helper()
	cfg, err := pgx.ParseConfig(a.db.URL)
	a.must(err)
	cfg.User = "app"
	conn, err := pgx.ConnectConfig(a.t.Context(), cfg)
	a.must(err)
	a.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // a test may have broken it on purpose
	})
	return conn
}

// read stores all records of a type as a poll would, and returns what it stored.
func (a *account) read(table string, source changes.Source) mirror.Result {
	a.t.Helper()
	res, err := a.poll(table, source)
	a.must(err)
	return res
}

func (a *account) poll(table string, source changes.Source) (res mirror.Result, err error) {
	t := a.tables[table]
	columns := t.Readable()
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Property
	}
	ids := make([]int64, 0, 100)
	for _, r := range a.hub.Snapshot(table) {
		if !r.Archived {
			ids = append(ids, r.ID)
		}
	}
	for len(ids) > 0 {
		n := min(len(ids), 100)
		page, err := a.client.BatchRead(a.t.Context(), t.Path, ids[:n], hubapi.NewProjection(names))
		if err != nil {
			return res, err
		}
		ids = ids[n:]
		b := &mirror.Batch{Table: t, Columns: columns, ReadAt: page.ReadAt, Source: source}
		for _, r := range page.Records {
			b.Rows = append(b.Rows, mirror.Row{ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Values: r.Values})
		}
		var got mirror.Result
		err = mirror.Store(a.t.Context(), a.pool, func(tx pgx.Tx) (err error) {
			got, err = a.applier.Upsert(a.t.Context(), tx, b)
			return err
		})
		res.Inserted, res.Updated, res.Events = res.Inserted+got.Inserted, res.Updated+got.Updated, res.Events+got.Events
		if err != nil {
			return res, err
		}
	}
	return res, nil
}

// contact makes a contact in HubSpot and mirrors it.
func (a *account) contact(email string) int64 {
	a.t.Helper()
	id, err := a.hub.Create("contacts", map[string]string{"email": email, "firstname": "Ada"})
	a.must(err)
	a.read("contacts", changes.Follow)
	return id
}

// value is a property of a record in HubSpot, "<none>" when there is no such record.
func (a *account) value(table string, id int64, property string) string {
	r, ok := a.hub.Lookup(table, id)
	if !ok || r.Archived {
		return "<none>"
	}
	return r.Properties[property]
}

// text reads one value of the database as the owner.
func (a *account) text(sql string, args ...any) string {
	a.t.Helper()
	var s string
	if err := a.pool.QueryRow(a.t.Context(), "select coalesce(("+sql+")::text, '<null>')", args...).Scan(&s); err != nil {
		a.t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// agree holds that a table is what HubSpot has: every record, every writable text property of interest.
func (a *account) agree(table string, properties ...string) {
	a.t.Helper()
	rows, err := a.pool.Query(a.t.Context(), "select id, to_jsonb(t) from hubspot."+table+" t")
	a.must(err)
	got := map[int64]map[string]any{}
	var id int64
	var record []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &record}, func() error {
		var m map[string]any
		if err := json.Unmarshal(record, &m); err != nil {
			return err
		}
		got[id] = m
		return nil
	})
	a.must(err)
	live := 0
	for _, r := range a.hub.Snapshot(table) {
		if r.Archived {
			continue
		}
		live++
		row := got[r.ID]
		if row == nil {
			a.t.Errorf("%s %d is not in the table", table, r.ID)
			continue
		}
		for _, p := range properties {
			want := r.Properties[p]
			have := ""
			if v := row[p]; v != nil {
				have = fmt.Sprint(v)
			}
			if have != want {
				a.t.Errorf("%s %d: %s is %q in the table and %q in HubSpot", table, r.ID, p, have, want)
			}
		}
	}
	if live != len(got) {
		a.t.Errorf("%s has %d rows in the table and %d in HubSpot", table, len(got), live)
	}
	if count := a.text("select row_count from hubpg.objects where table_name = '" + table + "'"); count != strconv.Itoa(live) {
		a.t.Errorf("%s: row_count is %s, HubSpot has %d", table, count, live)
	}
}

// log reads the change log after seq.
func (a *account) log(after int64) []changes.Change {
	a.t.Helper()
	list, err := changes.Read(a.t.Context(), a.pool, after, 100_000)
	a.must(err)
	return list
}

func (a *account) newest() int64 {
	a.t.Helper()
	_, newest, err := changes.Bounds(a.t.Context(), a.pool)
	a.must(err)
	return newest
}

// page reads records as a poll would; store stores them later.
func (a *account) page(table string, ids ...int64) *mirror.Batch {
	a.t.Helper()
	t := a.tables[table]
	b := &mirror.Batch{Table: t, Columns: t.Readable(), Source: changes.Follow}
	names := make([]string, len(b.Columns))
	for i, c := range b.Columns {
		names[i] = c.Property
	}
	page, err := a.client.BatchRead(a.t.Context(), t.Path, ids, hubapi.NewProjection(names))
	a.must(err)
	b.ReadAt = page.ReadAt
	for _, r := range page.Records {
		b.Rows = append(b.Rows, mirror.Row{ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Values: r.Values})
	}
	return b
}

func (a *account) store(table string, b *mirror.Batch) {
	a.t.Helper()
	a.must(mirror.Store(a.t.Context(), a.pool, func(tx pgx.Tx) error {
		_, err := a.applier.Upsert(a.t.Context(), tx, b)
		return err
	}))
}
