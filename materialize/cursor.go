package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errMoved says that another worker has moved the cursor since it was loaded. Whatever the transaction did is rolled
// back; the lane starts again from the stored position.
var errMoved = errors.New("cursor was moved by another worker")

// cursor is how far a lane has come. Its row is the fence between workers: it is moved by compare-and-set on the
// revision, as the first statement of the transaction that stores the rows it covers, so of two workers on one lane the
// second finds nothing to move and stores nothing.
type cursor struct {
	args     laneArgs
	revision int64 // of the row when it was read or moved last; 0 when there is no row yet
}

// load reads the lane's position into position, which is left as it is when the lane has not begun.
func (s *step) load(ctx context.Context, position any) (*cursor, error) {
	c := &cursor{args: s.args}
	var text []byte
	err := s.e.cfg.Pool.QueryRow(ctx, `
select position, revision
from hubpg.cursors
where portal_id = $1 and table_name = $2 and lane = $3 and key = ''`,
		s.args.Portal, s.args.Table, s.args.Lane).Scan(&text, &c.revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load cursor: %w", err)
	}
	if err := json.Unmarshal(text, position); err != nil {
		return nil, fmt.Errorf("load cursor: %w", err)
	}
	return c, nil
}

const (
	beginCursor = `
insert into hubpg.cursors (portal_id, table_name, lane, position, revision)
values ($1, $2, $3, $4, 1)
on conflict do nothing`
	moveCursor = `
update hubpg.cursors
set position = $4, revision = revision + 1, moved_at = now()
where portal_id = $1 and table_name = $2 and lane = $3 and key = '' and revision = $5`
)

// queue adds the move to a batch. The caller commits, then calls moved; on rollback the cursor stays as it is.
func (c *cursor) queue(b *pgx.Batch, position any) error {
	text, err := json.Marshal(position)
	if err != nil {
		return fmt.Errorf("encode cursor: %w", err)
	}
	check := func(rows int64) error {
		if rows == 0 {
			return errMoved
		}
		return nil
	}
	if c.revision == 0 {
		b.Queue(beginCursor, c.args.Portal, c.args.Table, c.args.Lane, text).Exec(
			func(tag pgconn.CommandTag) error { return check(tag.RowsAffected()) })
		return nil
	}
	b.Queue(moveCursor, c.args.Portal, c.args.Table, c.args.Lane, text, c.revision).Exec(
		func(tag pgconn.CommandTag) error { return check(tag.RowsAffected()) })
	return nil
}

func (c *cursor) moved() { c.revision++ }
