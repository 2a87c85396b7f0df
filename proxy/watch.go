package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hubpg/internal/sqlstmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Bounds of what the watch reads.
const (
	watchPatience = 30 * time.Second
	firstLook     = 5 * time.Second // that the first sessions of a proxy wait for
	maxFunctions  = 20_000
	maxBody       = 100_000
	maxClosure    = 10 // functions that call functions that call …
)

// watch knows which statements may change mirrored tables, and which read them. What it knows is a few seconds old at
// most; a change that it misses is refused by the guard in the database.
type watch struct {
	pool     *pgxpool.Pool
	database string // that the mirrored tables are in
	schemas  []string
	poll     time.Duration
	log      *slog.Logger
	current  atomic.Pointer[scope]
	looked   chan struct{} // closed after the first look
	looking  sync.Mutex    // held by one look: another's is younger
}

// scope is what is worth looking for in a text.
type scope struct {
	sieve     *sqlstmt.Sieve // of the names below, and of what changes what they mean
	named     *sqlstmt.Sieve // of the names below
	schemas   map[string]struct{}
	tables    map[sqlstmt.Name]struct{} // mirrored tables, views on them, tables whose rules or triggers change them
	bare      map[string]struct{}       // names of tables, without schema
	functions map[string]struct{}       // names of functions that change such a table
	readable  readable
	signature string
}

func newWatch(config *Config) *watch {
	w := &watch{
		pool: config.Changes, database: config.Changes.Config().ConnConfig.Database,
		schemas: config.Schemas, poll: config.Poll, log: config.Logger, looked: make(chan struct{}),
	}
	w.current.Store(newScope(w.schemas))
	return w
}

// await waits for the first look, so that a proxy that has just been started knows what it is asked to write.
func (w *watch) await() {
	patience := time.NewTimer(firstLook)
	defer patience.Stop()
	select {
	case <-w.looked:
	case <-patience.C:
	}
}

// newScope returns a scope that knows schemas only.
func newScope(schemas []string) *scope {
	s := &scope{
		schemas: map[string]struct{}{}, tables: map[sqlstmt.Name]struct{}{}, bare: map[string]struct{}{},
		functions: map[string]struct{}{}, sieve: sqlstmt.NewSieve(schemas, nil), named: sqlstmt.NewSieve(schemas, nil),
		readable: readable{sieve: sqlstmt.NewSieve(nil, schemas)},
	}
	for _, name := range schemas {
		s.schemas[name] = struct{}{}
	}
	return s
}

// Run keeps the knowledge fresh until ctx ends.
func (w *watch) Run(ctx context.Context) error {
	tick := time.NewTicker(w.poll)
	defer tick.Stop()
	first := sync.OnceFunc(func() { close(w.looked) })
	defer first()
	for {
		if err := w.refresh(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("look up which statements concern HubSpot", "error", err)
		}
		first()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchSignature changes with anything that the other queries read.
const watchSignature = `
select concat_ws('/',
    (select md5(string_agg(p.oid || ':' || p.xmin, ',' order by p.oid)) from pg_proc p
     where p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'hubpg'::regnamespace)),
    (select md5(string_agg(c.oid || ':' || c.xmin, ',' order by c.oid)) from pg_class c
     where c.relkind = 'v' and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)),
    (select md5(string_agg(r.oid || ':' || r.xmin, ',' order by r.oid)) from pg_rewrite r where r.rulename <> '_RETURN'),
    (select md5(string_agg(t.oid || ':' || t.xmin, ',' order by t.oid)) from pg_trigger t where not t.tgisinternal),
    (select md5(string_agg(o.portal_id || ':' || o.table_name, ',' order by o.portal_id, o.table_name)) from hubpg.objects o
     where o.phase <> 'gone'),
    (select count(*) from pg_db_role_setting s where s.setconfig::text ilike '%' || $1 || '%'),
    current_setting($1, true))`

const watchTables = `
select a.schema_name, o.table_name
from hubpg.objects o
join hubpg.accounts a using (portal_id)
where a.schema_name = any ($1) and o.kind in ('object', 'association') and o.phase <> 'gone'`

const watchViews = `
with recursive seen as (
    select c.oid
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) and c.relkind in ('r', 'p', 'v')
    union
    select r.ev_class
    from seen s
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = s.oid and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite r on r.oid = d.objid
)
select n.nspname, c.relname
from seen
join pg_class c using (oid)
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'v' or c.relhasrules`

const watchFunctions = `
select n.nspname, p.proname, left(p.prosrc, $1) || coalesce(left(pg_get_function_sqlbody(p.oid), $1), '')
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_language l on l.oid = p.prolang
where n.nspname not in ('pg_catalog', 'information_schema', 'hubpg') and l.lanname not in ('internal', 'c')
and p.provolatile = 'v' and p.prokind in ('f', 'p')
and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
order by p.oid
limit $2`

const watchTriggers = `
select n.nspname, c.relname, p.proname
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_proc p on p.oid = t.tgfoid
where not t.tgisinternal and not n.nspname = any ($1) and p.pronamespace <> 'pg_catalog'::regnamespace`

// refresh looks whether anything has changed and if so reads it all.
func (w *watch) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	w.looking.Lock()
	defer w.looking.Unlock()
	var signature string
	err := insist(ctx, func() error { return w.pool.QueryRow(ctx, watchSignature, stalenessSetting).Scan(&signature) })
	if err != nil {
		return fmt.Errorf("read signature: %w", err)
	}
	if signature == w.current.Load().signature {
		return nil
	}
	next := newScope(w.schemas)
	next.signature = signature
	if err := w.readTables(ctx, next); err != nil {
		return err
	}
	if err := w.readFunctions(ctx, next); err != nil {
		return err
	}
	if err := w.readReadable(ctx, next); err != nil {
		return err
	}
	next.build()
	w.current.Store(next)
	return nil
}

func (w *watch) readTables(ctx context.Context, s *scope) error {
	for _, sql := range []string{watchTables, watchViews} {
		rows, err := w.pool.Query(ctx, sql, w.schemas)
		if err != nil {
			return fmt.Errorf("read tables: %w", err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sqlstmt.Name])
		if err != nil {
			return fmt.Errorf("read tables: %w", err)
		}
		for _, n := range names {
			s.addTable(n)
		}
	}
	return nil
}

func (s *scope) addTable(n sqlstmt.Name) {
	s.tables[n] = struct{}{}
	s.bare[n.Name] = struct{}{}
}

// function is one of the user's that might change a mirrored table.
type function struct{ Schema, Name, Body string }

// trigger is one on a table of the user's.
type trigger struct{ Schema, Table, Function string }

// readFunctions finds the functions, and tables with triggers, through which mirrored tables are changed.
func (w *watch) readFunctions(ctx context.Context, s *scope) error {
	rows, err := w.pool.Query(ctx, watchFunctions, maxBody, maxFunctions)
	if err != nil {
		return fmt.Errorf("read functions: %w", err)
	}
	functions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
	if err != nil {
		return fmt.Errorf("read functions: %w", err)
	}
	if rows, err = w.pool.Query(ctx, watchTriggers, w.schemas); err != nil {
		return fmt.Errorf("read triggers: %w", err)
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[trigger])
	if err != nil {
		return fmt.Errorf("read triggers: %w", err)
	}
	for range maxClosure {
		before := len(s.functions) + len(s.tables)
		s.build()
		for _, f := range functions {
			if _, known := s.functions[f.Name]; !known && s.changes(f.Body) {
				s.functions[f.Name] = struct{}{}
			}
		}
		for _, t := range triggers {
			if _, active := s.functions[t.Function]; active {
				s.addTable(sqlstmt.Name{Schema: t.Schema, Name: t.Table})
			}
		}
		if len(s.functions)+len(s.tables) == before {
			break
		}
	}
	return nil
}

// changes reports whether the body of a function, or of a DO, may change a table of the scope.
func (s *scope) changes(body string) bool {
	effect, dynamic := sqlstmt.Body(body)
	if dynamic && s.named.MayChange([]byte("do "+body)) {
		return true
	}
	for _, t := range effect.Targets {
		if s.relevance(t) != irrelevant {
			return true
		}
	}
	return slices.ContainsFunc(effect.Calls, s.calls)
}

func (s *scope) build() {
	tables, functions := []string{}, []string{}
	for name := range s.schemas {
		tables = append(tables, name)
	}
	for name := range s.bare {
		tables = append(tables, name)
	}
	for name := range s.functions {
		functions = append(functions, name)
	}
	s.named = sqlstmt.NewSieve(tables, functions)
	s.sieve = sqlstmt.NewSieve(append(tables, pathWords[:]...), functions)
}

func (s *scope) calls(n sqlstmt.Name) bool {
	_, ok := s.functions[n.Name]
	return ok
}

// relevance says whether a name in a text is that of a table in the scope.
type relevance uint8

const (
	irrelevant relevance = iota
	relevant
	ambiguous // depends on the search path
)

func (s *scope) relevance(n sqlstmt.Name) relevance {
	if n.Schema == "" {
		if _, ok := s.bare[n.Name]; ok {
			return ambiguous
		}
		return irrelevant
	}
	if _, ok := s.schemas[n.Schema]; ok {
		return relevant
	}
	if _, ok := s.tables[n]; ok {
		return relevant
	}
	return irrelevant
}
