package materialize

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// inherit lets custom objects take over the tables of others that had their names and that the account does not have any
// more. What is left in such a table goes, as what HubSpot does not have does, and is in the change log; then the table is
// filled as a new one, so that queries and views go on.
func (s *step) inherit(ctx context.Context, cat *mirror.Catalog, schemas []hubapi.Schema) error {
	for _, c := range schemas {
		if c.Archived || cat.Table(c.ObjectTypeID) != nil {
			continue
		}
		old := cat.Named(catalog.NewTableNames().Table(c.Name, true))
		if old == nil || !strings.HasPrefix(old.ObjectType, customTypes) ||
			slices.ContainsFunc(schemas, func(c hubapi.Schema) bool { return c.ObjectTypeID == old.ObjectType && !c.Archived }) {
			continue
		}
		if err := s.empty(ctx, old); err != nil {
			return err
		}
		if err := s.e.mapper.Inherit(ctx, s.e.cfg.Pool, cat, old, c.ObjectTypeID); err != nil {
			return err
		}
		s.e.tables.forget()
	}
	return nil
}

// empty takes every record out of a table whose type is gone, a part at a time.
func (s *step) empty(ctx context.Context, t *catalog.Table) error {
	for {
		rows, err := s.e.cfg.Pool.Query(ctx, `
select id, _read_at
from `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+`
limit $1`, chunkIDs)
		if err != nil {
			return fmt.Errorf("empty %s: %w", t.Name, err)
		}
		var (
			ids        []int64
			id         int64
			read, last time.Time
		)
		if _, err := pgx.ForEachRow(rows, []any{&id, &read}, func() error {
			ids = append(ids, id)
			if read.After(last) {
				last = read
			}
			return nil
		}); err != nil {
			return fmt.Errorf("empty %s: %w", t.Name, err)
		}
		if len(ids) == 0 {
			return nil
		}
		err = s.commit(ctx, t.Name, move{}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
			return s.e.applier.Erase(ctx, tx, t, ids, last, changes.Schema)
		})
		if err != nil {
			return fmt.Errorf("empty %s: %w", t.Name, err)
		}
	}
}

// retirePairs marks association tables an end of which is gone, opens those again whose ends have both come back, and returns
// the tables that are gone.
func (s *step) retirePairs(ctx context.Context) (map[string]bool, error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
with gone as (
	select table_name from hubpg.objects where portal_id = $1 and kind = 'object' and phase = 'gone'
), retired as (
	update hubpg.objects p
	set phase = 'gone', last_error = null, error_at = null, error_lane = null,
		hint = 'an end of these associations is gone; drop the table when its rows are not needed'
	where portal_id = $1 and kind = 'association' and phase <> 'gone'
	and exists (select from gone g where g.table_name in (p.from_table, p.to_table))
), back as (
	update hubpg.objects p
	set phase = case when backfill_done_at is null then 'new' else 'live' end, hint = null
	where portal_id = $1 and kind = 'association' and phase = 'gone'
	and not exists (select from gone g where g.table_name in (p.from_table, p.to_table))
	returning table_name
), again as (
	update hubpg.cursors
	set position = position - 'ended' - 'took', revision = revision + 1
	where portal_id = $1 and lane = $2 and table_name in (select table_name from back))
select table_name from gone`, s.args.Portal, LanePairs)
	if err != nil {
		return nil, fmt.Errorf("retire association tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("retire association tables: %w", err)
	}
	gone := map[string]bool{}
	for _, name := range names {
		gone[name] = true
	}
	return gone, nil
}

// dropped sees to tables that somebody has dropped: those that were gone are forgotten, as their hint says, all others are made
// again.
func (s *step) dropped(ctx context.Context) error {
	forgotten, err := s.e.mapper.ForgetDropped(ctx, s.e.cfg.Pool)
	if err != nil {
		return err
	}
	made, err := s.e.mapper.MakeAgain(ctx, s.e.cfg.Pool)
	if len(made) > 0 {
		s.e.log.Warn("tables were dropped by somebody; they are made again and filled", slog.Any("tables", made))
	}
	if forgotten || len(made) > 0 {
		s.e.tables.forget()
	}
	return err
}
