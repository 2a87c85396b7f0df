package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// Delete removes records that HubSpot says are gone (where deletes are soft, their rows stay with archived_at set), and leaves tombstones so that no read begun before readAt brings
// them back. A row that was read after readAt stays and counts as stale. Associations of removed records go with them.
// op is changes.Delete, or changes.Merge for a record that was merged into another of which nothing else is known; see
// [Applier.Merge].
func (a *Applier) Delete(ctx context.Context, tx pgx.Tx, t *catalog.Table, ids []int64, readAt time.Time,
	op changes.Op, source changes.Source,
) (Result, error) {
	var res Result
	if op != changes.Delete && op != changes.Merge {
		return res, fmt.Errorf("delete from %s: op is %q, must be delete or merge", t.Name, op)
	}
	if len(ids) == 0 {
		return res, nil
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	res, err := a.delete(ctx, tx, t, ids, stored(readAt), op, source)
	if err != nil {
		return res, fmt.Errorf("delete from %s: %w", t.Name, err)
	}
	return res, nil
}

// Erase is Delete for records that HubSpot does not even have in its recycle bin any more: where deletes are soft, their
// rows go all the same, those of records deleted before included.
func (a *Applier) Erase(ctx context.Context, tx pgx.Tx, t *catalog.Table, ids []int64, readAt time.Time, source changes.Source) (Result, error) {
	res, err := a.Delete(ctx, tx, t, ids, readAt, changes.Delete, source)
	if err != nil {
		return res, err
	}
	if err := a.clear(ctx, tx, t, ids); err != nil {
		return res, fmt.Errorf("erase from %s: %w", t.Name, err)
	}
	return res, nil
}

func (a *Applier) delete(ctx context.Context, tx pgx.Tx, t *catalog.Table, ids []int64, readAt time.Time,
	op changes.Op, source changes.Source,
) (res Result, err error) {
	batch := &pgx.Batch{}
	enter(batch, t.Schema, t.Name)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return res, err
	}
	var events []changes.Change
	if events, res.Refused, err = a.expel(ctx, tx, t, ids, readAt, op, source); err != nil {
		return res, err
	}
	res.Deleted, res.Stale = len(events), len(res.Refused)
	res.Unchanged = len(ids) - res.Deleted - res.Stale
	gone := slices.DeleteFunc(slices.Clone(ids), func(id int64) bool {
		_, stays := slices.BinarySearch(res.Refused, id)
		return stays
	})
	if err := a.bury(ctx, tx, t.Name, gone, string(op), readAt); err != nil {
		return res, err
	}
	edges, err := a.sever(ctx, tx, t, gone, source)
	if err != nil {
		return res, err
	}
	return res, a.finish(ctx, tx, t.Name, -res.Deleted, append(events, edges...), &res)
}

// expel takes rows that were not read after readAt out of the table. It returns their events and the ids of the rows
// that stay, both in the order of ids. The caller has the table's lock.
func (a *Applier) expel(ctx context.Context, tx pgx.Tx, t *catalog.Table, ids []int64, readAt time.Time, op changes.Op,
	source changes.Source,
) (events []changes.Change, stay []int64, err error) {
	leave := "delete from " + tableIdent(t) + " t where t.id = any($1) and t._read_at <= $2"
	if t.Soft {
		leave = "update " + tableIdent(t) + " t set archived_at = $2 where t.id = any($1) and t._read_at <= $2 and " + Live(t)
	}
	batch := &pgx.Batch{}
	batch.Queue(leave+" returning t.id, "+flat(t), ids, readAt).
		Query(func(rows pgx.Rows) error {
			var id int64
			var before json.RawMessage
			_, err := pgx.ForEachRow(rows, []any{&id, &before}, func() error {
				events = append(events, changes.Change{
					Schema: t.Schema, Table: t.Name, RecordID: id, Op: op,
					Before: slices.Clone(before), Source: source,
				})
				return nil
			})
			return err
		})
	batch.Queue("select t.id from "+tableIdent(t)+" t where t.id = any($1) and "+Live(t)+" order by t.id", ids).
		Query(func(rows pgx.Rows) error {
			var err error
			stay, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(events, func(x, y changes.Change) int { return compareIDs(x.RecordID, y.RecordID) })
	return events, stay, nil
}

// bury writes tombstones; one that is there already keeps the later instant.
func (a *Applier) bury(ctx context.Context, tx pgx.Tx, table string, ids []int64, op string, readAt time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
insert into hubpg.tombstones (portal_id, table_name, record_id, op, read_at)
select $1, $2, id, $4, $5
from unnest($3::bigint[]) id
on conflict (portal_id, table_name, record_id) do update
set op = case when excluded.read_at > tombstones.read_at then excluded.op else tombstones.op end,
    read_at = greatest(tombstones.read_at, excluded.read_at)`, a.portal, table, ids, op, readAt)
	if err != nil {
		return fmt.Errorf("write tombstones: %w", err)
	}
	return nil
}

// link is one end of an association table that refers to an object table.
type link struct {
	table  string
	column string // that holds the object's id
	first  string // the table's first column, which the log calls the record id
}

// sever removes the associations of records that are gone, from every pair that their type has.
func (a *Applier) sever(ctx context.Context, tx pgx.Tx, t *catalog.Table, ids []int64, source changes.Source) ([]changes.Change, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := tx.Query(ctx, `
select o.table_name, e.attname, f.attname
from hubpg.objects o
join pg_class c on c.relname = o.table_name and c.relnamespace = $3::regnamespace
join pg_attribute f on f.attrelid = c.oid and f.attnum = 1
join pg_attribute e on e.attrelid = c.oid
  and (e.attnum = 1 and o.from_table = $2 or e.attnum = 2 and o.to_table = $2)
where o.portal_id = $1 and o.kind = 'association' and `+ours+`
order by 1, e.attnum`, a.portal, t.Name, ident(t.Schema))
	if err != nil {
		return nil, fmt.Errorf("list association tables: %w", err)
	}
	links, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (l link, err error) {
		return l, row.Scan(&l.table, &l.column, &l.first)
	})
	if err != nil {
		return nil, fmt.Errorf("list association tables: %w", err)
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.table
	}
	if err := a.Lock(ctx, tx, t.Schema, names...); err != nil {
		return nil, err
	}
	var events []changes.Change
	for _, l := range links {
		found, err := tx.Query(ctx, "delete from "+ident(t.Schema, l.table)+" t where t."+ident(l.column)+
			" = any($1) returning t."+ident(l.first)+", "+edgeJSON, ids)
		if err != nil {
			return nil, fmt.Errorf("remove from %s: %w", l.table, err)
		}
		gone, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (changes.Change, error) {
			c := changes.Change{Schema: t.Schema, Table: l.table, Op: changes.Dissociate, Source: source}
			return c, row.Scan(&c.RecordID, &c.Before)
		})
		if err != nil {
			return nil, fmt.Errorf("remove from %s: %w", l.table, err)
		}
		if len(gone) > 0 {
			if err := a.finish(ctx, tx, l.table, -len(gone), nil, nil); err != nil {
				return nil, err
			}
			events = append(events, gone...)
		}
	}
	return events, nil
}

func compareIDs(x, y int64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
