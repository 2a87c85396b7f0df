package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/catalog"
)

// maxSlots is how many columns a table may ever have had. Postgres allows 1,600 and never forgets dropped ones.
const maxSlots = 1590

// ShapeError is a change of a table's columns that cannot be made, and why.
type ShapeError struct {
	Table, Column string
	Reason        string
	Hint          string // the next step
}

// Error gives the reason and the next step in one line.
func (e *ShapeError) Error() string {
	text := e.Table
	if e.Column != "" {
		text += "." + e.Column
	}
	text += ": " + e.Reason
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// shaped runs change under the locks of a table's DDL with the table and the column, given by its name or its property's.
// What change has done is told to the appliers.
func (m *Mapper) shaped(ctx context.Context, db DB, table, column string,
	change func(tx pgx.Tx, t *catalog.Table, c catalog.Column, excluded bool) error,
) error {
	err := m.locked(ctx, db, table, func(tx pgx.Tx) error {
		tables, err := loadTables(ctx, tx, m.c.PortalID, table)
		if err != nil {
			return err
		}
		if len(tables) == 0 {
			return &ShapeError{Table: table, Reason: "is no table of records", Hint: "hubpg status lists the tables"}
		}
		t := tables[0]
		for _, by := range []func(c catalog.Column) bool{
			func(c catalog.Column) bool { return c.Name == column },
			func(c catalog.Column) bool { return c.Property == column },
		} {
			list, excluded := t.Columns, false
			i := slices.IndexFunc(list, by)
			if i < 0 {
				list, excluded = t.Excluded, true
				i = slices.IndexFunc(list, by)
			}
			if i < 0 {
				continue
			}
			if err := quietly(ctx, tx); err != nil {
				return err
			}
			if err := change(tx, t, list[i], excluded); err != nil {
				return refusal(err, t, list[i])
			}
			return m.bump(ctx, tx, t.Name)
		}
		return &ShapeError{Table: table, Column: column, Reason: "no such column", Hint: "hubpg schema list " + table + " lists them"}
	})
	if _, ok := errors.AsType[*ShapeError](err); !ok && err != nil {
		return fmt.Errorf("alter table %s: %w", table, err)
	}
	return err
}

// refusal says what a user can do about an error of Postgres.
func refusal(err error, t *catalog.Table, c catalog.Column) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch pg.Code {
	case "2BP01": // dependent_objects_still_exist
		return &ShapeError{Table: t.Name, Column: c.Name, Reason: "other objects use the column: " + pg.Detail, Hint: "drop or change them first"}
	case "54000": // program_limit_exceeded
		return &ShapeError{
			Table: t.Name, Column: c.Name, Reason: "its values do not fit into the rows beside those of the other columns",
			Hint: "exclude columns that nobody reads",
		}
	}
	return err
}

// RenameColumn gives a column another name, for good. Views keep working, queries that name the column do not.
func (m *Mapper) RenameColumn(ctx context.Context, db DB, table, column, name string) error {
	return m.shaped(ctx, db, table, column, func(tx pgx.Tx, t *catalog.Table, c catalog.Column, excluded bool) error {
		if c.Name == name {
			return nil
		}
		names := catalog.NewColumnNames()
		for _, other := range slices.Concat(t.Columns, t.Excluded) {
			names.Claim(other.Name)
		}
		switch {
		case name == "" || len(name) > catalog.MaxName:
			return &ShapeError{
				Table: t.Name, Column: c.Name, Reason: fmt.Sprintf("a name has 1 to %d bytes", catalog.MaxName), Hint: "choose another name",
			}
		case names.Taken(name):
			return &ShapeError{Table: t.Name, Column: c.Name, Reason: "the name " + name + " is taken", Hint: "choose another name; hubpg schema list " + t.Name + " lists those in use"}
		}
		if !excluded && !c.Overflow {
			if err := script(ctx, tx, "alter table "+tableIdent(t)+" rename column "+ident(c.Name)+" to "+ident(name)); err != nil {
				return err
			}
		}
		for _, inside := range []string{catalog.Overflow, catalog.Unparsed} {
			j := ident(inside)
			if _, err := tx.Exec(ctx, "update "+tableIdent(t)+" set "+j+" = ("+j+" - $1::text) || jsonb_build_object($2::text, "+j+" -> $1) where "+
				j+" ? $1", c.Name, name); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "update hubpg.columns set column_name = $4 where portal_id = $1 and table_name = $2 and property = $3",
			m.c.PortalID, t.Name, c.Property, name); err != nil {
			return err
		}
		if !t.Stamp(c.Property) {
			return nil
		}
		return m.reguard(ctx, tx, t.ObjectType) // its triggers know the names of stamps
	})
}

// reguard gives a table its triggers anew.
func (m *Mapper) reguard(ctx context.Context, tx pgx.Tx, objectType string) error {
	t, err := m.find(ctx, tx, objectType)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "select tgname from pg_trigger where tgrelid = $1::text::regclass and tgname like 'hubpg\\_%' and not tgisinternal", tableIdent(t))
	if err != nil {
		return err
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range triggers {
		if err := script(ctx, tx, "drop trigger "+ident(name)+" on "+tableIdent(t)); err != nil {
			return err
		}
	}
	return m.guard(ctx, tx, guardedObject(t))
}

// Exclude drops a column with its values. HubSpot is not asked for the property any more, whatever becomes of its
// definition; its name stays reserved for it.
func (m *Mapper) Exclude(ctx context.Context, db DB, table, column string) error {
	return m.shaped(ctx, db, table, column, func(tx pgx.Tx, t *catalog.Table, c catalog.Column, excluded bool) error {
		if excluded {
			return nil
		}
		if !c.Overflow {
			if err := script(ctx, tx, "alter table "+tableIdent(t)+" drop column "+ident(c.Name)); err != nil {
				return err
			}
		}
		for _, inside := range []string{catalog.Overflow, catalog.Unparsed} {
			j := ident(inside)
			if _, err := tx.Exec(ctx, "update "+tableIdent(t)+" set "+j+" = nullif("+j+" - $1::text, '{}') where "+j+" ? $1", c.Name); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `
update hubpg.columns
set placement = 'excluded', filled_at = null
where portal_id = $1 and table_name = $2 and property = $3`, m.c.PortalID, t.Name, c.Property)
		return err
	})
}

// Include takes an exclusion back. The column comes empty; the values of old rows are due.
func (m *Mapper) Include(ctx context.Context, db DB, table, column string) error {
	return m.shaped(ctx, db, table, column, func(tx pgx.Tx, t *catalog.Table, c catalog.Column, excluded bool) error {
		if !excluded {
			return nil
		}
		placement := "column"
		if c.Overflow = t.Slots >= MaxColumns; c.Overflow {
			placement = "overflow"
		}
		if sql := addColumnsSQL(t, []catalog.Column{c}); sql != "" {
			if err := script(ctx, tx, sql); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `
update hubpg.columns
set placement = $4, filled_at = null
where portal_id = $1 and table_name = $2 and property = $3`, m.c.PortalID, t.Name, c.Property, placement)
		return err
	})
}

// Pin makes sure that a property has a column of its own, now and when [Mapper.Narrow] looks for columns to move. With
// pinned unset, it may be moved again.
func (m *Mapper) Pin(ctx context.Context, db DB, table, column string, pinned bool) error {
	return m.shaped(ctx, db, table, column, func(tx pgx.Tx, t *catalog.Table, c catalog.Column, excluded bool) error {
		if excluded {
			return &ShapeError{Table: t.Name, Column: c.Name, Reason: "is excluded", Hint: "include it first"}
		}
		if pinned && c.Overflow {
			if err := m.moveIn(ctx, tx, t, c); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `
update hubpg.columns
set pinned = $4, placement = case when $4 then 'column' else placement end
where portal_id = $1 and table_name = $2 and property = $3`, m.c.PortalID, t.Name, c.Property, pinned)
		return err
	})
}

// moveIn gives a property of _overflow a column with its values.
func (m *Mapper) moveIn(ctx context.Context, tx pgx.Tx, t *catalog.Table, c catalog.Column) error {
	if t.Slots >= maxSlots {
		return &ShapeError{
			Table: t.Name, Column: c.Name, Reason: "the table has had as many columns as Postgres allows",
			Hint: "dropped columns count, too; only a table made anew has room",
		}
	}
	width := c.Kind.Width()
	for _, other := range t.Columns {
		if other.Pinned && !other.Overflow || t.Stamp(other.Property) {
			width += other.Kind.Width()
		}
	}
	if width > rowBudget {
		return &ShapeError{
			Table: t.Name, Column: c.Name, Reason: "the pinned columns would not fit into a row together",
			Hint: "unpin others",
		}
	}
	c.Overflow = false
	if err := script(ctx, tx, addColumnsSQL(t, []catalog.Column{c})); err != nil {
		return err
	}
	value := "(_overflow ->> $1)::" + c.Kind.SQL()
	if c.Kind == catalog.TextArray {
		value = "array(select jsonb_array_elements_text(_overflow -> $1))"
	}
	_, err := tx.Exec(ctx, "update "+tableIdent(t)+" set "+ident(c.Name)+" = "+value+", _overflow = nullif(_overflow - $1::text, '{}') where _overflow ? $1", c.Name)
	return err
}
