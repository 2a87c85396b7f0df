package writeback

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"hubpg/internal/catalog"
)

// answer is what one row of the performance becomes, as hubpg.perform takes it.
type answer struct {
	N        int64                      `json:"n,omitempty"` // inserts: the ordinal
	Op       string                     `json:"op"`
	Schema   string                     `json:"schema"`
	Table    string                     `json:"table"`
	Key      string                     `json:"key,omitempty"` // updates and deletions: the row's key
	Skip     bool                       `json:"skip,omitempty"`
	Row      map[string]json.RawMessage `json:"row,omitempty"` // without it the row stays as it is
	Overflow map[string]json.RawMessage `json:"overflow,omitempty"`
	Unparsed map[string]json.RawMessage `json:"unparsed,omitempty"`
	ReadAt   string                     `json:"read_at,omitempty"` // deletions
}

// answers renders the answers of a plan. Where a record is changed several times, the last answer holds for all.
func (p *plan) answers() (json.RawMessage, error) {
	last := map[string]*change{}
	for _, c := range p.changes {
		if c.pair == nil && c.op != opDelete && c.accepted() && !c.idle() {
			key := fmt.Sprintf("%s %d", c.table(), c.record.ID)
			if earlier := last[key]; earlier != nil && !c.whole { // the record has what that sent, too
				sent := maps.Clone(earlier.properties)
				maps.Copy(sent, c.properties)
				c.properties = sent
			}
			last[key] = c
		}
	}
	list := make([]*answer, 0, len(p.changes))
	seen := map[string]*answer{}
	for _, c := range p.changes {
		a := &answer{Op: c.op, Schema: c.schema(), Table: c.table(), Skip: !c.accepted() || c.op == opDelete && c.idle()}
		switch {
		case c.op == opInsert:
			a.N = c.ordinal % apart
		case c.pair != nil:
			a.Key = fmt.Sprintf("%d:%d:%d:%s", c.a, c.b, c.was.typeID, c.was.category)
		default:
			a.Key = fmt.Sprint(c.id)
		}
		switch {
		case a.Skip:
		case c.op == opDelete:
			a.ReadAt = stamp(c.readAt)
		case c.pair != nil:
			a.Row = c.edgeRow()
		default: // a change that sent nothing shows what others of its record have brought about
			if from := last[fmt.Sprintf("%s %d", c.table(), c.recordID())]; from != nil {
				c.fill(a, from)
			}
		}
		if a.Key != "" {
			id := a.Op + " " + a.Table + " " + a.Key
			if earlier := seen[id]; earlier != nil {
				if !a.Skip || earlier.Row == nil { // a refused change takes nothing from an accepted one
					*earlier = *a
				}
				continue
			}
			seen[id] = a
		}
		list = append(list, a)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode answers: %w", err)
	}
	return text, nil
}

// fill gives the answer the record that HubSpot has, as from last saw it. A record that was not read whole has only the
// properties that HubSpot mentioned or that were sent. Its version is the last before HubSpot's, so that the next poll, which passes by
// what is stored in that, reads the others.
func (c *change) fill(a *answer, from *change) {
	version := from.record.UpdatedAt
	if !from.whole && !version.IsZero() {
		version = version.Add(-time.Microsecond)
	}
	a.Row = map[string]json.RawMessage{
		catalog.UpdatedAt: instant(version),
		catalog.ReadAt:    instant(from.readAt),
	}
	if c.op == opInsert {
		a.Row[catalog.ID] = json.RawMessage(fmt.Sprint(from.record.ID))
		a.Row[catalog.CreatedAt] = instant(from.record.CreatedAt)
	}
	for i := range from.def.readable {
		col := &from.def.readable[i]
		raw := from.record.Values[i]
		sent, own := from.properties[col.Property]
		if raw == nil && !from.whole {
			if !own {
				continue
			}
			raw = []byte(sent)
		}
		value := json.RawMessage("null")
		if len(raw) > 0 {
			text, ok := col.Kind.AppendJSON(nil, raw)
			if ok {
				value = text
			} else {
				if a.Unparsed == nil {
					a.Unparsed = map[string]json.RawMessage{}
				}
				a.Unparsed[col.Name], _ = catalog.Text.AppendJSON(nil, raw) // every text is a value of Text
			}
		}
		if col.Overflow {
			if a.Overflow == nil {
				a.Overflow = map[string]json.RawMessage{}
			}
			a.Overflow[col.Name] = value
		} else {
			a.Row[col.Name] = value
		}
	}
}

func (c *change) edgeRow() map[string]json.RawMessage {
	label := json.RawMessage("null")
	if c.now.label != "" {
		label, _ = json.Marshal(c.now.label) // text always encodes
	}
	category, _ := json.Marshal(c.now.category)
	return map[string]json.RawMessage{
		c.pair.ColumnA(): json.RawMessage(fmt.Sprint(c.a)), c.pair.ColumnB(): json.RawMessage(fmt.Sprint(c.b)),
		"type_id": json.RawMessage(fmt.Sprint(c.now.typeID)), "category": category, "label": label,
		catalog.ReadAt: instant(c.readAt),
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999Z") }

func instant(t time.Time) json.RawMessage {
	if t.IsZero() {
		return json.RawMessage("null")
	}
	return json.RawMessage(`"` + stamp(t) + `"`)
}
