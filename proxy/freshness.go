package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hubpg/internal/sqlstmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	lookPause   = 50 * time.Millisecond  // between two looks while somebody waits
	hastenPause = 250 * time.Millisecond // between two wishes for the same table
)

// freshness waits for tables on behalf of all sessions. One loop looks at the tables that anybody waits for, and wishes
// for their next look at HubSpot, so that any number of waits costs one.
type freshness struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	seen *counters
	bell chan struct{} // size 1: somebody has begun to wait

	mu      sync.Mutex // guards below
	waiting map[*wait]struct{}

	hastened map[sqlstmt.Name]time.Time // the loop's own
}

// wait is for one statement.
type wait struct {
	tables    []sqlstmt.Name
	staleness time.Duration
	since     time.Time   // the instant that the tables must have been verified at, by Postgres's clock; the loop's own
	done      chan error  // size 1: the verdict
	last      *staleError // what kept it at the last look; guarded by freshness.mu while it waits
}

// tableState is how a table does.
type tableState struct {
	phase         string
	verified, now time.Time // verified is zero where it has never been
	problem, hint string
}

// staleError says which table is not fresh.
type staleError struct {
	table            sqlstmt.Name
	state            tableState
	waited           time.Duration
	statementTimeout bool
}

func (e *staleError) Error() string {
	return fmt.Sprintf("%s.%s is stale", e.table.Schema, e.table.Name)
}

// settingError says that the setting has no meaning.
type settingError struct{ value string }

func (e *settingError) Error() string {
	return fmt.Sprintf("invalid value for parameter %q: %q", stalenessSetting, e.value)
}

func newFreshness(config *Config, seen *counters) *freshness {
	return &freshness{
		pool: config.Changes, log: config.Logger, seen: seen, bell: make(chan struct{}, 1), waiting: map[*wait]struct{}{},
		hastened: map[sqlstmt.Name]time.Time{},
	}
}

// await waits until the tables of w are fresh, for at most as long as within or the session's own timeouts say. It
// returns a *staleError when they are not, a *settingError when the session asks for nonsense.
func (f *freshness) await(ctx context.Context, w *wish, within time.Duration) error {
	bounds, tables, err := f.understand(ctx, w)
	if err != nil || len(tables) == 0 {
		return err
	}
	byStatement := bounds.statement > 0 && bounds.statement < within
	if byStatement {
		within = bounds.statement
	}
	if w.inBlock && bounds.idle > 0 {
		within = min(within, bounds.idle*4/5) // Postgres would end the session
	}
	f.seen.waits.Add(1)
	began := time.Now()
	wa := &wait{tables: tables, staleness: bounds.staleness, done: make(chan error, 1)}
	f.enter(wa)
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case err := <-wa.done:
		return err
	case <-ctx.Done():
		f.leave(wa)
		return context.Cause(ctx)
	case <-timer.C:
	}
	f.leave(wa)
	select {
	case err := <-wa.done: // just in time
		return err
	default:
	}
	if wa.last == nil {
		return errors.New("the tables could not be looked up in time")
	}
	wa.last.waited, wa.last.statementTimeout = time.Since(began), byStatement
	return wa.last
}

// bounds are a session's own.
type bounds struct{ staleness, statement, idle time.Duration }

const (
	understandSettings = `
select extract(epoch from $1::text::interval)::float8, extract(epoch from $2::text::interval)::float8, extract(epoch from $3::text::interval)::float8`
	// The first that the role sees on its path, as the owner of this connection may not; then what is behind views.
	understandNames = `
with recursive named as (
    select distinct on (t.place) c.oid
    from unnest($1::text[], $2::text[]) with ordinality t (schema_name, table_name, place)
    cross join unnest($3::text[]) with ordinality p (schema_name, place)
    join pg_catalog.pg_namespace n on n.nspname = coalesce(nullif(t.schema_name, ''), p.schema_name)
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.table_name and c.relkind in ('r', 'v', 'm', 'f', 'p')
    where pg_catalog.has_schema_privilege($4::text, n.oid, 'usage')
    order by t.place, p.place
), behind as (
    select oid
    from named
    union
    select d.refobjid
    from behind b
    join pg_catalog.pg_class v on v.oid = b.oid and v.relkind = 'v'
    join pg_catalog.pg_rewrite r on r.ev_class = b.oid
    join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
)
select a.schema_name, o.table_name
from behind
join pg_catalog.pg_class c using (oid)
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join hubpg.accounts a on a.schema_name = n.nspname
join hubpg.objects o on o.portal_id = a.portal_id and o.table_name = c.relname and o.phase <> 'gone'`
)

// understand finds out what the settings mean, and the mirrored tables behind the names.
func (f *freshness) understand(ctx context.Context, w *wish) (b bounds, tables []sqlstmt.Name, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	var staleness, statement, idle float64
	err = f.pool.QueryRow(ctx, understandSettings, w.staleness, w.timeout, w.idle).Scan(&staleness, &statement, &idle)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, "22") || err == nil && staleness < 0 {
		return b, nil, &settingError{w.staleness}
	}
	if err != nil {
		return b, nil, fmt.Errorf("understand settings: %w", err)
	}
	schemas, names := split(slices.Values(w.names))
	rows, err := f.pool.Query(ctx, understandNames, schemas, names, w.schemas(), w.current())
	if err == nil {
		tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[sqlstmt.Name])
	}
	if err != nil {
		return b, nil, fmt.Errorf("find the tables of a statement: %w", err)
	}
	b = bounds{seconds(staleness), seconds(statement), seconds(idle)}
	return b, tables, nil
}

func seconds(s float64) time.Duration {
	const most = 1 << 33 // some centuries
	return time.Duration(min(s, most) * float64(time.Second))
}

// current is the session's own role.
func (w *wish) current() string {
	if w.role == "" || w.role == "none" {
		return w.user
	}
	return w.role
}

// schemas are those of the session's search path, in order.
func (w *wish) schemas() []string {
	schemas := sqlstmt.Identifiers(w.path)
	for i, name := range schemas {
		if name == "$user" {
			schemas[i] = w.current()
		}
	}
	if !slices.Contains(schemas, "pg_catalog") {
		schemas = slices.Insert(schemas, 0, "pg_catalog")
	}
	return schemas
}

func (f *freshness) enter(w *wait) {
	f.mu.Lock()
	f.waiting[w] = struct{}{}
	f.mu.Unlock()
	select {
	case f.bell <- struct{}{}:
	default:
	}
}

// leave ends a wait. What kept it at the last look is not touched any more.
func (f *freshness) leave(w *wait) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiting, w)
}

// Run serves the waits until ctx ends.
func (f *freshness) Run(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		var again <-chan time.Time
		list := f.list()
		if len(list) > 0 {
			pause.Reset(lookPause)
			again = pause.C
		} else {
			clear(f.hastened)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.bell:
		case <-again:
		}
		if list = f.list(); len(list) == 0 {
			continue
		}
		if err := f.look(ctx, list); err != nil && ctx.Err() == nil {
			f.log.Warn("look how fresh tables are", "error", err)
		}
	}
}

func (f *freshness) list() []*wait {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.waiting))
}

// look ends the waits that have come true, or cannot.
func (f *freshness) look(ctx context.Context, list []*wait) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	names := map[sqlstmt.Name]struct{}{}
	for _, w := range list {
		for _, t := range w.tables {
			names[t] = struct{}{}
		}
	}
	now, states, err := f.states(ctx, names)
	if err != nil {
		return err
	}
	behind := map[sqlstmt.Name]struct{}{}
	for _, w := range list {
		if w.since.IsZero() {
			w.since = now.Add(-w.staleness)
		}
		late := w.judge(states)
		var verdict *staleError
		if len(late) > 0 {
			verdict = &staleError{table: late[0], state: states[late[0]]}
		}
		f.note(w, verdict)
		switch {
		case verdict == nil:
			f.leave(w)
			w.done <- nil
		case verdict.state.phase != "live": // no look at HubSpot can help
			f.leave(w)
			w.done <- verdict
		default:
			for _, t := range late {
				behind[t] = struct{}{}
			}
		}
	}
	return f.hasten(ctx, behind)
}

// note writes down what keeps a wait, unless it has ended.
func (f *freshness) note(w *wait, verdict *staleError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, waiting := f.waiting[w]; waiting {
		w.last = verdict
	}
}

// judge returns the tables that are not fresh enough, those first that cannot become so.
func (w *wait) judge(states map[sqlstmt.Name]tableState) (late []sqlstmt.Name) {
	for _, t := range w.tables {
		s, mirrored := states[t]
		switch {
		case !mirrored, s.phase == "live" && !s.verified.Before(w.since):
		case s.phase != "live":
			late = slices.Insert(late, 0, t)
		default:
			late = append(late, t)
		}
	}
	return late
}

const freshnessStates = `
select s.schema_name, s.table_name, s.phase, s.verified_at, coalesce(s.last_error, ''), coalesce(s.hint, ''), clock_timestamp()
from unnest($1::text[], $2::text[]) as w (schema_name, table_name)
join hubpg.status s using (schema_name, table_name)
where s.phase <> 'gone'`

func (f *freshness) states(ctx context.Context, names map[sqlstmt.Name]struct{}) (now time.Time, states map[sqlstmt.Name]tableState, err error) {
	schemas, tables := split(maps.Keys(names))
	rows, err := f.pool.Query(ctx, freshnessStates, schemas, tables)
	if err != nil {
		return now, nil, fmt.Errorf("read status: %w", err)
	}
	states = map[sqlstmt.Name]tableState{}
	var (
		n        sqlstmt.Name
		s        tableState
		verified *time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&n.Schema, &n.Name, &s.phase, &verified, &s.problem, &s.hint, &s.now}, func() error {
		s.verified = time.Time{}
		if verified != nil {
			s.verified = *verified
		}
		states[n], now = s, s.now
		return nil
	})
	if err != nil {
		return now, nil, fmt.Errorf("read status: %w", err)
	}
	return now, states, nil
}

// hasten wishes that HubSpot be asked about the tables now.
func (f *freshness) hasten(ctx context.Context, names map[sqlstmt.Name]struct{}) error {
	now := time.Now()
	maps.DeleteFunc(names, func(n sqlstmt.Name, _ struct{}) bool { return now.Sub(f.hastened[n]) < hastenPause })
	if len(names) == 0 {
		return nil
	}
	schemas, tables := split(maps.Keys(names))
	_, err := f.pool.Exec(ctx, `
select hubpg.hasten(w.schema_name, w.table_name)
from unnest($1::text[], $2::text[]) as w (schema_name, table_name)`, schemas, tables)
	if err != nil {
		return fmt.Errorf("hasten tables: %w", err)
	}
	for n := range names {
		f.hastened[n] = now
	}
	return nil
}

func split(names iter.Seq[sqlstmt.Name]) (schemas, tables []string) {
	for n := range names {
		schemas, tables = append(schemas, n.Schema), append(tables, n.Name)
	}
	return schemas, tables
}
