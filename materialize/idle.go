package materialize

import (
	"context"
	"fmt"
	"time"

	"hubpg/internal/budget"
)

// idle is the longest pause between two polls of a table that does not change: Pace.Idle, or longer where the polls of all
// tables would cost too much of the day's quota. told says that changes of the table are told: the journal is read to its end,
// or a feed has told of the table of late. Then polls only make sure of it.
func (s *step) idle(ctx context.Context) (pause time.Duration, told bool, err error) {
	var tables, daily int64
	err = s.e.cfg.Pool.QueryRow(ctx, `
select (select count(*) from hubpg.objects where portal_id = $1 and kind = 'object' and phase <> 'gone'),
	coalesce((select (max_calls * share)::bigint from hubpg.quota where portal_id = $1 and bucket = 'daily'), 0),
	exists (
		select
		from hubpg.feed_state
		where portal_id = $1 and feed = 'journal' and last_error is null and healing_since is null
		and read_to > clock_timestamp() - $2::interval)
	or exists (
		select
		from hubpg.objects
		where portal_id = $1 and table_name = $3 and told_at > clock_timestamp() - $4::interval)`,
		s.args.Portal, journalAbreast, s.args.Table, toldOfLate).Scan(&tables, &daily, &told)
	if err != nil {
		return 0, false, fmt.Errorf("look how often to poll: %w", err)
	}
	return budget.QuietPause(s.e.cfg.Pace.Idle, tables, daily), told, nil
}

// journalAbreast is how long ago the journal may have been read to its end and still count as telling of changes.
const journalAbreast = time.Minute

const (
	// toldOfLate is how long ago a feed may have told of a table that it still counts as telling of.
	toldOfLate = time.Hour
	// toldWithin is how old a change is at which it must have been told.
	toldWithin = 10 * time.Second
	// toldAmiss is how long a table of which a change was not told is polled as if none were.
	toldAmiss = 10 * time.Minute
)

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
