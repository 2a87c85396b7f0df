package writeback

import (
	"context"
	"maps"
	"slices"
	"strings"

	"hubpg/hubapi"
)

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
				f.existing = r.ID
			}
		}
	}
}
