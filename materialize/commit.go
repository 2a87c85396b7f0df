package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/mirror"
)

// errSchemaMoved says that the table's columns are not those that the step was planned with.
var errSchemaMoved = errors.New("columns changed while the step was under way")

// move is what a transaction says besides rows.
type move struct {
	cursor   *cursor // nil: rows only, the cursor follows with a later transaction
	position any
	verified time.Time // every change before this instant is in the table, once the transaction has committed
	settled  time.Time // the same, read again when the index had settled
	expected int64     // what HubSpot says there is; 0 when not known
	live     bool      // the table is complete from now on
	told     bool      // a feed has told of the table
}

// filledPhase is the phase of a table, except that one that is complete and could not be read of late counts as live: what
// is stored when it can be read again is news.
const filledPhase = `case when phase = 'degraded' and backfill_done_at is not null then 'live' else phase end`

// Locks are always taken in this order, which rules out deadlocks between lanes: the lane's cursor, the table, its row
// of hubpg.objects, the counter of the change log (inside mirror, last of all).
const (
	// noHurry is for a transaction that stores nothing which could be lost: after a crash the lane verifies the same empty
	// window again.
	noHurry  = `select set_config('synchronous_commit', 'off', true)`
	entering = `
	verified_at = case when phase = 'live' then greatest(verified_at, $3) else verified_at end,
	settled_at = case when phase = 'live' then greatest(settled_at, $4) else settled_at end,
	expected_rows = coalesce(nullif($5, 0::bigint), expected_rows)`
	enterObject = `
update hubpg.objects
set` + entering + `
where portal_id = $1 and table_name = $2
returning ` + filledPhase + `, coalesce(error_lane, '')`
	hearObject = `
update hubpg.objects
set told_at = clock_timestamp()
where portal_id = $1 and table_name = $2
returning ` + filledPhase + `, coalesce(error_lane, '')`
	readPhase = `
select ` + filledPhase + `, coalesce(error_lane, '')
from hubpg.objects
where portal_id = $1 and table_name = $2`
	// moveAlone does nothing, and returns nothing, when somebody else has moved the cursor.
	moveAlone = `
with moved as (
	update hubpg.cursors
	set position = $6, revision = revision + 1, moved_at = now()
	where portal_id = $1 and table_name = $7 and lane = $8 and key = '' and revision = $9
	returning true),
entered as (
	update hubpg.objects
	set` + entering + `
	from moved
	where portal_id = $1 and table_name = $2 and ($3::timestamptz is not null or $4::timestamptz is not null or $5 <> 0))
select ` + filledPhase + `, coalesce(error_lane, '')
from hubpg.objects, moved
where portal_id = $1 and table_name = $2`
	goLive = `
update hubpg.objects
set phase = 'live', backfill_done_at = coalesce(backfill_done_at, now()), verified_at = greatest(verified_at, $3)
where portal_id = $1 and table_name = $2 and phase <> 'live'`
)

// commit runs one transaction: the cursor moves if nobody else has moved it, then work stores the rows it covers.
// Either all of it happens or nothing. work may be nil, or run more than once, as [mirror.Store] says; quiet tells it to
// leave the change log alone.
func (s *step) commit(
	ctx context.Context, table string, m move, work func(tx pgx.Tx, quiet bool) (mirror.Result, error),
) error {
	var (
		result mirror.Result
		at     entered
	)
	if pass, ok := m.position.(interface{ work(time.Duration) }); ok {
		pass.work(s.lap())
	}
	if work == nil && !m.live && m.cursor != nil && m.cursor.revision > 0 {
		at, err := s.moveAlone(ctx, table, m)
		if err == nil {
			s.moved(table, m, at)
		}
		return err
	}
	err := mirror.Store(ctx, s.e.cfg.Pool, func(tx pgx.Tx) error {
		var err error
		if at, err = s.fence(ctx, tx, table, m, work != nil); err != nil {
			return err
		}
		if work != nil {
			quiet := at.phase != phaseLive && !s.e.cfg.BackfillEvents
			if result, err = work(tx, quiet); err != nil {
				return err
			}
		}
		if !m.live {
			return nil
		}
		if _, err := tx.Exec(ctx, goLive, s.args.Portal, table, instant(m.verified)); err != nil {
			return fmt.Errorf("set %s live: %w", table, err)
		}
		return nil
	})
	if errors.Is(err, mirror.ErrStaleCatalog) {
		s.e.tables.forget()
		return errSchemaMoved
	}
	if wide, ok := errors.AsType[*mirror.WideRowError](err); ok {
		if _, err := s.e.mapper.Narrow(ctx, s.e.cfg.Pool, wide.Table); err != nil {
			return err
		}
		s.e.tables.forget()
		return errSchemaMoved
	}
	if err != nil {
		return err
	}
	s.moved(table, m, at)
	s.rows.Add(int64(result.Inserted + result.Updated + result.Deleted))
	return nil
}

// moved notes what a transaction that has committed found.
func (s *step) moved(table string, m move, at entered) {
	if m.cursor != nil {
		m.cursor.moved()
	}
	if s.args.Table == table {
		s.entered = at
	}
}

// moveAlone commits a move without rows. It is what most polls of most tables come to, and takes one exchange.
func (s *step) moveAlone(ctx context.Context, table string, m move) (at entered, err error) {
	text, err := json.Marshal(m.position)
	if err != nil {
		return at, fmt.Errorf("encode cursor: %w", err)
	}
	a := m.cursor.args
	var b pgx.Batch
	b.Queue(noHurry)
	b.Queue(moveAlone, a.Portal, table, instant(m.verified), instant(m.settled), m.expected, text, a.Table, a.Lane, m.cursor.revision).
		QueryRow(func(row pgx.Row) error { return row.Scan(&at.phase, &at.failing) })
	err = s.e.cfg.Pool.SendBatch(ctx, &b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return at, errMoved
	}
	if err != nil {
		return at, fmt.Errorf("move cursor: %w", err)
	}
	return at, nil
}

// entered is what a transaction finds of a table.
type entered struct {
	phase   string
	failing Lane // the lane whose failure hubpg.status shows; "" for none
}

// fence moves the cursor, locks the table when rows are to follow, and returns in what state the table is.
func (s *step) fence(ctx context.Context, tx pgx.Tx, table string, m move, rows bool) (at entered, err error) {
	var b pgx.Batch
	if m.cursor != nil {
		if err := m.cursor.queue(&b, m.position); err != nil {
			return at, err
		}
	}
	if !rows && !m.live {
		b.Queue(noHurry)
	}
	if b.Len() > 0 {
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return at, fmt.Errorf("move cursor: %w", err)
		}
	}
	if rows {
		if err := s.e.applier.Lock(ctx, tx, s.e.cfg.Schema, table); err != nil {
			return at, err
		}
	}
	switch {
	case m.told:
		err = tx.QueryRow(ctx, hearObject, s.args.Portal, table).Scan(&at.phase, &at.failing)
	case m.verified.IsZero() && m.settled.IsZero() && m.expected == 0:
		err = tx.QueryRow(ctx, readPhase, s.args.Portal, table).Scan(&at.phase, &at.failing)
	default:
		err = tx.QueryRow(ctx, enterObject, s.args.Portal, table,
			instant(m.verified), instant(m.settled), m.expected).Scan(&at.phase, &at.failing)
	}
	if err != nil {
		return at, fmt.Errorf("enter %s: %w", table, err)
	}
	return at, nil
}

// instant turns the zero time into SQL's null.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
