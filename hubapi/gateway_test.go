package hubapi_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"hubpg/hubapi"
)

// Only HubSpot's own word says that a record is not there; what stands before it says so of an address.
func TestAGatewaysPageIsNoWordOnARecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		gone   bool
	}{
		"HubSpot's word":       {http.StatusNotFound, `{"status":"error","message":"resource not found"}`, true},
		"a page":               {http.StatusNotFound, "<html><h1>404 Not Found</h1></html>", false},
		"nothing":              {http.StatusNotFound, "", false},
		"a page of its own":    {http.StatusGone, "<html><h1>410 Gone</h1></html>", false},
		"of the way of asking": {http.StatusMethodNotAllowed, `{"status":"error","message":"method not allowed"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			_, err := client.GetObject(t.Context(), "contacts", "1", hubapi.GetOptions{})
			if _, gone := errors.AsType[*hubapi.NotFoundError](err); err == nil || gone != c.gone {
				t.Errorf("%T %v", err, err)
			}
			if !c.gone && hubapi.Hint(err) == "" {
				t.Errorf("no hint with %v", err)
			}
		})
	}
}
