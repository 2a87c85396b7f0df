package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// RecordSegments is the answer to ListSegmentsOf.
type RecordSegments struct {
	Of     map[int64][]int64 // record id → ids of the segments that it is in; a record that HubSpot said nothing about is not in it
	ReadAt time.Time         // just before the request was sent
}

type membershipInput struct {
	ObjectTypeID string `json:"objectTypeId"`
	RecordID     string `json:"recordId"`
}

type membershipAnswer struct {
	Results []struct {
		RecordID    int64 `json:"recordId"`
		Memberships []struct {
			ListID int64 `json:"listId"`
		} `json:"listMemberships"`
	} `json:"results"`
}

// ListSegmentsOf tells in which segments records of one type are, at most MaxPage of them: the way to learn that a record
// is not in a segment any more, which a page of members that lacks it does not say.
func (c *Client) ListSegmentsOf(ctx context.Context, typeID string, ids []int64) (*RecordSegments, error) {
	if len(ids) == 0 || len(ids) > MaxPage {
		return nil, fmt.Errorf("list segments of %s: %d ids, want 1 to %d", typeID, len(ids), MaxPage)
	}
	inputs := make([]membershipInput, len(ids))
	for i, id := range ids {
		inputs[i] = membershipInput{typeID, strconv.FormatInt(id, 10)}
	}
	body, err := json.Marshal(map[string]any{"inputs": inputs})
	if err != nil {
		return nil, fmt.Errorf("encode memberships: %w", err)
	}
	r := read(FamilyObject, http.MethodPost, c.versions.segments()+"/records/memberships/batch/read")
	r.body = body
	answer, err := get[membershipAnswer](ctx, c, r)
	if err != nil {
		return nil, err
	}
	out := &RecordSegments{Of: make(map[int64][]int64, len(answer.Results)), ReadAt: r.readAt}
	for _, result := range answer.Results {
		lists := make([]int64, len(result.Memberships))
		for i, m := range result.Memberships {
			lists[i] = m.ListID
		}
		out.Of[result.RecordID] = append(out.Of[result.RecordID], lists...)
	}
	return out, nil
}
