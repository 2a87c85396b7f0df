package writeback

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
)

const (
	// recheckAfter is the age from which definitions are read again before something is refused because of them.
	recheckAfter = 5 * time.Second
	// deniedFor is how long a missing scope is remembered.
	deniedFor = time.Minute
	// doubtFor is how long a table's definition is not doubted again: a client that goes on sending bad values costs no more
	// than their refusals.
	doubtFor = time.Minute
)

// customTypes is how the ids of custom object types begin.
const customTypes = "2-"

// definition is a table with what HubSpot says about its properties. It does not change.
type definition struct {
	table    *catalog.Table
	columns  map[string]*column // by column name
	readable []catalog.Column
	whole    *hubapi.Projection // of readable
	unique   []*column
	required [][]string // groups of properties, of each of which a new record has to have one
	readAt   time.Time
}

// column is a column with its property's definition.
type column struct {
	catalog.Column
	known    bool // HubSpot lists the property
	writable bool
	email    bool
	options  []string // allowed values; nil for any
}

// define returns the definition of a table; fresh asks for one that is not older than recheckAfter.
func (w *Writer) define(ctx context.Context, t *catalog.Table, fresh bool) (*definition, error) {
	w.mu.Lock()
	d := w.defs[t.Name]
	w.mu.Unlock()
	if d != nil && (!fresh || time.Since(d.readAt) < recheckAfter) {
		return d, nil
	}
	began := time.Now()
	properties, err := w.client.ListProperties(ctx, t.Path, false)
	if err != nil {
		return nil, fmt.Errorf("read properties of %s: %w", t.Name, err)
	}
	d = newDefinition(t, properties, began)
	d.required = required(t.ObjectType)
	if strings.HasPrefix(t.ObjectType, customTypes) {
		schema, err := w.client.GetSchema(ctx, t.ObjectType)
		if err != nil { // the token may not be allowed to read it: HubSpot itself will say what a record lacks
			w.logger.Debug("read required properties", "table", t.Name, "error", err)
		}
		for _, name := range schema.RequiredProperties {
			d.required = append(d.required, []string{name})
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.defs[t.Name] = d
	return d, nil
}

func newDefinition(t *catalog.Table, properties []hubapi.Property, at time.Time) *definition {
	d := &definition{table: t, columns: make(map[string]*column, len(t.Columns)), readable: t.Readable(), readAt: at}
	listed := make(map[string]*hubapi.Property, len(properties))
	for i := range properties {
		listed[properties[i].Name] = &properties[i]
	}
	names := make([]string, len(d.readable))
	for i, c := range d.readable {
		names[i] = c.Property
	}
	d.whole = hubapi.NewProjection(names)
	for _, c := range t.Columns {
		col := &column{Column: c}
		if p := listed[c.Property]; p != nil {
			col.known, col.writable = true, p.Writable()
			col.email = t.ObjectType == "0-1" && c.Property == "email"
			if p.Type == "enumeration" && !p.ExternalOptions && p.ReferencedObjectType == "" && len(p.Options) > 0 {
				for _, o := range p.Options {
					col.options = append(col.options, o.Value)
				}
			}
			if p.HasUniqueValue || col.email {
				d.unique = append(d.unique, col)
			}
		}
		d.columns[c.Name] = col
	}
	return d
}

// doubt forgets the definition of a table when HubSpot has refused a value that the definition allows: it may have
// changed since. It does so once in doubtFor.
func (w *Writer) doubt(batch []*change) {
	for _, c := range batch {
		for _, f := range c.flaws {
			if f.code == "42703" || f.code == "428C9" || f.code == "22P02" || f.code == "23502" {
				w.mu.Lock()
				if now := time.Now(); w.defs[c.table()] == c.def && now.Sub(w.doubted[c.table()]) >= doubtFor {
					delete(w.defs, c.table())
					w.doubted[c.table()] = now
				}
				w.mu.Unlock()
				return
			}
		}
	}
}

// denial is what HubSpot said when the token lacked the right to change a table.
type denial struct {
	flaws []*flaw
	until time.Time
}

// deny remembers for a while that the token may not change a table.
func (w *Writer) deny(table string, flaws []*flaw) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.denied[table] = denial{flaws: flaws, until: time.Now().Add(deniedFor)}
}

// denials returns why the token may not change a table, nil if nothing is known.
func (w *Writer) denials(table string) []*flaw {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.denied[table]; time.Now().Before(d.until) {
		return d.flaws
	}
	return nil
}

// required lists, for those of HubSpot's own types whose rule is known, groups of properties of which one has to be set to
// create a record. Custom types have theirs in their schema.
func required(objectType string) [][]string {
	switch objectType {
	case "0-1":
		return [][]string{{"email", "firstname", "lastname"}}
	case "0-2":
		return [][]string{{"name", "domain"}}
	case "0-3":
		return [][]string{{"dealname"}, {"dealstage"}}
	case "0-5":
		return [][]string{{"subject"}, {"hs_pipeline_stage"}}
	case "0-7":
		return [][]string{{"name"}}
	case "0-18", "0-27", "0-46", "0-47", "0-48", "0-49", "0-116":
		return [][]string{{"hs_timestamp"}}
	}
	return nil
}

// missing names the first required group that properties lack, "" when all is there.
func (d *definition) missing(properties map[string]string) string {
	for _, group := range d.required {
		if !slices.ContainsFunc(group, func(p string) bool { return properties[p] != "" }) {
			return strings.Join(group, " or ")
		}
	}
	return ""
}
