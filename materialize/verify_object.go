package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// verifyObject is the comparison of one object table.
type verifyObject struct {
	*verifier
	table      *catalog.Table
	columns    []catalog.Column
	projection *hubapi.Projection
	report     *TableReport
	broken     []int64 // what is reported
}

// object compares an object table. HubSpot's order is not relied on: ids are gathered, then compared as sets.
func (v *verifier) object(ctx context.Context, t *catalog.Table, r *TableReport) error {
	o := &verifyObject{verifier: v, table: t, columns: t.Readable(), report: r}
	properties := make([]string, len(o.columns))
	for i, c := range o.columns {
		properties[i] = c.Property
	}
	o.projection = hubapi.NewProjection(properties)
	var live, suspects []int64
	var err error
	if v.Sample > 0 {
		live, suspects, err = o.sample(ctx)
	} else {
		live, suspects, err = o.walk(ctx)
	}
	if err != nil {
		return err
	}
	r.HubSpotRows = int64(len(live))
	extra, missing, err := o.unlisted(ctx, live)
	if err != nil {
		return err
	}
	suspects = slices.Concat(suspects, extra, missing)
	for round := 0; len(suspects) > 0 && round < verifyRounds; round++ {
		if err := v.settle(ctx); err != nil {
			return err
		}
		if suspects, err = o.again(ctx, suspects); err != nil {
			return err
		}
	}
	r.Pending = int64(len(suspects))
	v.live[t.Name] = live
	if v.repair == nil {
		return nil
	}
	if t, err = v.repair.records(ctx, t, o.broken); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return v.repair.applier.Recount(ctx, v.Pool, t)
}

// sample lists all ids and compares the values of some records.
func (o *verifyObject) sample(ctx context.Context) (live, suspects []int64, err error) {
	for page, err := range o.Client.Objects(ctx, o.table.Path, hubapi.ListOptions{Limit: hubapi.MaxPage}) {
		if err != nil {
			return nil, nil, err
		}
		for i := range page.Records {
			live = append(live, page.Records[i].ID)
		}
		o.Progress(o.table.Name, int64(len(live)))
	}
	slices.Sort(live)
	live = slices.Compact(live)
	for ids := range slices.Chunk(choose(live, o.Sample), hubapi.MaxPage) {
		result, err := o.Client.BatchRead(ctx, o.table.Path, ids, o.projection)
		if err != nil {
			return nil, nil, err
		}
		found, _, err := o.compare(ctx, result.Records, result.ReadAt)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			suspects = append(suspects, f.id)
		}
	}
	return live, suspects, nil
}

// choose picks n of ids at random, all when there are no more.
func choose(ids []int64, n int) []int64 {
	if n <= 0 || len(ids) <= n {
		return ids
	}
	picked := make(map[int64]bool, n)
	for len(picked) < n {
		picked[ids[rand.IntN(len(ids))]] = true
	}
	return slices.Sorted(maps.Keys(picked))
}

// walk lists all records of the type and returns their ids in ascending order, and those that are not stored alike.
func (o *verifyObject) walk(ctx context.Context) (live, suspects []int64, err error) {
	listed := o.projection
	wide := !o.Client.FitsURL(o.table.Path, o.projection)
	if wide {
		listed = nil
	}
	options := hubapi.ListOptions{Projection: listed, Limit: hubapi.MaxPage}
	for {
		page, err := o.Client.ListObjects(ctx, o.table.Path, options)
		if err != nil {
			return nil, nil, err
		}
		records, readAt := page.Records, page.ReadAt
		for i := range records {
			live = append(live, records[i].ID)
		}
		if wide && len(records) > 0 {
			ids := slices.Clone(live[len(live)-len(records):])
			result, err := o.Client.BatchRead(ctx, o.table.Path, ids, o.projection)
			if err != nil {
				return nil, nil, err
			}
			records, readAt = result.Records, result.ReadAt
			suspects = slices.Concat(suspects, result.Missing, result.Unanswered)
		}
		found, _, err := o.compare(ctx, records, readAt)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			suspects = append(suspects, f.id)
		}
		o.Progress(o.table.Name, int64(len(live)))
		if page.After == "" {
			slices.Sort(live)
			return slices.Compact(live), suspects, nil
		}
		if page.After == options.After {
			return nil, nil, fmt.Errorf("list %s: the cursor %s repeats", o.table.Path, page.After)
		}
		options.After = page.After
	}
}

// unlisted counts the stored rows and compares their ids with live, which is sorted.
func (o *verifyObject) unlisted(ctx context.Context, live []int64) (extra, missing []int64, err error) {
	table := pgx.Identifier{o.table.Schema, o.table.Name}.Sanitize()
	rows, err := o.Pool.Query(ctx, "select t.id from "+table+" t where "+mirror.Live(o.table))
	if err != nil {
		return nil, nil, fmt.Errorf("list stored rows: %w", err)
	}
	var id int64
	stored := make([]bool, len(live))
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		o.report.StoredRows++
		if i, found := slices.BinarySearch(live, id); found {
			stored[i] = true
		} else {
			extra = append(extra, id)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list stored rows: %w", err)
	}
	for i, there := range stored {
		if !there {
			missing = append(missing, live[i])
		}
	}
	return extra, missing, nil
}

// again reads suspects from both sides once more. What differs now, and should not, goes into the report; what may still
// be under way is returned.
func (o *verifyObject) again(ctx context.Context, suspects []int64) (open []int64, err error) {
	slices.Sort(suspects)
	for ids := range slices.Chunk(slices.Compact(suspects), hubapi.MaxPage) {
		result, err := o.Client.BatchRead(ctx, o.table.Path, ids, o.projection)
		if err != nil {
			return nil, err
		}
		found, verified, err := o.compare(ctx, result.Records, result.ReadAt)
		if err != nil {
			return nil, err
		}
		modified := make(map[int64]time.Time, len(result.Records))
		for i := range result.Records {
			modified[result.Records[i].ID] = result.Records[i].UpdatedAt
		}
		for _, f := range found {
			if f.newer || modified[f.id].After(verified) {
				open = append(open, f.id)
				continue
			}
			o.report.add(o.Keep, f.differences...)
			o.broken = append(o.broken, f.id)
		}
		open = append(open, result.Unanswered...)
		gone := slices.Clone(result.Missing)
		for old := range result.Moved {
			gone = append(gone, old)
		}
		still, err := o.stored(ctx, gone)
		if err != nil {
			return nil, err
		}
		for _, id := range still {
			o.report.add(o.Keep, Difference{Kind: RowExtra, ID: id})
			o.broken = append(o.broken, id)
		}
	}
	return open, nil
}

// stored returns those of ids that are in the table.
func (o *verifyObject) stored(ctx context.Context, ids []int64) ([]int64, error) {
	table := pgx.Identifier{o.table.Schema, o.table.Name}.Sanitize()
	rows, err := o.Pool.Query(ctx, "select t.id from "+table+" t where t.id = any($1) and "+mirror.Live(o.table)+" order by t.id", append([]int64{}, ids...))
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", err)
	}
	return list, nil
}

// verifyFound is a record that is not stored as HubSpot showed it.
type verifyFound struct {
	id          int64
	newer       bool // the stored row was read after the record was
	differences []Difference
}

// compare holds records against the stored rows and returns those that differ, and the instant up to which the table
// claims to be true. Values are compared by Postgres, as the types that they have there.
func (o *verifyObject) compare(ctx context.Context, records []hubapi.Record, readAt time.Time) (found []verifyFound, verified time.Time, err error) {
	rows, err := json.Marshal(o.render(records))
	if err != nil {
		return nil, verified, fmt.Errorf("render records: %w", err)
	}
	names := make([]string, 0, len(o.columns)+1)
	calculated := make(map[string]bool)
	for _, c := range o.columns {
		names = append(names, c.Name)
		calculated[c.Name] = c.Calculated
	}
	names = append(names, catalog.Unparsed)
	err = o.inSnapshot(ctx, func(tx pgx.Tx) error {
		found = nil
		if verified, err = o.verified(ctx, tx, o.table.Name); err != nil {
			return err
		}
		list, err := tx.Query(ctx, `
select h.id, t.id is not null, coalesce(t._read_at > $2, false), d.name, d.theirs::text, d.ours::text
from jsonb_to_recordset($1) as h(id bigint, v jsonb)
left join `+pgx.Identifier{o.table.Schema, o.table.Name}.Sanitize()+` t on t.id = h.id and `+mirror.Live(o.table)+`
left join lateral (
  select (to_jsonb(t) - array['_overflow', '_unparsed']) || coalesce(t._overflow, '{}') || jsonb_build_object('_unparsed',
         (select jsonb_object_agg(key, value) from jsonb_each(t._unparsed) where key = any($3))) as row
) s on t.id is not null
left join lateral (
  select n as name, h.v -> n as theirs, s.row -> n as ours
  from unnest($3::text[]) n
  where nullif(h.v -> n, 'null') is distinct from nullif(s.row -> n, 'null')
) d on t.id is not null
where t.id is null or d.name is not null
order by h.id, d.name`, rows, readAt.UTC().Truncate(time.Microsecond), names)
		if err != nil {
			return err
		}
		var id int64
		var exists, newer bool
		var column, theirs, ours *string
		_, err = pgx.ForEachRow(list, []any{&id, &exists, &newer, &column, &theirs, &ours}, func() error {
			if len(found) == 0 || found[len(found)-1].id != id {
				found = append(found, verifyFound{id: id, newer: newer})
			}
			f := &found[len(found)-1]
			if !exists {
				f.differences = append(f.differences, Difference{Kind: RowMissing, ID: id})
				return nil
			}
			d := Difference{Kind: ValueDiffer, ID: id, Column: *column, HubSpot: "null", Stored: "null", Calculated: calculated[*column]}
			if theirs != nil {
				d.HubSpot = *theirs
			}
			if ours != nil {
				d.Stored = *ours
			}
			f.differences = append(f.differences, d)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, verified, fmt.Errorf("compare rows: %w", err)
	}
	return found, verified, nil
}

// verified returns the instant up to which a table claims to be true. A table that claims nothing yet is held to
// everything.
func (v *verifier) verified(ctx context.Context, tx pgx.Tx, table string) (time.Time, error) {
	var at *time.Time
	err := tx.QueryRow(ctx, "select verified_at from hubpg.objects where portal_id = $1 and table_name = $2", v.PortalID, table).Scan(&at)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return time.Time{}, errors.New("the table was removed meanwhile")
	case err != nil:
		return time.Time{}, err
	case at == nil:
		return time.Now().AddDate(1, 0, 0), nil
	}
	return *at, nil
}

// verifyRow is a record as it should be stored.
type verifyRow struct {
	ID     int64                      `json:"id"`
	Values map[string]json.RawMessage `json:"v"`
}

// render turns records into the rows that they should be, values without those that are NULL.
func (o *verifyObject) render(records []hubapi.Record) []verifyRow {
	rows := make([]verifyRow, len(records))
	for i := range records {
		row := verifyRow{ID: records[i].ID, Values: map[string]json.RawMessage{}}
		unparsed := map[string]json.RawMessage{}
		for slot, c := range o.columns {
			raw := records[i].Values[slot]
			if len(raw) == 0 {
				continue
			}
			if text, ok := c.Kind.AppendJSON(nil, raw); ok {
				row.Values[c.Name] = text
			} else {
				unparsed[c.Name], _ = catalog.Text.AppendJSON(nil, raw)
			}
		}
		if len(unparsed) > 0 {
			row.Values[catalog.Unparsed], _ = json.Marshal(unparsed) // made of valid JSON
		}
		rows[i] = row
	}
	return rows
}
