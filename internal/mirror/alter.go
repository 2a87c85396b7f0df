package mirror

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// plan is what has to be done to a table to follow its definition.
type plan struct {
	change  SchemaChange
	added   []catalog.Column
	touched []catalog.Column // rows of hubpg.columns that differ, as they should be
	comment []catalog.Column // of touched: those with another label or description
	about   string           // the table's comment
}

// plan compares a table with the definition of its type.
func (m *Mapper) plan(t *catalog.Table, def *ObjectDef) *plan {
	p := &plan{about: def.comment()}
	p.change.Labelled = t.Comment != p.about
	p.change.Deletes = t.Soft != m.c.SoftDeletes
	names := catalog.NewColumnNames()
	have := make(map[string]bool, len(t.Columns))
	for _, c := range t.Columns {
		names.Claim(c.Name)
		have[c.Property] = true
	}
	for _, c := range t.Excluded {
		names.Claim(c.Name)
		have[c.Property] = true
	}
	listed := make(map[string]*PropertyDef, len(def.Properties))
	var fresh []PropertyDef
	properties := live(def.Properties)
	for i := range properties {
		listed[properties[i].Name] = &properties[i]
		if !have[properties[i].Name] {
			fresh = append(fresh, properties[i])
		}
	}
	for _, c := range t.Columns {
		p.compare(c, listed[c.Property])
	}
	if !m.c.IgnoreNew {
		p.added = newColumns(t, names, fresh, t.Slots, false)
		for _, c := range p.added {
			p.change.Added = append(p.change.Added, c.Name)
		}
	}
	return p
}

// compare adds to the plan what one column needs; def is nil when the property is not listed any more.
func (p *plan) compare(c catalog.Column, def *PropertyDef) {
	if def == nil {
		if !c.Archived {
			c.Archived = true
			p.change.Archived = append(p.change.Archived, c.Name)
			p.touched = append(p.touched, c)
		}
		return
	}
	if catalog.KindOf(def.Type, def.FieldType) != c.Kind {
		p.change.Retyped = append(p.change.Retyped, c.Name)
	}
	labelled := c.Label != def.Label || c.Description != def.Description
	// It may have been archived for a while that no pass saw. A row read in that while lacks the value, which came back
	// without a change of the record's.
	away := c.Archived || !c.ChangedAt.IsZero() && def.ChangedAt.After(c.ChangedAt)
	changed := away || labelled || c.Calculated != def.Calculated || c.ReadOnly != def.ReadOnly || !c.ChangedAt.Equal(def.ChangedAt)
	c.Label, c.Description, c.Calculated, c.ReadOnly, c.ChangedAt = def.Label, def.Description, def.Calculated, def.ReadOnly, def.ChangedAt
	if away {
		c.Archived, c.Lapsed = false, c.Filled || c.Lapsed
		c.Filled = false
		p.change.Restored = append(p.change.Restored, c.Name)
	}
	if changed {
		p.change.Redefined = append(p.change.Redefined, c.Name)
		p.touched = append(p.touched, c)
	}
	if labelled {
		p.comment = append(p.comment, c)
	}
}

// alter carries out a plan and returns the table as it is then.
func (m *Mapper) alter(ctx context.Context, tx pgx.Tx, t *catalog.Table, p *plan) (*catalog.Table, error) {
	if !p.change.Any() {
		return t, nil
	}
	if p.change.Deletes {
		if err := m.setDeletes(ctx, tx, t); err != nil {
			return nil, err
		}
	}
	var sql strings.Builder
	sql.WriteString(addColumnsSQL(t, p.added))
	if p.change.Labelled {
		sql.WriteString("comment on table " + tableIdent(t) + " is " + quote(p.about) + ";\n")
	}
	for i := range p.comment {
		sql.WriteString(commentSQL(t, &p.comment[i]))
	}
	if sql.Len() > 0 {
		if err := script(ctx, tx, sql.String()); err != nil {
			return nil, err
		}
	}
	if err := m.storeColumns(ctx, tx, t, append(p.touched, p.added...)); err != nil {
		return nil, err
	}
	if p.change.Deletes || len(p.change.Added)+len(p.change.Archived)+len(p.change.Restored) > 0 {
		if err := m.bump(ctx, tx, t.Name); err != nil {
			return nil, err
		}
	}
	return m.find(ctx, tx, t.ObjectType)
}

// bump tells appliers that their catalog is old.
func (m *Mapper) bump(ctx context.Context, tx pgx.Tx, table string) error {
	_, err := tx.Exec(ctx, "update hubpg.objects set catalog_version = catalog_version + 1 where portal_id = $1 and table_name = $2",
		m.c.PortalID, table)
	return err
}

// Filled records that every row has the values of the given columns, so that nothing is due for them any more. Call it
// in the transaction that stores the last of those rows, which holds the table's lock. It fails with ErrStaleCatalog
// when the columns have changed since t was loaded: one of them may be due again.
func (m *Mapper) Filled(ctx context.Context, tx pgx.Tx, t *catalog.Table, columns []catalog.Column) error {
	properties := make([]string, len(columns))
	for i, c := range columns {
		properties[i] = c.Property
	}
	var current int64
	err := tx.QueryRow(ctx, "select catalog_version from hubpg.objects where portal_id = $1 and table_name = $2", m.c.PortalID, t.Name).Scan(&current)
	if err != nil {
		return fmt.Errorf("mark columns of %s as filled: %w", t.Name, err)
	}
	if current != t.Version {
		return fmt.Errorf("mark columns of %s as filled: %w", t.Name, ErrStaleCatalog)
	}
	_, err = tx.Exec(ctx, `
update hubpg.columns
set filled_at = now(), lapsed = false
where portal_id = $1 and table_name = $2 and property = any($3) and archived_at is null`, m.c.PortalID, t.Name, properties)
	if err != nil {
		return fmt.Errorf("mark columns of %s as filled: %w", t.Name, err)
	}
	return nil
}
