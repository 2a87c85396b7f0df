package sandbox

import (
	"fmt"
	"net/http"
	"slices"
)

// group finds a property group.
func (t *table) group(name string) *group {
	for i := range t.groups {
		if t.groups[i].name == name && !t.groups[i].archived {
			return &t.groups[i]
		}
	}
	return nil
}

func (g *group) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "name"), g.name)
	dst = appendString(appendMember(dst, "label"), g.label)
	dst = appendInt(appendMember(dst, "displayOrder"), int64(g.displayOrder))
	return append(appendBool(appendMember(dst, "archived"), g.archived), '}')
}

// serveGroups answers properties/{type}/groups[/{name}].
func (s *Server) serveGroups(c *call, t *table) *reply {
	if len(c.rest) == 3 {
		return s.serveGroup(c, t, c.rest[2])
	}
	if r := c.only(http.MethodGet, http.MethodPost); r != nil {
		return r
	}
	if c.method == http.MethodPost {
		return s.createGroup(c, t)
	}
	out := c.ok()
	s.account.view(func() {
		out.body = append(out.body, `{"results":[`...)
		for i := range t.groups {
			if !t.groups[i].archived {
				out.body = t.groups[i].append(appendComma(out.body))
			}
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

type groupChange struct {
	Name         string  `json:"name"`
	Label        *string `json:"label"`
	DisplayOrder *int    `json:"displayOrder"`
}

func (s *Server) createGroup(c *call, t *table) *reply {
	var body groupChange
	if r := c.decode(&body); r != nil {
		return r
	}
	label := ""
	assign(&label, body.Label)
	if missing := missingMembers(map[string]string{"name": body.Name, "label": label}); len(missing) > 0 {
		return c.missing(missing...)
	}
	var out *reply
	c.edit(func(int64) {
		if t.group(body.Name) != nil {
			out = c.fail(failure{
				status: http.StatusConflict, category: "OBJECT_ALREADY_EXISTS",
				subCategory: "PropertyGroupError.PROPERTY_GROUP_WITH_NAME_EXISTS",
				message:     fmt.Sprintf("A property group named '%s' already exists.", body.Name),
			})
			return
		}
		t.groups = slices.DeleteFunc(t.groups, func(g group) bool { return g.name == body.Name })
		g := group{name: body.Name, label: label, displayOrder: -1}
		assign(&g.displayOrder, body.DisplayOrder)
		t.groups = append(t.groups, g)
		out = c.ok()
		out.status = http.StatusCreated
		out.body = g.append(out.body)
	})
	return out
}

func (s *Server) serveGroup(c *call, t *table, name string) *reply {
	if r := c.only(http.MethodGet, http.MethodPatch, http.MethodDelete); r != nil {
		return r
	}
	var body groupChange
	if c.method == http.MethodPatch {
		if r := c.decode(&body); r != nil {
			return r
		}
	}
	out := c.notFound()
	if c.method == http.MethodGet {
		s.account.view(func() {
			if g := t.group(name); g != nil {
				out = c.ok()
				out.body = g.append(out.body)
			}
		})
		return out
	}
	c.edit(func(int64) {
		g := t.group(name)
		switch {
		case g == nil:
		case c.method == http.MethodPatch:
			assign(&g.label, body.Label)
			assign(&g.displayOrder, body.DisplayOrder)
			out = c.ok()
			out.body = g.append(out.body)
		case slices.ContainsFunc(t.slots, func(p *property) bool { return p.archived == 0 && p.GroupName == name }):
			out = c.fail(failure{
				status: http.StatusBadRequest, category: "VALIDATION_ERROR",
				subCategory: "PropertyGroupError.GROUP_WITH_ACTIVE_PROPERTIES",
				message:     fmt.Sprintf("Property group %q still has active properties", name),
			})
		default:
			g.archived = true
			out = c.noContent()
		}
	})
	return out
}
