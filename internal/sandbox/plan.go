package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// recordBody is one record of a write request.
type recordBody struct {
	ID           loose            `json:"id"`
	IDProperty   string           `json:"idProperty"`
	Properties   map[string]loose `json:"properties"`
	Associations []struct {
		To    recordRef      `json:"to"`
		Types []linkTypeBody `json:"types"`
	} `json:"associations"`
	TraceID string `json:"objectWriteTraceId"`
}

// plan is a write that has been checked and may be applied.
type plan struct {
	cs    []change
	links []plannedLink
	sent  []string // property names of the request
}

type plannedLink struct {
	to    *table
	id    int64
	types []int
}

// planCreate checks a new record: values, what the type requires, uniqueness and associations.
func (a *account) planCreate(t *table, in recordBody) (*plan, *failure) {
	cs, bad := a.checkAll(t, nil, in.Properties)
	for _, group := range t.kind.required {
		has := slices.ContainsFunc(cs, func(c change) bool { return slices.Contains(group, c.p.Name) })
		if has || len(bad) > 0 {
			continue
		}
		bad = append(bad, badValue{
			name: group[0], code: "MISSING_REQUIRED_PROPERTY",
			message: fmt.Sprintf("Required property %q is missing", strings.Join(group, `" or "`)),
		})
	}
	if len(bad) > 0 {
		return nil, a.badValues(bad)
	}
	if f := a.conflict(t, nil, cs); f != nil {
		return nil, f
	}
	p := &plan{cs: cs, sent: sentNames(in)}
	for _, l := range in.Associations {
		planned, f := a.planLink(t, l.To.ID, l.Types)
		if f != nil {
			return nil, f
		}
		p.links = append(p.links, planned)
	}
	p.cs = append(p.cs, a.serverSet(t, p.cs)...)
	return p, nil
}

// planUpdate checks new values for e.
func (a *account) planUpdate(t *table, e *entry, in recordBody) (*plan, *failure) {
	cs, bad := a.checkAll(t, e, in.Properties)
	if len(bad) > 0 {
		return nil, a.badValues(bad)
	}
	if f := a.conflict(t, e, cs); f != nil {
		return nil, f
	}
	return &plan{cs: cs, sent: sentNames(in)}, nil
}

func sentNames(in recordBody) []string {
	names := make([]string, 0, len(in.Properties))
	for name := range in.Properties {
		names = append(names, name)
	}
	return names
}

// conflict finds another record that has one of the unique values.
func (a *account) conflict(t *table, e *entry, cs []change) *failure {
	for _, c := range cs {
		if t.unique[c.p] == nil || len(c.text) == 0 {
			continue
		}
		other := t.byUnique(c.p, string(c.text))
		if other == nil || other == e {
			continue
		}
		id := strconv.FormatInt(other.id, 10)
		if c.p.Name == "email" {
			return &failure{
				status: http.StatusConflict, category: "CONFLICT",
				message: "Contact already exists. Existing ID: " + id,
				context: [][2]string{{"existingId", id}},
			}
		}
		return a.badValues([]badValue{{
			name: c.p.Name, code: "CONFLICTING_UNIQUE_VALUE",
			message: fmt.Sprintf("%s value %s: %s already has that value.", c.p.Name, c.text, id),
		}})
	}
	return nil
}

// planLink checks an association in a create request: its type tells the other object type.
func (a *account) planLink(t *table, to loose, types []linkTypeBody) (plannedLink, *failure) {
	wrong := func(message string) (plannedLink, *failure) {
		return plannedLink{}, &failure{status: http.StatusBadRequest, category: "VALIDATION_ERROR", message: message}
	}
	if len(types) == 0 {
		return wrong("One or more associations are invalid")
	}
	for _, other := range a.tables {
		d := direction{t.kind.typeID, other.kind.typeID}
		if lt := a.links.byID[d][types[0].TypeID]; lt == nil || lt.category != types[0].Category {
			continue
		}
		ids, refusal := a.linkIDs(d, types)
		if refusal != nil {
			return wrong(refusal.message)
		}
		e, refusal := a.near(other, to.text)
		if refusal != nil {
			return wrong("One or more associations are invalid")
		}
		return plannedLink{other, e.id, ids}, nil
	}
	for _, from := range a.tables {
		for _, other := range a.tables {
			d := direction{from.kind.typeID, other.kind.typeID}
			if a.links.byID[d][types[0].TypeID] != nil {
				return wrong(fmt.Sprintf("invalid from object type %s for associations to be created. expected: %s",
					t.kind.typeID, d.from))
			}
		}
	}
	return wrong("One or more associations are invalid")
}

// create applies a plan.
func (a *account) create(t *table, p *plan, now int64) *entry {
	e := a.insert(t, p.cs, now)
	for _, l := range p.links {
		a.links.put(direction{t.kind.typeID, l.to.kind.typeID}, e.id, l.id, l.types)
		a.rollUp(t, e, l.to, l.to.entries[l.id])
	}
	return e
}

// update applies a plan to e, with what follows from it.
func (a *account) update(t *table, e *entry, p *plan, now int64, source string) {
	a.set(t, e, append(p.cs, a.follows(t, e.cur, p.cs)...), false, now, source)
}

// answerOf is the projection of a write's response: what was sent and what the server set.
func (a *account) answerOf(t *table, p *plan) *projection {
	names := p.sent
	for _, c := range p.cs {
		names = append(names, c.p.Name)
	}
	return a.project(t, names)
}
