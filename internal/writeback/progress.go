package writeback

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
)

// showEvery is how often a write of several batches tells other sessions how far it is.
const showEvery = 250 * time.Millisecond

// progress is, by table, how many rows HubSpot has accepted so far and how many there are.
type progress map[string][2]int

func newProgress(p *plan) progress {
	all := progress{}
	for _, c := range p.changes {
		count := all[c.table()]
		count[1]++
		all[c.table()] = count
	}
	return all
}

// count notes the rows of one table that have been accepted, and shows it from time to time. The rows are nobody
// else's at the moment.
func (m *mission) count(ctx context.Context, list []*change) {
	n := 0
	for _, c := range list {
		if c.accepted() {
			n++
		}
	}
	if n == 0 {
		return
	}
	m.mu.Lock()
	if m.taken == nil {
		m.taken = map[string]int{}
	}
	m.taken[list[0].table()] += n
	show := m.id != 0 && len(m.p.changes) > hubapi.MaxPage && time.Since(m.shown) >= showEvery
	if show {
		m.shown = time.Now()
	}
	m.mu.Unlock()
	if show {
		m.show(ctx)
	}
}

func (m *mission) progress() progress {
	all := newProgress(m.p)
	m.mu.Lock()
	defer m.mu.Unlock()
	for table, n := range m.taken {
		all[table] = [2]int{n, all[table][1]}
	}
	return all
}

// show stores how far the write is. What is stored at its end is complete, so a failure here is not the client's.
func (m *mission) show(ctx context.Context) {
	err := m.w.reserve.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `
update hubpg.writes
set status = $2, touched_at = now(), calls = $3, progress = $4
where id = $1 and status in ($5, $2)`, m.id, statusSent, m.calls.Load(), m.progress(), statusIntent)
		return err
	})
	if err != nil && ctx.Err() == nil {
		m.w.logger.Warn("show progress of a write", "write", m.id, "error", err)
	}
}
