package materialize

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// lookup compares a lookup table, scope by scope.
func (v *verifier) lookup(ctx context.Context, cat *mirror.Catalog, name string, r *TableReport) error {
	switch name {
	case mirror.ListMemberships:
		return v.members(ctx, r)
	case mirror.FormSubmissions:
		return v.submissions(ctx, r)
	}
	if err := v.countRows(ctx, name, r); err != nil {
		return err
	}
	scopes, err := v.scopes(ctx, name)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		if err := v.lookupScope(ctx, cat, name, scope, r); err != nil {
			return err
		}
		v.Progress(name, r.HubSpotRows)
	}
	return nil
}

// scopes lists the parts of a lookup table that were ever read; what HubSpot never showed is nobody's claim.
func (v *verifier) scopes(ctx context.Context, name string) ([]string, error) {
	rows, err := v.Pool.Query(ctx, "select scope from hubpg.lookup_reads where portal_id = $1 and table_name = $2 order by scope", v.PortalID, name)
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	scopes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	return scopes, nil
}

// lookupScope compares one scope, and once more when it differs.
func (v *verifier) lookupScope(ctx context.Context, cat *mirror.Catalog, name, scope string, r *TableReport) error {
	snapshot, found, err := v.compareScope(ctx, cat, name, scope)
	for round := 1; err == nil && len(found) > 0 && round < verifyRounds; round++ {
		before := found
		if err = v.settle(ctx); err == nil {
			snapshot, found, err = v.compareScope(ctx, cat, name, scope)
		}
		if err == nil {
			r.healed(v.Keep, before, found)
		}
	}
	if err != nil {
		return err
	}
	r.HubSpotRows += int64(len(snapshot.Rows))
	if len(found) == 0 {
		return nil
	}
	v.doubt(doubtful{r, v.lookupDetectors(name), func(ctx context.Context, looked bool) error {
		snapshot, again, err := v.compareScope(ctx, cat, name, scope)
		if err != nil {
			return err
		}
		r.judgeRows(v.Keep, found, again, looked)
		if v.repair == nil || len(again) == 0 {
			return nil
		}
		snapshot.Source = changes.Repair
		return v.repair.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) { return v.repair.applier.Replace(ctx, tx, snapshot) })
	}})
	return nil
}

// lookupDetectors is the lane that reads a lookup table.
func (v *verifier) lookupDetectors(name string) []laneArgs {
	if slices.Contains(ownLookups(), name) {
		return []laneArgs{{v.PortalID, name, LaneLookup}}
	}
	return []laneArgs{{v.PortalID, name, LaneSchema}}
}

// judgeRows is judge for rows of a lookup table, each of which is one difference.
func (t *TableReport) judgeRows(keep int, before, after []Difference, looked bool) {
	if !t.healed(keep, before, after) {
		t.Late += int64(max(len(before)-len(after), 0))
	}
	for _, d := range after {
		t.judge(keep, before, []Difference{d}, looked)
	}
}

// compareScope compares one scope with what HubSpot has now.
func (v *verifier) compareScope(ctx context.Context, cat *mirror.Catalog, name, scope string) (*mirror.Snapshot, []Difference, error) {
	s := &mirror.Snapshot{Schema: v.schema, Table: name, Scope: scope, ReadAt: time.Now()}
	var err error
	if s.Rows, err = v.lookupRows(ctx, cat, scope, name); err != nil {
		return nil, nil, err
	}
	list, err := v.rowsDiffer(ctx, s)
	return s, list, err
}

// rowsDiffer returns the rows of a lookup table that are not those of a snapshot.
func (v *verifier) rowsDiffer(ctx context.Context, s *mirror.Snapshot) ([]Difference, error) {
	var (
		list []changes.Change
		told bool
	)
	err := v.inSnapshot(ctx, func(tx pgx.Tx) (err error) {
		if list, err = mirror.Compare(ctx, tx, s); err == nil && len(list) > 0 {
			told, err = mirror.Told(ctx, tx, v.PortalID, s)
		}
		return err
	})
	differ := make([]Difference, len(list))
	for i := range list {
		differ[i] = verifyLookup(list[i])
		differ[i].Unexplained = told
	}
	return differ, err
}

// verifyLookup turns what would have to be done into what differs.
func verifyLookup(c changes.Change) Difference {
	d := Difference{ID: c.RecordID, HubSpot: string(c.After), Stored: string(c.Before)}
	switch c.Op {
	case changes.Insert:
		d.Kind = RowMissing
	case changes.Delete:
		d.Kind = RowExtra
	default:
		d.Kind = ValueDiffer
		if len(c.Changed) > 0 {
			d.Column = c.Changed[0]
		}
	}
	return d
}

// lookupRows reads what a lookup table, or its scope that belongs to an object table, should hold.
func (v *verifier) lookupRows(ctx context.Context, cat *mirror.Catalog, scope, name string) ([]mirror.LookupRow, error) {
	if slices.Contains(ownLookups(), name) {
		source := surfaces{pool: v.Pool, client: v.Client, schema: v.schema, catalog: cat}
		return source.rows(ctx, name, false)
	}
	if name == "owners" || name == "teams" {
		owners, err := v.Client.ListOwners(ctx, false)
		if err != nil {
			return nil, err
		}
		archived, err := v.Client.ListOwners(ctx, true)
		if err != nil {
			return nil, err
		}
		rows, teams := ownerRows(append(owners, archived...))
		if name == "teams" {
			return teams, nil
		}
		return rows, nil
	}
	t := cat.Named(scope)
	if t == nil {
		return nil, nil // the object type is gone, and so should its rows be
	}
	if name == "pipelines" || name == "pipeline_stages" {
		pipelines, err := v.Client.ListPipelines(ctx, t.Path)
		if err != nil {
			return nil, err
		}
		rows, stages, err := pipelineRows(t.Name, pipelines)
		if name == "pipeline_stages" {
			return stages, err
		}
		return rows, err
	}
	properties, err := v.Client.ListProperties(ctx, t.Path, false)
	if err != nil {
		return nil, err
	}
	rows, options := propertyRows(t, properties)
	if name == "property_options" {
		return options, nil
	}
	return rows, nil
}
