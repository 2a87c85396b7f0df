package budget

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rows is the ledger of an account: it keeps the account's limits in hubpg.quota_buckets.
type rows struct {
	pool   *pgxpool.Pool
	portal int64
}

func (l *rows) open(ctx context.Context, defaults []limit, share float64) error {
	const sql = `
insert into hubpg.quota_buckets (portal_id, bucket, max_calls, window_ms, share)
values ($1, $2, nullif($3, 0), nullif($4, 0), $5)
on conflict (portal_id, bucket) do nothing`
	batch := new(pgx.Batch)
	for _, d := range defaults {
		batch.Queue(sql, l.portal, d.bucket, d.calls, d.window.Milliseconds(), share)
	}
	if err := l.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("open quota: %w", err)
	}
	return nil
}

// reserveSQL moves the instants of one limit. Times go in and out as milliseconds relative to the server's clock, so
// that the clocks of the processes do not matter. An instant further ahead than any reservation reaches is from before that
// clock was set back.
const reserveSQL = `
with stored as (
    select b.*, clock_timestamp() as now
    from hubpg.quota_buckets b
    where b.portal_id = @portal and b.bucket = @bucket
    for update
),
known as (
    select now, free_at, read_free_at, counted_from, counted, counted_before,
           greatest(paused_until, now + @pause * interval '1 ms') as paused_until,
           greatest(slow_until, now + @slow * interval '1 ms') as slow_until,
           coalesce(@calls::int, max_calls) as max_calls,
           coalesce(@window::int, window_ms) as window_ms
    from stored
),
paced as (
    select *,
           unit * ((window_ms + @guard) / max_calls::float8) as call_step,
           unit * greatest(window_ms / (max_calls * @share::float8),
                           (window_ms + @guard) / ceil(max_calls * @share::float8 - 1e-9)) as read_step
    from (select *, interval '1 ms' * case when slow_until > now then 2 else 1 end as unit from known) k
),
given_away as (
    select *,
           least(free_at, now + @furthest * interval '1 ms' + 2 * call_step) as free,
           least(read_free_at, now + @furthest * interval '1 ms' + 2 * read_step) as read_free
    from paced
),
next as (
    select *,
           greatest(now, paused_until, free) as call_free,
           case when @reads then read_step else call_step end as step
    from given_away
),
due as (
    select *,
           case when @reads then greatest(call_free, read_free) else call_free end as first,
           now + @horizon * interval '1 ms' as horizon
    from next
),
given as (
    select *,
           case when first > horizon then 0
                else least(@want::int, 1 + floor(extract(epoch from horizon - first) / extract(epoch from step))::int)
           end as n,
           extract(epoch from now - greatest(counted_from, '1970-01-01')) * 1000 as age
    from due
)
update hubpg.quota_buckets b
set max_calls      = g.max_calls,
    window_ms      = g.window_ms,
    share          = case when @reads then @share else b.share end,
    paused_until   = case when g.paused_until > g.now then g.paused_until else b.paused_until end,
    slow_until     = case when g.slow_until > g.now then g.slow_until else b.slow_until end,
    free_at        = case when g.n = 0 then g.free
                          when @reads then g.call_free + g.n * g.call_step
                          else g.first + g.n * g.call_step end,
    read_free_at   = case when @reads and g.n > 0 then g.first + g.n * g.step else g.read_free end,
    counted_before = case when g.age < g.window_ms then g.counted_before
                          when g.age < 2 * g.window_ms then g.counted
                          else 0 end,
    counted        = case when g.age < g.window_ms then g.counted else 0 end + g.n,
    counted_from   = case when g.age < g.window_ms then g.counted_from
                          when g.age < 2 * g.window_ms then g.counted_from + g.window_ms * interval '1 ms'
                          else g.now end
from given g
where b.portal_id = @portal and b.bucket = @bucket
returning g.n,
    (extract(epoch from g.first - g.now) * 1000)::float8,
    (extract(epoch from g.step) * 1000)::float8,
    (extract(epoch from greatest(g.paused_until, g.now) - g.now) * 1000)::float8,
    (extract(epoch from greatest(g.slow_until, g.now) - g.now) * 1000)::float8,
    g.max_calls,
    g.window_ms`

func (l *rows) reserve(ctx context.Context, r reservation) (grant, error) {
	args := pgx.NamedArgs{
		"portal": l.portal, "bucket": r.bucket, "want": r.want, "reads": r.reads, "share": r.share,
		"horizon": ms(r.horizon), "furthest": ms(starvedHorizon), "guard": ms(r.guard), "pause": ms(r.pause), "slow": ms(r.slow),
		"calls": nil, "window": nil,
	}
	if r.learned != nil {
		args["calls"], args["window"] = r.learned.calls, r.learned.window.Milliseconds()
	}
	var g grant
	var first, step, pause, slow, window float64
	err := l.pool.QueryRow(ctx, reserveSQL, args).Scan(&g.calls, &first, &step, &pause, &slow, &g.limit, &window)
	if errors.Is(err, pgx.ErrNoRows) {
		return grant{}, errNoRow
	}
	if err != nil {
		return grant{}, fmt.Errorf("reserve quota: %w", err)
	}
	g.first, g.step, g.pause, g.slow, g.window = span(first), span(step), span(pause), span(slow), span(window)
	return g, nil
}

// todaySQL adds to the day. One that has not begun by the server's clock does not begin: the clock of the process that says so
// is ahead, and no other's day would begin before its own.
const todaySQL = `
update hubpg.quota_buckets b
set day_start    = case when c.early then b.day_start else greatest(b.day_start, @start) end,
    resets_at    = case when c.early then b.resets_at else greatest(b.resets_at, @reset) end,
    reads        = case when c.early or b.day_start >= @start then b.reads else 0 end + @reads,
    writes       = case when c.early or b.day_start >= @start then b.writes else 0 end + @writes,
    max_calls    = coalesce(nullif(@limit::int, 0), b.max_calls),
    remaining    = case when @remaining::int >= 0 then @remaining when c.early or b.day_start >= @start then b.remaining end,
    remaining_at = case when @remaining::int >= 0 then c.now when c.early or b.day_start >= @start then b.remaining_at end,
    paused_until = case when @pause::float8 > 0 then greatest(b.paused_until, c.now + @pause * interval '1 ms') else b.paused_until end
from (select now, @start::timestamptz > now as early from (select clock_timestamp() as now) n) c
where b.portal_id = @portal and b.bucket = 'daily'
returning b.reads, b.writes, coalesce(b.max_calls, 0), coalesce(b.remaining, -1),
    coalesce(extract(epoch from c.now - b.remaining_at) * 1000, 0)::float8,
    (extract(epoch from greatest(b.paused_until, c.now) - c.now) * 1000)::float8`

func (l *rows) today(ctx context.Context, d dayEntry) (dayState, error) {
	args := pgx.NamedArgs{
		"portal": l.portal, "start": d.start, "reset": d.reset, "reads": d.reads, "writes": d.writes,
		"limit": d.limit, "remaining": d.remaining, "pause": ms(max(0, time.Until(d.refused))),
	}
	var s dayState
	var age, pause float64
	err := l.pool.QueryRow(ctx, todaySQL, args).Scan(&s.reads, &s.writes, &s.limit, &s.remaining, &age, &pause)
	if errors.Is(err, pgx.ErrNoRows) {
		return dayState{}, errNoRow
	}
	if err != nil {
		return dayState{}, fmt.Errorf("count calls of the day: %w", err)
	}
	s.remainingAge, s.pause = span(age), span(pause)
	return s, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func span(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
