package hubapi

import (
	"context"
	"fmt"
	"net/http"
)

// SnapshotRequest asks for the values of one record to be written to the journal.
type SnapshotRequest struct {
	PortalID     int64    `json:"portalId"`
	ObjectTypeID string   `json:"objectTypeId"`
	ObjectID     int64    `json:"objectId"`
	Properties   []string `json:"properties"`
}

// Snapshot is a snapshot that HubSpot has taken on. The event with its values carries the same StatusID.
type Snapshot struct {
	PortalID     int64  `json:"portalId"`
	ObjectTypeID string `json:"objectTypeId"`
	ObjectID     int64  `json:"objectId"`
	StatusID     string `json:"snapshotStatusId"`
}

// The states of a snapshot.
const (
	SnapshotPending    = "PENDING"
	SnapshotInProgress = "IN_PROGRESS"
	SnapshotSuccess    = "SUCCESS" // it is in the journal
	SnapshotFailed     = "FAILED"
	SnapshotExpired    = "EXPIRED"
)

// Snapshots asks for snapshots of at most MaxPage records: a state to which the journal's changes add up. Requests for
// what HubSpot does not know are left out of the answer.
func (j *Journal) Snapshots(ctx context.Context, in []SnapshotRequest) ([]Snapshot, error) {
	if len(in) == 0 || len(in) > MaxPage {
		return nil, fmt.Errorf("ask for snapshots: %d records, want 1 to %d", len(in), MaxPage)
	}
	r := write(FamilyExempt, http.MethodPost, j.c.versions.journal("snapshots")+"/crm")
	answer, err := send[struct {
		Responses []Snapshot `json:"snapshotResponses"`
	}](ctx, j.c, r, struct {
		Requests []SnapshotRequest `json:"snapshotRequests"`
	}{in})
	return answer.Responses, err
}

// SnapshotStatus returns the state of a snapshot: SnapshotPending, SnapshotInProgress, SnapshotSuccess, SnapshotFailed or
// SnapshotExpired.
func (j *Journal) SnapshotStatus(ctx context.Context, statusID string) (string, error) {
	base := j.c.versions.journal("snapshots") + "/status"
	r := read(FamilyExempt, http.MethodGet, base+"/"+segment(statusID))
	r.template = base + "/{id}"
	answer, err := get[struct {
		Status string `json:"status"`
	}](ctx, j.c, r)
	return answer.Status, err
}
