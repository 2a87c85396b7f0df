package writeback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/mirror"
)

const (
	// quiet is how long a write without a known transaction is left alone: its process may still be at it.
	quiet = time.Minute
	// pruneAtOnce bounds one deletion of old writes.
	pruneAtOnce = 10_000
)

// Run looks after writes that nobody has settled, at once and then every so often, until ctx ends. What it finds it ends
// by what became of the client's transaction. Any number of processes may run it for one account.
func (w *Writer) Run(ctx context.Context) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		if err := w.recover(ctx); err != nil && ctx.Err() == nil {
			w.logger.Warn("recover writes", "portal", w.portal, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.wake:
		}
	}
}

// recover ends the writes that are open and whose client's transaction is over.
func (w *Writer) recover(ctx context.Context) error {
	rows, err := w.pool.Query(ctx, `
select id
from hubpg.writes
where portal_id = $1 and settled_at is null
order by id`, w.portal)
	if err != nil {
		return fmt.Errorf("list open writes: %w", err)
	}
	open, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("list open writes: %w", err)
	}
	var problems []error
	w.forgetLooks(open)
	for _, id := range open {
		if w.isActive(id) {
			continue
		}
		if err := w.resume(ctx, id); err != nil {
			problems = append(problems, fmt.Errorf("write %d: %w", id, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := w.unique(ctx); err != nil {
		problems = append(problems, err)
	}
	if err := w.publishAll(ctx); err != nil {
		problems = append(problems, err)
	}
	if _, err := w.pool.Exec(ctx, `
delete from hubpg.writes
where id in (select id from hubpg.writes where portal_id = $1 and at < $2 and settled_at is not null limit $3)`,
		w.portal, time.Now().Add(-w.keep), pruneAtOnce); err != nil {
		problems = append(problems, fmt.Errorf("drop old writes: %w", err))
	}
	return errors.Join(problems...)
}

// resume ends one write. Its row is locked meanwhile, so that of several processes one does it. HubSpot may hold a request
// whose connection has ended: a write of which an answer is missing is looked up at once, so that the tables follow, and
// again when nothing of it can land any more. Only then it is over. The time runs from when the write was last touched,
// which is after its last call: by its own process, or by the first that found it orphaned.
func (w *Writer) resume(ctx context.Context, id int64) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		var status, end string
		var idle float64
		err := tx.QueryRow(ctx, `
select status,
       coalesce(case when xid >= pg_snapshot_xmax(pg_current_snapshot()) then 'in progress'
                     when xid is not null then pg_xact_status(xid) end, ''),
       extract(epoch from now() - touched_at)
from hubpg.writes
where id = $1 and settled_at is null
for update skip locked`, id).Scan(&status, &end, &idle)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		running := status == statusIntent || status == statusSent || status == statusAccepted
		if running && (end == "in progress" || end == "" && idle < quiet.Seconds()) {
			return nil
		}
		orphaned := status == statusIntent || status == statusSent
		waits := orphaned || status == statusAmbiguous && idle < w.landing.Seconds()
		if waits && !orphaned && w.hasLooked(id) {
			return nil
		}
		s, err := w.load(ctx, tx, id)
		if err != nil || s == nil {
			return err
		}
		next := statusRepaired
		if status == statusAccepted && end == "committed" {
			next, err = statusSettled, w.follow(ctx, s)
		} else {
			err = w.repair(ctx, s)
		}
		if err != nil {
			return err
		}
		stays := waits || running && s.open
		if stays {
			next = statusAmbiguous
		}
		outcome, err := s.outcome()
		if err != nil {
			return err
		}
		w.setLooked(id, waits)
		_, err = tx.Exec(ctx, `
update hubpg.writes
set status = $2,
    touched_at = case when status = $2 then touched_at else now() end,
    settled_at = case when not $3 then now() end,
    outcome = coalesce($4, outcome)
where id = $1`, id, next, stays, outcome)
		return err
	})
}

// publishAll moves into the change log what settled and unsettled writes have left.
func (w *Writer) publishAll(ctx context.Context) error {
	rows, err := w.pool.Query(ctx, "select distinct table_name from hubpg.write_changes where portal_id = $1", w.portal)
	if err != nil {
		return fmt.Errorf("list changes of writes: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list changes of writes: %w", err)
	}
	return w.publish(ctx, tables)
}

// unique gives the tables that are complete the indexes that ON CONFLICT on a unique property needs, where filling them
// has not: a property became unique since, or its values were not.
func (w *Writer) unique(ctx context.Context) error {
	cat, err := w.catalog(ctx)
	if err != nil || len(cat.Tables) == 0 {
		return err
	}
	mapper := mirror.NewMapper(mirror.MapperConfig{PortalID: w.portal, Schema: cat.Tables[0].Schema})
	return mapper.EnsureUniques(ctx, w.pool, cat, "")
}
