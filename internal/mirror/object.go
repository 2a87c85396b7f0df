package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// ObjectDef is an object type as HubSpot defines it.
type ObjectDef struct {
	ObjectType       string // type id: 0-1, 2-123
	Name             string // plural name: contacts; a custom object's own name
	Singular         string // contact
	Path             string // segment of the API path
	ModifiedProperty string
	Custom           bool
	Label            string // for the table's comment; "" means Name
	Properties       []PropertyDef
}

// PropertyDef is a property as HubSpot defines it.
type PropertyDef struct {
	Name        string
	Type        string
	FieldType   string
	Label       string
	Description string
	Calculated  bool
	ReadOnly    bool
	Hidden      bool
	Archived    bool // treated as a property that is not listed
	// ChangedAt is when the definition was last changed: it may have been archived and restored, so its values are read
	// again. Leave it zero where a definition cannot be archived.
	ChangedAt time.Time
}

// SchemaChange tells what EnsureObject had to change; names are column names.
type SchemaChange struct {
	Created   bool
	Added     []string
	Archived  []string
	Restored  []string
	Redefined []string
	Labelled  bool     // the type has another label now
	Deletes   bool     // deletes are soft now, or hard: whichever the configuration says and the table did not
	Retyped   []string // HubSpot's type is another now; the column keeps its kind. Reported every time
}

// Any reports whether the database was changed.
func (c *SchemaChange) Any() bool {
	return c.Created || c.Labelled || c.Deletes || len(c.Added)+len(c.Archived)+len(c.Restored)+len(c.Redefined) > 0
}

// comment is what the table says of itself.
func (d *ObjectDef) comment() string { return "HubSpot " + cmp.Or(d.Label, d.Name) }

// EnsureObject makes the table of an object type, or brings it in line with the type's definition: new properties
// become columns, properties no longer listed keep theirs and are marked archived, labels become comments. Names and
// kinds, once given, stay. def.Properties must be complete; an empty list is refused, because every type has some.
//
// When nothing differs, it reads three rows and locks nothing.
func (m *Mapper) EnsureObject(ctx context.Context, db DB, def *ObjectDef) (*catalog.Table, SchemaChange, error) {
	if len(def.Properties) == 0 {
		return nil, SchemaChange{}, fmt.Errorf("map %s: definition has no properties", def.Name)
	}
	t, err := m.find(ctx, db, def.ObjectType)
	if err != nil {
		return nil, SchemaChange{}, fmt.Errorf("map %s: %w", def.Name, err)
	}
	if t != nil {
		done, err := identified(ctx, db, t)
		if err != nil {
			return nil, SchemaChange{}, fmt.Errorf("map %s: %w", def.Name, err)
		}
		if p := m.plan(t, def); !p.change.Any() && done {
			return t, p.change, nil
		}
		if other, err := replaced(ctx, db, t); err != nil || other {
			return t, SchemaChange{}, err
		}
	}
	name := ""
	if t != nil {
		name = t.Name
	}
	var change SchemaChange
	err = m.locked(ctx, db, name, func(tx pgx.Tx) error {
		t, err = m.find(ctx, tx, def.ObjectType)
		if err != nil {
			return err
		}
		if t == nil {
			t, change, err = m.create(ctx, tx, def)
			return err
		}
		if err := identify(ctx, tx, t); err != nil {
			return err
		}
		p := m.plan(t, def)
		change = p.change
		t, err = m.alter(ctx, tx, t, p)
		return err
	})
	if err != nil {
		return nil, SchemaChange{}, fmt.Errorf("map %s: %w", def.Name, err)
	}
	return t, change, nil
}

// replaced reports whether somebody has put something else in the place of a table, which is left alone.
func replaced(ctx context.Context, q Querier, t *catalog.Table) (other bool, err error) {
	err = q.QueryRow(ctx, "select exists (select from pg_class c where c.oid = to_regclass($1) and not "+ours+")", tableIdent(t)).Scan(&other)
	if err != nil {
		return false, fmt.Errorf("map %s: %w", t.Name, err)
	}
	return other, nil
}

// identified reports whether a table's ids are an identity column, as those of tables made by earlier versions are not. One that is not
// there, or that somebody has given a default of his own, is left as it is.
func identified(ctx context.Context, q Querier, t *catalog.Table) (yes bool, err error) {
	err = q.QueryRow(ctx, `
select not exists (
	select from pg_attribute a
	where a.attrelid = to_regclass($1) and a.attname = $2 and a.attidentity = '' and not a.atthasdef)`, tableIdent(t), catalog.ID).Scan(&yes)
	return yes, err
}

// identify makes a table's ids an identity column, if they are none.
func identify(ctx context.Context, tx pgx.Tx, t *catalog.Table) error {
	yes, err := identified(ctx, tx, t)
	if err != nil || yes {
		return err
	}
	return script(ctx, tx, "alter table "+tableIdent(t)+" alter "+ident(catalog.ID)+" add "+identity)
}

// find loads the table of an object type, nil if there is none yet.
func (m *Mapper) find(ctx context.Context, q Querier, objectType string) (*catalog.Table, error) {
	var name string
	err := q.QueryRow(ctx, "select table_name from hubpg.objects where portal_id = $1 and kind = 'object' and object_type = $2",
		m.c.PortalID, objectType).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tables, err := loadTables(ctx, q, m.c.PortalID, name)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	return tables[0], nil
}

// create makes a new table.
func (m *Mapper) create(ctx context.Context, tx pgx.Tx, def *ObjectDef) (*catalog.Table, SchemaChange, error) {
	names, err := m.tableNames(ctx, tx)
	if err != nil {
		return nil, SchemaChange{}, err
	}
	t := &catalog.Table{
		Schema: m.c.Schema, Name: names.Table(def.Name, def.Custom), Singular: catalog.Plain(def.Singular),
		ObjectType: def.ObjectType, Path: def.Path, ModifiedProperty: def.ModifiedProperty,
		Soft: m.c.SoftDeletes, Version: 1,
	}
	if err := m.absent(ctx, tx, t.Name); err != nil {
		return nil, SchemaChange{}, err
	}
	t.Columns = newColumns(t, catalog.NewColumnNames(), live(def.Properties), 0, true)
	if err := script(ctx, tx, createTableSQL(t, def.comment())); err != nil {
		return nil, SchemaChange{}, err
	}
	if _, err := tx.Exec(ctx, `
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, modified_property, deletes)
values ($1, $2, 'object', $3, $4, $5, nullif($6, ''), case when $7 then 'soft' else 'hard' end)`,
		m.c.PortalID, t.Name, t.ObjectType, t.Path, t.Singular, t.ModifiedProperty, t.Soft); err != nil {
		return nil, SchemaChange{}, err
	}
	if err := m.guard(ctx, tx, guardedObject(t)); err != nil {
		return nil, SchemaChange{}, err
	}
	change := SchemaChange{Created: true}
	for _, c := range t.Columns {
		change.Added = append(change.Added, c.Name)
	}
	return t, change, m.storeColumns(ctx, tx, t, t.Columns)
}

// tableNames is the scope of the schema's tables with all names given so far.
func (m *Mapper) tableNames(ctx context.Context, q Querier) (*catalog.Names, error) {
	rows, err := q.Query(ctx, "select table_name from hubpg.objects where portal_id = $1", m.c.PortalID)
	if err != nil {
		return nil, err
	}
	given, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	names := catalog.NewTableNames()
	names.Claim(given...)
	return names, nil
}

// live drops archived definitions and repeated names.
func live(properties []PropertyDef) []PropertyDef {
	seen := make(map[string]bool, len(properties))
	list := make([]PropertyDef, 0, len(properties))
	for _, p := range properties {
		if !p.Archived && !seen[p.Name] {
			seen[p.Name] = true
			list = append(list, p)
		}
	}
	return list
}

// newColumns gives columns to properties. used is how many columns the table has already; the properties that do not
// fit go to _overflow, hidden ones first, then read-only ones, then the last; stamps, which every record has, never.
func newColumns(stamps *catalog.Table, names *catalog.Names, properties []PropertyDef, used int, filled bool) []catalog.Column {
	order := make([]int, len(properties))
	for i := range order {
		order[i] = i
	}
	rank := func(p *PropertyDef) int {
		switch {
		case stamps.Stamp(p.Name):
			return -1
		case p.Hidden:
			return 2
		case p.ReadOnly || p.Calculated:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(rank(&properties[x]), rank(&properties[y])) })
	overflow := make([]bool, len(properties))
	for i, index := range order {
		overflow[index] = used+i >= MaxColumns
	}
	columns := make([]catalog.Column, len(properties))
	for i, p := range properties {
		columns[i] = catalog.Column{
			Name: names.Column(p.Name), Property: p.Name, Kind: catalog.KindOf(p.Type, p.FieldType),
			Label: p.Label, Description: p.Description, Calculated: p.Calculated, ReadOnly: p.ReadOnly,
			ChangedAt: p.ChangedAt, Overflow: overflow[i], Filled: filled,
		}
	}
	return columns
}

// storeColumns writes columns into hubpg.columns, new or changed.
func (m *Mapper) storeColumns(ctx context.Context, tx pgx.Tx, t *catalog.Table, columns []catalog.Column) error {
	batch := &pgx.Batch{}
	for _, c := range columns {
		placement := "column"
		if c.Overflow {
			placement = "overflow"
		}
		var changedAt *time.Time
		if !c.ChangedAt.IsZero() {
			changedAt = &c.ChangedAt
		}
		batch.Queue(`
insert into hubpg.columns as c (portal_id, table_name, property, column_name, kind, placement, label, description,
                                calculated, read_only, filled_at, archived_at, lapsed, changed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, case when $11 then now() end, case when $12 then now() end, $13, $14)
on conflict (portal_id, table_name, property) do update
set label = excluded.label,
    description = excluded.description,
    calculated = excluded.calculated,
    read_only = excluded.read_only,
    filled_at = case when $11 then coalesce(c.filled_at, now()) end,
    archived_at = case when $12 then coalesce(c.archived_at, now()) end,
    lapsed = excluded.lapsed,
    changed_at = excluded.changed_at`,
			m.c.PortalID, t.Name, c.Property, c.Name, c.Kind.SQL(), placement, c.Label, c.Description,
			c.Calculated, c.ReadOnly, c.Filled, c.Archived, c.Lapsed, changedAt)
	}
	return tx.SendBatch(ctx, batch).Close()
}
