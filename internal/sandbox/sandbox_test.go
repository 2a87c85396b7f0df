package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hubpg/internal/sandbox"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a sandbox and a way to call it.
type hub struct {
	*sandbox.Server
	t *testing.T
}

// start makes a quiet account of 200 contacts.
func start(t *testing.T, cfg sandbox.Config) *hub {
	t.Helper()
	if cfg.Contacts == 0 {
		cfg.Contacts = 200
	}
	cfg.Quiet = true
	return &hub{sandbox.New(cfg), t}
}

// answer is a response.
type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// call sends a request; body is sent as JSON unless it is nil or a string.
func (h *hub) call(method, target string, body any) answer {
	h.t.Helper()
	return h.as("sandbox", method, target, body)
}

// as is call with another token, none when it is empty.
func (h *hub) as(token, method, target string, body any) answer {
	h.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			h.t.Fatal(err)
		}
		r = strings.NewReader(string(raw))
	}
	req := httptest.NewRequest(method, target, r)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	a := answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, target, err, a.raw)
		}
	}
	return a
}

func (h *hub) get(target string) answer { h.t.Helper(); return h.call("GET", target, nil) }

func (h *hub) post(target string, body any) answer { h.t.Helper(); return h.call("POST", target, body) }

// must fails the test unless the status is want.
func (a answer) must(t *testing.T, want int) answer {
	t.Helper()
	if a.status != want {
		t.Fatalf("status %d, want %d: %s", a.status, want, a.raw)
	}
	return a
}

// at walks into the body: keys and, for arrays, indexes.
func (a answer) at(path ...any) any {
	var v any = a.body
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func (a answer) list(path ...any) []any {
	l, _ := a.at(path...).([]any)
	return l
}

// ids are the ids of the results, in order.
func (a answer) ids() []string {
	var ids []string
	for _, r := range a.list("results") {
		ids = append(ids, r.(map[string]any)["id"].(string))
	}
	return ids
}

func (a answer) text(path ...any) string {
	s, _ := a.at(path...).(string)
	return s
}

type obj = map[string]any

func str(id int64) string { return fmt.Sprint(id) }

// contact creates a contact and returns its id.
func (h *hub) contact(props map[string]string) int64 {
	h.t.Helper()
	id, err := h.Create("contacts", props)
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func TestEveryFamilyAnswersInEveryVersion(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	for _, v := range []string{"2025-09", "2026-03", "2026-09"} {
		h.get("/crm/objects/"+v+"/contacts").must(t, 200)
		h.get("/crm/properties/"+v+"/contacts").must(t, 200)
		h.get("/crm-object-schemas/"+v+"/schemas").must(t, 200)
		h.get("/crm/owners/"+v).must(t, 200)
		h.get("/crm/pipelines/"+v+"/deals").must(t, 200)
		h.get("/crm/associations/"+v+"/contacts/companies/labels").must(t, 200)
		h.get("/crm/limits/"+v+"/records").must(t, 200)
		h.get("/crm/object-library/"+v+"/enablement").must(t, 200)
		h.get("/account-info/"+v+"/details").must(t, 200)
		h.get("/account-info/"+v+"/api-usage/daily/private-apps").must(t, 200)
	}
	h.get("/crm/v3/objects/0-1").must(t, 200)
	h.get("/crm/v3/objects/contact").must(t, 200)
	h.get("/crm/v3/properties/contacts").must(t, 200)
	h.get("/crm/v3/schemas").must(t, 200)
	h.get("/crm/v3/owners").must(t, 200)
	h.get("/crm/v3/pipelines/tickets").must(t, 200)
	h.get("/crm/v4/associations/contacts/companies/labels").must(t, 200)
	h.get("/account-info/v3/details").must(t, 200)
	for _, path := range []string{"p44237313_machines", "p_machines", "machines", "2-143967026"} {
		if got := h.get("/crm/v3/objects/"+path+"?limit=5").must(t, 200); len(got.ids()) != 5 {
			t.Errorf("%s: %d machines", path, len(got.ids()))
		}
	}
}
