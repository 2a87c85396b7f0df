package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// EnsurePair makes the association table of two types unless it is there, and reports whether it made it.
func (m *Mapper) EnsurePair(ctx context.Context, db DB, x, y *catalog.Table) (*catalog.Pair, bool, error) {
	p := catalog.NewPair(x, y)
	find := func(q Querier) (bool, error) {
		err := q.QueryRow(ctx, "select table_name from hubpg.objects where portal_id = $1 and kind = 'association' and object_type = $2",
			m.c.PortalID, p.Key()).Scan(&p.Name)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, nil
		}
		return err == nil, err
	}
	exists, err := find(db)
	created := false
	if err == nil && !exists {
		err = m.locked(ctx, db, "", func(tx pgx.Tx) error {
			if exists, err := find(tx); err != nil || exists {
				return err
			}
			created = true
			return m.createPair(ctx, tx, p)
		})
	}
	if err != nil {
		return nil, false, fmt.Errorf("map associations of %s with %s: %w", p.A.Name, p.B.Name, err)
	}
	return p, created, nil
}

func (m *Mapper) createPair(ctx context.Context, tx pgx.Tx, p *catalog.Pair) error {
	names, err := m.tableNames(ctx, tx)
	if err != nil {
		return err
	}
	p.Name = names.Pair(p)
	if err := m.absent(ctx, tx, p.Name); err != nil {
		return err
	}
	if err := script(ctx, tx, createPairSQL(p)); err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, `
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, from_table, to_table)
values ($1, $2, 'association', $3, $4, '', $5, $6)`,
		m.c.PortalID, p.Name, p.Key(), p.A.Path+"/"+p.B.Path, p.A.Name, p.B.Name); err != nil {
		return err
	}
	return m.guard(ctx, tx, guardedPair(p))
}

// EnsureLookups makes the lookup tables that every account has, [Merges] among them, and those of own, which are tables
// with a lane of their own. A name that something else holds is a [ConflictError], one for each, joined; the other tables
// are made all the same.
func (m *Mapper) EnsureLookups(ctx context.Context, db DB, own ...string) error {
	var conflicts []error
	err := m.locked(ctx, db, "", func(tx pgx.Tx) error {
		conflicts = nil
		rows, err := tx.Query(ctx, "select table_name from hubpg.objects where portal_id = $1 and kind = 'lookup'", m.c.PortalID)
		if err != nil {
			return err
		}
		made, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, l := range append(Lookups(), mergesTable()) {
			if slices.Contains(made, l.Name) || l.Own && !slices.Contains(own, l.Name) {
				continue
			}
			err := m.createLookup(ctx, tx, &l)
			if _, ok := errors.AsType[*ConflictError](err); ok {
				conflicts = append(conflicts, err)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(append(conflicts, err)...); err != nil {
		return fmt.Errorf("make lookup tables: %w", err)
	}
	return nil
}

func (m *Mapper) createLookup(ctx context.Context, tx pgx.Tx, l *Lookup) error {
	if err := m.absent(ctx, tx, l.Name); err != nil {
		return err
	}
	if err := script(ctx, tx, createLookupSQL(m.c.Schema, l)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular)
values ($1, $2, 'lookup', $2, '', '')`, m.c.PortalID, l.Name); err != nil {
		return err
	}
	// What was read into a table of that name, which somebody has removed, is not in this one.
	if _, err := tx.Exec(ctx, "delete from hubpg.lookup_reads where portal_id = $1 and table_name = $2", m.c.PortalID, l.Name); err != nil {
		return err
	}
	return m.guard(ctx, tx, guarded{schema: m.c.Schema, name: l.Name, kind: "lookup"})
}
