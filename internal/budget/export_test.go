package budget

import (
	"context"
	"sync"
	"time"
)

// NewInMemory returns a Budget whose ledger is memory, for tests of the queue in simulated time.
func NewInMemory(cfg Config) (*Budget, *Memory) {
	m := &Memory{limits: make(map[string]limit)}
	return newBudget(m, cfg), m
}

// Memory is a ledger for one process.
type Memory struct {
	mu       sync.Mutex
	limits   map[string]limit
	free     time.Time
	readFree time.Time
	paused   time.Time
	Err      error // of every reservation
	Asked    int
	day      dayEntry
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
		m.limits[l.bucket] = l
	}
	return nil
}

func (m *Memory) reserve(_ context.Context, r reservation) (grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Asked++
	if m.Err != nil {
		return grant{}, m.Err
	}
	if r.learned != nil {
		m.limits[r.bucket] = *r.learned
	}
	now := time.Now()
	m.paused = later(m.paused, now.Add(r.pause))
	l := m.limits[r.bucket]
	callStep := (l.window + r.guard) / time.Duration(l.calls)
	step := callStep
	first := later(later(now, m.free), m.paused)
	if r.reads {
		step = time.Duration(float64(callStep) / r.share)
		first = later(first, m.readFree)
	}
	g := grant{first: first.Sub(now), step: step, limit: l.calls, window: l.window}
	for g.calls < r.want && !first.Add(time.Duration(g.calls)*step).After(now.Add(r.horizon)) {
		g.calls++
	}
	if g.calls > 0 {
		if r.reads {
			m.readFree = first.Add(time.Duration(g.calls) * step)
		}
		m.free = later(now, m.free).Add(time.Duration(g.calls) * callStep)
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
	return dayState{reads: m.day.reads, writes: m.day.writes, limit: m.day.limit, remaining: m.day.remaining, pause: d.pause}, nil
}
