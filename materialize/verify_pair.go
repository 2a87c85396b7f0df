package materialize

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// verifyEdge is what tells one association of a pair from another.
type verifyEdge struct {
	A, B     int64
	TypeID   int
	Category string
}

// pair compares an association table: the associations of every record of A that HubSpot has, and none of others.
func (v *verifier) pair(ctx context.Context, p *catalog.Pair, r *TableReport) error {
	ids, err := v.ends(ctx, p)
	if err != nil {
		return err
	}
	if v.Sample > 0 {
		ids = choose(ids, v.Sample)
	}
	open := map[int64][]Difference{}
	for chunk := range slices.Chunk(ids, hubapi.MaxAssociationInputs) {
		found, counts, err := v.compareEdges(ctx, p, chunk)
		if err != nil {
			return err
		}
		r.HubSpotRows += counts[0]
		r.StoredRows += counts[1]
		maps.Copy(open, found)
		v.Progress(p.Name, r.HubSpotRows)
	}
	for round := 0; len(open) > 0 && round < verifyRounds; round++ {
		if err := v.settle(ctx); err != nil {
			return err
		}
		before := open
		if open, err = v.edgesAgain(ctx, p, before); err != nil {
			return err
		}
		r.edgesHealed(v.Keep, before, open)
	}
	due, err := v.due(ctx, p, open)
	if err != nil {
		return err
	}
	maps.DeleteFunc(open, func(a int64, _ []Difference) bool { return due[a] })
	r.Pending += int64(len(due))
	if len(open) == 0 {
		return nil
	}
	lanes, err := v.edgeDetectors(ctx, p, open)
	if err != nil {
		return err
	}
	v.doubt(doubtful{r, lanes, func(ctx context.Context, looked bool) error { return v.decideEdges(ctx, p, r, open, looked) }})
	return nil
}

// edgeDetectors are the lanes that find changed associations: that of the pair, and those that find records of A that
// are gone, where only associations know of them.
func (v *verifier) edgeDetectors(ctx context.Context, p *catalog.Pair, open map[int64][]Difference) ([]laneArgs, error) {
	lanes := []laneArgs{{v.PortalID, p.Name, LanePairs}}
	known, err := mirror.Known(ctx, v.Pool, p.A, slices.Collect(maps.Keys(open)))
	if err != nil {
		return nil, err
	}
	if len(known) < len(open) {
		lanes = append(lanes, laneArgs{v.PortalID, p.A.Name, LaneIDs}, laneArgs{v.PortalID, p.A.Name, LaneArchived})
	}
	return lanes, nil
}

// decideEdges compares what was in doubt, by record of A.
func (v *verifier) decideEdges(ctx context.Context, p *catalog.Pair, r *TableReport, before map[int64][]Difference, looked bool) error {
	found, err := v.edgesAgain(ctx, p, before)
	if err != nil {
		return err
	}
	due, err := v.due(ctx, p, found)
	if err != nil {
		return err
	}
	r.Late += int64(len(before)-len(found)) - r.edgesHealed(v.Keep, before, found)
	var broken []int64
	for _, a := range slices.Sorted(maps.Keys(found)) {
		switch {
		case due[a]:
			r.Pending++
		case r.judge(v.Keep, before[a], found[a], looked):
			broken = append(broken, a)
		}
	}
	if v.repair == nil {
		return nil
	}
	for chunk := range slices.Chunk(broken, hubapi.MaxAssociationInputs) {
		if _, err := v.mendEdges(ctx, p, chunk); err != nil {
			return fmt.Errorf("repair: %w", err)
		}
	}
	return nil
}

// edgesHealed is healed for records of A; it returns how many have no difference left.
func (t *TableReport) edgesHealed(keep int, before, after map[int64][]Difference) (records int64) {
	for _, a := range slices.Sorted(maps.Keys(before)) {
		if t.healed(keep, before[a], after[a]) && len(after[a]) == 0 {
			records++
		}
	}
	return records
}

// mendEdges makes the associations of records of A what HubSpot says now, and returns how many it has. What it says nothing
// about is asked for again later.
func (v *verifier) mendEdges(ctx context.Context, p *catalog.Pair, ids []int64) (has int64, err error) {
	for {
		readAt := time.Now()
		read, err := v.readEdges(ctx, p, ids)
		if err != nil {
			return has, err
		}
		has += int64(len(read.labels))
		ids, err = v.repair.edges(ctx, p, ids, read, readAt)
		if err != nil || len(ids) == 0 {
			return has, err
		}
		if err := v.pauseFor(ctx, mirror.SilencePause); err != nil {
			return has, err
		}
	}
}

// edgesAgain compares the associations of some records of A once more.
func (v *verifier) edgesAgain(ctx context.Context, p *catalog.Pair, open map[int64][]Difference) (map[int64][]Difference, error) {
	again := map[int64][]Difference{}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(open)), hubapi.MaxAssociationInputs) {
		found, _, err := v.compareEdges(ctx, p, chunk)
		if err != nil {
			return nil, err
		}
		maps.Copy(again, found)
	}
	return again, nil
}

// ends returns the records of A to ask about: those that HubSpot has, and those that the table has associations of.
func (v *verifier) ends(ctx context.Context, p *catalog.Pair) ([]int64, error) {
	live, known := v.live[p.A.Name]
	if !known {
		options := hubapi.ListOptions{Limit: hubapi.MaxPage}
		for page, err := range v.Client.Objects(ctx, p.A.Path, options) {
			if err != nil {
				return nil, err
			}
			for i := range page.Records {
				live = append(live, page.Records[i].ID)
			}
		}
		slices.Sort(live)
		live = slices.Compact(live)
		v.live[p.A.Name] = live
	}
	rows, err := v.Pool.Query(ctx, "select distinct "+pgx.Identifier{p.ColumnA()}.Sanitize()+" from "+pgx.Identifier{p.Schema, p.Name}.Sanitize())
	if err != nil {
		return nil, fmt.Errorf("list stored associations: %w", err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list stored associations: %w", err)
	}
	ids := slices.Concat(live, stored)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// compareEdges reads the associations of some records of A from both sides and returns the differences by record, and
// how many associations HubSpot and the table have.
func (v *verifier) compareEdges(ctx context.Context, p *catalog.Pair, ids []int64) (found map[int64][]Difference, counts [2]int64, err error) {
	read, err := v.readEdges(ctx, p, ids)
	if err != nil {
		return nil, counts, err
	}
	theirs := read.labels
	err = v.inSnapshot(ctx, func(tx pgx.Tx) error {
		ours, err := storedEdges(ctx, tx, p, ids)
		if err != nil {
			return err
		}
		counts = [2]int64{int64(len(theirs)), int64(len(ours))}
		if found = edgesDiffer(theirs, ours); len(found) == 0 {
			return nil
		}
		return v.explain(ctx, tx, p, found)
	})
	return found, counts, err
}

// storedEdges are the associations that the table has of some records of A.
func storedEdges(ctx context.Context, tx pgx.Tx, p *catalog.Pair, ids []int64) (map[verifyEdge]string, error) {
	ours := map[verifyEdge]string{}
	rows, err := tx.Query(ctx, fmt.Sprintf("select %[1]s, %[2]s, type_id, category, coalesce(label, '') from %[3]s where %[1]s = any($1)",
		pgx.Identifier{p.ColumnA()}.Sanitize(), pgx.Identifier{p.ColumnB()}.Sanitize(), pgx.Identifier{p.Schema, p.Name}.Sanitize()), ids)
	if err != nil {
		return nil, fmt.Errorf("read stored associations: %w", err)
	}
	var e verifyEdge
	var label string
	if _, err = pgx.ForEachRow(rows, []any{&e.A, &e.B, &e.TypeID, &e.Category, &label}, func() error {
		ours[e] = label
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read stored associations: %w", err)
	}
	return ours, nil
}

// edgesDiffer returns the differences by record of A.
func edgesDiffer(theirs, ours map[verifyEdge]string) map[int64][]Difference {
	found := map[int64][]Difference{}
	for e, label := range theirs {
		switch have, stored := ours[e]; {
		case !stored:
			found[e.A] = append(found[e.A], Difference{Kind: RowMissing, ID: e.A, HubSpot: e.describe(label)})
		case have != label:
			found[e.A] = append(found[e.A], Difference{Kind: ValueDiffer, ID: e.A, Column: "label", HubSpot: e.describe(label), Stored: e.describe(have)})
		}
	}
	for e, label := range ours {
		if _, there := theirs[e]; !there {
			found[e.A] = append(found[e.A], Difference{Kind: RowExtra, ID: e.A, Stored: e.describe(label)})
		}
	}
	return found
}

// explain marks the differences that the change log contradicts: what it tells of an association last is not what the table
// has. It tells of all that happened since the first filling; while it waits for what clients have written it proves nothing.
func (v *verifier) explain(ctx context.Context, tx pgx.Tx, p *catalog.Pair, found map[int64][]Difference) error {
	rows, err := tx.Query(ctx, `
with log as (
	select c.seq, c.record_id, c.op, coalesce(c.after, c.before) as edge, coalesce(c.after ->> 'label', '') as label
	from hubpg.changes c
	join hubpg.objects o on o.portal_id = $1 and o.table_name = c.table_name and o.backfill_done_at < c.at
	where c.schema_name = $2 and c.table_name = $3 and c.record_id = any ($4)
	and not exists (select from hubpg.write_changes w where w.portal_id = $1 and w.table_name = $3))
select distinct on (1, 2, 3, 4) record_id, (edge ->> $5)::bigint, (edge ->> 'type_id')::int, edge ->> 'category', op <> 'dissociate', label
from log
order by 1, 2, 3, 4, seq desc`, v.PortalID, p.Schema, p.Name, slices.Collect(maps.Keys(found)), p.ColumnB())
	if err != nil {
		return fmt.Errorf("read what the change log tells of associations: %w", err)
	}
	type last struct {
		there bool
		label string
	}
	log := map[verifyEdge]last{}
	var (
		e verifyEdge
		l last
	)
	if _, err := pgx.ForEachRow(rows, []any{&e.A, &e.B, &e.TypeID, &e.Category, &l.there, &l.label}, func() error {
		log[e] = l
		return nil
	}); err != nil {
		return fmt.Errorf("read what the change log tells of associations: %w", err)
	}
	for _, list := range found {
		for i := range list {
			d := &list[i]
			var stored, theirs mirror.Edge
			if d.Stored != "" && json.Unmarshal([]byte(d.Stored), &stored) != nil || d.HubSpot != "" && json.Unmarshal([]byte(d.HubSpot), &theirs) != nil {
				continue
			}
			row := stored
			if d.Kind == RowMissing {
				row = theirs
			}
			told, known := log[verifyEdge{row.A, row.B, row.TypeID, row.Category}]
			d.Unexplained = known && (told.there != (d.Kind != RowMissing) || told.there && told.label != row.Label)
		}
	}
	return nil
}

// describe renders an association for the report.
func (e verifyEdge) describe(label string) string {
	text, err := json.Marshal(mirror.Edge{A: e.A, B: e.B, TypeID: e.TypeID, Category: e.Category, Label: label})
	if err != nil { // numbers and strings always encode
		return "{}"
	}
	return string(text)
}

// verifyEdges are all associations of some records of A.
type verifyEdges struct {
	labels map[verifyEdge]string
	silent []int64 // records that HubSpot's answer left out
}

// readEdges reads all associations of some records of A, to the end.
func (v *verifier) readEdges(ctx context.Context, p *catalog.Pair, ids []int64) (*verifyEdges, error) {
	edges := &verifyEdges{labels: map[verifyEdge]string{}}
	todo := make([]hubapi.AssociationInput, len(ids))
	for i, id := range ids {
		todo[i].ID = id
	}
	for page := 0; len(todo) > 0; page++ {
		if page == maxEdgePages {
			return nil, fmt.Errorf("associations of record %d have no end after %d pages", todo[0].ID, page)
		}
		result, err := v.Client.BatchReadAssociations(ctx, p.A.Path, p.B.Path, todo)
		if err != nil {
			return nil, err
		}
		if len(result.Unanswered) > 0 {
			return nil, fmt.Errorf("HubSpot did not answer for %d of %d records", len(result.Unanswered), len(todo))
		}
		edges.silent = append(edges.silent, result.Unmentioned...)
		todo = todo[:0:0]
		for _, of := range result.Results {
			for _, to := range of.To {
				for _, t := range to.Types {
					edges.labels[verifyEdge{of.FromID, to.ToID, t.TypeID, t.Category}] = t.Label
				}
			}
			if of.After != "" {
				todo = append(todo, hubapi.AssociationInput{ID: of.FromID, After: of.After})
			}
		}
	}
	return edges, nil
}

// due returns the records of A whose associations the materializer knows it has to read again, for their own sake or
// for that of a record at the other end.
func (v *verifier) due(ctx context.Context, p *catalog.Pair, found map[int64][]Difference) (map[int64]bool, error) {
	due := map[int64]bool{}
	if len(found) == 0 {
		return due, nil
	}
	ends := map[int64][]int64{} // record of B → records of A
	for a, list := range found {
		for _, d := range list {
			for _, text := range []string{d.HubSpot, d.Stored} {
				var e mirror.Edge
				if text != "" && json.Unmarshal([]byte(text), &e) == nil {
					ends[e.B] = append(ends[e.B], a)
				}
			}
		}
	}
	rows, err := v.Pool.Query(ctx, `
select table_name, record_id
from hubpg.pending_associations
where portal_id = $1 and (table_name = $2 and record_id = any($3) or table_name = $4 and record_id = any($5))
union
select table_name, record_id
from hubpg.pending_pairs
where portal_id = $1 and (
	table_name = $2 and other_table = $4 and record_id = any($3) or table_name = $4 and other_table = $2 and record_id = any($5))`, v.PortalID,
		p.A.Name, slices.Collect(maps.Keys(found)), p.B.Name, slices.Collect(maps.Keys(ends)))
	if err != nil {
		return nil, fmt.Errorf("read pending associations: %w", err)
	}
	var table string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&table, &id}, func() error {
		if table == p.A.Name {
			due[id] = true
		}
		if table == p.B.Name {
			for _, a := range ends[id] {
				due[a] = true
			}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read pending associations: %w", err)
	}
	return due, nil
}
