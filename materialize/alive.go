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
	h.conn = conn
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

// takeOver puts the jobs of vanished processes back, and deposes a vanished leader, which would keep River's maintenance
// waiting until its term ends. Every process of every account asks once per heartbeat, and to list all locks costs more
// than all the rest: that is done once, however many jobs there are, and again only for jobs that seem lost, since a
// process that has just begun may have taken them meanwhile.
const takeOver = `
with alive as materialized (
	select l.objid
	from pg_locks l
	where l.locktype = 'advisory' and l.granted and l.objsubid = 2
	and l.database = (select oid from pg_database where datname = current_database())
	and l.classid = $1::bigint::oid),
deposed as (
	delete from hubpg.river_leader
	where leader_id <> $2 and (hashtext(leader_id)::bigint & 4294967295)::oid not in (select objid from alive)),
lost as (
	select id, attempted_by[cardinality(attempted_by)] as process
	from hubpg.river_job
	where state = 'running' and kind = $3
	and case when attempted_by[cardinality(attempted_by)] = $2
		then attempted_at < now() - $4::interval and id <> all ($5)
		else (hashtext(attempted_by[cardinality(attempted_by)])::bigint & 4294967295)::oid not in (select objid from alive) end
	for update skip locked)
update hubpg.river_job j
set state = 'available', scheduled_at = now(), attempt = greatest(j.attempt - 1, 0)
from lost
where j.id = lost.id and (
	lost.process = $2 or not exists (
		select from pg_locks l
		where l.locktype = 'advisory' and l.granted and l.objsubid = 2
		and l.database = (select oid from pg_database where datname = current_database())
		and l.classid = $1::bigint::oid and l.objid = (hashtext(lost.process)::bigint & 4294967295)::oid))`

func (h *holder) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if h.conn == nil || h.conn.IsClosed() {
		h.conn = nil
		if err := h.acquire(ctx); err != nil {
			return err
		}
	}
	tag, err := h.conn.Exec(ctx, takeOver, int64(aliveLock), h.id, laneKind, ownGrace, h.e.running.list())
	if err != nil {
		return fmt.Errorf("take over lost lanes: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		h.e.log.Info("took over lanes of a process that vanished", slog.Int64("lanes", n))
	}
	return nil
}

func (h *holder) release(ctx context.Context) {
	if h.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = h.conn.Close(ctx) // the lock goes with the connection, closed well or not
}
