package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
)

// MaxMembershipWrites is how many records one call adds to and takes from a segment.
const MaxMembershipWrites = 100_000

// MembershipChange is what ChangeMembers did.
type MembershipChange struct {
	Added   []int64 `json:"recordsIdsAdded"` // HubSpot spells it so
	Removed []int64 `json:"recordIdsRemoved"`
	Missing []int64 `json:"recordIdsMissing"` // were to be added and do not exist
}

// ChangeMembers adds records to a segment and takes others from it. Records that are, or are not, in it already are left
// out of the answer, so that a call may be repeated without harm. HubSpot manages the members of DYNAMIC segments itself:
// those are a *ValidationError. It needs the scopes to read and to write lists.
func (c *Client) ChangeMembers(ctx context.Context, segmentID int64, add, remove []int64) (MembershipChange, error) {
	if n := len(add) + len(remove); n == 0 || n > MaxMembershipWrites {
		return MembershipChange{}, fmt.Errorf("change members of list %d: %d records, want 1 to %d", segmentID, n, MaxMembershipWrites)
	}
	verb, body := "add-and-remove", any(struct {
		Add    []string `json:"recordIdsToAdd"`
		Remove []string `json:"recordIdsToRemove"`
	}{idTexts(add), idTexts(remove)})
	switch {
	case len(remove) == 0:
		verb, body = "add", idTexts(add)
	case len(add) == 0:
		verb, body = "remove", idTexts(remove)
	}
	base := c.versions.segments()
	r := write(FamilyObject, http.MethodPut, base+"/"+strconv.FormatInt(segmentID, 10)+"/memberships/"+verb)
	r.template = base + "/{id}/memberships/" + verb
	return send[MembershipChange](ctx, c, r, body)
}

func idTexts(ids []int64) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = strconv.FormatInt(id, 10)
	}
	return out
}
