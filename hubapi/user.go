package hubapi

import (
	"context"
	"net/http"
)

// User is a person who can sign in to the account. Records are assigned to owners, which have ids of their own.
type User struct {
	ID               int64    `json:"id"`
	Email            string   `json:"email"`
	FirstName        string   `json:"firstName"`
	LastName         string   `json:"lastName"`
	RoleIDs          []string `json:"roleIds"`
	PrimaryTeamID    int64    `json:"primaryTeamId"` // 0 for none
	SecondaryTeamIDs []int64  `json:"secondaryTeamIds"`
	SuperAdmin       bool     `json:"superAdmin"`
}

// Team is a team of users.
type Team struct {
	ID               int64   `json:"id"`
	Name             string  `json:"name"`
	UserIDs          []int64 `json:"userIds"`
	SecondaryUserIDs []int64 `json:"secondaryUserIds"`
}

// ListUsers returns all users of the account.
func (c *Client) ListUsers(ctx context.Context) ([]User, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.users())
	r.query = "limit=100"
	return list[User](ctx, c, r)
}

// ListTeams returns all teams of the account.
func (c *Client) ListTeams(ctx context.Context) ([]Team, error) {
	return list[Team](ctx, c, read(FamilyObject, http.MethodGet, c.versions.users()+"/teams"))
}
