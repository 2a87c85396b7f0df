package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

const (
	// rowBudget is what is left of a page (8,160 bytes for one row) after the row's header, a null bitmap for 1,600
	// columns and hubpg's own columns. Columns whose widths add up to this fit whatever their values are.
	rowBudget = 7750
	// usageSample is how many rows are looked at to see which columns are used least.
	usageSample = 10_000
	// moveChunk is how many columns one jsonb_build_object takes: two arguments each, at most 100.
	moveChunk = 50
)

// Narrow moves the least-used columns of a table into _overflow, as many as it takes for a row to fit with every
// property set, and returns the table as it is then. It is the answer to a [WideRowError]: most accounts set few of
// their properties on each record and keep a column for each of them; only those that do not pay the price.
//
// Values that are stored move too, in one transaction. Readers are not blocked meanwhile; appliers of the table are.
func (m *Mapper) Narrow(ctx context.Context, db DB, t *catalog.Table) (*catalog.Table, error) {
	err := m.locked(ctx, db, t.Name, func(tx pgx.Tx) error {
		now, err := m.find(ctx, tx, t.ObjectType)
		if err != nil {
			return err
		}
		if now == nil {
			return ErrUnknownTable
		}
		if now.Version != t.Version { // another process was here first: the caller tries what it has now
			t = now
			return nil
		}
		usage, err := sampleUsage(ctx, tx, now)
		if err != nil {
			return err
		}
		moving := leastUsed(now, usage)
		if len(moving) == 0 {
			return errors.New("every column that could move is in _overflow already")
		}
		if err := m.overflow(ctx, tx, now, moving); err != nil {
			return err
		}
		t, err = m.find(ctx, tx, t.ObjectType)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("narrow table %s: %w", t.Name, err)
	}
	return t, nil
}

// sampleUsage counts, over a sample of the rows, how often each column has a value.
func sampleUsage(ctx context.Context, tx pgx.Tx, t *catalog.Table) (map[string]int64, error) {
	rows, err := tx.Query(ctx, `
select key, count(*)
from (select to_jsonb(t) as row from `+tableIdent(t)+` t limit $1) s
cross join lateral jsonb_object_keys(jsonb_strip_nulls(s.row)) key
group by key`, usageSample)
	if err != nil {
		return nil, fmt.Errorf("count uses of columns: %w", err)
	}
	usage := map[string]int64{}
	var name string
	var count int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &count}, func() error {
		usage[name] = count
		return nil
	}); err != nil {
		return nil, fmt.Errorf("count uses of columns: %w", err)
	}
	return usage, nil
}

// leastUsed chooses the columns to move: those with the fewest values, the last ones first, until the rest fits.
func leastUsed(t *catalog.Table, usage map[string]int64) []catalog.Column {
	var columns []catalog.Column
	width := 0
	for _, c := range t.Columns {
		if c.Overflow {
			continue
		}
		width += c.Kind.Width()
		if !t.Stamp(c.Property) && !c.Pinned {
			columns = append(columns, c)
		}
	}
	slices.Reverse(columns)
	slices.SortStableFunc(columns, func(x, y catalog.Column) int { return cmp.Compare(usage[x.Name], usage[y.Name]) })
	n := 0
	for ; width > rowBudget && n < len(columns); n++ {
		width -= columns[n].Kind.Width()
	}
	return columns[:n]
}

// overflow moves columns into _overflow with their values.
func (m *Mapper) overflow(ctx context.Context, tx pgx.Tx, t *catalog.Table, moving []catalog.Column) error {
	var values, emptied, present, drop strings.Builder
	for chunk := range slices.Chunk(moving, moveChunk) {
		fmt.Fprintf(&values, " || jsonb_build_object(%s)", list(columnNames(chunk), ", ", func(c string) string {
			return quote(c) + ", t." + ident(c)
		}))
	}
	for i, c := range moving {
		if i > 0 {
			present.WriteString(" or ")
			drop.WriteString(",")
		}
		fmt.Fprintf(&present, "t.%s is not null", ident(c.Name))
		fmt.Fprintf(&drop, "\n  drop column %s", ident(c.Name))
		fmt.Fprintf(&emptied, ", %s = null", ident(c.Name)) // or a row that is full has no room for _overflow
	}
	sql := "update " + tableIdent(t) + " t set _overflow = jsonb_strip_nulls(coalesce(t._overflow, '{}')" + values.String() +
		")" + emptied.String() + " where " + present.String() + ";\nalter table " + tableIdent(t) + drop.String() + ";"
	if _, err := tx.Exec(ctx, "select set_config('TimeZone', 'UTC', true), set_config('"+applierSetting+"', 'on', true)"); err != nil {
		return err
	}
	if err := script(ctx, tx, sql); err != nil {
		return err
	}
	properties := make([]string, len(moving))
	for i, c := range moving {
		properties[i] = c.Property
	}
	if _, err := tx.Exec(ctx, "update hubpg.columns set placement = 'overflow' where portal_id = $1 and table_name = $2 and property = any($3)",
		m.c.PortalID, t.Name, properties); err != nil {
		return err
	}
	return m.bump(ctx, tx, t.Name)
}

func columnNames(columns []catalog.Column) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}
