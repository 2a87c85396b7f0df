package materialize

import (
	"context"
	"fmt"
	"time"

	"hubpg/internal/budget"
)

// idle is the longest pause between two polls of a table that does not change: Pace.Idle, or longer where the polls of all
// tables would cost too much of the day's quota. Where the journal tells of changes, polls only make sure of it.
func (s *step) idle(ctx context.Context) (time.Duration, error) {
	var (
		tables, daily int64
		told          bool
	)
	err := s.e.cfg.Pool.QueryRow(ctx, `
select (select count(*) from hubpg.objects where portal_id = $1 and kind = 'object' and phase <> 'gone'),
	coalesce((select (max_calls * share)::bigint from hubpg.quota where portal_id = $1 and bucket = 'daily'), 0),
	exists (
		select
		from hubpg.feed_state
		where portal_id = $1 and feed = 'journal' and last_error is null and healing_since is null
		and read_to > clock_timestamp() - $2::interval)`, s.args.Portal, journalAbreast).Scan(&tables, &daily, &told)
	if err != nil {
		return 0, fmt.Errorf("look how often to poll: %w", err)
	}
	pause := budget.QuietPause(s.e.cfg.Pace.Idle, tables, daily)
	if told {
		pause = max(pause, s.e.cfg.Pace.Told)
	}
	return pause, nil
}

// journalAbreast is how long ago the journal may have been read to its end and still count as telling of changes.
const journalAbreast = time.Minute

// longestGather is the longest that a record which has merely changed waits before its associations are read.
const longestGather = time.Minute

// gather is how long a record that has merely changed waits for others of its table before its associations are read: a call
// reads a thousand as well as one, for each pair of the table.
func (s *step) gather(ctx context.Context) (time.Duration, error) {
	var round, daily int64
	err := s.e.cfg.Pool.QueryRow(ctx, `
select (select 2 * count(*) from hubpg.objects where portal_id = $1 and kind = 'association' and phase <> 'gone'),
	coalesce((select (max_calls * share)::bigint from hubpg.quota where portal_id = $1 and bucket = 'daily'), 0)`, s.args.Portal).Scan(&round, &daily)
	if err != nil {
		return 0, fmt.Errorf("look how long changed records may wait: %w", err)
	}
	return budget.GatherPause(s.e.cfg.Pace.Pending, longestGather, round, daily), nil
}
