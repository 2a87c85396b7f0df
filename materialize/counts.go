package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
)

// maxDoublings keeps a pause from overflowing.
const maxDoublings = 20

// counted is an object table beside what HubSpot counts.
type counted struct {
	Table, ObjectType, Path string
	Rows                    int64
	Gap                     int64 // HubSpot's count minus the table's, at the last look
	Swept                   int64 // the gap that the sweeps were last hastened for, as far as it is still there
	Times                   int   // how often they were hastened again for that gap
	From                    time.Time
}

// counts compares how many records HubSpot has with how many rows there are, and hastens the sweeps of tables that
// disagree: a record that was erased leaves no other trace. Counts are never more than a reason to look.
func (s *step) counts(ctx context.Context) (time.Duration, error) {
	usage, err := s.client.GetRecordLimits(ctx)
	if err != nil && !unreadable(err) {
		return 0, err
	}
	rows, err := s.e.cfg.Pool.Query(ctx, `
select table_name, object_type, path, row_count, coalesce(count_gap, 0), coalesce(swept_gap, 0), coalesce(swept_times, 0),
       coalesce(sweep_from, 'epoch')
from hubpg.objects
where portal_id = $1 and kind = 'object' and phase = 'live'
order by table_name`, s.args.Portal)
	if err != nil {
		return 0, fmt.Errorf("count rows: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[counted])
	if err != nil {
		return 0, fmt.Errorf("count rows: %w", err)
	}
	for i := range tables {
		t := &tables[i]
		n, known := usage[t.ObjectType]
		if !known { // HubSpot counts the types that have a limit; the search index knows the others, a moment late
			res, err := s.search(ctx, t.Path, hubapi.SearchRequest{Limit: 1})
			if _, throttled := errors.AsType[*hubapi.RateError](err); throttled || ctx.Err() != nil {
				return 0, err
			}
			if err != nil {
				continue // the table's own lanes say what is wrong
			}
			n.Usage = int64(res.Total)
		}
		if err := s.weigh(ctx, t, n.Usage); err != nil {
			return 0, err
		}
	}
	return s.e.cfg.Pace.Counts, nil
}

// weigh notes a count, and hastens the sweeps when two looks in a row have found a disagreement that the last hastened
// sweep did not know. A gap that a sweep has left as it was may be HubSpot's way of counting, or another record that has
// gone since: it is a reason to look again after twice as long each time, until the sweeps come round by themselves.
func (s *step) weigh(ctx context.Context, t *counted, hubspot int64) error {
	pace := s.e.cfg.Pace
	gap := hubspot - t.Rows
	news, swept, times := common(gap, t.Gap), common(gap, t.Swept), t.Times
	known := common(news, swept) == news
	wait := pace.Counts << min(times+1, maxDoublings)
	hasten := news != 0 && (!known || wait < pace.IDs && time.Since(t.From) > wait)
	switch {
	case swept == 0, hasten && !known:
		times = 0
	case hasten:
		times++
	}
	if hasten {
		swept = news
	}
	_, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.objects
set hubspot_rows = $3, count_gap = $4, swept_gap = $5, swept_times = $6, sweep_from = case when $7 then now() else sweep_from end
where portal_id = $1 and table_name = $2`, s.args.Portal, t.Table, hubspot, gap, swept, times, hasten)
	if err != nil {
		return fmt.Errorf("note count of %s: %w", t.Table, err)
	}
	if !hasten {
		return nil
	}
	s.e.log.Info("counts disagree, sweeping", slog.String("object", t.Table), slog.Int64("hubspot", hubspot), slog.Int64("rows", t.Rows))
	return s.e.wake(ctx, laneArgs{s.args.Portal, t.Table, LaneIDs}, laneArgs{s.args.Portal, t.Table, LaneArchived})
}

// common is what two gaps have in common: the smaller of two with the same sign.
func common(a, b int64) int64 {
	switch {
	case a > 0 && b > 0:
		return min(a, b)
	case a < 0 && b < 0:
		return max(a, b)
	}
	return 0
}

// sweepWait is how long a sweep has to rest: not at all when it was asked to begin again since it last began.
func (s *step) sweepWait(ctx context.Context, r rest, period time.Duration) (time.Duration, error) {
	wait := r.wait(period)
	if wait <= 0 {
		return 0, nil
	}
	if again, err := s.hastened(ctx, r.Ended.Add(-r.Took)); err != nil || again {
		return 0, err
	}
	return wait, nil
}

// hastened says whether the table is to be swept by a pass that begins later than the given instant. Whoever asked for it wrote
// down when by the clock of Postgres.
func (s *step) hastened(ctx context.Context, began time.Time) (again bool, err error) {
	err = s.e.cfg.Pool.QueryRow(ctx, `
select coalesce(sweep_from > $3, false)
from hubpg.objects
where portal_id = $1 and table_name = $2`, s.args.Portal, s.args.Table, began.Add(s.e.clock.lead())).Scan(&again)
	if err != nil {
		return false, fmt.Errorf("look whether %s is to be swept: %w", s.args.Table, err)
	}
	return again, nil
}

// wakeLane lets a lane that sleeps take its next step now.
const wakeLane = `
update hubpg.river_job
set state = 'available', scheduled_at = now()
where kind = $1 and state in ('available', 'scheduled') and scheduled_at > now() and args @> $2`

// wake lets lanes that sleep take their next step now.
func (e *Engine) wake(ctx context.Context, lanes ...laneArgs) error {
	for _, a := range lanes {
		if _, err := e.cfg.Pool.Exec(ctx, wakeLane, laneKind, a); err != nil {
			return fmt.Errorf("wake %s of %s: %w", a.Lane, a.Table, err)
		}
	}
	return nil
}
