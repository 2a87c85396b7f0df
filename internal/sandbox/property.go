package sandbox

import "slices"

// derived says that a property's value comes from the record itself and not from its packed values.
type derived uint8

const (
	stored derived = iota
	derivedID
	derivedCreated
	derivedModified
)

// property is a defined property. Its slot in packed values is never given to another.
type property struct {
	PropertyDef
	slot    int
	from    derived
	key     []byte // `"name":`
	created int64  // epoch ms; 0 for those HubSpot defines
	updated int64
	// archived is when the definition was archived, 0 while it is in use.
	archived int64
	allowed  map[string]struct{} // option values
}

func newProperty(d PropertyDef, slot int) *property {
	p := &property{slot: slot}
	p.define(d)
	return p
}

// define replaces the definition.
func (p *property) define(d PropertyDef) {
	if d.Label == "" {
		d.Label = d.Name
	}
	if d.Type == "" {
		d.Type = "string"
	}
	if d.FieldType == "" {
		d.FieldType = defaultFieldType(d.Type)
	}
	p.PropertyDef = d
	p.key = append(appendString(p.key[:0:0], d.Name), ':')
	p.allowed = nil
	if d.Type == "enumeration" || d.Type == "bool" {
		p.allowed = make(map[string]struct{}, len(d.Options))
		for _, o := range d.Options {
			p.allowed[o.Value] = struct{}{}
		}
	}
}

func defaultFieldType(propertyType string) string {
	switch propertyType {
	case "number":
		return "number"
	case "date", "datetime":
		return "date"
	case "enumeration":
		return "select"
	case "bool":
		return "booleancheckbox"
	case "phone_number":
		return "phonenumber"
	default:
		return "text"
	}
}

// fieldTypes are the field types each property type may be created with.
func fieldTypes(propertyType string) []string {
	switch propertyType {
	case "string":
		return []string{"text", "textarea", "file", "html", "phonenumber", "calculation_equation"}
	case "number":
		return []string{"number", "calculation_equation", "calculation_rollup", "calculation_score", "calculation_read_time"}
	case "date", "datetime":
		return []string{"date", "calculation_equation", "calculation_rollup"}
	case "enumeration":
		return []string{"select", "radio", "checkbox", "booleancheckbox", "calculation_equation"}
	case "bool":
		return []string{"booleancheckbox", "calculation_equation"}
	case "phone_number":
		return []string{"phonenumber", "text"}
	default:
		return nil // object_coordinates and json cannot be created
	}
}

func creatable(propertyType, fieldType string) bool {
	return slices.Contains(fieldTypes(propertyType), fieldType)
}

// append appends the definition as the properties API shows it.
func (p *property) append(dst []byte) []byte {
	dst = append(dst, '{')
	if p.updated != 0 {
		dst = appendTime(appendMember(dst, "updatedAt"), p.updated)
		dst = appendTime(appendMember(dst, "createdAt"), p.created)
	}
	dst = appendString(appendMember(dst, "name"), p.Name)
	dst = appendString(appendMember(dst, "label"), p.Label)
	dst = appendString(appendMember(dst, "type"), p.Type)
	dst = appendString(appendMember(dst, "fieldType"), p.FieldType)
	dst = appendString(appendMember(dst, "description"), p.Description)
	dst = appendString(appendMember(dst, "groupName"), p.GroupName)
	dst = append(appendMember(dst, "options"), '[')
	for i, o := range p.Options {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendString(appendMember(dst, "label"), o.Label)
		dst = appendString(appendMember(dst, "value"), o.Value)
		if o.Description != "" {
			dst = appendString(appendMember(dst, "description"), o.Description)
		}
		dst = appendInt(appendMember(dst, "displayOrder"), int64(o.DisplayOrder))
		dst = appendBool(appendMember(dst, "hidden"), o.Hidden)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	if p.ReferencedObjectType != "" {
		dst = appendString(appendMember(dst, "referencedObjectType"), p.ReferencedObjectType)
	}
	dst = appendInt(appendMember(dst, "displayOrder"), int64(p.DisplayOrder))
	dst = appendBool(appendMember(dst, "calculated"), p.Calculated)
	dst = appendBool(appendMember(dst, "externalOptions"), p.ExternalOptions)
	if p.archived != 0 {
		dst = appendBool(appendMember(dst, "archived"), true)
		dst = appendTime(appendMember(dst, "archivedAt"), p.archived)
	}
	dst = appendBool(appendMember(dst, "hasUniqueValue"), p.HasUniqueValue)
	dst = appendBool(appendMember(dst, "hidden"), p.Hidden)
	if p.HubSpotDefined {
		dst = appendBool(appendMember(dst, "hubspotDefined"), true)
	}
	dst = append(appendMember(dst, "modificationMetadata"), '{')
	dst = appendBool(appendMember(dst, "archivable"), !p.HubSpotDefined)
	dst = appendBool(appendMember(dst, "readOnlyDefinition"), p.HubSpotDefined)
	dst = appendBool(appendMember(dst, "readOnlyValue"), p.ReadOnly || p.Calculated)
	dst = append(dst, '}')
	dst = appendBool(appendMember(dst, "formField"), p.FormField)
	dst = appendString(appendMember(dst, "dataSensitivity"), "non_sensitive")
	return append(dst, '}')
}
