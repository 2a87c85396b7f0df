package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
)

// TableStatus is a row of hubpg.status.
type TableStatus struct {
	PortalID      int64          `json:"portal_id"`
	Schema        string         `json:"schema"`
	Table         string         `json:"table"`
	Kind          string         `json:"kind"`  // object, association, lookup
	Phase         string         `json:"phase"` // new, backfill, live, degraded, gone
	Rows          int64          `json:"rows"`
	ExpectedRows  *int64         `json:"expected_rows,omitempty"` // what HubSpot said when the backfill began
	Progress      *float64       `json:"progress,omitempty"`      // of the backfill, in percent
	RowsPerSecond *float64       `json:"rows_per_second,omitempty"`
	ETA           *time.Duration `json:"eta,omitempty"`
	VerifiedAt    *time.Time     `json:"verified_at,omitempty"` // every change before it is in the table
	SettledAt     *time.Time     `json:"settled_at,omitempty"`  // and was looked for again later
	Lag           *time.Duration `json:"lag,omitempty"`
	LastError     string         `json:"last_error,omitempty"`
	Hint          string         `json:"hint,omitempty"`
	ErrorAt       *time.Time     `json:"error_at,omitempty"`
	ErrorLane     string         `json:"error_lane,omitempty"`

	HubSpotRows *int64         `json:"hubspot_rows,omitempty"` // what HubSpot counted at the last look
	Calls       map[Lane]int64 `json:"calls,omitempty"`        // to HubSpot, by each lane of the table
}

// Querier is the part of a pgx connection or pool that reading the status needs.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Status returns hubpg.status, objects first, by name.
func Status(ctx context.Context, q Querier) ([]TableStatus, error) {
	rows, err := q.Query(ctx, `
select portal_id, schema_name, table_name, kind, phase, rows, expected_rows, progress::float8, rows_per_second::float8,
       extract(epoch from eta)::float8, verified_at, settled_at, extract(epoch from lag)::float8,
       coalesce(last_error, ''), coalesce(hint, ''), error_at, coalesce(error_lane, ''), hubspot_rows,
       coalesce(calls, '{}')
from hubpg.status
order by portal_id, array_position(array['object', 'association', 'lookup'], kind), table_name`)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t TableStatus, err error) {
		var eta, lag *float64
		err = row.Scan(&t.PortalID, &t.Schema, &t.Table, &t.Kind, &t.Phase, &t.Rows, &t.ExpectedRows, &t.Progress,
			&t.RowsPerSecond, &eta, &t.VerifiedAt, &t.SettledAt, &lag, &t.LastError, &t.Hint, &t.ErrorAt, &t.ErrorLane, &t.HubSpotRows, &t.Calls)
		t.ETA, t.Lag = seconds(eta), seconds(lag)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return list, nil
}

func seconds(s *float64) *time.Duration {
	if s == nil {
		return nil
	}
	d := time.Duration(*s * float64(time.Second))
	return &d
}

// maxMessage cuts what HubSpot or Postgres says to what a status line can show.
const maxMessage = 500

// showFailure writes a lane's failure where hubpg.status finds it. A refusal degrades the table, in the same statement: the
// table is degraded for as long as the lane that was refused says so. One that is gone says so, and nothing else.
func (e *Engine) showFailure(ctx context.Context, a laneArgs, err error) {
	e.faults.show(a)
	if a.Table == "" {
		return
	}
	e.note(ctx, "show failure", `
update hubpg.objects
set last_error = $3, hint = nullif($4, ''), error_at = now(), error_lane = $5, phase = case when $6 then 'degraded' else phase end
where portal_id = $1 and table_name = $2 and phase <> 'gone'`, a.Portal, a.Table, cut(err.Error()), hint(err), a.Lane, refusal(err))
}

// refusal says that a table cannot be read until somebody acts.
func refusal(err error) bool {
	if _, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		return true
	}
	_, ok := errors.AsType[*endError](err)
	return ok
}

// clearFailure takes a lane's failure off the status, and ends the account's pause.
func (e *Engine) clearFailure(ctx context.Context, a laneArgs) {
	e.note(ctx, "clear failure", `
update hubpg.objects
set last_error = null, hint = null, error_at = null, error_lane = null,
	phase = case when phase <> 'degraded' then phase when backfill_done_at is null then 'backfill' else 'live' end
where portal_id = $1 and table_name = $2 and error_lane = $3`, a.Portal, a.Table, a.Lane)
	e.note(ctx, "clear failure", `
update hubpg.accounts
set last_error = null, hint = null, error_at = null
where portal_id = $1 and last_error is not null`, a.Portal)
}

// gone says whether the object type of a table was removed in HubSpot.
func (e *Engine) gone(ctx context.Context, table string) bool {
	var gone bool
	err := e.cfg.Pool.QueryRow(ctx, `
select exists (
	select from hubpg.objects
	where portal_id = $1 and table_name = $2 and phase = 'gone')`, e.portal, table).Scan(&gone)
	return err == nil && gone
}

// accountFailed shows that HubSpot does not accept the token.
func (e *Engine) accountFailed(ctx context.Context, err error) {
	e.note(ctx, "show failure", `
update hubpg.accounts
set last_error = $2, hint = nullif($3, ''), error_at = now()
where portal_id = $1`, e.portal, cut(err.Error()), hubapi.Hint(err))
}

// note writes something that is for people to read only. Failing to is logged and otherwise without consequence.
func (e *Engine) note(ctx context.Context, what, sql string, args ...any) {
	if _, err := e.cfg.Pool.Exec(ctx, sql, args...); err != nil && ctx.Err() == nil {
		e.log.Warn(what, slog.String("error", err.Error()))
	}
}

// cut keeps the beginning of a message, as Postgres can store it.
func cut(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "")
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
