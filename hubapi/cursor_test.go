package hubapi_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"hubpg/hubapi"
)

// A cursor that leads back to where it was found would be followed for ever.
func TestACursorThatRepeatsEndsAListing(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]func(*testing.T, *hubapi.Client) error{
		"records": func(t *testing.T, c *hubapi.Client) error {
			for _, err := range c.Objects(t.Context(), "contacts", hubapi.ListOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"owners": func(t *testing.T, c *hubapi.Client) error {
			_, err := c.ListOwners(t.Context(), false)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				after := "7"
				if calls.Add(1) > 100 {
					after = ""
				}
				_, _ = io.WriteString(w, `{"results":[{"id":"1","properties":{}}],"paging":{"next":{"after":"`+after+`"}}}`)
			})
			if err := list(t, c); err == nil || calls.Load() > 2 {
				t.Errorf("after %d calls: %v", calls.Load(), err)
			}
		})
	}
}
