package materialize

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Calls are written down every few seconds, also those of steps that are still under way. A process that is killed takes
// with it what it has not written.
const (
	writeSpent       = 5 * time.Second
	writeSpentWithin = 5 * time.Second
)

// spent holds the calls of lanes that are not written down yet.
type spent struct {
	mu      sync.Mutex // guards below
	calls   map[laneArgs]int64
	running map[*step]int64 // calls of each step under way that have been taken
}

func newSpent() *spent { return &spent{calls: map[laneArgs]int64{}, running: map[*step]int64{}} }

func (c *spent) begin(s *step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[s] = 0
}

func (c *spent) end(s *step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(s.args, s.count.Load()-c.running[s])
	delete(c.running, s)
}

// add counts calls of a lane. The caller holds the lock.
func (c *spent) add(a laneArgs, n int64) {
	if n > 0 {
		c.calls[a] += n
	}
}

// take returns what has come together and starts from nothing.
func (c *spent) take() map[laneArgs]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, taken := range c.running {
		n := s.count.Load()
		c.add(s.args, n-taken)
		c.running[s] = n
	}
	calls := c.calls
	c.calls = map[laneArgs]int64{}
	return calls
}

// putBack returns what could not be written.
func (c *spent) putBack(calls map[laneArgs]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, n := range calls {
		c.add(a, n)
	}
}

// keepSpent writes down what the lanes spend until ctx ends, which is after they have stopped.
func (e *Engine) keepSpent(ctx context.Context) error {
	tick := time.NewTicker(writeSpent)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			e.writeSpent(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			e.writeSpent(ctx)
		}
	}
}

func (e *Engine) writeSpent(ctx context.Context) {
	calls := e.spent.take()
	if len(calls) == 0 {
		return
	}
	lanes := make([]laneArgs, 0, len(calls))
	for a := range calls {
		lanes = append(lanes, a)
	}
	// In one order, because several processes write the same rows.
	slices.SortFunc(lanes, func(a, b laneArgs) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Lane, b.Lane)) })
	tables, names, counts := make([]string, len(lanes)), make([]string, len(lanes)), make([]int64, len(lanes))
	for i, a := range lanes {
		tables[i], names[i], counts[i] = a.Table, string(a.Lane), calls[a]
	}
	ctx, cancel := context.WithTimeout(ctx, writeSpentWithin)
	defer cancel()
	_, err := e.cfg.Pool.Exec(ctx, `
insert into hubpg.lane_calls as c (portal_id, table_name, lane, day, today, total)
select $1, u.table_name, u.lane, $2::text::date, u.calls, u.calls
from unnest($3::text[], $4::text[], $5::bigint[]) with ordinality as u (table_name, lane, calls, n)
order by u.n
on conflict (portal_id, table_name, lane) do update
set total = c.total + excluded.total,
	today = excluded.today + case when c.day = excluded.day then c.today else 0 end,
	day = excluded.day`, e.portal, time.Now().In(e.zone).Format(time.DateOnly), tables, names, counts)
	if err != nil {
		e.spent.putBack(calls)
		e.log.Debug("calls not written down", slog.String("error", err.Error()))
	}
}
