package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Schema is the definition of an object type; the account's custom objects have one each.
type Schema struct {
	ID                         string              `json:"id"`
	ObjectTypeID               string              `json:"objectTypeId"`
	FullyQualifiedName         string              `json:"fullyQualifiedName"`
	Name                       string              `json:"name"`
	Labels                     SchemaLabels        `json:"labels"`
	Description                string              `json:"description"`
	PrimaryDisplayProperty     string              `json:"primaryDisplayProperty"`
	SecondaryDisplayProperties []string            `json:"secondaryDisplayProperties"`
	RequiredProperties         []string            `json:"requiredProperties"`
	SearchableProperties       []string            `json:"searchableProperties"`
	Properties                 []Property          `json:"properties"`
	Associations               []SchemaAssociation `json:"associations"`
	MetaType                   string              `json:"metaType"`
	Archived                   bool                `json:"archived"`
	CreatedAt                  time.Time           `json:"createdAt"`
	UpdatedAt                  time.Time           `json:"updatedAt"`
}

// SchemaLabels are what people call the records of a type.
type SchemaLabels struct {
	Singular string `json:"singular"`
	Plural   string `json:"plural"`
}

// SchemaAssociation says that records of one type may be associated with records of another, in this direction.
type SchemaAssociation struct {
	ID               string `json:"id"` // the association's type id
	Name             string `json:"name"`
	FromObjectTypeID string `json:"fromObjectTypeId"`
	ToObjectTypeID   string `json:"toObjectTypeId"`
	Cardinality      string `json:"cardinality"`
	MaxToObjectIDs   int64  `json:"maxToObjectIds"`
}

// ListSchemas returns the definitions of the account's custom objects, with properties and associations. An account
// without the plan for them answers with a *ScopeError.
func (c *Client) ListSchemas(ctx context.Context) ([]Schema, error) {
	return list[Schema](ctx, c, read(FamilyObject, http.MethodGet, c.versions.schemas()))
}

// GetSchema returns the definition of any object type, HubSpot's own included.
func (c *Client) GetSchema(ctx context.Context, objectType string) (Schema, error) {
	return get[Schema](ctx, c, read(FamilyObject, http.MethodGet, c.versions.schemas()+"/"+segment(objectType)))
}
