package status

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Querier is the part of a pgx connection or pool that reading needs.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrNoSchema says that hubpg has never run against this database.
var ErrNoSchema = errors.New("this database holds no hubpg schema")

// Report is the state of every mirrored table of a database.
type Report struct {
	At     time.Time `json:"at"`
	Ready  bool      `json:"ready"`
	Reason string    `json:"reason,omitempty"` // why not ready
	Feeds  []Feed    `json:"feeds,omitempty"`
	Newest int64     `json:"newest_change"` // sequence number of the newest row of hubpg.changes
	Tables []Table   `json:"tables"`
	Lanes  []Lane    `json:"lanes,omitempty"` // by name
}

// Lane is what one kind of lane has cost, over all tables.
type Lane struct {
	Name  string `json:"lane"`
	Calls int64  `json:"calls"`       // to HubSpot, since the database was new
	Today int64  `json:"calls_today"` // on the last day on which any lane made one, in the account's time zone
}

// Table is the state of one mirrored table.
type Table struct {
	Schema   string     `json:"schema"`
	Name     string     `json:"table"`
	Kind     string     `json:"kind"` // object, association or lookup
	Phase    string     `json:"phase"`
	Rows     int64      `json:"rows"`
	Expected *int64     `json:"expected_rows,omitempty"` // what HubSpot says there is
	Progress *float64   `json:"progress,omitempty"`      // of the first backfill, 0 to 1
	ETA      *float64   `json:"eta_seconds,omitempty"`   // until the first backfill is complete
	Lag      *float64   `json:"lag_seconds,omitempty"`   // since the table was last verified complete
	Verified *time.Time `json:"verified_at,omitempty"`
	Sending  *int64     `json:"rows_sending,omitempty"` // that statements under way want to change in HubSpot
	Sent     *int64     `json:"rows_sent,omitempty"`    // of these, accepted so far
	Error    string     `json:"error,omitempty"`
	Hint     string     `json:"hint,omitempty"`
	ErrorAt  *time.Time `json:"error_at,omitempty"`

	HubSpotRows *int64           `json:"hubspot_rows,omitempty"` // what HubSpot counted at the last look
	Calls       map[string]int64 `json:"calls,omitempty"`        // to HubSpot, by lane

	waitsFor string // a table without which this one cannot be filled, and which cannot be filled itself
}

// selectTables reads hubpg.status, and for association tables the first of their two ends that cannot be filled.
const selectTables = `
select s.schema_name, s.table_name, s.kind, s.phase, s.rows, s.expected_rows, (s.progress / 100)::float8,
       extract(epoch from s.eta)::float8, extract(epoch from s.lag)::float8, s.verified_at,
       coalesce(s.last_error, ''), coalesce(s.hint, ''), s.error_at, s.rows_sending, s.rows_sent, s.hubspot_rows, coalesce(s.calls, '{}'), coalesce(ends.stuck, '')
from hubpg.status s
left join lateral (
    select min(e.table_name) as stuck
    from hubpg.objects o
    join hubpg.objects e on e.portal_id = o.portal_id and e.table_name in (o.from_table, o.to_table)
    where o.portal_id = s.portal_id and o.table_name = s.table_name and s.kind = 'association' and s.phase = 'new'
    and e.phase in ('degraded', 'gone')
) ends on true
order by s.schema_name, array_position(array['object', 'association', 'lookup'], s.kind), s.table_name`

const selectLanes = `
select c.lane, sum(c.total)::bigint, coalesce(sum(c.today) filter (where c.day = l.day), 0)::bigint
from hubpg.calls c
join (select portal_id, max(day) as day from hubpg.calls group by portal_id) l using (portal_id)
group by c.lane
order by c.lane`

// spent is how many calls the table has cost.
func (t *Table) spent() (n int64) {
	for _, calls := range t.Calls {
		n += calls
	}
	return n
}

// Read reads the report. It returns [ErrNoSchema] where hubpg has never run.
func Read(ctx context.Context, q Querier) (*Report, error) {
	rows, err := q.Query(ctx, selectTables)
	if err != nil {
		return nil, readError(err)
	}
	r := &Report{At: time.Now().UTC()}
	r.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		err = row.Scan(&t.Schema, &t.Name, &t.Kind, &t.Phase, &t.Rows, &t.Expected, &t.Progress,
			&t.ETA, &t.Lag, &t.Verified, &t.Error, &t.Hint, &t.ErrorAt, &t.Sending, &t.Sent, &t.HubSpotRows, &t.Calls, &t.waitsFor)
		if t.waitsFor != "" && t.Hint == "" {
			t.Hint = "waits until " + t.waitsFor + " can be read"
		}
		return t, err
	})
	if err != nil {
		return nil, readError(err)
	}
	if r.Feeds, err = ReadFeeds(ctx, q); err != nil {
		return nil, err
	}
	if err := q.QueryRow(ctx, "select last from hubpg.change_counter").Scan(&r.Newest); err != nil {
		return nil, readError(err)
	}
	if rows, err = q.Query(ctx, selectLanes); err != nil {
		return nil, readError(err)
	}
	if r.Lanes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Lane]); err != nil {
		return nil, readError(err)
	}
	r.Ready, r.Reason = judge(r.Tables)
	return r, nil
}

// readError names the one failure that has a next step of its own.
func readError(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "42P01", "3F000": // undefined_table, invalid_schema_name
			return ErrNoSchema
		}
	}
	return fmt.Errorf("read status: %w", err)
}

// Settled reports whether the first backfill of the table is over: complete, or given up until someone acts.
func (t *Table) Settled() bool {
	return t.Phase == "live" || t.Phase == "degraded" || t.Phase == "gone" || t.waitsFor != ""
}

// judge decides whether every table has its first content.
func judge(tables []Table) (ready bool, reason string) {
	if len(tables) == 0 {
		return false, "the account's schema has not been read yet"
	}
	for _, t := range tables {
		if !t.Settled() {
			reason = fmt.Sprintf("table %s is still in phase %s", t.Name, t.Phase)
			if t.Error != "" {
				reason += ": " + t.Error
			}
			return false, reason
		}
	}
	return true, ""
}
