package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
)

// claims are the instants up to which a table claims to be true.
type claims struct {
	verified time.Time // as far as HubSpot's index showed it in time
	settled  time.Time // in any case
	emptied  time.Time // of the recycle bin; zero when that is not known
}

// verifyFound is a record that is not stored as HubSpot showed it.
type verifyFound struct {
	id          int64
	claims      claims
	modified    time.Time // of the record, or of that which it has become; zero for one that was erased
	archived    time.Time // when the record was deleted, if it is in the recycle bin
	newer       bool      // the stored row was read after the record was
	undated     bool      // the difference may be younger than the modification
	unanswered  bool      // HubSpot said nothing about the record
	differences []Difference
}

// late says that HubSpot changed the record after the instant up to which the table claims to be true.
func (f *verifyFound) late() bool {
	return f.unanswered || f.newer || f.modified.After(f.claims.verified) || !f.claims.emptied.IsZero() && f.archived.After(f.claims.emptied)
}

// certain says that the table should be as HubSpot has it: every lane in charge has looked since HubSpot changed the record.
func (f *verifyFound) certain() bool {
	switch {
	case f.late(), f.undated:
		return false
	case !f.archived.IsZero():
		return f.archived.Before(f.claims.emptied.Add(-clockSkew))
	}
	return !f.modified.IsZero() && f.modified.Before(f.claims.settled)
}

// claims returns what a table claims. One that claims nothing yet is held to everything.
func (v *verifier) claims(ctx context.Context, tx pgx.Tx, table string) (c claims, err error) {
	var verified, settled, emptied *time.Time
	err = tx.QueryRow(ctx, `
select o.verified_at, o.settled_at,
	(c.position ->> 'ended')::timestamptz - coalesce((c.position ->> 'took')::float8, 0) / 1e9 * interval '1 second'
from hubpg.objects o
left join hubpg.cursors c on c.portal_id = o.portal_id and c.table_name = o.table_name and c.lane = $3 and c.key = ''
where o.portal_id = $1 and o.table_name = $2`, v.PortalID, table, LaneArchived).Scan(&verified, &settled, &emptied)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return c, errors.New("the table was removed meanwhile")
	case err != nil:
		return c, err
	case verified == nil:
		c.verified = time.Now().AddDate(1, 0, 0)
		c.settled = c.verified
		return c, nil
	}
	c.verified = *verified
	if settled != nil {
		c.settled = *settled
	}
	if emptied != nil {
		c.emptied = *emptied
	}
	return c, nil
}

// verifyRow is a record as it should be stored.
type verifyRow struct {
	ID     int64                      `json:"id"`
	Values map[string]json.RawMessage `json:"v"`
}

// render turns records into the rows that they should be, values without those that are NULL.
func (o *verifyObject) render(records []hubapi.Record) []verifyRow {
	rows := make([]verifyRow, len(records))
	for i := range records {
		row := verifyRow{ID: records[i].ID, Values: map[string]json.RawMessage{}}
		unparsed := map[string]json.RawMessage{}
		for slot, c := range o.columns {
			raw := records[i].Values[slot]
			if len(raw) == 0 {
				continue
			}
			if text, ok := c.Kind.AppendJSON(nil, raw); ok {
				row.Values[c.Name] = text
			} else {
				unparsed[c.Name], _ = catalog.Text.AppendJSON(nil, raw)
			}
		}
		if len(unparsed) > 0 {
			row.Values[catalog.Unparsed], _ = json.Marshal(unparsed) // made of valid JSON
		}
		rows[i] = row
	}
	return rows
}
