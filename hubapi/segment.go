package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Segment is a list of records: HubSpot calls them lists and, lately, segments.
type Segment struct {
	ID               int64             `json:"listId"`
	Version          int64             `json:"listVersion"`
	Name             string            `json:"name"`
	ObjectTypeID     string            `json:"objectTypeId"`
	ProcessingType   string            `json:"processingType"` // MANUAL, DYNAMIC or SNAPSHOT
	ProcessingStatus string            `json:"processingStatus"`
	CreatedAt        time.Time         `json:"createdAt"`
	UpdatedAt        time.Time         `json:"updatedAt"`
	FiltersUpdatedAt time.Time         `json:"filtersUpdatedAt"`
	Additional       map[string]string `json:"additionalProperties"`
}

// Size returns how many records HubSpot counts in the segment, -1 when it did not say.
func (s *Segment) Size() int64 {
	n, err := strconv.ParseInt(s.Additional["hs_list_size"], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// Member is a record in a segment.
type Member struct {
	RecordID int64     `json:"recordId"`
	Since    time.Time `json:"membershipTimestamp"`
}

// MemberPage is a page of a segment's members, in the order of their ids.
type MemberPage struct {
	Members []Member
	Total   int64
	After   string // "" on the last page
	ReadAt  time.Time
}

// Limits of segments.
const (
	segmentPage       = 500
	maxSegmentOffset  = 10_000 // HubSpot lists no further
	MaxMembershipPage = 250
)

type segmentSearch struct {
	Count      int      `json:"count"`
	Offset     int      `json:"offset"`
	Additional []string `json:"additionalProperties"`
	Sort       string   `json:"sort"`
}

type segmentAnswer struct {
	Offset  int       `json:"offset"`
	Total   int       `json:"total"`
	HasMore bool      `json:"hasMore"`
	Lists   []Segment `json:"lists"`
}

// LastAdded tells when a record joined the segment last, as HubSpot writes it; "" when it did not say.
func (s *Segment) LastAdded() string { return s.Additional["hs_last_record_added_at"] }

// ListSegments returns all segments of the account. A part of them is an error: an account with more than HubSpot lists,
// or segments that went while they were listed, which makes a later page begin behind one that nobody has seen.
func (c *Client) ListSegments(ctx context.Context) ([]Segment, error) {
	var all []Segment
	seen := map[int64]bool{}
	for offset := 0; ; {
		body, err := json.Marshal(segmentSearch{
			Count: segmentPage, Offset: offset, Additional: []string{"hs_list_size", "hs_last_record_added_at"}, Sort: "HS_LIST_ID",
		})
		if err != nil {
			return nil, fmt.Errorf("encode list search: %w", err)
		}
		r := read(FamilyObject, http.MethodPost, c.versions.segments()+"/search")
		r.body = body
		page, err := get[segmentAnswer](ctx, c, r)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Lists {
			if !seen[s.ID] { // offsets shift when lists come and go
				seen[s.ID] = true
				all = append(all, s)
			}
		}
		if !page.HasMore {
			if len(all) < page.Total {
				return nil, fmt.Errorf("list segments: %d of %d seen; they changed meanwhile", len(all), page.Total)
			}
			return all, nil
		}
		if page.Offset <= offset || page.Offset > maxSegmentOffset {
			return nil, fmt.Errorf("list segments: more than the %d that HubSpot lists", len(all))
		}
		offset = page.Offset
	}
}

// ListMembers returns one page of at most MaxMembershipPage members of a segment.
func (c *Client) ListMembers(ctx context.Context, segmentID int64, after string) (*MemberPage, error) {
	id := strconv.FormatInt(segmentID, 10)
	r := read(FamilyObject, http.MethodGet, c.versions.segments()+"/"+id+"/memberships")
	r.template = c.versions.segments() + "/{id}/memberships"
	r.query = "limit=" + strconv.Itoa(MaxMembershipPage)
	if after != "" {
		r.query += "&after=" + url.QueryEscape(after)
	}
	type answer struct {
		listBody[Member]
		Total int64 `json:"total"`
	}
	b, err := get[answer](ctx, c, r)
	if err != nil {
		return nil, err
	}
	return &MemberPage{Members: b.Results, Total: b.Total, After: b.Paging.Next.After, ReadAt: r.readAt}, nil
}
