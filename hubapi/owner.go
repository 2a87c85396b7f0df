package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Owner is a person or queue that records can be assigned to. Owner properties hold ID, never UserID.
type Owner struct {
	ID                      int64       `json:"id"`
	Email                   string      `json:"email"`
	Type                    string      `json:"type"` // PERSON or QUEUE
	FirstName               string      `json:"firstName"`
	LastName                string      `json:"lastName"`
	UserID                  int64       `json:"userId"` // 0 for queues and for archived owners
	UserIDIncludingInactive int64       `json:"userIdIncludingInactive"`
	CreatedAt               time.Time   `json:"createdAt"`
	UpdatedAt               time.Time   `json:"updatedAt"`
	Archived                bool        `json:"archived"`
	Teams                   []OwnerTeam `json:"teams"`
}

// OwnerTeam is a team that an owner belongs to.
type OwnerTeam struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	Primary bool   `json:"primary"`
}

// ListOwners returns all owners: the active ones, or the archived ones, which HubSpot lists apart.
func (c *Client) ListOwners(ctx context.Context, archived bool) ([]Owner, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.owners())
	r.query = "limit=500"
	if q := archivedQuery(archived); q != "" {
		r.query += "&" + q
	}
	return list[Owner](ctx, c, r)
}
