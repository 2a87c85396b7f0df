package budget

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// NewInMemory returns a Budget whose ledger is memory, for tests of the queue in simulated time.
func NewInMemory(cfg Config) (*Budget, *Memory) {
	m := &Memory{rows: make(map[string]*memoryRow)}
	return m.Budget(cfg), m
}

// Memory is a ledger that does what hubpg.quota_buckets does.
type Memory struct {
	mu    sync.Mutex
	rows  map[string]*memoryRow
	Delay time.Duration // of every answer
	Err   error         // of every reservation
	Asked int
	day   dayEntry
}

// memoryRow is one limit.
type memoryRow struct {
	limit          limit
	free, readFree time.Time
	paused, slow   time.Time
}

// Budget returns another process's budget over the same ledger.
func (m *Memory) Budget(cfg Config) *Budget { return newBudget(m, cfg) }

// Step is the time between two fresh reads.
func (b *Budget) Step(ctx context.Context, family string) (time.Duration, error) {
	g, err := b.reserve(ctx, bucketOf(family), fresh, 1, 0)
	return g.step, err
}

// Fail makes every reservation fail from now on.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Err = err
}

func (m *Memory) open(_ context.Context, defaults []limit, _ float64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range defaults {
		if m.rows[l.bucket] == nil {
			m.rows[l.bucket] = &memoryRow{limit: l}
		}
	}
	return nil
}

func (m *Memory) reserve(ctx context.Context, r reservation) (grant, error) {
	if err := pause(ctx, m.Delay/2); err != nil {
		return grant{}, err
	}
	g, err := m.give(r)
	return g, errors.Join(err, pause(ctx, m.Delay/2))
}

func (m *Memory) give(r reservation) (grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Asked++
	if m.Err != nil {
		return grant{}, m.Err
	}
	row, now := m.rows[r.bucket], time.Now()
	if r.learned != nil {
		row.limit = *r.learned
	}
	row.paused, row.slow = later(row.paused, now.Add(r.pause)), later(row.slow, now.Add(r.slow))
	callStep := (row.limit.window + r.guard) / time.Duration(row.limit.calls)
	if row.slow.After(now) {
		callStep *= 2
	}
	step, callFree := callStep, later(later(now, row.paused), row.free)
	first := callFree
	if r.reads {
		part := float64(row.limit.calls) * r.share
		step = max(time.Duration(float64(row.limit.window)/part), (row.limit.window+r.guard)/time.Duration(math.Ceil(part-1e-9)))
		if row.slow.After(now) {
			step *= 2
		}
		first = later(callFree, row.readFree)
	}
	g := grant{
		first: first.Sub(now), step: step, limit: row.limit.calls, window: row.limit.window,
		pause: max(0, row.paused.Sub(now)), slow: max(0, row.slow.Sub(now)),
	}
	for g.calls < r.want && !first.Add(time.Duration(g.calls)*step).After(now.Add(r.horizon)) {
		g.calls++
	}
	if g.calls > 0 {
		row.free = first.Add(time.Duration(g.calls) * callStep)
		if r.reads {
			row.free = callFree.Add(time.Duration(g.calls) * callStep)
			row.readFree = first.Add(time.Duration(g.calls) * step)
		}
	}
	return g, nil
}

func (m *Memory) today(_ context.Context, d dayEntry) (dayState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.day.start != d.start {
		m.day = dayEntry{start: d.start, remaining: -1, limit: m.day.limit}
	}
	m.day.reads += d.reads
	m.day.writes += d.writes
	if d.limit > 0 {
		m.day.limit = d.limit
	}
	if d.remaining >= 0 {
		m.day.remaining = d.remaining
	}
	return dayState{reads: m.day.reads, writes: m.day.writes, limit: m.day.limit, remaining: m.day.remaining, pause: max(0, time.Until(d.refused))}, nil
}

// NewDistant returns a Budget over Postgres to which, and from which, everything takes so long.
func NewDistant(pool *pgxpool.Pool, cfg Config, delay time.Duration) *Budget {
	return newBudget(&distant{&rows{pool: pool, portal: cfg.PortalID}, delay}, cfg)
}

type distant struct {
	ledger
	delay time.Duration
}

func (d *distant) today(ctx context.Context, e dayEntry) (dayState, error) {
	if err := pause(ctx, d.delay); err != nil {
		return dayState{}, err
	}
	s, err := d.ledger.today(ctx, e)
	return s, errors.Join(err, pause(ctx, d.delay))
}

// Reads adds reads to the day that begins at start, as a process does whose clock says so, and returns the day's.
func Reads(ctx context.Context, pool *pgxpool.Pool, portal int64, start time.Time, n int) (int, error) {
	s, err := (&rows{pool: pool, portal: portal}).today(ctx, dayEntry{start: start, reset: start.AddDate(0, 0, 1), reads: n, remaining: -1})
	return s.reads, err
}
