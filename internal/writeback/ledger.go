package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// The states of a write that this package moves it to.
const (
	statusIntent     = "intent"
	statusSent       = "sent" // some of it
	statusAccepted   = "accepted"
	statusRefused    = "refused"
	statusAmbiguous  = "ambiguous"
	statusSettled    = "settled"
	statusRolledBack = "rolled_back"
	statusRepaired   = "repaired"
)

// intent is an element of hubpg.writes.intent.
type intent struct {
	Table  string                     `json:"table"`
	Op     string                     `json:"op"`
	ID     int64                      `json:"id,omitempty"` // records; negative for those to be created
	A      int64                      `json:"a,omitempty"`  // associations
	B      int64                      `json:"b,omitempty"`
	Unique *lookup                    `json:"unique,omitempty"` // by which a created record can be found
	Before map[string]json.RawMessage `json:"before,omitempty"`
	After  map[string]json.RawMessage `json:"after,omitempty"`
}

type lookup struct {
	Property string `json:"property"`
	Value    string `json:"value"`
}

// outcome is the element of hubpg.writes.outcome that belongs to the intent of the same place.
type outcome struct {
	ID     int64    `json:"id,omitempty"` // records; another one than the intent's has taken its place
	Done   bool     `json:"done"`
	Exists int64    `json:"exists,omitempty"` // the record that has a value already which was to be this one's alone
	Read   string   `json:"read,omitempty"`   // the table has this version of ID or Exists or a newer one, if the client committed
	Error  []string `json:"error,omitempty"`
	Open   bool     `json:"open,omitempty"` // HubSpot may have taken the row all the same, or may yet
}

// begin records a write before its first call, unless the catalog is not any more what the plan was made by.
func (w *Writer) begin(ctx context.Context, r *Request, p *plan, sum string) (id int64, err error) {
	intents := make([]intent, 0, len(p.changes))
	for _, c := range p.changes {
		in := intent{Table: c.table(), Op: c.op, ID: c.id, A: c.a, B: c.b, Before: c.old, After: maps.Clone(c.new)}
		delete(in.After, catalog.ID)
		if c.pair == nil && c.op == opInsert {
			if property, value := c.unique(); value != "" {
				in.Unique = &lookup{property, value}
			}
		}
		intents = append(intents, in)
	}
	text, err := encode(intents)
	if err != nil {
		return 0, fmt.Errorf("record intent: %w", err)
	}
	var xid *string
	if p.xid != "" {
		xid = &p.xid
	}
	err = w.reserve.with(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
insert into hubpg.writes (portal_id, status, role, database, application, client, statement, pid, xid, rows, intent, progress)
select $1, $2, $3, $4, $5, $6, $7, $8, $9::text::xid8, $10, $11, $12
where (`+catalogSum+`) = $13
returning id`, w.portal, statusIntent, clean(r.Role), clean(r.Database), clean(r.Application), clean(r.Client), clean(r.SQL),
			int64(r.PID), xid, len(p.changes), text, newProgress(p), sum).Scan(&id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, mirror.ErrStaleCatalog
	}
	if err != nil {
		return 0, fmt.Errorf("record intent: %w", err)
	}
	w.setActive(id, true)
	return id, nil
}

// finish records what became of a write.
func (w *Writer) finish(ctx context.Context, id int64, m *mission, status string) error {
	e, err := m.ending(status)
	if err != nil {
		return err
	}
	return w.end(ctx, id, e)
}

// ending is what is recorded of a write when HubSpot has been asked to take all of it.
type ending struct {
	status       string
	settled      bool // HubSpot has taken nothing, and nothing is known that the tables may lack
	calls        int64
	outcome      string
	correlations []string
	failed       string // the first reason
	progress     progress
}

func (m *mission) ending(status string) (*ending, error) {
	outcomes := make([]outcome, 0, len(m.p.changes))
	correlations := m.answered()
	touched, failed, now := false, "", time.Now()
	for _, c := range m.p.changes {
		o := outcome{Done: c.accepted(), ID: c.record.ID, Open: c.unknown()}
		if c.accepted() && !c.idle() {
			touched = true
			o.Read = stamp(c.readAt)
		}
		if o.Exists = c.existing(); o.Exists != 0 {
			touched = true
			o.Read = stamp(now)
		}
		if c.moved != 0 {
			o.ID, touched = c.moved, true
		}
		for _, f := range c.flaws {
			touched = touched || f.gone  // the row is there still
			if f.code != codeCancelled { // nobody has said anything of a row that was not sent
				o.Error = append(o.Error, f.text())
			}
			if f.correlation != "" {
				correlations[f.correlation] = true
			}
			if failed == "" {
				failed = f.text()
			}
		}
		outcomes = append(outcomes, o)
	}
	text, err := encode(outcomes)
	if err != nil {
		return nil, fmt.Errorf("record outcome: %w", err)
	}
	return &ending{
		status: status, settled: status == statusRefused && !touched, calls: m.calls.Load(), outcome: text,
		correlations: slices.AppendSeq([]string{}, maps.Keys(correlations)), failed: clean(failed), progress: m.progress(),
	}, nil
}

// end stores an ending, also when the client has gone. An acceptance need not be on disk before the client's transaction
// is, whose commit puts it there: without both, the records are read again.
func (w *Writer) end(ctx context.Context, id int64, e *ending) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
	defer cancel()
	err := w.reserve.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `
update hubpg.writes
set status = $2,
    touched_at = now(),
    settled_at = case when $3 then now() end,
    calls = $4,
    outcome = $5,
    correlation_ids = $6,
    error = nullif($7, ''),
    progress = $8
from pg_catalog.set_config('synchronous_commit', case when $9 then 'off' else current_setting('synchronous_commit') end, true)
where id = $1`, id, e.status, e.settled, e.calls, e.outcome, e.correlations, e.failed, e.progress, e.status == statusAccepted)
		return err
	})
	if err != nil {
		return fmt.Errorf("record outcome: %w", err)
	}
	return nil
}

// encode renders JSON that jsonb takes: without NUL.
func encode(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return withoutNUL.Replace(string(text)), nil
}

// withoutNUL leaves a backslash that is part of the text, and what comes behind it, alone.
var withoutNUL = strings.NewReplacer(`\\`, `\\`, `\u0000`, "")

// clean makes text that Postgres can store.
func clean(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "�")
}
