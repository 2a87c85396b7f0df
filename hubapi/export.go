package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// ExportRequest asks HubSpot to write records to a file. An account has 30 exports in 24 hours, one at a time.
type ExportRequest struct {
	Name           string
	ObjectType     string   // CONTACT, 2-123, …
	Properties     []string // at least one
	AssociatedType string   // "" for none
	ListID         int64    // export the records of a list instead of all
}

type exportBody struct {
	Type           string   `json:"exportType"`
	Name           string   `json:"exportName"`
	Format         string   `json:"format"`
	Language       string   `json:"language"`
	ObjectType     string   `json:"objectType"`
	Properties     []string `json:"objectProperties"`
	Internal       []string `json:"exportInternalValuesOptions"`
	AssociatedType string   `json:"associatedObjectType,omitzero"`
	Unlimited      bool     `json:"overrideAssociatedObjectsPerDefinitionPerRowLimit,omitzero"`
	ListID         string   `json:"listId,omitzero"`
}

// ExportTask is the state of an export.
type ExportTask struct {
	ID          int64     `json:"id"`
	Status      string    `json:"status"` // PENDING, PROCESSING, COMPLETE or CANCELED
	URL         string    `json:"result"` // for Download, within five minutes; ask again for a new one
	NumErrors   int       `json:"numErrors"`
	StartedAt   time.Time `json:"startedAt"`
	CompletedAt time.Time `json:"completedAt"`
}

// Done says that the export has ended, well or not.
func (t *ExportTask) Done() bool { return t.Status == "COMPLETE" || t.Status == "CANCELED" }

// StartExport begins an export as CSV with internal names and values and returns its id. One whose answer is lost is an
// *AmbiguousError: it may run, and counts.
func (c *Client) StartExport(ctx context.Context, e ExportRequest) (int64, error) {
	b := exportBody{
		Type: "VIEW", Name: e.Name, Format: "CSV", Language: "EN", ObjectType: e.ObjectType, Properties: e.Properties,
		Internal: []string{"NAMES", "VALUES"}, AssociatedType: e.AssociatedType, Unlimited: e.AssociatedType != "",
	}
	if e.ListID != 0 {
		b.Type, b.ListID = "LIST", strconv.FormatInt(e.ListID, 10)
	}
	body, err := json.Marshal(b)
	if err != nil {
		return 0, fmt.Errorf("encode export: %w", err)
	}
	r := write(FamilyObject, http.MethodPost, c.versions.exports()+"/export/async")
	r.body = body
	task, err := get[ExportTask](ctx, c, r)
	return task.ID, err
}

// GetExport returns the state of an export.
func (c *Client) GetExport(ctx context.Context, id int64) (ExportTask, error) {
	base := c.versions.exports() + "/export/async/tasks/"
	r := read(FamilyObject, http.MethodGet, base+strconv.FormatInt(id, 10)+"/status")
	r.template = base + "{id}/status"
	task, err := get[ExportTask](ctx, c, r)
	task.ID = id
	return task, err
}
