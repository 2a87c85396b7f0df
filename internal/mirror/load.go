package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// Catalog is what an account's schema holds.
type Catalog struct {
	Tables []*catalog.Table // in catalog order
	Pairs  []*catalog.Pair  // by name; without those in whose place somebody has put something else
}

// Table returns the table of an object type, nil if there is none.
func (c *Catalog) Table(objectType string) *catalog.Table {
	for _, t := range c.Tables {
		if t.ObjectType == objectType {
			return t
		}
	}
	return nil
}

// Named returns the object table of that name, nil if there is none.
func (c *Catalog) Named(name string) *catalog.Table {
	for _, t := range c.Tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Load reads the catalog of an account from the database. The Tables of Pairs are those of Tables.
func (m *Mapper) Load(ctx context.Context, q Querier) (*Catalog, error) {
	c, err := Load(ctx, q, m.c.PortalID)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ours is the condition, in SQL, that a relation under the alias c is a table of objects or associations as hubpg makes them, and not
// what somebody has put in the place of one.
const ours = `(c.relkind in ('r', 'p') and exists (
	select from pg_attribute own where own.attrelid = c.oid and own.attname = '` + catalog.ReadAt + `' and not own.attisdropped))`

// Load reads the catalog of an account from the database.
func Load(ctx context.Context, q Querier, portalID int64) (*Catalog, error) {
	tables, err := loadTables(ctx, q, portalID, "")
	if err != nil {
		return nil, fmt.Errorf("load catalog: %w", err)
	}
	slices.SortFunc(tables, func(x, y *catalog.Table) int { return catalog.CompareTypes(x.ObjectType, y.ObjectType) })
	c := &Catalog{Tables: tables}
	rows, err := q.Query(ctx, `
select o.table_name, o.from_table, o.to_table, a.schema_name
from hubpg.objects o
join hubpg.accounts a using (portal_id)
left join pg_class c on c.oid = to_regclass(format('%I.%I', a.schema_name, o.table_name))
where o.portal_id = $1 and o.kind = 'association' and (c.oid is null or `+ours+`)
order by o.table_name`, portalID)
	if err != nil {
		return nil, fmt.Errorf("load catalog: %w", err)
	}
	var name, from, to, schema string
	_, err = pgx.ForEachRow(rows, []any{&name, &from, &to, &schema}, func() error {
		p := &catalog.Pair{Schema: schema, Name: name, A: c.Named(from), B: c.Named(to)}
		if p.A == nil || p.B == nil {
			return fmt.Errorf("association table %s refers to a table that is not there", name)
		}
		c.Pairs = append(c.Pairs, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load catalog: %w", err)
	}
	return c, nil
}

// loadTables reads the object tables of an account, or the one of the given name. Columns are in table order.
func loadTables(ctx context.Context, q Querier, portalID int64, name string) ([]*catalog.Table, error) {
	rows, err := q.Query(ctx, `
select a.schema_name, o.table_name, o.singular, o.object_type, o.path, coalesce(o.modified_property, ''),
       coalesce(obj_description(to_regclass(format('%I.%I', a.schema_name, o.table_name)), 'pg_class'), ''),
       o.deletes = 'soft', o.catalog_version,
       (select count(*) from pg_attribute where attrelid = to_regclass(format('%I.%I', a.schema_name, o.table_name)) and attnum > 0),
       (select array_agg(u.attname::text order by u.attname)
        from pg_index i
        join pg_attribute u on u.attrelid = i.indrelid and u.attnum = i.indkey[0]
        where i.indrelid = to_regclass(format('%I.%I', a.schema_name, o.table_name)) and i.indisunique and not i.indisprimary
        and i.indnkeyatts = 1 and i.indpred is null)
from hubpg.objects o
join hubpg.accounts a using (portal_id)
where o.portal_id = $1 and o.kind = 'object' and ($2 = '' or o.table_name = $2)
order by o.table_name`, portalID, name)
	if err != nil {
		return nil, err
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*catalog.Table, error) {
		t := &catalog.Table{}
		return t, row.Scan(&t.Schema, &t.Name, &t.Singular, &t.ObjectType, &t.Path, &t.ModifiedProperty, &t.Comment, &t.Soft, &t.Version, &t.Slots, &t.Unique)
	})
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*catalog.Table, len(tables))
	for _, t := range tables {
		byName[t.Name] = t
	}
	rows, err = q.Query(ctx, `
select c.table_name, c.column_name, c.property, c.kind, c.label, c.description, c.calculated, c.read_only,
       c.placement = 'overflow', c.placement = 'excluded', c.pinned, c.archived_at is not null, c.filled_at is not null,
       c.lapsed, c.changed_at
from hubpg.columns c
join hubpg.accounts a using (portal_id)
left join pg_attribute t on t.attrelid = to_regclass(format('%I.%I', a.schema_name, c.table_name)) and t.attname = c.column_name
where c.portal_id = $1 and ($2 = '' or c.table_name = $2)
order by c.table_name, t.attnum nulls last, c.column_name`, portalID, name)
	if err != nil {
		return nil, err
	}
	var table, kind string
	var c catalog.Column
	var excluded bool
	var changed *time.Time
	_, err = pgx.ForEachRow(rows, []any{
		&table, &c.Name, &c.Property, &kind, &c.Label, &c.Description, &c.Calculated, &c.ReadOnly,
		&c.Overflow, &excluded, &c.Pinned, &c.Archived, &c.Filled, &c.Lapsed, &changed,
	}, func() error {
		k, known := catalog.ParseKind(kind)
		if !known {
			return fmt.Errorf("column %s.%s has unknown kind %s", table, c.Name, strings.TrimSpace(kind))
		}
		if c.Kind, c.ChangedAt = k, (time.Time{}); changed != nil {
			c.ChangedAt = changed.UTC()
		}
		switch t := byName[table]; {
		case t == nil:
		case excluded:
			t.Excluded = append(t.Excluded, c)
		default:
			t.Columns = append(t.Columns, c)
		}
		return nil
	})
	return tables, err
}
