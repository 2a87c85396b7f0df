package mirror

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// merge stages rows and moves them over the older ones of the same ids. It returns the differences it made, unless the
// batch is quiet, and how many rows had any.
func merge(ctx context.Context, tx pgx.Tx, b *Batch, rows []*Row, readAt time.Time) ([]changes.Change, int, error) {
	stage, create := stageTable(b)
	// The simple protocol: nothing is prepared before the table it names exists.
	if _, err := tx.Conn().PgConn().Exec(ctx, create+"; delete from "+stage).ReadAll(); err != nil {
		return nil, 0, fmt.Errorf("make staging table: %w", err)
	}
	if err := copyRows(ctx, tx, "", stage, b.Columns, rows, time.Time{}); err != nil {
		return nil, 0, fmt.Errorf("stage: %w", err)
	}
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	asked := make([]string, 0, len(b.Columns)+1)
	overflow := []string{}
	for _, c := range b.Columns {
		asked = append(asked, c.Name)
		if c.Overflow {
			overflow = append(overflow, c.Name)
		}
	}
	args := []any{ids, asked, overflow, b.Quiet, b.Table.Stamps()}
	if b.whole() {
		args = append(args, readAt)
	}
	found, err := tx.Query(ctx, mergeSQL(b, stage), args...)
	if err != nil {
		return nil, 0, fmt.Errorf("merge: %w", err)
	}
	var list []changes.Change
	updated := 0
	c := changes.Change{Op: changes.Update}
	_, err = pgx.ForEachRow(found, []any{&c.RecordID, &c.Changed, &c.Before, &c.After}, func() error {
		updated++
		if len(c.Changed) > 0 {
			c.Schema, c.Table, c.Source = b.Table.Schema, b.Table.Name, b.Source
			list = append(list, c)
		}
		c = changes.Change{Op: changes.Update}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("merge: %w", err)
	}
	return list, updated, nil
}

// stageTable names the temporary table that holds rows of the batch's columns, and the statement that makes it. The
// table is kept by the connection and empties itself at the end of each transaction; its name tells its columns, so
// that a table with other columns is another table.
func stageTable(b *Batch) (name, create string) {
	var columns strings.Builder
	fmt.Fprintf(&columns, "%s bigint, %s timestamptz, %s timestamptz, %s jsonb, %s jsonb",
		catalog.ID, catalog.CreatedAt, catalog.UpdatedAt, catalog.Unparsed, catalog.Overflow)
	for _, c := range b.Columns {
		if !c.Overflow {
			fmt.Fprintf(&columns, ", %s %s", ident(c.Name), c.Kind.SQL())
		}
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(tableIdent(b.Table) + "\n" + columns.String())) // never fails
	name = ident("pg_temp", fmt.Sprintf("hubpg_stage_%016x", hash.Sum64()))
	return name, "create temp table if not exists " + name + " (" + columns.String() + ") on commit delete rows"
}

// mergeSQL is the statement that moves the staged rows. Its parameters: ids, names asked for, those of them that live
// in _overflow, quiet, names of stamps, and for a whole batch the read time.
//
// Rows without a difference only get their new version and stamps, so that long values are not written again. All parts
// see the table as it was before the statement, which is where the differences come from.
func mergeSQL(b *Batch, stage string) string {
	// What the jsonb columns become: names that were asked for are replaced, all others stay.
	const unparsed = "case when t._unparsed is null then s._unparsed else " +
		"nullif((t._unparsed - $2::text[]) || coalesce(s._unparsed, '{}'), '{}') end"
	const overflow = "case when t._overflow is null then s._overflow else " +
		"nullif((t._overflow - $3::text[]) || coalesce(s._overflow, '{}'), '{}') end"
	news := func(expression string) string { return "nullif((" + expression + ") - $5::text[], '{}')" }
	var differs, set strings.Builder
	fmt.Fprintf(&differs, "%s is distinct from %s\n   or %s is distinct from %s",
		news("t._unparsed"), news(unparsed), news("t._overflow"), news(overflow))
	fmt.Fprintf(&set, "_unparsed = %s,\n    _overflow = %s", unparsed, overflow)
	moved, stamped := stampsSQL(b, unparsed, overflow)
	for _, c := range b.Columns {
		if !c.Overflow {
			name := ident(c.Name)
			if !b.Table.Stamp(c.Property) {
				fmt.Fprintf(&differs, "\n   or t.%s is distinct from s.%s", name, name)
			}
			fmt.Fprintf(&set, ",\n    %s = s.%s", name, name)
		}
	}
	if b.whole() {
		const version = "created_at = coalesce(s.created_at, t.created_at), updated_at = s.updated_at, _read_at = $6"
		fmt.Fprintf(&set, ",\n    %s", version)
		moved, stamped = append(moved, version), "true"
	}
	touch := ""
	if len(moved) > 0 {
		touch = `, touched as (
  update ` + tableIdent(b.Table) + ` t
  set ` + strings.Join(moved, ",\n      ") + `
  from ` + stage + ` s
  where t.id = s.id and t.id = any($1) and not exists (select from diff where diff.id = t.id)
  and (` + stamped + `)
)`
	}
	return `
with diff as materialized (
  select t.id,
         case when $4 then null else (to_jsonb(t) - '_overflow') || coalesce(t._overflow, '{}')
              || jsonb_build_object('_unparsed', ` + news("t._unparsed") + `) end as old,
         case when $4 then null else (to_jsonb(s) - '_overflow') || coalesce(s._overflow, '{}')
              || jsonb_build_object('_unparsed', ` + news(unparsed) + `) end as new
  from ` + tableIdent(b.Table) + ` t
  join ` + stage + ` s on s.id = t.id
  where t.id = any($1)
  and (` + differs.String() + `)
), changed as (
  update ` + tableIdent(b.Table) + ` t
  set ` + set.String() + `
  from ` + stage + ` s
  where t.id = s.id and t.id = any($1) and exists (select from diff where diff.id = t.id)
)` + touch + `
select d.id, c.names, c.before, c.after
from diff d
cross join lateral (
  select array_agg(n order by o) as names,
         jsonb_object_agg(n, coalesce(d.old -> n, 'null')) as before,
         jsonb_object_agg(n, coalesce(d.new -> n, 'null')) as after
  from unnest($2::text[] || '_unparsed'::text) with ordinality u(n, o)
  where n <> all($5) and nullif(d.old -> n, 'null') is distinct from nullif(d.new -> n, 'null')
) c
order by d.id`
}

// stampsSQL lists the assignments that bring a batch's stamps up to date in rows without another difference, and the
// condition under which one of them changes something.
func stampsSQL(b *Batch, unparsed, overflow string) (set []string, differs string) {
	var conditions []string
	inside := false
	for _, c := range b.Columns {
		switch {
		case !b.Table.Stamp(c.Property):
		case c.Overflow:
			inside = true
		default:
			name := ident(c.Name)
			set = append(set, name+" = s."+name)
			conditions = append(conditions, "t."+name+" is distinct from s."+name)
		}
	}
	if inside {
		set = append(set, "_overflow = "+overflow)
		conditions = append(conditions, "t._overflow is distinct from "+overflow)
	}
	if len(set) > 0 { // a stamp may be no timestamp
		set = append(set, "_unparsed = "+unparsed)
		conditions = append(conditions, "t._unparsed is distinct from "+unparsed)
	}
	return set, strings.Join(conditions, " or ")
}
