package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// typesAtOnce is how many object types are mapped at a time.
const typesAtOnce = 4

// schema reads what the account consists of and makes the tables follow. It is one pass over all object types; each
// type's failure is that type's alone.
func (s *step) schema(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := s.dropped(ctx); err != nil {
		return 0, err
	}
	if err := s.makeLookups(ctx); err != nil {
		return 0, err
	}
	types, err := s.objectTypes(ctx)
	if err != nil {
		return 0, err
	}
	failures := make([]error, len(types))
	var g errgroup.Group
	g.SetLimit(typesAtOnce)
	for i, t := range types {
		g.Go(func() error {
			if err := s.mapType(ctx, t); err != nil {
				failures[i] = fmt.Errorf("map %s: %w", t.def.Name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // failures are in failures
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.e.tables.forget()
	err = errors.Join(slices.Concat(failures, []error{s.owners(ctx), s.makePairs(ctx, types), s.openLookups(ctx)})...)
	if err != nil {
		return 0, err
	}
	if err := s.finishLookups(ctx, began); err != nil {
		return 0, err
	}
	return s.e.cfg.Pace.Schema, nil
}

// mapType makes the table of one type follow its properties, and starts the table's lanes.
func (s *step) mapType(ctx context.Context, t objectType) error {
	readAt := time.Now()
	properties, err := s.client.ListProperties(ctx, t.def.Path, false)
	if unreadable(err) {
		return s.undefined(ctx, &t.def, err)
	}
	if err != nil {
		return err
	}
	for i := range properties {
		p := &properties[i]
		t.def.Properties = append(t.def.Properties, mirror.PropertyDef{
			Name: p.Name, Type: p.Type, FieldType: p.FieldType, Label: p.Label, Description: p.Description,
			Calculated: p.Calculated, ReadOnly: !p.Writable(), Hidden: p.Hidden, Archived: p.Archived,
		})
		if d := &t.def.Properties[i]; p.Modification.Archivable && !p.HubSpotDefined {
			d.ChangedAt = p.UpdatedAt.UTC()
		}
	}
	table, change, err := s.e.mapper.EnsureObject(ctx, s.e.cfg.Pool, &t.def)
	if _, ok := errors.AsType[*mirror.ConflictError](err); ok { // somebody else's table: this type waits, the others do not
		s.absence(ctx, t.def.Name, t.def.ObjectType, err)
		return nil
	}
	if err != nil {
		return err
	}
	if change.Any() {
		s.e.tables.forget()
		s.e.log.Info("table follows hubspot", slog.String("object", table.Name), slog.Bool("created", change.Created),
			slog.Int("columns_added", len(change.Added)), slog.Int("columns_archived", len(change.Archived)))
	}
	s.absence(ctx, t.def.Name, t.def.ObjectType, nil)
	s.e.succeeded(ctx, laneArgs{s.args.Portal, table.Name, LaneSchema}, 0, false, s.e.cfg.Pace.Schema)
	rows, options := propertyRows(table, properties)
	if err := s.replace(ctx, "properties", table.Name, readAt, rows); err != nil {
		return err
	}
	if err := s.replace(ctx, "property_options", table.Name, readAt, options); err != nil {
		return err
	}
	if err := s.openTable(ctx, table); err != nil { // after properties: they say which columns are to be unique
		return err
	}
	if !t.pipelines {
		return nil
	}
	return s.pipelines(ctx, table)
}

// undefined notes that HubSpot does not show the properties of a type: why it has no table, or why its columns do not follow.
// The records of a table that is there may still be shown; their lanes tell.
func (s *step) undefined(ctx context.Context, def *mirror.ObjectDef, err error) error {
	cat, failed := s.e.catalog(ctx)
	if failed != nil {
		return failed
	}
	t := cat.Table(def.ObjectType)
	if t == nil {
		s.absence(ctx, def.Name, def.ObjectType, err)
		return nil
	}
	a := laneArgs{s.args.Portal, t.Name, LaneSchema}
	s.e.faults.show(a)
	s.e.note(ctx, "show failure", `
update hubpg.objects
set last_error = $3, hint = nullif($4, ''), error_at = now(), error_lane = $5
where portal_id = $1 and table_name = $2 and (error_lane is null or error_lane = $5)`,
		a.Portal, a.Table, cut("the properties cannot be read: "+err.Error()), hint(err), a.Lane)
	return nil
}

// unreadable says that HubSpot will not show the type: no scope, not in this plan, not switched on, unknown.
func unreadable(err error) bool {
	if _, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*hubapi.NotFoundError](err); ok {
		return true
	}
	_, ok := errors.AsType[*hubapi.ValidationError](err)
	return ok
}

// absence notes why an object type has no table, or, with a nil error, that nothing keeps it from having one.
func (s *step) absence(ctx context.Context, name, typeID string, err error) {
	lane := laneArgs{s.args.Portal, name, LaneSchema} // for counting alone
	if err == nil {
		s.e.faults.forget(lane)
		s.e.note(ctx, "clear absence", `
delete from hubpg.absent
where portal_id = $1 and table_name = $2`, s.args.Portal, name)
		return
	}
	hint := hubapi.Hint(err)
	if scope, ok := errors.AsType[*hubapi.ScopeError](err); ok && hint == "" {
		hint = fmt.Sprintf("give the token one of the scopes %v", scope.Scopes)
	}
	if conflict, ok := errors.AsType[*mirror.ConflictError](err); ok {
		hint = conflict.Hint
	}
	s.e.note(ctx, "note absence", `
insert into hubpg.absent (portal_id, table_name, object_type, last_error, hint)
values ($1, $2, $3, $4, nullif($5, ''))
on conflict (portal_id, table_name) do update
set last_error = excluded.last_error, hint = excluded.hint, error_at = now()`,
		s.args.Portal, name, typeID, cut(err.Error()), hint)
	level := slog.LevelInfo // not in this plan, for instance
	_, scope := errors.AsType[*hubapi.ScopeError](err)
	_, conflict := errors.AsType[*mirror.ConflictError](err)
	if scope || conflict {
		level = slog.LevelWarn
	}
	if s.e.faults.add(lane) > 1 {
		level = slog.LevelDebug // it has been said
	}
	s.e.log.Log(ctx, level, "object type has no table", slog.String("object", name), slog.String("hint", hint), slog.String("error", err.Error()))
}

// openTable starts the lanes of a table. For a new one it first records from when on changes are followed: the
// backfill begins after that instant, so nothing falls between.
func (s *step) openTable(ctx context.Context, t *catalog.Table) error {
	since, err := json.Marshal(followPosition{Since: s.hubTime().Add(-clockSkew).UnixMilli()})
	if err != nil {
		return fmt.Errorf("open %s: %w", t.Name, err)
	}
	var done bool
	err = pgx.BeginFunc(ctx, s.e.cfg.Pool, func(tx pgx.Tx) error {
		var b pgx.Batch // cursor before object, as every lane locks them
		b.Queue(`
insert into hubpg.cursors (portal_id, table_name, lane, position, revision)
select $1, $2, $3, $4, 1
where not exists (select from hubpg.cursors where portal_id = $1 and table_name = $2 and lane = $3)
on conflict do nothing`, s.args.Portal, t.Name, LaneFollow, since)
		b.Queue(`
with opened as (
	update hubpg.objects
	set phase = case when backfill_done_at is null then 'backfill' else 'live' end,
		backfill_from = coalesce(backfill_from, now()), hint = null
	where portal_id = $1 and table_name = $2 and phase in ('new', 'gone')
	returning portal_id
)
update hubpg.feed_state f -- the journal does not tell of the table yet
set subscribed_at = null, revision = f.revision + 1
from opened
where f.portal_id = opened.portal_id and f.feed = $3`, s.args.Portal, t.Name, changes.Journal)
		b.Queue(`
select backfill_done_at is not null
from hubpg.objects
where portal_id = $1 and table_name = $2`, s.args.Portal, t.Name).
			QueryRow(func(row pgx.Row) error { return row.Scan(&done) })
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", t.Name, err)
	}
	lanes := []laneArgs{}
	for _, l := range []Lane{LaneFollow, LaneTrailing, LaneArchived, LaneIDs, LaneCalculated} {
		lanes = append(lanes, laneArgs{s.args.Portal, t.Name, l})
	}
	if !done {
		lanes = append(lanes, laneArgs{s.args.Portal, t.Name, LaneBackfill})
	}
	if len(t.Unfilled()) > 0 {
		lanes = append(lanes, laneArgs{s.args.Portal, t.Name, LaneFill})
	}
	return s.e.ensureLanes(ctx, lanes...)
}

// pipelines reads the pipelines of one table's records.
func (s *step) pipelines(ctx context.Context, t *catalog.Table) error {
	readAt := time.Now()
	list, err := s.client.ListPipelines(ctx, t.Path)
	if unreadable(err) {
		return nil // most custom objects have none
	}
	if err != nil {
		return err
	}
	rows, stages, err := pipelineRows(t.Name, list)
	if err != nil {
		return err
	}
	if err := s.replace(ctx, "pipelines", t.Name, readAt, rows); err != nil {
		return err
	}
	return s.replace(ctx, "pipeline_stages", t.Name, readAt, stages)
}

// owners reads the active owners and the archived ones, which HubSpot lists apart. Both have to arrive.
func (s *step) owners(ctx context.Context) error {
	readAt := time.Now()
	table := "owners"
	if s.foreign[table] {
		table = ""
	}
	owners, err := both(ctx, s.e.cfg.Pool, s.e.cfg.Schema, table, func(o *hubapi.Owner) int64 { return o.ID },
		func(archived bool) ([]hubapi.Owner, error) { return s.client.ListOwners(ctx, archived) })
	if _, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		s.e.showFailure(ctx, laneArgs{s.args.Portal, "owners", LaneSchema}, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("list owners: %w", err)
	}
	s.e.note(ctx, "restore owners", `
update hubpg.objects
set phase = case when backfill_done_at is null then 'new' else 'live' end, last_error = null, hint = null, error_at = null, error_lane = null
where portal_id = $1 and table_name = 'owners' and phase = 'degraded'`, s.args.Portal)
	rows, teams := ownerRows(owners)
	if err := s.replace(ctx, "owners", "", readAt, rows); err != nil {
		return err
	}
	return s.replace(ctx, "teams", "", readAt, teams)
}

// replace stores the content of a lookup table, or of one object type's part of it.
func (s *step) replace(ctx context.Context, table, scope string, readAt time.Time, rows []mirror.LookupRow) error {
	if s.foreign[table] {
		return nil
	}
	shown := laneArgs{s.args.Portal, table, LaneSchema}
	err := s.believe(ctx, table, scope, len(rows))
	if _, ok := errors.AsType[*emptyError](err); ok {
		s.e.showFailure(ctx, shown, err)
		return nil // the next pass asks again; other tables need not wait for it
	}
	if err != nil {
		return err
	}
	if !s.e.doubts.of(table) {
		s.e.succeeded(ctx, shown, 0, false, 0)
	}
	snapshot := &mirror.Snapshot{
		Schema: s.e.cfg.Schema, Table: table, Scope: scope, Rows: rows, ReadAt: readAt, Source: changes.Schema,
	}
	if same, err := s.e.applier.Unchanged(ctx, s.e.cfg.Pool, snapshot); same || err != nil {
		return err
	}
	return s.commit(ctx, table, move{}, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		snapshot.Quiet = quiet
		return s.e.applier.Replace(ctx, tx, snapshot)
	})
}

// finishLookups ends the silence of the lookup tables after their first complete pass, and says from when they are.
func (s *step) finishLookups(ctx context.Context, began time.Time) error {
	_, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.objects
set phase = 'live', backfill_done_at = coalesce(backfill_done_at, now()), verified_at = $2
where portal_id = $1 and kind = 'lookup' and phase in ('new', 'live') and table_name <> all ($3)`, s.args.Portal, began, ownLookups())
	if err != nil {
		return fmt.Errorf("finish lookups: %w", err)
	}
	return nil
}

// makePairs makes the association tables of all pairs of types that can be associated and both have a table.
func (s *step) makePairs(ctx context.Context, types []objectType) error {
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return err
	}
	links := standardLinks()
	for _, t := range types {
		for _, other := range t.linked {
			if other != t.def.ObjectType {
				links = append(links, [2]string{t.def.ObjectType, other})
			}
		}
	}
	gone, err := s.retirePairs(ctx)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, p := range cat.Pairs {
		have[p.Key()] = true
	}
	var (
		lanes []laneArgs
		held  []*mirror.ConflictError
	)
	for _, link := range links {
		a, b := cat.Table(link[0]), cat.Table(link[1])
		if a == nil || b == nil || gone[a.Name] || gone[b.Name] {
			continue
		}
		if p := catalog.NewPair(a, b); have[p.Key()] {
			continue
		}
		pair, _, err := s.e.mapper.EnsurePair(ctx, s.e.cfg.Pool, a, b)
		if conflict, ok := errors.AsType[*mirror.ConflictError](err); ok {
			held = append(held, conflict)
			continue
		}
		if err != nil {
			return err
		}
		have[pair.Key()] = true
		lanes = append(lanes, laneArgs{s.args.Portal, pair.Name, LanePairs})
	}
	s.occupied(ctx, "association", held)
	if len(lanes) > 0 {
		s.e.tables.forget()
	}
	for _, p := range cat.Pairs {
		if !gone[p.A.Name] && !gone[p.B.Name] {
			lanes = append(lanes, laneArgs{s.args.Portal, p.Name, LanePairs})
		}
	}
	return s.e.ensureLanes(ctx, lanes...)
}
