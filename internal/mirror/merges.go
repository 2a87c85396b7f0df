package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// Merges is the table that says what became of the ids of records that were merged into others. Its rows always name
// the record that is left in the end: when that one is merged, too, they follow.
const Merges = "merges"

// The properties in which a record names those that were merged into it. The second is contacts' and has the times.
const (
	MergedProperty = "hs_merged_object_ids"
	mergedVIDs     = "hs_calculated_merged_vids"
)

func mergesTable() Lookup {
	return Lookup{
		Name: Merges, Comment: "what became of records that were merged into others", Key: []string{"table_name", "old_id"}, ID: "old_id",
		columns: []lookupColumn{
			{"table_name", "text not null", "the table that the records are in"},
			{"old_id", "bigint not null", "the id that the record had"},
			{"new_id", "bigint not null", "the record that it is a part of now, after all merges since"},
			{"merged_at", "timestamptz", "when, if HubSpot says so"},
		},
	}
}

// merger is what became of a record.
type merger struct {
	into int64
	at   time.Time
}

// mergers reads from a batch's records which others were merged into them, by the old id.
func (b *Batch) mergers(rows ...*Row) map[int64]merger {
	ids := slices.IndexFunc(b.Columns, func(c catalog.Column) bool { return c.Property == MergedProperty })
	vids := slices.IndexFunc(b.Columns, func(c catalog.Column) bool { return c.Property == mergedVIDs })
	if ids < 0 && vids < 0 {
		return nil
	}
	found := map[int64]merger{}
	read := func(r *Row, column int) {
		if column < 0 {
			return
		}
		for part := range bytes.SplitSeq(r.Values[column], []byte{';'}) {
			text, when, _ := bytes.Cut(part, []byte{':'})
			id, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
			if err != nil || id == r.ID {
				continue
			}
			m := merger{into: r.ID, at: found[id].at}
			if ms, err := strconv.ParseInt(string(bytes.TrimSpace(when)), 10, 64); err == nil {
				m.at = time.UnixMilli(ms).UTC()
			}
			found[id] = m
		}
	}
	for _, r := range rows {
		read(r, ids)
		read(r, vids)
	}
	return found
}

// Merge stores that records have become others, by their old ids: the rows under the old ids leave the table with the
// event merge, and [Merges] tells where they went. It locks the association tables of the type and Merges.
func (a *Applier) Merge(ctx context.Context, tx pgx.Tx, t *catalog.Table, moved map[int64]int64, readAt time.Time,
	source changes.Source,
) (Result, error) {
	var res Result
	if len(moved) == 0 {
		return res, nil
	}
	found := make(map[int64]merger, len(moved))
	for old, into := range moved {
		found[old] = merger{into: into}
	}
	batch := &pgx.Batch{}
	enter(batch, t.Schema, t.Name)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return res, fmt.Errorf("merge records of %s: %w", t.Name, err)
	}
	events, gone, err := a.redirect(ctx, tx, t, found, stored(readAt), source)
	if err != nil {
		return res, fmt.Errorf("merge records of %s: %w", t.Name, err)
	}
	res.Deleted = gone
	res.Unchanged = len(moved) - gone
	return res, a.finish(ctx, tx, t.Name, -gone, events, &res)
}

// redirect notes mergers and removes the rows under the old ids, unless they were read after readAt. It returns the
// events and how many rows have gone. The caller has the table's lock.
func (a *Applier) redirect(ctx context.Context, tx pgx.Tx, t *catalog.Table, found map[int64]merger, readAt time.Time,
	source changes.Source,
) (events []changes.Change, gone int, err error) {
	if len(found) == 0 {
		return nil, 0, nil
	}
	if err := a.Lock(ctx, tx, t.Schema, Merges); err != nil {
		return nil, 0, err
	}
	noted, err := a.noteMergers(ctx, tx, t, found, source)
	if err != nil {
		return nil, 0, err
	}
	ids := slices.Sorted(maps.Keys(found))
	removed, stay, err := a.expel(ctx, tx, t, ids, readAt, changes.Merge, source)
	if err != nil {
		return nil, 0, err
	}
	var buried []int64 // what was known already, and had no row, has its tombstone
	for i := range removed {
		c := &removed[i]
		if c.After, err = json.Marshal(map[string]int64{catalog.ID: found[c.RecordID].into}); err != nil {
			return nil, 0, err
		}
		buried = append(buried, c.RecordID)
	}
	for i := range noted {
		if _, stays := slices.BinarySearch(stay, noted[i].RecordID); !stays {
			buried = append(buried, noted[i].RecordID)
		}
	}
	slices.Sort(buried)
	buried = slices.Compact(buried)
	if err := a.bury(ctx, tx, t.Name, buried, string(changes.Merge), readAt); err != nil {
		return nil, 0, err
	}
	edges, err := a.sever(ctx, tx, t, buried, source)
	if err != nil {
		return nil, 0, err
	}
	return slices.Concat(removed, edges, noted), len(removed), nil
}

// mergeRow is a row of Merges without its table.
type mergeRow struct {
	old, into int64
	at        *time.Time
}

// noteMergers brings Merges up to date and returns the differences. found is resolved on the way: each entry then names
// the record that is left in the end.
func (a *Applier) noteMergers(ctx context.Context, tx pgx.Tx, t *catalog.Table, found map[int64]merger, source changes.Source,
) ([]changes.Change, error) {
	ids := slices.Sorted(maps.Keys(found))
	targets := make([]int64, 0, len(found))
	for _, m := range found {
		targets = append(targets, m.into)
	}
	ours := false // somebody else's table of that name does not keep records from being merged
	if err := tx.QueryRow(ctx, "select exists (select from hubpg.objects where portal_id = $1 and table_name = $2)",
		a.portal, Merges).Scan(&ours); err != nil {
		return nil, fmt.Errorf("look for %s: %w", Merges, err)
	}
	have := map[int64]mergeRow{}
	if ours {
		rows, err := tx.Query(ctx, "select old_id, new_id, merged_at from "+ident(t.Schema, Merges)+
			" where table_name = $1 and (old_id = any($2) or old_id = any($3) or new_id = any($2)) order by old_id", t.Name, ids, targets)
		if err != nil {
			return nil, fmt.Errorf("read merges: %w", err)
		}
		var r mergeRow
		if _, err := pgx.ForEachRow(rows, []any{&r.old, &r.into, &r.at}, func() error {
			have[r.old] = r
			return nil
		}); err != nil {
			return nil, fmt.Errorf("read merges: %w", err)
		}
	}
	want := make(map[int64]mergeRow, len(have)+len(found))
	maps.Copy(want, have)
	for old, m := range found {
		r := want[old]
		r.old, r.into = old, m.into
		if !m.at.IsZero() {
			r.at = &m.at
		}
		want[old] = r
	}
	var put []mergeRow
	for _, old := range slices.Sorted(maps.Keys(want)) {
		r := want[old]
		r.into = last(want, old)
		if m, ok := found[old]; ok {
			m.into = r.into
			found[old] = m
		}
		if r.into == old { // two records that each claim the other
			delete(found, old)
			continue
		}
		was, known := have[old]
		if !known || was.into != r.into || was.at == nil && r.at != nil {
			put = append(put, r)
		}
	}
	if !ours {
		return nil, nil
	}
	return a.putMergers(ctx, tx, t, put, have, source)
}

// last follows mergers to the record that is left in the end; the record itself if it leads back to it.
func last(all map[int64]mergeRow, id int64) int64 {
	end := id
	for range len(all) + 1 {
		next, merged := all[end]
		if !merged {
			return end
		}
		end = next.into
	}
	return id
}

// putMergers stores rows that differ from those in have and returns the differences, in the order of old ids. Like
// those of lookup tables, before and after hold the key besides what differs.
func (a *Applier) putMergers(ctx context.Context, tx pgx.Tx, t *catalog.Table, put []mergeRow, have map[int64]mergeRow, source changes.Source,
) ([]changes.Change, error) {
	if len(put) == 0 {
		return nil, nil
	}
	old, into, at := make([]int64, len(put)), make([]int64, len(put)), make([]*time.Time, len(put))
	fresh := 0
	for i, r := range put {
		old[i], into[i], at[i] = r.old, r.into, r.at
		if _, known := have[r.old]; !known {
			fresh++
		}
	}
	table := ident(t.Schema, Merges)
	rows, err := tx.Query(ctx, `
with incoming as materialized (
  select $1::text as table_name, u.* from unnest($2::bigint[], $3::bigint[], $4::timestamptz[]) u(old_id, new_id, merged_at)
), was as materialized (
  select m.* from `+table+` m join incoming n on n.table_name = m.table_name and n.old_id = m.old_id
), put as (
  insert into `+table+` (table_name, old_id, new_id, merged_at)
  select table_name, old_id, new_id, merged_at from incoming
  on conflict (table_name, old_id) do update
  set new_id = excluded.new_id, merged_at = excluded.merged_at
)
select n.old_id, case when o.old_id is null then 'insert' else 'update' end,
       case when o.old_id is null then '{}' else d.names end,
       case when o.old_id is not null then d.before end,
       case when o.old_id is null then jsonb_strip_nulls(to_jsonb(n)) else d.after end
from incoming n
left join was o on o.old_id = n.old_id
cross join lateral (
  select array_agg(k order by k) filter (where k in ('new_id', 'merged_at')) as names,
         jsonb_object_agg(k, to_jsonb(o) -> k) as before,
         jsonb_object_agg(k, to_jsonb(n) -> k) as after
  from jsonb_object_keys(to_jsonb(n)) k
  where k in ('table_name', 'old_id') or to_jsonb(o) -> k is distinct from to_jsonb(n) -> k
) d
order by n.old_id`, t.Name, old, into, at)
	if err != nil {
		return nil, fmt.Errorf("write merges: %w", err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (changes.Change, error) {
		c := changes.Change{Schema: t.Schema, Table: Merges, Source: source}
		return c, row.Scan(&c.RecordID, &c.Op, &c.Changed, &c.Before, &c.After)
	})
	if err != nil {
		return nil, fmt.Errorf("write merges: %w", err)
	}
	if fresh > 0 {
		if _, err := tx.Exec(ctx, "update hubpg.objects set row_count = row_count + $3 where portal_id = $1 and table_name = $2",
			a.portal, Merges, fresh); err != nil {
			return nil, fmt.Errorf("count merges: %w", err)
		}
	}
	return events, nil
}
