package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
)

var propertyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`)

// maxCustomProperties is allowed per object type.
const maxCustomProperties = 1000

// serveProperties answers the properties API below /{type}.
func (s *Server) serveProperties(c *call) *reply {
	if len(c.rest) == 0 {
		return c.notFound()
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if c.method == http.MethodGet {
		r = c.needs(t.kind.schemaScope(), t.kind.readScope())
	} else {
		r = c.needs(t.kind.schemaWriteScope())
	}
	if r != nil {
		return r
	}
	switch {
	case len(c.rest) == 1:
		if r := c.only(http.MethodGet, http.MethodPost); r != nil {
			return r
		}
		if c.method == http.MethodPost {
			return s.createProperty(c, t)
		}
		return s.listProperties(c, t)
	case len(c.rest) == 2 && c.rest[1] == "groups":
		if r := c.only(http.MethodGet); r != nil {
			return r
		}
		return s.listGroups(c, t)
	case len(c.rest) == 2:
		return s.serveProperty(c, t, c.rest[1])
	case len(c.rest) == 3 && c.rest[1] == "batch" && c.rest[2] == "read":
		return s.batchReadProperties(c, t)
	default:
		return c.notFound()
	}
}

func (s *Server) listProperties(c *call, t *table) *reply {
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	out := c.ok()
	s.account.view(func() {
		out.body = append(out.body, `{"results":[`...)
		if v := c.query.Get("dataSensitivity"); v == "" || v == "non_sensitive" {
			for _, p := range t.properties(archived) {
				out.body = p.append(appendComma(out.body))
			}
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

func (s *Server) listGroups(c *call, t *table) *reply {
	out := c.ok()
	s.account.view(func() {
		out.body = append(out.body, `{"results":[`...)
		for _, g := range t.groups {
			out.body = append(appendComma(out.body), '{')
			out.body = appendString(appendMember(out.body, "name"), g.name)
			out.body = appendString(appendMember(out.body, "label"), g.label)
			out.body = appendInt(appendMember(out.body, "displayOrder"), int64(g.displayOrder))
			out.body = appendBool(appendMember(out.body, "archived"), false)
			out.body = append(out.body, '}')
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

func (s *Server) serveProperty(c *call, t *table, name string) *reply {
	if r := c.only(http.MethodGet, http.MethodPatch, http.MethodDelete); r != nil {
		return r
	}
	switch c.method {
	case http.MethodPatch:
		return s.patchProperty(c, t, name)
	case http.MethodDelete:
		out := c.noContent()
		s.account.edit(func(now int64) {
			switch p := t.property(name); {
			case p == nil:
				out = c.notFound()
			case p.HubSpotDefined:
				out = c.invalid(fmt.Sprintf("Property %q is defined by HubSpot and cannot be archived", name))
			default:
				p.archived = now
			}
		})
		return out
	}
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	var out *reply
	s.account.view(func() {
		p := t.props[name]
		if p == nil || (p.archived != 0) != archived {
			out = c.notFound()
			return
		}
		out = c.ok()
		out.body = p.append(out.body)
	})
	return out
}

func (s *Server) batchReadProperties(c *call, t *table) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		Archived bool `json:"archived"`
		Inputs   []struct {
			Name string `json:"name"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxBatch); r != nil {
		return r
	}
	started := nowMS()
	out := c.ok()
	s.account.view(func() {
		var missing []string
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for _, in := range body.Inputs {
			if p := t.props[in.Name]; p != nil && (p.archived != 0) == body.Archived {
				out.body = p.append(appendComma(out.body))
			} else {
				missing = append(missing, in.Name)
			}
		}
		out.body = append(out.body, ']')
		if len(missing) > 0 {
			c.partial(out)
			out.body = append(out.body, `,"numErrors":1,"errors":[`...)
			out.body = appendBatchError(out.body, batchError{
				category: "OBJECT_NOT_FOUND", message: "Could not get some properties, they may be deleted or not exist.",
				context: contextOf("name", missing),
			})
			out.body = append(out.body, ']')
		}
		out.body = append(appendSpan(out.body, started), '}')
	})
	return out
}

func (s *Server) createProperty(c *call, t *table) *reply {
	var d PropertyDef
	if r := c.decode(&d); r != nil {
		return r
	}
	if missing := missingMembers(map[string]string{
		"name": d.Name, "label": d.Label, "type": d.Type, "fieldType": d.FieldType, "groupName": d.GroupName,
	}); len(missing) > 0 {
		return c.missing(missing...)
	}
	d.Calculated, d.ReadOnly, d.HubSpotDefined = false, false, false
	switch {
	case !propertyName.MatchString(d.Name):
		return c.invalid(fmt.Sprintf("Property name %q is invalid: it must begin with a letter and hold only "+
			"lower-case letters, digits and underscores", d.Name))
	case !creatable(d.Type, d.FieldType):
		return c.invalid(fmt.Sprintf("Property type %q does not allow field type %q", d.Type, d.FieldType))
	case d.Type == "enumeration" && len(d.Options) == 0 && !d.ExternalOptions:
		return c.invalid("Enumeration properties must have options")
	}
	var out *reply
	s.account.edit(func(now int64) {
		if !slices.ContainsFunc(t.groups, func(g group) bool { return g.name == d.GroupName }) {
			out = c.invalid(fmt.Sprintf("Property group %q does not exist", d.GroupName))
			return
		}
		p := t.props[d.Name]
		switch {
		case p != nil && p.archived == 0:
			out = c.fail(failure{
				status: http.StatusConflict, category: "OBJECT_ALREADY_EXISTS",
				subCategory: "Properties.PROPERTY_WITH_NAME_EXISTS",
				message:     fmt.Sprintf("A property named '%s' already exists.", d.Name),
			})
			return
		case p != nil: // the old definition comes back
			p.archived, p.updated = 0, now
		case len(t.slots) >= maxCustomProperties+400:
			out = c.invalid("The limit of custom properties has been reached")
			return
		default:
			p = t.addProperty(d)
			p.created, p.updated = now, now
		}
		out = c.ok()
		out.status = http.StatusCreated
		out.body = p.append(out.body)
	})
	return out
}

// patchProperty changes a definition; options are replaced as a whole.
func (s *Server) patchProperty(c *call, t *table, name string) *reply {
	var body struct {
		Label, Description, GroupName, Type, FieldType *string
		DisplayOrder                                   *int
		Hidden, FormField                              *bool
		Options                                        *[]Option
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	var out *reply
	s.account.edit(func(now int64) {
		p := t.property(name)
		if p == nil {
			out = c.notFound()
			return
		}
		d := p.PropertyDef
		if d.HubSpotDefined && (body.Type != nil || body.FieldType != nil || body.Label != nil) {
			out = c.invalid(fmt.Sprintf("Property %q is defined by HubSpot and its definition cannot be changed", name))
			return
		}
		assign(&d.Label, body.Label)
		assign(&d.Description, body.Description)
		assign(&d.GroupName, body.GroupName)
		assign(&d.Type, body.Type)
		assign(&d.FieldType, body.FieldType)
		assign(&d.DisplayOrder, body.DisplayOrder)
		assign(&d.Hidden, body.Hidden)
		assign(&d.FormField, body.FormField)
		assign(&d.Options, body.Options)
		if !d.HubSpotDefined && !creatable(d.Type, d.FieldType) {
			out = c.invalid(fmt.Sprintf("Property type %q does not allow field type %q", d.Type, d.FieldType))
			return
		}
		p.define(d)
		p.updated = now
		out = c.ok()
		out.body = p.append(out.body)
	})
	return out
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// missingMembers are the names whose values are empty, sorted.
func missingMembers(values map[string]string) []string {
	var names []string
	for name, v := range values {
		if v == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
