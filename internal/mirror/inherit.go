package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// Inherit hands the table of an object type that is gone to another type of the same name, empty and to be filled anew, and
// its association tables with it. The table must have no rows. Its columns stay; [Mapper.EnsureObject] brings them in line
// with the new type. It fails with [ErrUnknownTable] when the table is not gone, not empty, or another type's by now.
func (m *Mapper) Inherit(ctx context.Context, db DB, c *Catalog, old *catalog.Table, objectType string) error {
	err := m.locked(ctx, db, old.Name, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
update hubpg.objects
set object_type = $4, path = $4
where portal_id = $1 and table_name = $2 and object_type = $3 and phase = 'gone'
and not exists (select from `+tableIdent(old)+`)`, m.c.PortalID, old.Name, old.ObjectType, objectType)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrUnknownTable
		}
		heir := *old
		heir.ObjectType = objectType
		names := []string{old.Name}
		for _, p := range c.Pairs {
			a, b := p.A, p.B
			if a.Name == old.Name {
				a = &heir
			}
			if b.Name == old.Name {
				b = &heir
			}
			if a != &heir && b != &heir {
				continue
			}
			names = append(names, p.Name)
			if _, err := tx.Exec(ctx, `
update hubpg.objects
set object_type = $3
where portal_id = $1 and table_name = $2`, m.c.PortalID, p.Name, catalog.NewPair(a, b).Key()); err != nil {
				return err
			}
		}
		return m.restart(ctx, tx, names...)
	})
	if err != nil {
		return fmt.Errorf("hand %s to another type: %w", old.Name, err)
	}
	return nil
}

// restart has tables, which are empty, filled as new ones.
func (m *Mapper) restart(ctx context.Context, tx pgx.Tx, names ...string) error {
	batch := &pgx.Batch{}
	batch.Queue(`
update hubpg.objects
set phase = 'new', catalog_version = catalog_version + 1, row_count = 0, expected_rows = null, backfill_from = null,
    backfill_done_at = null, verified_at = null, settled_at = null, told_at = null, last_error = null, hint = null, error_at = null,
    error_lane = null, hubspot_rows = null, count_gap = null, swept_gap = null, swept_times = null, sweep_from = null
where portal_id = $1 and table_name = any($2)`, m.c.PortalID, names)
	for _, table := range []string{"cursors", "suspects", "news", "tombstones", "pending_associations", "pending_pairs", "silences"} {
		batch.Queue("delete from hubpg."+table+" where portal_id = $1 and table_name = any($2)", m.c.PortalID, names)
	}
	batch.Queue(`
update hubpg.columns
set filled_at = coalesce(filled_at, now()), lapsed = false
where portal_id = $1 and table_name = any($2)`, m.c.PortalID, names)
	return tx.SendBatch(ctx, batch).Close()
}

// MakeAgain makes tables again that somebody has dropped although their types are there, to be filled as new ones, and returns
// their names. Lookup tables it forgets, so that [Mapper.EnsureLookups] makes them. What a table held is not in the change log
// as deleted, nor what comes back as inserted.
func (m *Mapper) MakeAgain(ctx context.Context, db DB) (made []string, err error) {
	const dropped = `
select o.table_name
from hubpg.objects o
join hubpg.accounts a using (portal_id)
where o.portal_id = $1 and o.phase <> 'gone' and to_regclass(format('%I.%I', a.schema_name, o.table_name)) is null
and ($2 = '' or o.table_name = $2)`
	names, err := collectNames(ctx, db, dropped, m.c.PortalID, "")
	if err != nil || len(names) == 0 {
		return nil, err
	}
	for _, name := range names {
		err := m.locked(ctx, db, name, func(tx pgx.Tx) error {
			if still, err := collectNames(ctx, tx, dropped, m.c.PortalID, name); err != nil || len(still) == 0 {
				return err // another process was first
			}
			made = append(made, name)
			known, err := Load(ctx, tx, m.c.PortalID)
			if err != nil {
				return err
			}
			var sql string
			var g guarded
			if t := known.Named(name); t != nil {
				sql, g = createTableSQL(t, "HubSpot "+t.Name), guardedObject(t)
			} else if i := slices.IndexFunc(known.Pairs, func(p *catalog.Pair) bool { return p.Name == name }); i >= 0 {
				sql, g = createPairSQL(known.Pairs[i]), guardedPair(known.Pairs[i])
			} else {
				_, err := tx.Exec(ctx, "delete from hubpg.objects where portal_id = $1 and table_name = $2", m.c.PortalID, name)
				return err
			}
			if err := script(ctx, tx, sql); err != nil {
				return err
			}
			if err := m.guard(ctx, tx, g); err != nil {
				return err
			}
			return m.restart(ctx, tx, name)
		})
		if err != nil {
			return made, fmt.Errorf("make %s again: %w", name, err)
		}
	}
	return made, nil
}

// ForgetDropped forgets tables whose type is gone, or that are not wanted any more, and that were dropped since; with
// an object table, its association tables are dropped as well. It reports whether there were any.
func (m *Mapper) ForgetDropped(ctx context.Context, db DB) (forgotten bool, err error) {
	const dropped = `
select o.table_name
from hubpg.objects o
join hubpg.accounts a using (portal_id)
where o.portal_id = $1 and o.phase = 'gone' and to_regclass(format('%I.%I', a.schema_name, o.table_name)) is null`
	names, err := collectNames(ctx, db, dropped, m.c.PortalID)
	if err != nil || len(names) == 0 {
		return false, err
	}
	err = m.locked(ctx, db, "", func(tx pgx.Tx) error {
		names, err := collectNames(ctx, tx, dropped, m.c.PortalID)
		if err != nil {
			return err
		}
		pairs, err := collectNames(ctx, tx, `
select table_name
from hubpg.objects
where portal_id = $1 and kind = 'association' and (from_table = any($2) or to_table = any($2)) and table_name <> all($2)`, m.c.PortalID, names)
		if err != nil {
			return err
		}
		standing, err := collectNames(ctx, tx, `
select name
from unnest($2::text[]) as name
join pg_class c on c.oid = to_regclass(format('%I.%I', $1::text, name))
where `+ours, m.c.Schema, pairs)
		if err != nil {
			return err
		}
		for _, pair := range standing { // something else in the place of one stays
			if _, err := tx.Exec(ctx, "drop table "+ident(m.c.Schema, pair)); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "delete from hubpg.objects where portal_id = $1 and table_name = any($2)", m.c.PortalID, append(names, pairs...))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "delete from hubpg.tombstones where portal_id = $1 and table_name = any($2)", m.c.PortalID, append(names, pairs...))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forget tables that were dropped: %w", err)
	}
	return true, nil
}

func collectNames(ctx context.Context, q Querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
