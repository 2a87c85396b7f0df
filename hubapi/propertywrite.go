package hubapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
)

// NewProperty defines a property for CreateProperty. HubSpot takes all fields but the options of types that have none.
type NewProperty struct {
	Name           string           `json:"name"` // lower-case letters, digits and _, at most 100; never changes
	Label          string           `json:"label"`
	Type           string           `json:"type"`      // string, number, bool, date, datetime, enumeration, phone_number
	FieldType      string           `json:"fieldType"` // how forms show it, as far as the type allows: text, select, …
	GroupName      string           `json:"groupName"`
	Description    string           `json:"description,omitzero"`
	Options        []PropertyOption `json:"options,omitzero"`        // of an enumeration
	HasUniqueValue bool             `json:"hasUniqueValue,omitzero"` // at most ten properties of a type; never changes
	Hidden         bool             `json:"hidden,omitzero"`
	FormField      bool             `json:"formField,omitzero"`
}

// PropertyChange changes a definition. What is nil stays as it is.
type PropertyChange struct {
	Label       *string          `json:"label,omitzero"`
	Description *string          `json:"description,omitzero"`
	GroupName   *string          `json:"groupName,omitzero"`
	Type        *string          `json:"type,omitzero"` // values of records are not rewritten
	FieldType   *string          `json:"fieldType,omitzero"`
	Hidden      *bool            `json:"hidden,omitzero"`
	FormField   *bool            `json:"formField,omitzero"`
	Options     []PropertyOption `json:"options,omitzero"` // in place of all that there are
}

// PropertyGroup is a heading under which HubSpot shows properties of a type.
type PropertyGroup struct {
	Name         string `json:"name"` // never changes
	Label        string `json:"label"`
	DisplayOrder int    `json:"displayOrder"` // -1 stands for no order
	Archived     bool   `json:"archived,omitzero"`
}

// GetProperty returns one definition that is in use. One that was never made, or is archived, is a *NotFoundError.
func (c *Client) GetProperty(ctx context.Context, objectType, name string) (Property, error) {
	return get[Property](ctx, c, c.property(read, http.MethodGet, objectType, name))
}

// CreateProperty defines a property. A name that is taken is a *ConflictError; a name that was archived comes back with
// its old definition, whatever p says.
func (c *Client) CreateProperty(ctx context.Context, objectType string, p NewProperty) (Property, error) {
	r := write(FamilyObject, http.MethodPost, c.versions.properties()+"/"+segment(objectType))
	return send[Property](ctx, c, r, p)
}

// UpdateProperty changes a definition and returns the new one.
func (c *Client) UpdateProperty(ctx context.Context, objectType, name string, change PropertyChange) (Property, error) {
	return send[Property](ctx, c, c.property(write, http.MethodPatch, objectType, name), change)
}

// ArchiveProperty takes a property and its values from all records; HubSpot keeps the definition for 90 days. One that is
// in use elsewhere in the account is a *ValidationError.
func (c *Client) ArchiveProperty(ctx context.Context, objectType, name string) error {
	return c.call(ctx, c.property(write, http.MethodDelete, objectType, name))
}

// ListPropertyGroups returns all groups of a type; HubSpot does not page them.
func (c *Client) ListPropertyGroups(ctx context.Context, objectType string) ([]PropertyGroup, error) {
	return list[PropertyGroup](ctx, c, read(FamilyObject, http.MethodGet, c.groups(objectType)))
}

// CreatePropertyGroup makes a group. A name that is taken is a *ConflictError.
func (c *Client) CreatePropertyGroup(ctx context.Context, objectType string, g PropertyGroup) (PropertyGroup, error) {
	return send[PropertyGroup](ctx, c, write(FamilyObject, http.MethodPost, c.groups(objectType)), g)
}

// UpdatePropertyGroup sets the label and the order of the group with g's name.
func (c *Client) UpdatePropertyGroup(ctx context.Context, objectType string, g PropertyGroup) (PropertyGroup, error) {
	type change struct {
		Label        string `json:"label"`
		DisplayOrder int    `json:"displayOrder"`
	}
	r := c.group(http.MethodPatch, objectType, g.Name)
	return send[PropertyGroup](ctx, c, r, change{g.Label, g.DisplayOrder})
}

// ArchivePropertyGroup removes a group. One that still has properties is a *ValidationError.
func (c *Client) ArchivePropertyGroup(ctx context.Context, objectType, name string) error {
	return c.call(ctx, c.group(http.MethodDelete, objectType, name))
}

// property is a call about one definition.
func (c *Client) property(
	kind func(family, method, path string) *request, method, objectType, name string,
) *request {
	base := c.versions.properties() + "/" + segment(objectType)
	r := kind(FamilyObject, method, base+"/"+segment(name))
	r.template = base + "/{name}"
	return r
}

func (c *Client) groups(objectType string) string {
	return c.versions.properties() + "/" + segment(objectType) + "/groups"
}

func (c *Client) group(method, objectType, name string) *request {
	r := write(FamilyObject, method, c.groups(objectType)+"/"+segment(name))
	r.template = c.groups(objectType) + "/{name}"
	return r
}

// send makes a call with a document as its body and reads the one that it is answered with.
func send[T any](ctx context.Context, c *Client, r *request, body any) (T, error) {
	text, err := json.Marshal(body)
	if err != nil {
		var zero T
		return zero, fmt.Errorf("encode body of %s: %w", r.template, err)
	}
	r.body = text
	return get[T](ctx, c, r)
}
