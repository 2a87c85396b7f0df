package writeback

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
)

// find looks in HubSpot for what became of changes whose answer was lost. It settles those that it finds done, gives
// those that cannot be known their flaw, and returns those that did not happen. The client may have gone meanwhile:
// the look is taken all the same, so that hubpg.writes tells the truth.
func (m *mission) find(ctx context.Context, lost []*change, began time.Time, cause error) (again []*change) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
	defer cancel()
	if lost[0].op == opInsert {
		return m.findCreated(ctx, lost, began, cause)
	}
	def := lost[0].def
	ids := make([]int64, len(lost))
	for i, c := range lost {
		ids[i] = c.id
	}
	m.calls.Add(1)
	found, err := m.w.client.BatchRead(ctx, def.table.Path, ids, def.whole)
	if err != nil {
		for _, c := range lost {
			c.refuse(unknown(cause, err))
		}
		return nil
	}
	records := make(map[int64]hubapi.Record, len(found.Records))
	for _, r := range found.Records {
		records[r.ID] = r
	}
	for _, c := range lost {
		r, here := records[c.id]
		to := found.Moved[c.id]
		survivor, merged := records[to]
		switch {
		case merged:
			c.move(to, c.op == opUpdate && c.matches(&survivor))
		case c.op == opDelete && slices.Contains(found.Missing, c.id):
			c.done, c.readAt = true, found.ReadAt
			c.record = hubapi.Record{ID: c.id, Archived: true}
		case c.op == opUpdate && here && c.matches(&r):
			c.done, c.record, c.whole, c.readAt = true, r, true, found.ReadAt
		case here:
			again = append(again, c)
		case slices.Contains(found.Missing, c.id):
			c.refuse(&flaw{code: CodeGone, gone: true, message: "the record is not in HubSpot any more"})
		default: // HubSpot has left it out
			c.refuse(unknown(cause, nil))
		}
	}
	return again
}

// findCreated looks for new records by their unique property: one made since the call began, that has all that was sent
// and that the table does not know, is the statement's own.
func (m *mission) findCreated(ctx context.Context, lost []*change, began time.Time, cause error) (again []*change) {
	looks := map[string]*look{} // by property
	for _, c := range lost {
		if property, value := c.unique(); value != "" {
			if looks[property] == nil {
				looks[property] = &look{values: map[string]bool{}}
			}
			looks[property].values[asCompared(value)] = true
		}
	}
	for property, l := range looks {
		m.look(ctx, lost[0].def, property, l)
	}
	for _, c := range lost {
		property, value := c.unique()
		if value == "" {
			c.refuse(unknown(cause, nil))
			continue
		}
		l := looks[property]
		r, here := l.found[asCompared(value)]
		switch {
		case l.err != nil:
			c.refuse(unknown(cause, l.err))
		case !here:
			again = append(again, c)
		case m.w.predates(&r, began), l.stored[r.ID], !c.matches(&r):
			c.refuse(taken(c, property, r.ID))
		default:
			c.done, c.record, c.whole, c.readAt = true, r, true, l.readAt
			l.stored[r.ID] = true // one row has made it
		}
	}
	return again
}

// look is a look for records by a unique property.
type look struct {
	values map[string]bool // as HubSpot compares them
	found  map[string]hubapi.Record
	stored map[int64]bool // records that the table has
	readAt time.Time
	err    error
}

func (m *mission) look(ctx context.Context, def *definition, property string, l *look) {
	m.calls.Add(1)
	res, err := m.w.client.BatchReadBy(ctx, def.table.Path, property, slices.Sorted(maps.Keys(l.values)), def.whole)
	switch {
	case isA[*hubapi.NotFoundError](err): // there is none of them
	case err != nil:
		l.err = err
	default:
		l.found, l.readAt = res.Records, res.ReadAt
		l.stored, l.err = m.w.stored(ctx, def.table, res.Records)
	}
}

// asCompared is a unique value as HubSpot compares it.
func asCompared(value string) string { return strings.ToLower(strings.TrimSpace(value)) }

// stored tells which records are in the table. While a write is under way no applier stores any, so one that is there is
// not the write's own.
func (w *Writer) stored(ctx context.Context, t *catalog.Table, records map[string]hubapi.Record) (map[int64]bool, error) {
	ids := make([]int64, 0, len(records))
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	are := map[int64]bool{}
	err := w.reserve.with(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "select id from "+pgx.Identifier{t.Schema, t.Name}.Sanitize()+" where id = any ($1)", ids)
		if err != nil {
			return err
		}
		var id int64
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			are[id] = true
			return nil
		})
		return err
	})
	return are, err
}

func taken(c *change, property string, id int64) *flaw {
	return &flaw{
		code: codeUnique, column: columnOf(c.def, property), message: fmt.Sprintf("record %d has this %s already", id, property),
		hint: "update it, or use ON CONFLICT", existing: id,
	}
}

func unknown(cause, err error) *flaw {
	message := "HubSpot's answer was lost and it is not known whether the row was written"
	if cause != nil {
		message += ": " + cause.Error()
	}
	if err != nil {
		message += "; reading: " + err.Error()
	}
	return &flaw{code: CodeUnknown, message: message, hint: "look in HubSpot whether the record is there before repeating the statement"}
}
