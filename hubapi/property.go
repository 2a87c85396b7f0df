package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Property is the definition of one property of an object type.
type Property struct {
	Name                 string               `json:"name"`
	Label                string               `json:"label"`
	Description          string               `json:"description"`
	Type                 string               `json:"type"` // what values look like; FieldType is only how forms show it
	FieldType            string               `json:"fieldType"`
	GroupName            string               `json:"groupName"`
	Options              []PropertyOption     `json:"options"`
	DisplayOrder         int                  `json:"displayOrder"`
	Calculated           bool                 `json:"calculated"`
	ExternalOptions      bool                 `json:"externalOptions"`
	HasUniqueValue       bool                 `json:"hasUniqueValue"`
	Hidden               bool                 `json:"hidden"`
	HubSpotDefined       bool                 `json:"hubspotDefined"`
	FormField            bool                 `json:"formField"`
	DataSensitivity      string               `json:"dataSensitivity"`
	ReferencedObjectType string               `json:"referencedObjectType"`
	CalculationFormula   string               `json:"calculationFormula"`
	Modification         ModificationMetadata `json:"modificationMetadata"`
	CreatedAt            time.Time            `json:"createdAt"`
	UpdatedAt            time.Time            `json:"updatedAt"`
	Archived             bool                 `json:"archived"`
	ArchivedAt           time.Time            `json:"archivedAt"`
}

// Writable says whether records take values for the property.
func (p *Property) Writable() bool { return !p.Modification.ReadOnlyValue && !p.Calculated }

// PropertyOption is one choice of an enumeration.
type PropertyOption struct {
	Label        string `json:"label"`
	Value        string `json:"value"`
	Description  string `json:"description"`
	DisplayOrder int    `json:"displayOrder"` // -1 stands for no order
	Hidden       bool   `json:"hidden"`
}

// ModificationMetadata says what may be changed about a property.
type ModificationMetadata struct {
	Archivable         bool `json:"archivable"`
	ReadOnlyDefinition bool `json:"readOnlyDefinition"`
	ReadOnlyOptions    bool `json:"readOnlyOptions"`
	ReadOnlyValue      bool `json:"readOnlyValue"`
}

// ListProperties returns all property definitions of a type; HubSpot does not page them.
func (c *Client) ListProperties(ctx context.Context, objectType string, archived bool) ([]Property, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.properties()+"/"+segment(objectType))
	r.query = archivedQuery(archived)
	return list[Property](ctx, c, r)
}

// archivedQuery names the parameter only when it is not HubSpot's default.
func archivedQuery(archived bool) string {
	if archived {
		return "archived=true"
	}
	return ""
}
