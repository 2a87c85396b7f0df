package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

var propertyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`)

// Allowed per object type.
const (
	maxCustomProperties = 1000
	maxUniqueProperties = 10
)

// serveProperties answers the properties API below /{type}.
func (s *Server) serveProperties(c *call) *reply {
	if len(c.rest) == 0 {
		return c.notFound()
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if c.method == http.MethodGet || strings.HasSuffix(c.path, "/batch/read") {
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
	case len(c.rest) <= 3 && c.rest[1] == "groups":
		return s.serveGroups(c, t)
	case len(c.rest) == 2:
		return s.serveProperty(c, t, c.rest[1])
	case len(c.rest) == 3 && c.rest[1] == "batch":
		return s.batchProperties(c, t, c.rest[2])
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

func (s *Server) serveProperty(c *call, t *table, name string) *reply {
	if r := c.only(http.MethodGet, http.MethodPatch, http.MethodDelete); r != nil {
		return r
	}
	switch c.method {
	case http.MethodPatch:
		return s.patchProperty(c, t, name)
	case http.MethodDelete:
		out := c.noContent()
		c.edit(func(now int64) {
			p := t.property(name)
			if p == nil {
				out = c.notFound()
				return
			}
			if refusal := s.account.archiveProperty(t, p, now); refusal != nil {
				out = c.fail(*refusal)
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

func (s *Server) createProperty(c *call, t *table) *reply {
	var d PropertyDef
	if r := c.decode(&d); r != nil {
		return r
	}
	var out *reply
	c.edit(func(now int64) {
		p, refusal := t.createProperty(d, now)
		if refusal != nil {
			out = c.fail(*refusal)
			return
		}
		out = c.ok()
		out.status = http.StatusCreated
		out.body = p.append(out.body)
	})
	return out
}

// createProperty checks a definition and makes a property of it. The definition of an archived one comes back.
func (t *table) createProperty(d PropertyDef, now int64) (*property, *failure) {
	wrong := func(format string, args ...any) (*property, *failure) {
		return nil, &failure{
			status: http.StatusBadRequest, category: "VALIDATION_ERROR", message: fmt.Sprintf(format, args...),
		}
	}
	missing := missingMembers(map[string]string{
		"name": d.Name, "label": d.Label, "type": d.Type, "fieldType": d.FieldType, "groupName": d.GroupName,
	})
	d.Calculated, d.ReadOnly, d.HubSpotDefined = false, false, false
	switch {
	case len(missing) > 0:
		return wrong("Invalid input JSON: some of required attributes are not set [%s]", strings.Join(missing, ", "))
	case !propertyName.MatchString(d.Name):
		return wrong("Property name %q is invalid: it must begin with a letter and hold only "+
			"lower-case letters, digits and underscores", d.Name)
	case !creatable(d.Type, d.FieldType):
		return wrong("Property type %q does not allow field type %q", d.Type, d.FieldType)
	case d.Type == "enumeration" && len(d.Options) == 0 && !d.ExternalOptions:
		return wrong("Enumeration properties must have options")
	case t.group(d.GroupName) == nil:
		return wrong("Property group %q does not exist", d.GroupName)
	}
	p := t.props[d.Name]
	switch {
	case p != nil && p.archived == 0:
		return nil, &failure{
			status: http.StatusConflict, category: "OBJECT_ALREADY_EXISTS",
			subCategory: "Properties.PROPERTY_WITH_NAME_EXISTS",
			message:     fmt.Sprintf("A property named '%s' already exists.", d.Name),
		}
	case p != nil: // the old definition comes back
		p.archived, p.updated = 0, now
		return p, nil
	}
	custom, unique := 0, 0
	for _, other := range t.slots {
		if !other.HubSpotDefined {
			custom++
			if other.HasUniqueValue {
				unique++
			}
		}
	}
	switch {
	case custom >= maxCustomProperties:
		return wrong("The limit of %d custom properties has been reached", maxCustomProperties)
	case d.HasUniqueValue && unique >= maxUniqueProperties:
		return wrong("The limit of %d properties with unique values has been reached", maxUniqueProperties)
	}
	p = t.addProperty(d)
	p.created, p.updated = now, now
	return p, nil
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
	c.edit(func(now int64) {
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
