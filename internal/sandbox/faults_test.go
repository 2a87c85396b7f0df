package sandbox_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

func TestEveryCannedFaultLooksLikeHubSpots(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	for kind, want := range map[sandbox.FaultKind]struct {
		status int
		body   string
	}{
		sandbox.FaultRateBurst:      {429, `"policyName":"TEN_SECONDLY_ROLLING"`},
		sandbox.FaultRateDaily:      {429, `"policyName":"DAILY"`},
		sandbox.FaultRateSearch:     {429, `"category":"RATE_LIMITS"`},
		sandbox.FaultInternal:       {500, `"message":"internal error"`},
		sandbox.FaultBadGateway:     {502, "<h1>502 Bad Gateway</h1>"},
		sandbox.FaultGatewayTimeout: {504, "<h1>504 Gateway Time-out</h1>"},
		sandbox.FaultLocked:         {423, `"status":"error"`},
		sandbox.FaultMigrating:      {477, `"status":"error"`},
		sandbox.FaultURITooLong:     {414, "<h1>414 Request-URI Too Large</h1>"},
		sandbox.FaultExpiredToken:   {401, `"category":"EXPIRED_AUTHENTICATION"`},
		sandbox.FaultMissingScopes:  {403, `"category":"MISSING_SCOPES"`},
		sandbox.FaultStatus:         {418, "teapot"},
	} {
		h.InjectFault(sandbox.Fault{Path: "/contacts$", Kind: kind, Count: 1, Status: 418, Body: `"teapot"`})
		h.get("/crm/v3/objects/deals").must(t, 200)
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/crm/v3/objects/contacts", nil)
		r.Header.Set("Authorization", "Bearer sandbox")
		h.ServeHTTP(w, r)
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.body) {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
		if kind == sandbox.FaultMigrating && w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: no Retry-After", kind)
		}
		h.get("/crm/v3/objects/contacts").must(t, 200) // the fault is used up
	}
}

func TestInjectedRefusalsTellTheWindowAsItIs(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, Limits: true})
	for kind, told := range map[sandbox.FaultKind]bool{
		sandbox.FaultRateBurst: true, sandbox.FaultInternal: true, sandbox.FaultLocked: true,
		sandbox.FaultBadGateway: false, sandbox.FaultExpiredToken: false,
	} {
		h.InjectFault(sandbox.Fault{Path: "/contacts$", Kind: kind, Count: 1})
		got := h.get("/crm/v3/objects/contacts")
		if left := got.header.Get("X-HubSpot-RateLimit-Remaining"); (left != "") != told || left == "0" {
			t.Errorf("%s: status %d, %q calls left", kind, got.status, left)
		}
	}
}

func TestFaultsMatchMethodPathSkipAndCount(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	h.InjectFault(sandbox.Fault{Method: "GET", Path: "^/crm/v3/owners", Kind: sandbox.FaultInternal, Skip: 1, Count: 2})
	var got []int
	for range 4 {
		got = append(got, h.get("/crm/v3/owners").status)
	}
	if got[0] != 200 || got[1] != 500 || got[2] != 500 || got[3] != 200 {
		t.Errorf("statuses %v", got)
	}
	h.InjectFault(sandbox.Fault{Kind: sandbox.FaultInternal, Probability: 0.5})
	failed := 0
	for range 200 {
		if h.get("/crm/v3/owners").status == 500 {
			failed++
		}
	}
	if failed < 60 || failed > 140 {
		t.Errorf("%d of 200 failed", failed)
	}
	h.ClearFaults()
	h.get("/crm/v3/owners").must(t, 200)
}

func TestConnectionsCanBreakBeforeAfterAndWithinTheBody(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	server := httptest.NewServer(h)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	create := func(email string) (string, error) {
		r, err := http.NewRequest("POST", server.URL+"/crm/v3/objects/contacts", strings.NewReader(`{"properties":{"email":"`+email+`"}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer sandbox")
		res, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	before := h.Count("contacts")
	h.InjectFault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultDrop, Count: 1})
	if _, err := create("a@example.com"); err == nil || h.Count("contacts") != before {
		t.Errorf("dropped before: %v, %d made", err, h.Count("contacts")-before)
	}
	h.InjectFault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultDropAfter, Count: 1})
	if _, err := create("b@example.com"); err == nil || h.Count("contacts") != before+1 {
		t.Errorf("dropped after: %v, %d made", err, h.Count("contacts")-before)
	}
	h.InjectFault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultCut, Count: 1})
	body, err := create("c@example.com")
	if !errors.Is(err, io.ErrUnexpectedEOF) || body == "" || json.Valid([]byte(body)) {
		t.Errorf("cut: %v after %q", err, body)
	}
	began := time.Now()
	h.InjectFault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultSlow, Delay: 200 * time.Millisecond, Count: 1})
	if body, err := create("d@example.com"); err != nil || !json.Valid([]byte(body)) || time.Since(began) < 150*time.Millisecond {
		t.Errorf("slow: %v after %v", err, time.Since(began))
	}
}

func TestSilenceIsAnEmptySuccessOfBatchReads(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	for _, path := range []string{"/crm/v3/objects/contacts/batch/read", "/crm/v4/associations/contacts/companies/batch/read"} {
		h.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Count: 1})
		if got := h.get("/crm/v3/objects/contacts?limit=1").must(t, 200); len(got.ids()) != 1 {
			t.Errorf("no batch read: got %s", got.raw)
		}
		body := obj{"inputs": []obj{{"id": "1"}}}
		silent := h.post(path, body).must(t, 200)
		if len(silent.ids()) != 0 || strings.Contains(silent.raw, "numErrors") || silent.text("status") != "COMPLETE" {
			t.Errorf("%s: got %s", path, silent.raw)
		}
		if again := h.post(path, body).must(t, 207); !strings.Contains(again.raw, "numErrors") {
			t.Errorf("%s: got %s", path, again.raw)
		}
	}
}

func TestEmptySearchPageHasACursorToTheSamePlace(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	h.InjectFault(sandbox.Fault{Path: "/search$", Kind: sandbox.FaultEmptyPage, Count: 1})
	body := obj{"limit": 10, "after": "20"}
	empty := h.post(contactSearch, body).must(t, 200)
	if len(empty.ids()) != 0 || empty.text("paging", "next", "after") != "20" {
		t.Errorf("got %s", empty.raw)
	}
	if got := h.post(contactSearch, body).must(t, 200); len(got.ids()) != 10 {
		t.Errorf("got %s", got.raw)
	}
}
