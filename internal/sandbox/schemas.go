package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var typeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,99}$`)

// serveSchemas answers the schemas API: custom types in the list, standard ones by name too.
func (s *Server) serveSchemas(c *call) *reply {
	if len(c.rest) > 1 {
		return c.notFound()
	}
	if len(c.rest) == 0 && c.method == http.MethodPost {
		if r := c.needs("crm.schemas.custom.write"); r != nil {
			return r
		}
		return s.createSchema(c)
	}
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	if len(c.rest) == 0 {
		if r := c.needs("crm.schemas.custom.read", "custom-object-read"); r != nil {
			return r
		}
		archived, r := c.flag("archived")
		if r != nil {
			return r
		}
		out := c.ok()
		a := s.account
		a.view(func() {
			out.body = append(out.body, `{"results":[`...)
			for _, t := range a.tables {
				if t.kind.custom && !archived {
					out.body = a.appendSchema(appendComma(out.body), t)
				}
			}
			out.body = append(out.body, ']', '}')
		})
		return out
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if r := c.needs(t.kind.schemaScope()); r != nil {
		return r
	}
	out := c.ok()
	s.account.view(func() { out.body = s.account.appendSchema(out.body, t) })
	return out
}

func (a *account) appendSchema(dst []byte, t *table) []byte {
	k := t.kind
	dst = append(dst, '{')
	if k.custom {
		dst = appendString(appendMember(dst, "id"), k.schemaID)
	} else {
		dst = appendString(appendMember(dst, "id"), k.typeID)
	}
	dst = append(appendMember(dst, "labels"), '{')
	dst = appendString(appendMember(dst, "singular"), k.label)
	dst = appendString(appendMember(dst, "plural"), k.plural)
	dst = append(dst, '}')
	dst = appendStrings(appendMember(dst, "requiredProperties"), k.requiredList)
	dst = appendStrings(appendMember(dst, "searchableProperties"), k.searchableList)
	dst = appendString(appendMember(dst, "primaryDisplayProperty"), k.display)
	dst = appendStrings(appendMember(dst, "secondaryDisplayProperties"), nil)
	dst = appendBool(appendMember(dst, "archived"), false)
	dst = appendBool(appendMember(dst, "restorable"), true)
	if k.custom {
		dst = appendString(appendMember(dst, "metaType"), "PORTAL_SPECIFIC")
		dst = appendTime(appendMember(dst, "createdAt"), k.createdAt)
		dst = appendTime(appendMember(dst, "updatedAt"), k.updatedAt)
	} else {
		dst = appendString(appendMember(dst, "metaType"), "HUBSPOT")
	}
	dst = appendString(appendMember(dst, "fullyQualifiedName"), k.fullName())
	dst = appendString(appendMember(dst, "objectTypeId"), k.typeID)
	dst = append(appendMember(dst, "properties"), '[')
	for _, p := range t.properties(false) {
		dst = p.append(appendComma(dst))
	}
	dst = append(dst, ']')
	dst = append(appendMember(dst, "associations"), '[')
	for _, other := range a.tables {
		d := direction{k.typeID, other.kind.typeID}
		for _, lt := range a.links.types[d] {
			dst = append(appendComma(dst), '{')
			dst = appendString(appendMember(dst, "id"), strconv.Itoa(lt.id))
			dst = appendString(appendMember(dst, "fromObjectTypeId"), d.from)
			dst = appendString(appendMember(dst, "toObjectTypeId"), d.to)
			dst = appendString(appendMember(dst, "name"), lt.name)
			dst = appendString(appendMember(dst, "cardinality"), "ONE_TO_MANY")
			dst = appendString(appendMember(dst, "inverseCardinality"), "ONE_TO_MANY")
			dst = appendInt(appendMember(dst, "maxToObjectIds"), maxLinked)
			dst = append(dst, '}')
		}
	}
	dst = append(dst, ']')
	dst = appendString(appendMember(dst, "name"), k.schemaName())
	return append(dst, '}')
}

// maxLinked is the most records one record may be associated with, per type.
const maxLinked = 10_000

// schemaName is the type's name in schemas: upper case for HubSpot's own.
func (k *kind) schemaName() string {
	if k.custom {
		return k.name
	}
	return strings.ToUpper(k.singular)
}

func (k *kind) fullName() string {
	if k.custom {
		return k.fqn
	}
	return strings.ToUpper(k.singular)
}

func appendStrings(dst []byte, ss []string) []byte {
	dst = append(dst, '[')
	for _, s := range ss {
		dst = appendString(appendComma(dst), s)
	}
	return append(dst, ']')
}

func (s *Server) createSchema(c *call) *reply {
	var body struct {
		Name   string `json:"name"`
		Labels struct {
			Singular string `json:"singular"`
			Plural   string `json:"plural"`
		} `json:"labels"`
		PrimaryDisplayProperty string        `json:"primaryDisplayProperty"`
		RequiredProperties     []string      `json:"requiredProperties"`
		SearchableProperties   []string      `json:"searchableProperties"`
		Properties             []PropertyDef `json:"properties"`
		AssociatedObjects      []string      `json:"associatedObjects"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	var missing []string
	for name, absent := range map[string]bool{
		"name": body.Name == "", "labels": body.Labels.Singular == "" && body.Labels.Plural == "",
		"requiredProperties": body.RequiredProperties == nil, "properties": body.Properties == nil,
	} {
		if absent {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return c.missing(missing...)
	}
	var out *reply
	a := s.account
	c.edit(func(now int64) {
		t, err := a.addType(SchemaDef{
			Name: body.Name, SingularLabel: body.Labels.Singular, PluralLabel: body.Labels.Plural,
			PrimaryDisplayProperty: body.PrimaryDisplayProperty, RequiredProperties: body.RequiredProperties,
			SearchableProperties: body.SearchableProperties, Properties: body.Properties,
			AssociatedObjects: body.AssociatedObjects,
		}, now)
		if err != nil {
			out = c.invalid(err.Error())
			return
		}
		out = c.ok()
		out.status = http.StatusCreated
		out.body = a.appendSchema(out.body, t)
	})
	return out
}

// addType defines a custom object type.
func (a *account) addType(d SchemaDef, now int64) (*table, error) {
	if !typeName.MatchString(d.Name) {
		return nil, fmt.Errorf("invalid object type name %q", d.Name)
	}
	fqn := fmt.Sprintf("p%d_%s", a.cfg.PortalID, d.Name)
	if a.byPath[fqn] != nil {
		return nil, fmt.Errorf("object type %q already exists", d.Name)
	}
	a.lastType++
	k := &kind{
		typeID: fmt.Sprintf("2-%d", a.lastType), name: d.Name, singular: d.Name,
		label: d.SingularLabel, plural: d.PluralLabel, fqn: fqn, schemaID: strconv.Itoa(a.lastType),
		createdProp: "hs_createdate", modifiedProp: "hs_lastmodifieddate", display: d.PrimaryDisplayProperty,
		defaults: []string{"hs_createdate", "hs_lastmodifieddate", "hs_object_id"},
		custom:   true, merges: true, requiredList: d.RequiredProperties, searchableList: d.SearchableProperties,
		createdAt: now, updatedAt: now,
	}
	for _, name := range d.RequiredProperties {
		k.required = append(k.required, []string{name})
	}
	others := []*table{}
	for _, name := range d.AssociatedObjects {
		other := a.table(name)
		if other == nil {
			return nil, fmt.Errorf("associated object type %q does not exist", name)
		}
		others = append(others, other)
	}
	t := newTable(k)
	t.groups = []group{{name: k.name + "_information", label: k.label + " Information"}}
	for _, p := range commonProperties(t.groups[0].name) {
		t.addProperty(p)
	}
	for _, p := range d.Properties {
		if t.props[p.Name] != nil {
			return nil, fmt.Errorf("property %q is defined twice", p.Name)
		}
		if p.GroupName == "" {
			p.GroupName = t.groups[0].name
		}
		added := t.addProperty(p)
		added.created, added.updated = now, now
	}
	a.addTable(t)
	for _, other := range others {
		id := a.links.next
		a.links.next += 2
		a.links.define(direction{k.typeID, other.kind.typeID}, linkType{
			id: id, inverse: id + 1, category: categoryUser, name: k.name + "_to_" + other.kind.singular,
		}, other.kind.singular+"_to_"+k.name, "")
	}
	return t, nil
}
