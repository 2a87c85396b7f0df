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
	v.live[t.Name] = live
	extra, missing, err := o.unlisted(ctx, live)
	if err != nil {
		return err
	}
	suspects = slices.Concat(suspects, extra, missing)
	var open []verifyFound
	for round := 0; len(suspects) > 0 && round < verifyRounds; round++ {
		if err := v.settle(ctx); err != nil {
			return err
		}
		found, err := o.again(ctx, suspects)
		if err != nil {
			return err
		}
		suspects, open = nil, open[:0]
		for _, f := range found {
			if f.certain() {
				o.count(f.id, f.differences)
				continue
			}
			suspects, open = append(suspects, f.id), append(open, f)
		}
	}
	open = slices.DeleteFunc(open, func(f verifyFound) bool {
		if f.late() {
			r.Pending++
		}
		return f.late()
	})
	if len(open) > 0 {
		v.doubt(doubtful{r, o.detectors(open), func(ctx context.Context, looked bool) error { return o.decide(ctx, open, looked) }})
	}
	return o.mend(ctx)
}

// detectors are the lanes that find what HubSpot does not date.
func (o *verifyObject) detectors(open []verifyFound) []laneArgs {
	lanes := []laneArgs{{o.PortalID, o.table.Name, LaneIDs}, {o.PortalID, o.table.Name, LaneArchived}}
	if slices.ContainsFunc(open, func(f verifyFound) bool {
		return slices.ContainsFunc(f.differences, func(d Difference) bool { return d.Kind == ValueDiffer })
	}) {
		lanes = append(lanes, laneArgs{o.PortalID, o.table.Name, LaneCalculated})
	}
	return lanes
}

// decide compares what was in doubt.
func (o *verifyObject) decide(ctx context.Context, open []verifyFound, looked bool) error {
	before := make(map[int64][]Difference, len(open))
	for _, f := range open {
		before[f.id] = f.differences
	}
	o.broken = nil
	found, err := o.again(ctx, slices.Collect(maps.Keys(before)))
	if err != nil {
		return err
	}
	o.report.Late += int64(len(open) - len(found))
	for _, f := range found {
		switch {
		case f.late():
			o.report.Pending++
		case o.report.judge(o.Keep, before[f.id], f.differences, looked):
			o.broken = append(o.broken, f.id)
		}
	}
	return o.mend(ctx)
}

func (o *verifyObject) count(id int64, list []Difference) {
	o.report.add(o.Keep, list...)
	o.broken = append(o.broken, id)
}

// mend repairs what has been reported, if it is to be.
func (o *verifyObject) mend(ctx context.Context) error {
	if o.repair == nil {
		return nil
	}
	t, err := o.repair.records(ctx, o.table, o.broken)
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return o.repair.applier.Recount(ctx, o.Pool, t)
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
		result, err := batchRead(ctx, o.Client, o.table.Path, ids, o.projection)
		if err != nil {
			return nil, nil, err
		}
		found, err := o.compare(ctx, result.Records, result.ReadAt)
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
		if _, large := errors.AsType[*hubapi.TooLargeError](err); large && !wide {
			wide, options.Projection = true, nil // from here on by id, in parts
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		records, readAt := page.Records, page.ReadAt
		for i := range records {
			live = append(live, records[i].ID)
		}
		if wide && len(records) > 0 {
			ids := slices.Clone(live[len(live)-len(records):])
			result, err := batchRead(ctx, o.Client, o.table.Path, ids, o.projection)
			if err != nil {
				return nil, nil, err
			}
			records, readAt = result.Records, result.ReadAt
			suspects = slices.Concat(suspects, result.Missing, result.Unanswered)
		}
		found, err := o.compare(ctx, records, readAt)
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

// again reads suspects from both sides once more and returns those that still differ.
func (o *verifyObject) again(ctx context.Context, suspects []int64) (list []verifyFound, err error) {
	slices.Sort(suspects)
	for ids := range slices.Chunk(slices.Compact(suspects), hubapi.MaxPage) {
		result, err := batchRead(ctx, o.Client, o.table.Path, ids, o.projection)
		if err != nil {
			return nil, err
		}
		found, err := o.compare(ctx, result.Records, result.ReadAt)
		if err != nil {
			return nil, err
		}
		// A record that others became is compared for its own sake only where it was asked for.
		list = append(list, slices.DeleteFunc(found, func(f verifyFound) bool { return !slices.Contains(ids, f.id) })...)
		for _, id := range result.Unanswered {
			list = append(list, verifyFound{id: id, unanswered: true})
		}
		extra, err := o.extra(ctx, result)
		if err != nil {
			return nil, err
		}
		list = append(list, extra...)
	}
	if list, err = o.claimed(ctx, list); err != nil {
		return nil, err
	}
	unbumped := map[string]bool{}
	for _, c := range o.columns {
		unbumped[c.Name] = c.Calculated || c.ReadOnly
	}
	for i := range list {
		f := &list[i]
		f.undated = f.undated || !slices.ContainsFunc(f.differences, func(d Difference) bool {
			return d.Kind != ValueDiffer || !unbumped[d.Column]
		})
	}
	return list, nil
}

// extra returns the rows of records that HubSpot does not have under their ids any more.
func (o *verifyObject) extra(ctx context.Context, result *hubapi.BatchResult) ([]verifyFound, error) {
	gone := slices.Concat(result.Missing, slices.Collect(maps.Keys(result.Moved)))
	if len(gone) == 0 {
		return nil, nil
	}
	claims, still, err := o.stored(ctx, gone)
	if err != nil || len(still) == 0 {
		return nil, err
	}
	binned := map[int64]time.Time{}
	asked := slices.DeleteFunc(slices.Clone(still), func(id int64) bool { _, moved := result.Moved[id]; return moved })
	if len(asked) > 0 {
		bin, err := o.Client.BatchReadArchived(ctx, o.table.Path, asked, hubapi.NewProjection(nil))
		if err != nil {
			return nil, err
		}
		for i := range bin.Records {
			binned[bin.Records[i].ID] = bin.Records[i].ArchivedAt
		}
	}
	list := make([]verifyFound, 0, len(still))
	for _, id := range still {
		f := verifyFound{id: id, claims: claims, archived: binned[id], differences: []Difference{{Kind: RowExtra, ID: id}}}
		for i := range result.Records {
			if r := &result.Records[i]; r.ID == result.Moved[id] {
				f.modified = r.UpdatedAt
			}
		}
		list = append(list, f)
	}
	return list, nil
}

// claimed leaves out values of columns for which the table claims nothing at the moment: they are being filled, or
// HubSpot's definition has been changed, archived or restored since the schema lane looked.
func (o *verifyObject) claimed(ctx context.Context, list []verifyFound) ([]verifyFound, error) {
	if !slices.ContainsFunc(list, func(f verifyFound) bool {
		return slices.ContainsFunc(f.differences, func(d Difference) bool { return d.Kind == ValueDiffer })
	}) {
		return list, nil
	}
	properties, err := o.Client.ListProperties(ctx, o.table.Path, false)
	if err != nil {
		return nil, err
	}
	cat, err := mirror.Load(ctx, o.Pool, o.PortalID)
	if err != nil {
		return nil, err
	}
	claims := map[string]bool{catalog.Unparsed: true}
	if t := cat.Named(o.table.Name); t != nil {
		for _, c := range t.Readable() {
			claims[c.Name] = c.Filled && slices.ContainsFunc(properties, func(p hubapi.Property) bool {
				return p.Name == c.Property && (c.ChangedAt.IsZero() || !p.UpdatedAt.After(c.ChangedAt))
			})
		}
	}
	for i := range list {
		f := &list[i]
		f.differences = slices.DeleteFunc(f.differences, func(d Difference) bool { return d.Kind == ValueDiffer && !claims[d.Column] })
	}
	return slices.DeleteFunc(list, func(f verifyFound) bool { return len(f.differences) == 0 && !f.unanswered }), nil
}

// stored returns those of ids that are in the table, and what the table claims then.
func (o *verifyObject) stored(ctx context.Context, ids []int64) (claims claims, list []int64, err error) {
	table := pgx.Identifier{o.table.Schema, o.table.Name}.Sanitize()
	err = o.inSnapshot(ctx, func(tx pgx.Tx) error {
		if claims, err = o.claims(ctx, tx, o.table.Name); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "select t.id from "+table+" t where t.id = any($1) and "+mirror.Live(o.table)+" order by t.id", ids)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return claims, nil, fmt.Errorf("look for rows: %w", err)
	}
	return claims, list, nil
}

// compare holds records against the stored rows and returns those that differ. Values are compared by Postgres, as the
// types that they have there.
func (o *verifyObject) compare(ctx context.Context, records []hubapi.Record, readAt time.Time) (found []verifyFound, err error) {
	rows, err := json.Marshal(o.render(records))
	if err != nil {
		return nil, fmt.Errorf("render records: %w", err)
	}
	names := make([]string, 0, len(o.columns)+1)
	calculated := make(map[string]bool)
	for _, c := range o.columns {
		names = append(names, c.Name)
		calculated[c.Name] = c.Calculated
	}
	names = append(names, catalog.Unparsed)
	modified := make(map[int64]time.Time, len(records))
	for i := range records {
		modified[records[i].ID] = records[i].UpdatedAt
	}
	err = o.inSnapshot(ctx, func(tx pgx.Tx) error {
		found = nil
		claims, err := o.claims(ctx, tx, o.table.Name)
		if err != nil {
			return err
		}
		list, err := tx.Query(ctx, `
select h.id, t.id is not null, coalesce(t._read_at > $2, false), g.record_id is not null, d.name, d.theirs::text, d.ours::text
from jsonb_to_recordset($1) as h(id bigint, v jsonb)
left join `+pgx.Identifier{o.table.Schema, o.table.Name}.Sanitize()+` t on t.id = h.id and `+mirror.Live(o.table)+`
left join hubpg.tombstones g on g.portal_id = $4 and g.table_name = $5 and g.record_id = h.id
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
order by h.id, d.name`, rows, readAt.UTC().Truncate(time.Microsecond), names, o.PortalID, o.table.Name)
		if err != nil {
			return err
		}
		var id int64
		var exists, newer, buried bool
		var column, theirs, ours *string
		_, err = pgx.ForEachRow(list, []any{&id, &exists, &newer, &buried, &column, &theirs, &ours}, func() error {
			if len(found) == 0 || found[len(found)-1].id != id {
				found = append(found, verifyFound{id: id, claims: claims, modified: modified[id], newer: newer, undated: buried})
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
		return nil, fmt.Errorf("compare rows: %w", err)
	}
	return found, nil
}
