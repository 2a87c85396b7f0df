package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// How kept backends make way for others: for a login that Postgres has no room for, and for whoever drops, renames, moves or copies a
// database, here, through another proxy or past all of them. Such a command locks the database and then waits five seconds for others to
// leave it (CountOtherDBBackends in Postgres's procarray.c), so it is enough to look for the lock.

// Times of making way.
const (
	lookEvery    = 500 * time.Millisecond
	lookPatience = 5 * time.Second // for one look

	// Between attempts to log in where Postgres had no room, each twice as long as the one before.
	firstPause = 5 * time.Millisecond
	lastPause  = 320 * time.Millisecond
)

// wantedQuery names the databases that somebody wants to be alone in. DROP, RENAME and SET TABLESPACE take the first mode, copying the
// second; a login or a setting of the database takes neither.
const wantedQuery = `
select distinct d.datname::text
from pg_catalog.pg_locks l join pg_catalog.pg_database d on d.oid = l.objid
where l.locktype = 'object' and l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass and l.objsubid = 0
	and l.mode in ('AccessExclusiveLock', 'ShareLock')`

// Run has kept backends leave the databases that somebody wants to be alone in, until ctx ends.
func (k *keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if k.counters.kept.Load() == 0 {
			continue
		}
		wanted, err := k.wanted(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			k.log.Warn("look which databases kept backends should leave; DROP DATABASE may find them there", "error", err)
		}
		failing = err != nil
		for _, database := range wanted {
			k.clear(func(b *kept) bool { return b.database == database })
		}
	}
}

func (k *keeper) wanted(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	rows, err := k.pool.Query(ctx, wantedQuery)
	if err != nil {
		return nil, fmt.Errorf("look for locks on databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for locks on databases: %w", err)
	}
	return names, nil
}

// clear has kept backends end, and returns them.
func (k *keeper) clear(which func(*kept) bool) (cleared []*kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range slices.Clone(k.list) {
		if which(b) {
			k.release(b)
			cleared = append(cleared, b)
		}
	}
	return cleared
}

// yield ends every kept backend, since Postgres has no room for another one, and reports whether there were any.
func (k *keeper) yield(ctx context.Context) bool {
	if k == nil {
		return false
	}
	list := k.clear(func(*kept) bool { return true })
	for _, b := range list {
		select {
		case <-b.done:
		case <-ctx.Done():
			return false
		}
	}
	return len(list) > 0
}

// makeRoom makes an attempt to log in. Where Postgres has no room for it and backends are kept, they are ended and it is made again, and
// a few times more: the attempt that was refused takes room itself until its process is gone.
func (k *keeper) makeRoom(ctx context.Context, attempt func() error) error {
	err := attempt()
	if !isNoRoom(err) || !k.yield(ctx) {
		return err
	}
	for pause := firstPause; isNoRoom(err) && pause <= lastPause; pause *= 2 {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		err = attempt()
	}
	return err
}

// isNoRoom reports whether Postgres has refused a login because there are too many connections already. The proxy itself refuses some
// with the same SQLSTATE, for limits of its own: to end backends does not help them.
func isNoRoom(err error) bool {
	if errors.Is(err, errNoRoom) {
		return true
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == noRoom
}
