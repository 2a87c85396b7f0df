package hubapi_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubpg/hubapi"
)

// TestARecordLeftOutBesideAMergedOneIsNotMerged: 1 has become 9, which says so. Of 2 the answer says nothing.
func TestARecordLeftOutBesideAMergedOneIsNotMerged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alone string // the answer to 2 alone
		moved map[int64]int64
		open  []int64
		found []int64
	}{
		"it is there":            {`{"results":[{"id":"2","properties":{}}]}`, map[int64]int64{1: 9}, nil, []int64{9, 2}},
		"nothing is said of it":  {`{"results":[]}`, map[int64]int64{1: 9}, []int64{2}, []int64{9}},
		"it is the chain's, too": {`{"results":[{"id":"9","properties":{"hs_merged_object_ids":"1;7"}}]}`, map[int64]int64{1: 9, 2: 9}, nil, []int64{9}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "application/json")
				if strings.Contains(string(body), `{"id":"1"}`) {
					fmt.Fprint(w, `{"results":[{"id":"9","properties":{"hs_merged_object_ids":"1;7"}}]}`)
					return
				}
				fmt.Fprint(w, c.alone)
			})
			res, err := client.BatchRead(t.Context(), "contacts", []int64{1, 2}, hubapi.NewProjection([]string{"email"}))
			if err != nil {
				t.Fatal(err)
			}
			var found []int64
			for _, r := range res.Records {
				found = append(found, r.ID)
			}
			if diff := cmp.Diff([]any{c.moved, c.open, c.found}, []any{res.Moved, res.Unanswered, found}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
