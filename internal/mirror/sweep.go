package mirror

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// Querier is the part of a pgx connection, transaction or pool that reading needs.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Known returns the stored updated_at of those of ids that are in the table, so that versions already stored need not
// be read again. A row without one has the zero time.
func Known(ctx context.Context, q Querier, t *catalog.Table, ids []int64) (map[int64]time.Time, error) {
	known := make(map[int64]time.Time, len(ids))
	rows, err := q.Query(ctx, "select t.id, t.updated_at from "+tableIdent(t)+" t where t.id = any($1) and "+Live(t), ids)
	if err != nil {
		return nil, fmt.Errorf("read versions of %s: %w", t.Name, err)
	}
	var id int64
	var updated *time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &updated}, func() error {
		known[id] = time.Time{}
		if updated != nil {
			known[id] = *updated
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read versions of %s: %w", t.Name, err)
	}
	return known, nil
}

// Referred returns those of ids that association tables hold at an end which is a record of t, in ascending order. pairs
// are the account's; those without t are passed over.
func Referred(ctx context.Context, q Querier, pairs []*catalog.Pair, t *catalog.Table, ids []int64) ([]int64, error) {
	parts := ends(pairs, t, func(table, column string) string {
		return "select " + column + " as id from " + table + " where " + column + " = any($1)"
	})
	if len(parts) == 0 || len(ids) == 0 {
		return nil, nil
	}
	list, err := collectIDs(ctx, q, strings.Join(parts, " union ")+" order by id", ids)
	if err != nil {
		return nil, fmt.Errorf("read associations with %s: %w", t.Name, err)
	}
	return list, nil
}

// danglingRows bounds what one call of Dangling returns; the next finds the rest.
const danglingRows = 1000

// Dangling returns ids of at least low and below high that association tables hold at an end which is a record of t,
// and that t has no row for, in ascending order: records that are not here yet, or that were gone before they came.
func Dangling(ctx context.Context, q Querier, pairs []*catalog.Pair, t *catalog.Table, low, high int64) ([]int64, error) {
	parts := ends(pairs, t, func(table, column string) string {
		return "select p." + column + " as id from " + table + " p where p." + column + " >= $1 and p." + column + " < $2" +
			" and not exists (select from " + tableIdent(t) + " t where t.id = p." + column + " and " + Live(t) + ")"
	})
	if len(parts) == 0 {
		return nil, nil
	}
	list, err := collectIDs(ctx, q, strings.Join(parts, " union ")+" order by id limit $3", low, high, danglingRows)
	if err != nil {
		return nil, fmt.Errorf("look for records of %s that only associations know: %w", t.Name, err)
	}
	return list, nil
}

// ends renders each end of an association table that is a record of t.
func ends(pairs []*catalog.Pair, t *catalog.Table, render func(table, column string) string) []string {
	var parts []string
	for _, p := range pairs {
		table := ident(p.Schema, p.Name)
		if p.A.Name == t.Name {
			parts = append(parts, render(table, ident(p.ColumnA())))
		}
		if p.B.Name == t.Name {
			parts = append(parts, render(table, ident(p.ColumnB())))
		}
	}
	return parts
}

func collectIDs(ctx context.Context, q Querier, sql string, args ...any) ([]int64, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// Recount makes the row count of a table what it has to be.
func (a *Applier) Recount(ctx context.Context, db DB, t *catalog.Table) error {
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := a.Lock(ctx, tx, t.Schema, t.Name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
update hubpg.objects
set row_count = (select count(*) from `+tableIdent(t)+` t where `+Live(t)+`)
where portal_id = $1 and table_name = $2`, a.portal, t.Name)
		return err
	})
	if err != nil {
		return fmt.Errorf("count rows of %s: %w", t.Name, err)
	}
	return nil
}

// Missing returns the ids in the table between low and high (both included) that are not among live and were last
// read before readAt, in ascending order. live must be all the ids that HubSpot has in that range, from one complete
// listing begun at readAt; only then may the caller conclude that the records are gone.
func Missing(ctx context.Context, q Querier, t *catalog.Table, low, high int64, live []int64, readAt time.Time) ([]int64, error) {
	rows, err := q.Query(ctx, `
select t.id
from `+tableIdent(t)+` t
where t.id between $1 and $2
and t._read_at < $4
and `+Live(t)+`
and not exists (select from unnest($3::bigint[]) l where l = t.id)
order by t.id`, low, high, append([]int64{}, live...), stored(readAt))
	if err != nil {
		return nil, fmt.Errorf("look for records of %s that are gone: %w", t.Name, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("look for records of %s that are gone: %w", t.Name, err)
	}
	return list, nil
}
