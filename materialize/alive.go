package materialize

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A process shows that it is alive by holding an advisory lock on its River client id: Postgres lets go of it the moment
// the process's connection ends, however the process ended. Jobs that a vanished process was running go back to the
// queue within heartbeat; River alone would wait for RescueStuckJobsAfter. Taking over from a process that lives after
// all (its connection was cut) is harmless: cursors move by compare-and-set, so only one of the two can store anything.
const (
	heartbeat = time.Second
	aliveLock = 0x68756270 // first key of the locks, "hubp"
	// ownGrace is how long a job of this very process may be marked as running after its step has returned: River
	// writes the outcome with retries, and gives up when Postgres is away for longer.
	ownGrace = 35 * time.Second
)

// running is the set of jobs in the hands of this process.
type running struct {
	mu   sync.Mutex // guards below
	jobs map[int64]struct{}
}

func newRunning() *running { return &running{jobs: map[int64]struct{}{}} }

func (r *running) add(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs[id] = struct{}{}
}

func (r *running) remove(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, id)
}

func (r *running) list() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]int64, 0, len(r.jobs))
	for id := range r.jobs {
		ids = append(ids, id)
	}
	return ids
}

// holder is the connection that holds the lock.
type holder struct {
	e    *Engine
	id   string // of the River client
	conn *pgx.Conn
}

// acquire takes the lock. It must be held before the River client starts, else a neighbour takes our first jobs for lost.
func (h *holder) acquire(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, h.e.cfg.Pool.Config().ConnConfig.Copy())
	if err != nil {
		return fmt.Errorf("connect for the life sign: %w", err)
	}
	if _, err = conn.Exec(ctx, `select pg_advisory_lock($1, hashtext($2))`, int32(aliveLock), h.id); err != nil {
		_ = conn.Close(ctx)
		return fmt.Errorf("take the life sign: %w", err)
	}
	if err = h.e.clock.compare(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return err
	}
	h.conn = conn
	h.e.seen.forget() // Postgres may have lost commits with the connection: a replica that lags was promoted
	return nil
}

// run renews the lock after the connection is lost and takes over from the vanished, until ctx ends.
func (h *holder) run(ctx context.Context) error {
	defer h.release(ctx)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	failing := false
	for {
		err := h.beat(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				h.e.log.Warn("postgres is away, lanes wait", slog.String("error", err.Error()))
			} else {
				h.e.log.Info("postgres is back")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// takeOver puts the account's jobs back that vanished processes had, and deposes a vanished leader, which would keep
// River's maintenance waiting until its term ends. A process has vanished when its life sign can be had: that is asked for
// each process that seems to be at work, because to list all locks costs more than all the rest, and holds up everybody who
// takes one. The lock is shared and kept to the end of the statement, so that several may find the same process gone, while
// that process, if its connection was merely cut, waits before it goes on. Only the account's own queues are looked at: each
// of them is a part of an index, in which those of many accounts are a long way to go every second.
const takeOver = `
with vanished as materialized (
	select process
	from (
		select attempted_by[cardinality(attempted_by)]
		from hubpg.river_job
		where state = 'running' and queue = any ($3)
		union
		select leader_id
		from hubpg.river_leader
		except
		select $2) as busy (process)
	where pg_try_advisory_xact_lock_shared($1, hashtext(process))),
deposed as (
	delete from hubpg.river_leader
	where leader_id in (select process from vanished)),
lost as (
	select id
	from hubpg.river_job
	where state = 'running' and queue = any ($3)
	and case when attempted_by[cardinality(attempted_by)] = $2
		then attempted_at < now() - $4::interval and id <> all ($5)
		else attempted_by[cardinality(attempted_by)] in (select process from vanished) end
	for update skip locked)
update hubpg.river_job j
set state = 'available', scheduled_at = now(), attempt = greatest(j.attempt - 1, 0)
from lost
where j.id = lost.id`

func (h *holder) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if h.conn == nil || h.conn.IsClosed() {
		h.conn = nil
		if err := h.acquire(ctx); err != nil {
			return err
		}
	}
	tag, err := h.conn.Exec(ctx, takeOver, int32(aliveLock), h.id, queues(h.e.portal), ownGrace, h.e.running.list())
	if err != nil {
		return fmt.Errorf("take over lost lanes: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		h.e.log.Info("took over lanes of a process that vanished", slog.Int64("lanes", n))
	}
	return h.e.clock.compare(ctx, h.conn)
}

func (h *holder) release(ctx context.Context) {
	if h.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = h.conn.Close(ctx) // the lock goes with the connection, closed well or not
}
