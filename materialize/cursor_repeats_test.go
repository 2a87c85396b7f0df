package materialize_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// A pass over the recycle bin that does not get on says so, as one over the ids does.
func TestABinWhoseCursorRepeatsIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 30})
	cfg := w.config()
	cfg.Objects = []string{"contacts"}
	cfg.Client = w.by(&bent{answer: func(r *http.Request, _, body []byte) []byte {
		if r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "archived=true") && strings.Contains(r.URL.Path, "/objects/") {
			return []byte(`{"results":[],"paging":{"next":{"after":"7"}}}`)
		}
		return body
	}})
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts")
	eventually(t, 30*time.Second, func() string {
		if s := w.status("contacts"); !strings.Contains(s.LastError, "cursor") {
			return "the status says " + s.LastError
		}
		return ""
	})
}
