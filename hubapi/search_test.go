package hubapi_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

func TestSearchesThatHubSpotRefuses(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	one := hubapi.Filter{Property: "email", Operator: hubapi.OpHas}
	several := func(n int) [][]hubapi.Filter { return slices.Repeat([][]hubapi.Filter{{one}}, n) }
	byEmail, byID := hubapi.Sort{Property: "email"}, hubapi.Sort{Property: "hs_object_id"}
	many := hubapi.Filter{Property: "hs_object_id", Operator: hubapi.OpIn, Values: slices.Repeat([]string{"1"}, 101)}
	for what, r := range map[string]hubapi.SearchRequest{
		"six groups":          {Groups: several(6)},
		"seven filters":       {Groups: [][]hubapi.Filter{slices.Repeat([]hubapi.Filter{one}, 7)}},
		"nineteen filters":    {Groups: slices.Repeat([][]hubapi.Filter{slices.Repeat([]hubapi.Filter{one}, 5)}, 4)},
		"two sorts":           {Sorts: []hubapi.Sort{byEmail, byID}},
		"a list of 101":       {Groups: [][]hubapi.Filter{{many}}},
		"an unknown property": {Groups: [][]hubapi.Filter{{{Property: "no_such", Operator: hubapi.OpHas}}}},
		"no such operator":    {Groups: [][]hubapi.Filter{{{Property: "email", Operator: "LIKE", Value: "x"}}}},
		"a cursor of words":   {After: "next"},
	} {
		_, err := c.Search(t.Context(), "contacts", r)
		rowIs[*hubapi.ValidationError](t, what, err)
	}
	if _, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{Groups: several(5)}); err != nil {
		t.Errorf("five groups: %v", err)
	}
	_, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{
		Groups: [][]hubapi.Filter{{{Property: "lastmodifieddate", Operator: hubapi.OpGT, Value: "0"}}},
	})
	rowIs[*hubapi.UnavailableError](t, "since the epoch", err)
	_, err = c.Search(t.Context(), "butterflies", hubapi.SearchRequest{})
	rowIs[*hubapi.ValidationError](t, "an unknown type", err)
	calls := s.Stats().Calls
	for what, r := range map[string]hubapi.SearchRequest{
		"a page of 201":   {Limit: 201},
		"past 10,000":     {After: "9900"},
		"3,001 letters":   {Groups: [][]hubapi.Filter{{{Property: "email", Operator: hubapi.OpEQ, Value: strings.Repeat("x", 3000)}}}},
		"a negative page": {Limit: -1},
	} {
		if _, err := c.Search(t.Context(), "contacts", r); err == nil {
			t.Errorf("%s was not refused", what)
		}
	}
	if s.Stats().Calls != calls {
		t.Error("a search went out that HubSpot is known to refuse")
	}
}

func TestSearchMatchesAsHubSpotDoes(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Empty: true})
	id, err := s.Create("contacts", map[string]string{"firstname": "Zoë", "hs_lead_status": "OPEN", "email": "zoe@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := s.Create("contacts", map[string]string{"firstname": "Zoë", "email": "gone@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Archive("contacts", gone); err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]struct {
		filter hubapi.Filter
		hits   int
	}{
		"text in any case, nothing archived": {hubapi.Filter{Property: "firstname", Operator: hubapi.OpEQ, Value: "ZOË"}, 1},
		"lists in lower case":                {hubapi.Filter{Property: "firstname", Operator: hubapi.OpIn, Values: []string{"zoë"}}, 1},
		"lists in no other":                  {hubapi.Filter{Property: "firstname", Operator: hubapi.OpIn, Values: []string{"Zoë"}}, 0},
		"options as they are":                {hubapi.Filter{Property: "hs_lead_status", Operator: hubapi.OpEQ, Value: "OPEN"}, 1},
		"options in no other case":           {hubapi.Filter{Property: "hs_lead_status", Operator: hubapi.OpEQ, Value: "open"}, 0},
		"contacts by the other name of time": {hubapi.Filter{Property: "hs_lastmodifieddate", Operator: hubapi.OpGT, Value: "1"}, 0},
		"contacts by the right one":          {hubapi.Filter{Property: "lastmodifieddate", Operator: hubapi.OpGT, Value: "1"}, 1},
	} {
		res, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{Groups: [][]hubapi.Filter{{f.filter}}})
		if err != nil || res.Total != f.hits || (f.hits == 1 && res.Records[0].ID != id) {
			t.Errorf("%s: %+v, %v; want %d", what, res, err, f.hits)
		}
	}
}

func TestEmptyPageWithACursorIsNoEnd(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 50})
	s.InjectFault(sandbox.Fault{Kind: sandbox.FaultEmptyPage, Skip: 1, Count: 2})
	seen, empty, r := map[int64]bool{}, 0, hubapi.SearchRequest{Limit: 10}
	for {
		res, err := c.Search(t.Context(), "contacts", r)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Records) == 0 {
			empty++
		}
		for _, rec := range res.Records {
			seen[rec.ID] = true
		}
		if r.After = res.After; r.After == "" {
			break
		}
	}
	if empty != 2 || len(seen) != s.Count("contacts") {
		t.Errorf("%d empty pages, %d records of %d", empty, len(seen), s.Count("contacts"))
	}
}

func TestSearchTrailsBehindTheRecords(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20, IndexLag: 1500 * time.Millisecond})
	id := live(s.Snapshot("contacts"))[0].ID
	if err := s.Update("contacts", id, map[string]string{"phone": "+4912345"}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p := hubapi.NewProjection([]string{"phone"})
	if res, err := c.BatchRead(t.Context(), "contacts", []int64{id}, p); err != nil || string(res.Records[0].Values[0]) != "+4912345" {
		t.Errorf("the record itself: %+v, %v", res, err)
	}
	r := hubapi.SearchRequest{Groups: [][]hubapi.Filter{{{Property: "phone", Operator: hubapi.OpEQ, Value: "+4912345"}}}}
	for {
		res, err := c.Search(t.Context(), "contacts", r)
		if err != nil {
			t.Fatal(err)
		}
		if res.Total == 1 {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("the index never caught up")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if lag := time.Since(began); lag < 1400*time.Millisecond {
		t.Errorf("search knew after %v", lag)
	}
}

func TestOneMillisecondOfMoreThanASearchShowsIsWalkedByID(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 10_500})
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	const stamped = 10_321
	if err := s.StampAll("contacts", stamped, at); err != nil {
		t.Fatal(err)
	}
	ms := strconv.FormatInt(at.UnixMilli(), 10)
	seen, last := 0, int64(0)
	for {
		res, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{
			Groups: [][]hubapi.Filter{{
				{Property: "lastmodifieddate", Operator: hubapi.OpEQ, Value: ms},
				{Property: "hs_object_id", Operator: hubapi.OpGT, Value: strconv.FormatInt(last, 10)},
			}},
			Sorts: []hubapi.Sort{{Property: "hs_object_id"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if last == 0 && res.Total != stamped {
			t.Errorf("total %d, want %d", res.Total, stamped)
		}
		for _, r := range res.Records {
			if r.ID <= last || !r.UpdatedAt.Equal(at) {
				t.Fatalf("%d after %d, modified at %v", r.ID, last, r.UpdatedAt)
			}
			last = r.ID
			seen++
		}
		if len(res.Records) == 0 {
			break
		}
	}
	if seen != stamped {
		t.Errorf("%d records, want %d", seen, stamped)
	}
}
