package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
)

// pendingSQL asks whether committed writes of clients have left differences that are not in the change log yet.
const pendingSQL = "select exists (select from hubpg.write_changes where portal_id = $1 and table_name = $2)"

// Publish moves what clients' committed writes have changed into the change log, and counts their rows. Appliers of
// a table do so too, before they add differences of their own, so that the log never has a record's changes out of order.
//
// It waits for appliers of the tables, not for other clients' writes under way.
func (a *Applier) Publish(ctx context.Context, tx pgx.Tx, schema string, tables ...string) (Result, error) {
	var res Result
	tables = slices.Compact(slices.Sorted(slices.Values(tables)))
	keys, err := a.publishKeys(ctx, tx, schema, tables)
	if err != nil {
		return res, fmt.Errorf("publish writes: %w", err)
	}
	// First the tables' locks, shared, then those that keep two publishers of one table in turn.
	for _, sql := range []string{"select pg_advisory_xact_lock_shared($1)", "select pg_advisory_xact_lock($1::bigint # 1)"} {
		for _, key := range keys {
			if _, err := tx.Exec(ctx, sql, key); err != nil {
				return res, fmt.Errorf("publish writes: %w", err)
			}
		}
	}
	var events []changes.Change
	for _, table := range tables {
		list, err := a.take(ctx, tx, table)
		if err != nil {
			return res, fmt.Errorf("publish writes: %w", err)
		}
		events = append(events, list...)
	}
	if err := a.finish(ctx, tx, "", 0, events, &res); err != nil {
		return res, fmt.Errorf("publish writes: %w", err)
	}
	return res, nil
}

// publishKeys are the locks of tables in the order in which everybody takes them: those of association tables last, as
// whoever removes records does.
func (a *Applier) publishKeys(ctx context.Context, tx pgx.Tx, schema string, tables []string) ([]int64, error) {
	rows, err := tx.Query(ctx, "select table_name from hubpg.objects where portal_id = $1 and table_name = any($2) and kind = 'association'", a.portal, tables)
	if err != nil {
		return nil, fmt.Errorf("list association tables: %w", err)
	}
	pairs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list association tables: %w", err)
	}
	var first, last []int64
	for _, table := range tables {
		if slices.Contains(pairs, table) {
			last = append(last, lockKey(schema, table))
		} else {
			first = append(first, lockKey(schema, table))
		}
	}
	return slices.Concat(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(last))), nil
}

// take removes the pending differences of a table, counts its rows accordingly, and returns them in the order in which
// they were made. The caller holds the table's lock, shared or alone.
func (a *Applier) take(ctx context.Context, tx pgx.Tx, table string) ([]changes.Change, error) {
	rows, err := tx.Query(ctx, `
with gone as (
  delete from hubpg.write_changes
  where portal_id = $1 and table_name = $2
  returning *
)
select g.id, g.schema_name, g.record_id, g.op,
       array(select n
             from unnest(g.changed) n
             left join pg_attribute t on t.attrelid = to_regclass(format('%I.%I', g.schema_name, g.table_name)) and t.attname = n
             order by t.attnum nulls last, n),
       g.before, g.after
from gone g
order by g.id`, a.portal, table)
	if err != nil {
		return nil, fmt.Errorf("take changes of writes: %w", err)
	}
	delta := 0
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (changes.Change, error) {
		c := changes.Change{Table: table, Source: changes.Write}
		var id int64
		var before, after *json.RawMessage
		err := row.Scan(&id, &c.Schema, &c.RecordID, &c.Op, &c.Changed, &before, &after)
		if before != nil {
			c.Before = *before
		}
		if after != nil {
			c.After = *after
		}
		switch c.Op {
		case changes.Insert, changes.Associate:
			delta++
		case changes.Delete, changes.Dissociate:
			delta--
		default:
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("take changes of writes: %w", err)
	}
	if delta != 0 {
		if _, err := tx.Exec(ctx, "update hubpg.objects set row_count = row_count + $3 where portal_id = $1 and table_name = $2",
			a.portal, table, delta); err != nil {
			return nil, fmt.Errorf("count rows: %w", err)
		}
	}
	return list, nil
}
