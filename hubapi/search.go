package hubapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Limits of a search.
const (
	MaxSearchPage = 200
	MaxSearchRows = 10_000 // no query shows more
	maxSearchBody = 3000
)

// ErrSearchWindow says that a page would reach beyond the first MaxSearchRows rows. HubSpot would refuse it, so it is
// not sent: cut the query instead.
var ErrSearchWindow = errors.New("page reaches beyond the rows that a search shows")

// The operators of a Filter.
const (
	OpEQ      = "EQ"
	OpNEQ     = "NEQ"
	OpLT      = "LT"
	OpLTE     = "LTE"
	OpGT      = "GT"
	OpGTE     = "GTE"
	OpBetween = "BETWEEN" // Value to HighValue, both included
	OpIn      = "IN"      // Values, in lower case for strings
	OpNotIn   = "NOT_IN"
	OpHas     = "HAS_PROPERTY"
	OpHasNot  = "NOT_HAS_PROPERTY"
)

// Filter is one condition. Times are given as epoch milliseconds.
type Filter struct {
	Property  string   `json:"propertyName"`
	Operator  string   `json:"operator"`
	Value     string   `json:"value,omitzero"`
	HighValue string   `json:"highValue,omitzero"`
	Values    []string `json:"values,omitzero"`
}

// Sort orders the rows; HubSpot honours one.
type Sort struct {
	Property   string
	Descending bool
}

// SearchRequest asks HubSpot's index, which lags behind the records and may be out of order near now.
type SearchRequest struct {
	Groups     [][]Filter // rows that meet all filters of any group; at most 5 groups, 6 filters each, 18 in all
	Sorts      []Sort
	Projection *Projection // may be nil when only ids and times are wanted
	Limit      int         // MaxSearchPage when 0
	After      string
}

// SearchResult is one page of a search. A page may be short or empty though After is set.
type SearchResult struct {
	Total   int // rows that match, also beyond MaxSearchRows
	Records []Record
	After   string // "" on the last page
	ReadAt  time.Time
}

type searchBody struct {
	FilterGroups []filterGroup `json:"filterGroups,omitzero"`
	Sorts        []sortBody    `json:"sorts,omitzero"`
	Properties   []string      `json:"properties,omitzero"`
	Limit        int           `json:"limit"`
	After        string        `json:"after,omitzero"`
}

type filterGroup struct {
	Filters []Filter `json:"filters"`
}

type sortBody struct {
	Property  string `json:"propertyName"`
	Direction string `json:"direction"`
}

// Search returns one page of the records that match. Archived records are never among them.
func (c *Client) Search(ctx context.Context, objectType string, s SearchRequest) (*SearchResult, error) {
	if s.Limit == 0 {
		s.Limit = MaxSearchPage
	}
	if s.Limit < 1 || s.Limit > MaxSearchPage {
		return nil, fmt.Errorf("search %s: limit %d is outside 1 to %d", objectType, s.Limit, MaxSearchPage)
	}
	if offset, err := strconv.Atoi(s.After); err == nil && offset+s.Limit > MaxSearchRows {
		return nil, fmt.Errorf("search %s after %d: %w", objectType, offset, ErrSearchWindow)
	}
	body, err := json.Marshal(s.wire())
	if err != nil {
		return nil, fmt.Errorf("encode search: %w", err)
	}
	r := read(FamilySearch, http.MethodPost, c.versions.objects()+"/"+segment(objectType)+"/search")
	r.body = body
	if len(body) > maxSearchBody {
		return nil, &TooLargeError{&APIError{
			Method: r.method, Path: r.path, Message: fmt.Sprintf("search of %d characters, HubSpot takes %d", len(body), maxSearchBody),
		}}
	}
	res := new(SearchResult)
	r.decode = func(body []byte) error {
		b, err := decodeRecords(body, s.Projection, s.Limit)
		if err == nil {
			res.Total, res.Records, res.After = b.total, b.records, b.after
		}
		return err
	}
	if err := c.call(ctx, r); err != nil {
		return nil, err
	}
	res.ReadAt = r.readAt
	return res, nil
}

func (s SearchRequest) wire() searchBody {
	b := searchBody{Properties: s.Projection.Names(), Limit: s.Limit, After: s.After}
	for _, filters := range s.Groups {
		b.FilterGroups = append(b.FilterGroups, filterGroup{filters})
	}
	for _, by := range s.Sorts {
		direction := "ASCENDING"
		if by.Descending {
			direction = "DESCENDING"
		}
		b.Sorts = append(b.Sorts, sortBody{by.Property, direction})
	}
	return b
}
