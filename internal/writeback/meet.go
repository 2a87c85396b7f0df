package writeback

import (
	"context"
	"maps"
	"slices"
	"strings"

	"hubpg/hubapi"
)

// Why rows that are to be changed or created are not sent to HubSpot's upsert. It would save two calls, the refused creation
// and reading the record, where HubSpot has a record that the table lacks: rare, since the table is seconds behind. But
// what a statement means for that record is for SQL to say, and only what the record holds says it: DO UPDATE may set other
// columns than were inserted, or by what is there (set n = contacts.n + 1), under a WHERE, past a trigger of the user's, and
// RETURNING shows it; DO NOTHING and MERGE have their own; the unique index that decides is one of several. HubSpot's upsert
// would put the proposed row over the record. It knows one idProperty a call, says of email that "partial upserts are not
// supported", finds contacts by their second addresses too, where no index of Postgres does, and after a lost answer nobody
// could tell a record that was made from one that was changed, whereas a creation that meets a record never harms it. So
// Postgres decides on what HubSpot has, as soon as that is in the table.

// existing is the record that has a value already which was to be this one's alone, 0 if there is none or it is not known.
func (c *change) existing() int64 {
	for _, f := range c.flaws {
		if f.existing != 0 {
			return f.existing
		}
	}
	return 0
}

// behind says whether HubSpot has taken nothing, and only because of records that the tables lack or have in an older
// version: what a statement means may depend on them.
func (p *plan) behind() bool {
	met := false
	for _, c := range p.changes {
		switch {
		case c.accepted() && !c.idle():
			return false
		case c.existing() != 0:
			met = true
		case len(c.flaws) > 0:
			return false
		}
	}
	return met
}

// meet finds the records that have kept HubSpot from taking rows and that its refusals do not name, by the unique value
// that they have.
func (m *mission) meet(ctx context.Context, batch []*change) {
	def := batch[0].def
	unnamed := map[string]map[string][]*flaw{} // by property and value
	for _, c := range batch {
		for _, f := range c.flaws {
			if f.code != codeUnique || f.existing != 0 {
				continue
			}
			property, key := c.unique()
			if col := def.columns[f.column]; col != nil {
				property, key = col.Property, c.properties[col.Property]
			}
			if key == "" {
				continue
			}
			if unnamed[property] == nil {
				unnamed[property] = map[string][]*flaw{}
			}
			key = strings.ToLower(key) // as HubSpot compares
			unnamed[property][key] = append(unnamed[property][key], f)
		}
	}
	for property, flaws := range unnamed {
		m.calls.Add(1)
		found, err := m.w.client.BatchReadBy(ctx, def.table.Path, property, slices.Sorted(maps.Keys(flaws)), hubapi.NewProjection(nil))
		if err != nil { // the refusal stands for itself
			m.w.logger.Debug("look for records in the way", "table", def.table.Name, "property", property, "error", err)
			continue
		}
		for key, r := range found.Records {
			for _, f := range flaws[key] {
				f.existing, f.hint = r.ID, inTheWay(r.ID)
			}
		}
	}
}
