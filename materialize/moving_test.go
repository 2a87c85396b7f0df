package materialize_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// moving is an owner who comes back from the archive just when the active ones have been listed.
type moving struct {
	mu    sync.Mutex // guards below
	id    string
	armed bool
	back  bool
}

func (m *moving) answer(r *http.Request, _, body []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/owners") && !strings.Contains(r.URL.Path, "/owners/20") {
		return body
	}
	archived := strings.Contains(r.URL.RawQuery, "archived=true")
	var page map[string]any
	if json.Unmarshal(body, &page) != nil {
		return body
	}
	list, _ := page["results"].([]any)
	kept := []any{}
	for _, o := range list {
		if owner, _ := o.(map[string]any); !m.back || owner["id"] != m.id {
			kept = append(kept, o)
		}
	}
	if m.back && !archived {
		kept = append(kept, map[string]any{
			"id": m.id, "email": "back@example.com", "type": "PERSON", "firstName": "Back", "archived": false,
			"createdAt": "2024-01-02T03:04:05.000Z", "updatedAt": "2024-01-02T03:04:05.000Z",
		})
	}
	if m.armed && !archived {
		m.back = true
	}
	page["results"] = kept
	text, err := json.Marshal(page)
	if err != nil {
		return body
	}
	return text
}

// TestAnOwnerWhoComesBackWhileOwnersAreListedStays: active and archived owners are listed apart.
func TestAnOwnerWhoComesBackWhileOwnersAreListedStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 10})
	m := &moving{}
	cfg := w.config()
	cfg.Objects = []string{"contacts"}
	cfg.Client = w.by(&bent{answer: m.answer})
	w.start(cfg)
	w.awaitLive(time.Minute, "contacts", "owners")
	var id int64
	w.must(w.pool.QueryRow(t.Context(), `select id from hubspot.owners where archived limit 1`).Scan(&id))
	m.mu.Lock()
	m.id, m.armed = fmt.Sprint(id), true
	m.mu.Unlock()
	eventually(t, 30*time.Second, func() string {
		if w.count(`select count(*) from hubspot.owners where id = $1 and not archived`, id) == 0 {
			return "the owner is not back"
		}
		return ""
	})
	if n := w.count(`select count(*) from hubpg.changes where table_name = 'owners' and op = 'delete'`); n > 0 {
		t.Errorf("%d owners are told to be deleted", n)
	}
}
