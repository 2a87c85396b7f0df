package sandbox

// PropertyDef defines a property. Name, Label, Type and FieldType are needed; the rest has HubSpot's
// defaults.
type PropertyDef struct {
	Name        string   `json:"name"`
	Label       string   `json:"label"`
	Type        string   `json:"type"`
	FieldType   string   `json:"fieldType"`
	Description string   `json:"description"`
	GroupName   string   `json:"groupName"`
	Options     []Option `json:"options"`

	DisplayOrder    int  `json:"displayOrder"`
	Calculated      bool `json:"calculated"`
	ExternalOptions bool `json:"externalOptions"`
	HasUniqueValue  bool `json:"hasUniqueValue"`
	Hidden          bool `json:"hidden"`
	FormField       bool `json:"formField"`
	// ReadOnly is modificationMetadata.readOnlyValue on the wire.
	ReadOnly bool `json:"readOnly"`
	// HubSpotDefined marks a property that HubSpot itself defines.
	HubSpotDefined bool `json:"hubspotDefined"`
	// ReferencedObjectType is OWNER for owner properties.
	ReferencedObjectType string `json:"referencedObjectType"`
}

// Option is one allowed value of an enumeration.
type Option struct {
	Label        string `json:"label"`
	Value        string `json:"value"`
	Description  string `json:"description,omitempty"`
	DisplayOrder int    `json:"displayOrder"`
	Hidden       bool   `json:"hidden"`
}

// SchemaDef defines a custom object type.
type SchemaDef struct {
	Name                   string        `json:"name"`
	SingularLabel          string        `json:"singularLabel"`
	PluralLabel            string        `json:"pluralLabel"`
	PrimaryDisplayProperty string        `json:"primaryDisplayProperty"`
	RequiredProperties     []string      `json:"requiredProperties"`
	SearchableProperties   []string      `json:"searchableProperties"`
	Properties             []PropertyDef `json:"properties"`
	// AssociatedObjects are names or type ids of the types it may be associated with.
	AssociatedObjects []string `json:"associatedObjects"`
}
