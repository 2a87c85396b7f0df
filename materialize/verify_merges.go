package materialize

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// merges holds the table of merges against what the stored records say was merged into them. Those values are compared
// with HubSpot in their own tables.
func (v *verifier) merges(ctx context.Context, cat *mirror.Catalog, r *TableReport) error {
	survivors := map[*catalog.Table][]int64{}
	err := v.inSnapshot(ctx, func(tx pgx.Tx) error {
		merges := pgx.Identifier{v.schema, mirror.Merges}.Sanitize()
		if err := tx.QueryRow(ctx, "select count(*) from "+merges).Scan(&r.StoredRows); err != nil {
			return err
		}
		for _, t := range cat.Tables {
			c, ok := t.Column(mirror.MergedProperty)
			if !ok {
				continue
			}
			ids, err := v.mergesOf(ctx, tx, t, c, r)
			if err != nil {
				return err
			}
			survivors[t] = ids
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare merges: %w", err)
	}
	r.HubSpotRows = r.StoredRows + r.Missing // earlier merges of a chain are told by nobody
	for t, ids := range survivors {
		if v.repair == nil || len(ids) == 0 {
			continue
		}
		if _, err := v.repair.records(ctx, t, ids); err != nil { // which tell again what was merged into them
			return fmt.Errorf("repair: %w", err)
		}
	}
	return nil
}

// mergesOf compares the merges of one table and returns the records whose mergers are not stored.
func (v *verifier) mergesOf(ctx context.Context, tx pgx.Tx, t *catalog.Table, c catalog.Column, r *TableReport) (survivors []int64, err error) {
	ids := "t." + pgx.Identifier{c.Name}.Sanitize()
	switch {
	case c.Overflow:
		ids = "array(select jsonb_array_elements_text(t._overflow -> $2))"
	case c.Kind != catalog.TextArray:
		ids = "string_to_array(" + ids + ", ';')"
	}
	rows, err := tx.Query(ctx, `
select u.old_id, t.id, m.new_id
from `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+` t
cross join lateral (select id::bigint as old_id from unnest(`+ids+`) id where id ~ '^[0-9]{1,18}$') u
left join `+pgx.Identifier{v.schema, mirror.Merges}.Sanitize()+` m on m.table_name = $1 and m.old_id = u.old_id
where u.old_id <> t.id and m.new_id is distinct from t.id and $2::text is not null
order by u.old_id`, t.Name, c.Name)
	if err != nil {
		return nil, err
	}
	var old, into int64
	var stored *int64
	_, err = pgx.ForEachRow(rows, []any{&old, &into, &stored}, func() error {
		survivors = append(survivors, into)
		if stored == nil {
			r.add(v.Keep, Difference{Kind: RowMissing, ID: old})
			return nil
		}
		r.add(v.Keep, Difference{
			Kind: ValueDiffer, ID: old, Column: "new_id", HubSpot: fmt.Sprint(into), Stored: fmt.Sprint(*stored),
		})
		return nil
	})
	slices.Sort(survivors)
	return slices.Compact(survivors), err
}
