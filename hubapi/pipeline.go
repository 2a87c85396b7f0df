package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Pipeline is a sequence of stages that records of one type move through.
type Pipeline struct {
	ID           string    `json:"id"` // "default", a number or a uuid
	Label        string    `json:"label"`
	DisplayOrder int       `json:"displayOrder"`
	Stages       []Stage   `json:"stages"`
	Archived     bool      `json:"archived"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

// Stage is one step of a pipeline. Metadata holds isClosed and probability for deals, ticketState for tickets.
type Stage struct {
	ID           string            `json:"id"`
	Label        string            `json:"label"`
	DisplayOrder int               `json:"displayOrder"`
	Metadata     map[string]string `json:"metadata"`
	Archived     bool              `json:"archived"`
	CreatedAt    time.Time         `json:"createdAt"`
	UpdatedAt    time.Time         `json:"updatedAt"`
}

// ListPipelines returns the pipelines of a type with their stages; HubSpot does not page them.
func (c *Client) ListPipelines(ctx context.Context, objectType string) ([]Pipeline, error) {
	return list[Pipeline](ctx, c, read(FamilyObject, http.MethodGet, c.versions.pipelines()+"/"+segment(objectType)))
}
