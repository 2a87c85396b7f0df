package hubapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubpg/hubapi"
)

// recorder answers every request alike and keeps what was asked.
type recorder struct {
	mu     sync.Mutex
	asked  []string
	bodies []string
	status int
	answer string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.asked, r.bodies = append(r.asked, req.Method+" "+req.URL.RequestURI()), append(r.bodies, string(b))
	r.mu.Unlock()
	if r.status != 0 {
		w.WriteHeader(r.status)
	}
	_, _ = io.WriteString(w, r.answer)
}

func TestPathsFollowTheirVersion(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		versions hubapi.Versions
		want     []string
	}{
		"default": {hubapi.Versions{}, []string{
			"GET /crm/objects/2026-03/p1_my%20cars?limit=100&archived=true&after=12%2F3&properties=a,b%26c",
			"POST /crm/objects/2026-03/contacts/search",
			"GET /crm/properties/2026-03/contacts",
			"GET /crm-object-schemas/2026-03/schemas",
			"GET /crm/owners/2026-03?limit=500&archived=true",
			"GET /crm/pipelines/2026-03/deals",
			"POST /crm/associations/2026-03/contacts/companies/batch/read",
			"GET /account-info/2026-03/details",
			"GET /crm/limits/2026-09/records",
			"GET /crm/object-library/2026-09/enablement",
		}},
		"numbered": {hubapi.Versions{
			Objects: "v3", Properties: "v3", Schemas: "v3", Associations: "v3", Owners: "v3", Pipelines: "v3", Account: "v3",
		}, []string{
			"GET /crm/v3/objects/p1_my%20cars?limit=100&archived=true&after=12%2F3&properties=a,b%26c",
			"POST /crm/v3/objects/contacts/search",
			"GET /crm/v3/properties/contacts",
			"GET /crm/v3/schemas",
			"GET /crm/v3/owners?limit=500&archived=true",
			"GET /crm/v3/pipelines/deals",
			"POST /crm/v4/associations/contacts/companies/batch/read",
			"GET /account-info/v3/details",
			"GET /crm/limits/2026-09/records",
			"GET /crm/object-library/2026-09/enablement",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{answer: `{"results":[]}`}
			client := serve(t, r.ServeHTTP, hubapi.WithVersions(c.versions))
			_, e1 := client.ListObjects(ctx, "p1_my cars", hubapi.ListOptions{
				Archived: true, After: "12/3", Projection: hubapi.NewProjection([]string{"a", "b&c"}),
			})
			_, e2 := client.Search(ctx, "contacts", hubapi.SearchRequest{})
			_, e3 := client.ListProperties(ctx, "contacts", false)
			_, e4 := client.ListSchemas(ctx)
			_, e5 := client.ListOwners(ctx, true)
			_, e6 := client.ListPipelines(ctx, "deals")
			_, e7 := client.BatchReadAssociations(ctx, "contacts", "companies", []hubapi.AssociationInput{{ID: 1}})
			_, e8 := client.GetAccount(ctx)
			_, e9 := client.GetRecordLimits(ctx)
			_, e10 := client.ListEnablement(ctx)
			if err := errors.Join(e1, e2, e3, e4, e5, e6, e7, e8, e9, e10); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, r.asked); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLongProjectionsAreRefusedBeforeTheCall(t *testing.T) {
	t.Parallel()
	r := &recorder{answer: emptyPage}
	c := serve(t, r.ServeHTTP)
	names := func(n int) *hubapi.Projection {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("some_property_%04d", i))
		}
		return hubapi.NewProjection(all)
	}
	long := names(400)
	_, err := c.ListObjects(t.Context(), "contacts", hubapi.ListOptions{Projection: long})
	if _, ok := errors.AsType[*hubapi.TooLargeError](err); !ok || len(r.asked) != 0 || c.FitsURL("contacts", long) {
		t.Errorf("%d calls, fits %v: %v", len(r.asked), c.FitsURL("contacts", long), err)
	}
	longest := 0
	for n := range 400 {
		if p := names(n); c.FitsURL("contacts", p) {
			longest = n
		}
	}
	o := hubapi.ListOptions{Projection: names(longest), After: strings.Repeat("9", 100), Archived: true}
	if _, err := c.ListObjects(t.Context(), "contacts", o); err != nil || longest < 200 {
		t.Errorf("%d properties fit: %v", longest, err)
	}
}

func TestObjectsWalksToTheLastPage(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"":  `{"results":[{"id":"1"}],"paging":{"next":{"after":"2"}}}`,
		"2": `{"results":[],"paging":{"next":{"after":"3"}}}`, // an empty page does not end a listing
		"3": `{"results":[{"id":"3"}],"paging":{}}`,
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, pages[r.URL.Query().Get("after")])
	})
	var ids []int64
	for page, err := range c.Objects(t.Context(), "contacts", hubapi.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			ids = append(ids, r.ID)
		}
	}
	if diff := cmp.Diff([]int64{1, 3}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}

func TestBatchReadAccountsForEveryID(t *testing.T) {
	t.Parallel()
	notFound := func(ids string) string {
		return `"numErrors":1,"errors":[{"status":"error","category":"OBJECT_NOT_FOUND","message":"m","context":{"ids":[` + ids + `]}}]`
	}
	for name, c := range map[string]struct {
		ids        []int64
		answer     string
		records    []int64
		missing    []int64
		moved      map[int64]int64
		unanswered []int64
	}{
		"all found, in any order": {
			[]int64{1, 2},
			`{"results":[{"id":"2","properties":{}},{"id":"1","properties":{}}]}`,
			[]int64{2, 1},
			nil, nil, nil,
		},
		"some missing": {
			[]int64{1, 2, 3},
			`{"results":[{"id":"2","properties":{}}],` + notFound(`"1","3"`) + `}`,
			[]int64{2},
			[]int64{1, 3},
			nil, nil,
		},
		"merged, told by the property": {
			[]int64{1, 2, 3},
			`{"results":[{"id":"9","properties":{"hs_merged_object_ids":"1;2"}},{"id":"3","properties":{}}]}`,
			[]int64{9, 3},
			nil,
			map[int64]int64{1: 9, 2: 9},
			nil,
		},
		"merged, asked for by both ids": {
			[]int64{1, 9},
			`{"results":[{"id":"9","properties":{"hs_merged_object_ids":"1"}},{"id":"9","properties":{}}]}`,
			[]int64{9},
			nil,
			map[int64]int64{1: 9},
			nil,
		},
		"merged, the one left over": {
			[]int64{1, 2},
			`{"results":[{"id":"9","properties":{}},{"id":"2","properties":{}}]}`,
			[]int64{9, 2},
			nil,
			map[int64]int64{1: 9},
			nil,
		},
		"merged, nobody can tell": {
			[]int64{1, 2},
			`{"results":[{"id":"8","properties":{}},{"id":"9","properties":{}}]}`,
			[]int64{8, 9},
			nil, nil,
			[]int64{1, 2},
		},
		"silence is not absence": {
			[]int64{1, 2},
			`{"results":[{"id":"1","properties":{}}]}`,
			[]int64{1},
			nil, nil,
			[]int64{2},
		},
		"another error is not absence": {
			[]int64{1},
			`{"results":[],"numErrors":1,"errors":[{"category":"VALIDATION_ERROR","context":{"ids":["1"]}}]}`,
			nil, nil, nil,
			[]int64{1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{status: http.StatusMultiStatus, answer: c.answer}
			res, err := serve(t, r.ServeHTTP).BatchRead(t.Context(), "contacts", c.ids, hubapi.NewProjection([]string{"email"}))
			if err != nil {
				t.Fatal(err)
			}
			var records []int64
			for _, rec := range res.Records {
				records = append(records, rec.ID)
				if len(rec.Values) != 1 {
					t.Errorf("record %d has %d values", rec.ID, len(rec.Values))
				}
			}
			got := []any{records, res.Missing, res.Moved, res.Unanswered}
			if diff := cmp.Diff([]any{c.records, c.missing, c.moved, c.unanswered}, got); diff != "" {
				t.Errorf("records, missing, moved, unanswered (-want +got):\n%s", diff)
			}
			if !strings.Contains(r.bodies[0], `"properties":["email","hs_merged_object_ids"]`) || res.ReadAt.IsZero() {
				t.Errorf("asked %s", r.bodies[0])
			}
		})
	}
}

func TestBatchSizesAreChecked(t *testing.T) {
	t.Parallel()
	c := newClient(t, &script{answers: []answer{ok}})
	for _, n := range []int{0, 101} {
		if _, err := c.BatchRead(t.Context(), "contacts", make([]int64, n), nil); err == nil {
			t.Errorf("no error for %d ids", n)
		}
	}
	for _, n := range []int{0, 1001} {
		if _, err := c.BatchReadAssociations(t.Context(), "a", "b", make([]hubapi.AssociationInput, n)); err == nil {
			t.Errorf("no error for %d inputs", n)
		}
	}
	if _, err := c.ListObjects(t.Context(), "contacts", hubapi.ListOptions{Limit: 101}); err == nil {
		t.Error("no error for a page of 101")
	}
	if _, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{Limit: 201}); err == nil {
		t.Error("no error for a search page of 201")
	}
}

func TestSearchAsksInHubSpotsForm(t *testing.T) {
	t.Parallel()
	r := &recorder{answer: `{"total":12345,"results":[{"id":"5","properties":{"email":"a"},"updatedAt":"2025-01-27T19:53:15.781Z"}],"paging":{"next":{"after":"400"}}}`}
	res, err := serve(t, r.ServeHTTP).Search(t.Context(), "contacts", hubapi.SearchRequest{
		Groups: [][]hubapi.Filter{{
			{Property: "lastmodifieddate", Operator: hubapi.OpBetween, Value: "1", HighValue: "2"},
			{Property: "hs_object_id", Operator: hubapi.OpIn, Values: []string{"3"}},
		}},
		Sorts: []hubapi.Sort{{Property: "lastmodifieddate"}}, Projection: hubapi.NewProjection([]string{"email"}), After: "200",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"filterGroups":[{"filters":[{"propertyName":"lastmodifieddate","operator":"BETWEEN","value":"1","highValue":"2"},` +
		`{"propertyName":"hs_object_id","operator":"IN","values":["3"]}]}],"sorts":[{"propertyName":"lastmodifieddate","direction":"ASCENDING"}],` +
		`"properties":["email"],"limit":200,"after":"200"}`
	if r.bodies[0] != want {
		t.Errorf("asked\n%s\nwant\n%s", r.bodies[0], want)
	}
	if res.Total != 12345 || res.After != "400" || len(res.Records) != 1 || string(res.Records[0].Values[0]) != "a" {
		t.Errorf("got %+v", res)
	}
}

func TestSearchKeepsInsideItsWindow(t *testing.T) {
	t.Parallel()
	s := &script{answers: []answer{ok}}
	c := newClient(t, s)
	if _, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{After: "9800"}); err != nil {
		t.Errorf("the last page: %v", err)
	}
	if _, err := c.Search(t.Context(), "contacts", hubapi.SearchRequest{After: "9801"}); !errors.Is(err, hubapi.ErrSearchWindow) {
		t.Errorf("beyond: %v", err)
	}
	long := hubapi.SearchRequest{Groups: [][]hubapi.Filter{{{Property: "a", Operator: hubapi.OpEQ, Value: strings.Repeat("x", 3000)}}}}
	_, err := c.Search(t.Context(), "contacts", long)
	if _, is := errors.AsType[*hubapi.TooLargeError](err); !is || len(s.sent) != 1 {
		t.Errorf("%d calls: %v", len(s.sent), err)
	}
}
