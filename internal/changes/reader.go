package changes

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Querier is the part of a pgx connection or pool that reading the log needs.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const selectAfter = `
select seq, at, schema_name, table_name, coalesce(record_id, 0), op, changed, before, after, source
from hubpg.changes
where seq > $1
order by seq
limit $2`

// Read returns at most limit changes with seq > after, in seq order and without gaps.
func Read(ctx context.Context, q Querier, after int64, limit int) ([]Change, error) {
	rows, err := q.Query(ctx, selectAfter, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read changes after %d: %w", after, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Change, err error) {
		err = row.Scan(&c.Seq, &c.At, &c.Schema, &c.Table, &c.RecordID, &c.Op, &c.Changed, &c.Before, &c.After, &c.Source)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read changes after %d: %w", after, err)
	}
	return list, nil
}

// Bounds returns the oldest sequence number still kept and the newest one given out. With an empty log oldest is
// newest + 1. A replay that asks for anything before oldest - 1 has lost rows to retention and must be refused.
func Bounds(ctx context.Context, q Querier) (oldest, newest int64, err error) {
	const sql = `
select coalesce((select min(seq) from hubpg.changes), c.last + 1), c.last
from hubpg.change_counter c`
	if err := q.QueryRow(ctx, sql).Scan(&oldest, &newest); err != nil {
		return 0, 0, fmt.Errorf("read bounds of the change log: %w", err)
	}
	return oldest, newest, nil
}
