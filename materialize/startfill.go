package materialize

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// StartFill has the values of a table's new columns read at once, by whichever process keeps the account, instead of when
// the schema lane next comes by. It costs nothing where no column is due.
func StartFill(ctx context.Context, db interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}, portal int64, table string,
) error {
	jobs, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: "hubpg"})
	if err != nil {
		return fmt.Errorf("start fill of %s: %w", table, err)
	}
	lane := laneArgs{portal, table, LaneFill}
	for try := 1; ; try++ {
		var ending bool
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			// One that waits for its next step need not.
			waiting, err := tx.Exec(ctx, `
update hubpg.river_job
set state = 'available', scheduled_at = now()
where kind = $1 and state in ('available', 'scheduled')
and (args ->> 'portal')::bigint = $2 and args ->> 'table' = $3 and args ->> 'lane' = $4`, laneKind, portal, table, lane.Lane)
			if err != nil {
				return err
			}
			inserted, err := jobs.InsertTx(ctx, tx, lane, lane.options())
			if err != nil {
				return err
			}
			ending = inserted.UniqueSkippedAsDuplicate && waiting.RowsAffected() == 0
			return nil
		})
		if err != nil {
			return fmt.Errorf("start fill of %s: %w", table, err)
		}
		// A step that is under way may have seen the columns as they were, and be the last. If it takes longer than
		// this it is not the last, and the next one will see them.
		if !ending || try == fillTries {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start fill of %s: %w", table, ctx.Err())
		case <-time.After(fillPause):
		}
	}
}

// How often and how long StartFill waits for a step that is under way.
const (
	fillTries = 50
	fillPause = 100 * time.Millisecond
)
