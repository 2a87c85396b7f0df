package sandbox_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// receiver takes webhooks.
type receiver struct {
	*httptest.Server
	refuse func(attempt float64) bool

	mu      sync.Mutex
	batches [][]map[string]any
	headers []http.Header
	bodies  []string
}

// receive starts a receiver, and the delivery to it.
func (h *hub) receive(refuse func(attempt float64) bool) *receiver {
	h.t.Helper()
	rec := &receiver{refuse: refuse}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var batch []map[string]any
		if err == nil {
			err = json.Unmarshal(raw, &batch)
		}
		if err != nil {
			h.t.Errorf("receive: %v", err)
			return
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		if attempt := batch[0]["attemptNumber"].(float64); rec.refuse != nil && rec.refuse(attempt) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		rec.batches, rec.headers, rec.bodies = append(rec.batches, batch), append(rec.headers, r.Header.Clone()), append(rec.bodies, string(raw))
	}))
	if err := h.SetWebhookTarget(sandbox.DefaultClientID, rec.URL+"/hook?a=b", 10); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.Run(ctx); err != nil {
			h.t.Errorf("run: %v", err)
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done; rec.Close() })
	return rec
}

func (h *hub) subscribe(subs ...sandbox.WebhookSubscription) {
	h.t.Helper()
	for _, sub := range subs {
		sub.Active = true
		if _, err := h.Subscribe(sandbox.DefaultClientID, sub); err != nil {
			h.t.Fatal(err)
		}
	}
}

// settled waits until nothing is pending and returns the events received.
func (h *hub) settled(rec *receiver) []map[string]any {
	h.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for h.Stats().Webhooks.Pending > 0 {
		if time.Now().After(deadline) {
			h.t.Fatalf("still pending: %+v", h.Stats().Webhooks)
		}
		time.Sleep(2 * time.Millisecond)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return slices.Concat(rec.batches...)
}

func TestEveryKindOfChangeIsToldToItsSubscribers(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	rec := h.receive(nil)
	h.subscribe(
		sandbox.WebhookSubscription{EventType: "contact.creation"}, sandbox.WebhookSubscription{EventType: "contact.deletion"},
		sandbox.WebhookSubscription{EventType: "contact.restore"}, sandbox.WebhookSubscription{EventType: "contact.merge"},
		sandbox.WebhookSubscription{EventType: "contact.privacyDeletion"},
		sandbox.WebhookSubscription{EventType: "contact.propertyChange", PropertyName: "email"},
		sandbox.WebhookSubscription{EventType: "contact.associationChange"},
		sandbox.WebhookSubscription{EventType: "company.associationChange"},
		sandbox.WebhookSubscription{EventType: "object.propertyChange", ObjectTypeID: "machines", PropertyName: "last_service_at"},
	)
	expect := func(what string, want ...map[string]any) {
		t.Helper()
		got := h.settled(rec)
		rec.mu.Lock()
		rec.batches = nil
		rec.mu.Unlock()
		if len(got) != len(want) {
			t.Errorf("%s: %d events, want %d: %v", what, len(got), len(want), got)
			return
		}
		for _, w := range want {
			if !slices.ContainsFunc(got, func(g map[string]any) bool {
				for k, v := range w {
					if !equalJSON(g[k], v) {
						return false
					}
				}
				return true
			}) {
				t.Errorf("%s: no %v in %v", what, w, got)
			}
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	made := h.post("/crm/v3/objects/contacts", obj{"properties": obj{"email": "a@example.com"}}).must(t, 201)
	a := parseID(t, made.text("id"))
	expect("creation by the API",
		obj{"subscriptionType": "contact.creation", "objectId": a, "changeFlag": "CREATED", "changeSource": "INTEGRATION", "attemptNumber": 0},
		obj{"subscriptionType": "contact.propertyChange", "propertyName": "email", "propertyValue": "a@example.com", "objectId": a})
	ok(h.Update("contacts", a, map[string]string{"email": "b@example.com", "phone": "1"}))
	expect("update", obj{"propertyValue": "b@example.com", "changeSource": "CRM_UI", "portalId": sandbox.DefaultPortalID})
	company, err := h.Create("companies", map[string]string{"name": "One"})
	ok(err)
	ok(h.Associate("contacts", a, "companies", company, 0))
	expect("association",
		obj{"associationType": "CONTACT_TO_COMPANY", "fromObjectId": a, "toObjectId": company, "associationRemoved": false, "isPrimaryAssociation": false},
		obj{"associationType": "COMPANY_TO_CONTACT", "fromObjectId": company, "toObjectId": a, "associationRemoved": false, "isPrimaryAssociation": false})
	ok(h.Associate("contacts", a, "companies", company, 1))
	expect("primary association",
		obj{"associationType": "CONTACT_TO_COMPANY", "isPrimaryAssociation": true}, obj{"associationType": "COMPANY_TO_CONTACT", "isPrimaryAssociation": true})
	ok(h.Dissociate("contacts", a, "companies", company, 1))
	expect("end of a primary association",
		obj{"associationType": "CONTACT_TO_COMPANY", "associationRemoved": true, "isPrimaryAssociation": true}, obj{"associationRemoved": true, "fromObjectId": company})
	ok(h.Archive("contacts", a))
	expect("deletion", obj{"subscriptionType": "contact.deletion", "objectId": a, "changeFlag": "DELETED"})
	ok(h.Restore("contacts", a))
	expect("restoration", obj{"subscriptionType": "contact.restore", "objectId": a})
	b := h.contact(map[string]string{"email": "c@example.com", "phone": "2", "jobtitle": "x"})
	expect("another", obj{"subscriptionType": "contact.creation"}, obj{"subscriptionType": "contact.propertyChange"})
	merged, err := h.Merge("contacts", a, b)
	ok(err)
	expect("merge", obj{"subscriptionType": "contact.merge", "primaryObjectId": a, "mergedObjectIds": []int64{b}, "newObjectId": merged})
	ok(h.Erase("contacts", merged))
	expect("erasure", obj{"subscriptionType": "contact.deletion", "objectId": merged}, obj{"subscriptionType": "contact.privacyDeletion", "objectId": merged})
	machine, err := h.Create("machines", map[string]string{"serial_number": "1"})
	ok(err)
	ok(h.Update("machines", machine, map[string]string{"last_service_at": "2026-11-01T10:00:00Z"}))
	expect("custom object", obj{"subscriptionType": "object.propertyChange", "objectId": machine, "propertyValue": "1793527200000", "isSensitive": false})
}

// equalJSON compares a decoded value with a Go one.
func equalJSON(got, want any) bool {
	g, err1 := json.Marshal(got)
	w, err2 := json.Marshal(want)
	if n, ok := got.(float64); ok {
		g, err1 = []byte(strconv.FormatFloat(n, 'f', -1, 64)), nil
	}
	if l, ok := got.([]any); ok && len(l) == 1 {
		if n, ok := l[0].(float64); ok {
			g = []byte("[" + strconv.FormatFloat(n, 'f', -1, 64) + "]")
		}
	}
	return err1 == nil && err2 == nil && string(g) == string(w)
}

func TestWebhooksAreSignedInAllVersions(t *testing.T) {
	t.Parallel()
	for _, v2 := range []bool{false, true} {
		h := start(t, sandbox.Config{Empty: true, Webhooks: sandbox.Webhooks{V2: v2}})
		rec := h.receive(nil)
		h.subscribe(sandbox.WebhookSubscription{EventType: "contact.creation"})
		h.contact(map[string]string{"email": "a@example.com"})
		h.settled(rec)
		header, body, target := rec.headers[0], rec.bodies[0], rec.URL+"/hook?a=b"
		old, version := sandbox.DefaultClientSecret+body, "v1"
		if v2 {
			old, version = sandbox.DefaultClientSecret+"POST"+target+body, "v2"
		}
		sum := sha256.Sum256([]byte(old))
		if header.Get("X-HubSpot-Signature") != hex.EncodeToString(sum[:]) || header.Get("X-HubSpot-Signature-Version") != version {
			t.Errorf("%s: %v", version, header)
		}
		stamp := header.Get("X-HubSpot-Request-Timestamp")
		mac := hmac.New(sha256.New, []byte(sandbox.DefaultClientSecret))
		mac.Write([]byte("POST" + target + body + stamp))
		if header.Get("X-HubSpot-Signature-v3") != base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			t.Errorf("v3: %v", header)
		}
		if age := time.Since(time.UnixMilli(parseID(t, stamp))); age < 0 || age > time.Minute {
			t.Errorf("signed %v ago", age)
		}
	}
}

func TestFailedWebhooksAreRepeatedTenTimesAndThenGivenUp(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, Webhooks: sandbox.Webhooks{RetryOver: 300 * time.Millisecond}})
	rec := h.receive(func(attempt float64) bool { return attempt < 10 })
	h.subscribe(sandbox.WebhookSubscription{EventType: "contact.creation"})
	h.contact(map[string]string{"email": "a@example.com"})
	if got := h.settled(rec); len(got) != 1 || got[0]["attemptNumber"] != 10.0 {
		t.Errorf("received %v", got)
	}
	rec.mu.Lock()
	rec.refuse = func(float64) bool { return true }
	rec.mu.Unlock()
	h.contact(map[string]string{"email": "b@example.com"})
	if got := h.settled(rec); len(got) != 1 {
		t.Errorf("received %v", got)
	}
	if st := h.Stats().Webhooks; st.GivenUp != 1 || st.Requests != 22 || st.Failed != 21 || st.Retried != 20 {
		t.Errorf("stats %+v", st)
	}
}

func TestBatchesHoldAHundredAndCanComeShuffledAndTwice(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, Webhooks: sandbox.Webhooks{Shuffle: true, Duplicates: 0.5}})
	h.subscribe(sandbox.WebhookSubscription{EventType: "company.creation"})
	// The target comes first, so that events are queued, and the sender after them.
	if err := h.SetWebhookTarget(sandbox.DefaultClientID, "http://127.0.0.1:1/", 10); err != nil {
		t.Fatal(err)
	}
	for range 250 {
		if _, err := h.Create("companies", map[string]string{"name": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	rec := h.receive(nil)
	got := h.settled(rec)
	seen := map[float64]int{}
	ordered := true
	last := 0.0
	for _, e := range got {
		seen[e["eventId"].(float64)]++
		ordered = ordered && e["eventId"].(float64) >= last
		last = e["eventId"].(float64)
	}
	st := h.Stats().Webhooks
	if len(seen) != 250 || int64(len(got)) != 250+st.Duplicated || st.Duplicated < 60 || ordered {
		t.Errorf("%d events of %d, in order: %t, %+v", len(got), len(seen), ordered, st)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, b := range rec.batches {
		if len(b) > 100 {
			t.Errorf("a batch of %d", len(b))
		}
	}
}

func TestSubscriptionsAreManagedWithTheDeveloperKey(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	const key = "?hapikey=sandbox-developer-key"
	call := func(method, path string, body any) answer {
		t.Helper()
		return h.as("", method, path+key, body)
	}
	base := "/webhooks/v3/1160452"
	h.get(base+"/settings").must(t, 401) // neither a static token …
	h.as("", "GET", base+"/settings?hapikey=x", nil).must(t, 401)
	call("GET", base+"/settings", nil).must(t, 404)
	settings := func(target string, n int) obj {
		return obj{"targetUrl": target, "throttling": obj{"maxConcurrentRequests": n}}
	}
	call("PUT", base+"/settings", settings("http://example.com/", 10)).must(t, 400)
	call("PUT", base+"/settings", settings("https://example.com/", 5)).must(t, 400)
	call("PUT", base+"/settings", settings("https://example.com/", 6)).must(t, 200)
	made := call("POST", base+"/subscriptions", obj{"eventType": "contact.propertyChange", "propertyName": "email"}).must(t, 201)
	if made.at("active") != false {
		t.Errorf("a new subscription is active: %s", made.raw)
	}
	for _, wrong := range []obj{
		{"eventType": "contact.propertyChange"},
		{"eventType": "contact.creation", "propertyName": "email"},
		{"eventType": "unicorn.creation"},
		{"eventType": "product.associationChange"},
		{"eventType": "object.creation"},
		{"eventType": "contact.propertyChange", "propertyName": "lastmodifieddate"},
		{"eventType": "contact.propertyChange", "propertyName": "email"},
	} {
		call("POST", base+"/subscriptions", wrong).must(t, 400)
	}
	one := base + "/subscriptions/" + made.text("id")
	if got := call("PATCH", one, obj{"active": true}).must(t, 200); got.at("active") != true {
		t.Errorf("got %s", got.raw)
	}
	call("POST", base+"/subscriptions/batch/update", obj{"inputs": []obj{{"id": made.text("id"), "active": false}}}).must(t, 200)
	if got := call("GET", "/app-webhooks/2026-09/1160452/subscriptions", nil).must(t, 200); got.at("results", 0, "active") != false {
		t.Errorf("got %s", got.raw)
	}
	token := h.token("grant_type", "client_credentials", "scope", "developer.webhooks_journal.read").text("access_token")
	h.as(token, "GET", "/webhooks/2026-03/1160452/subscriptions", nil).must(t, 200)
	call("DELETE", one, nil).must(t, 204)
	call("GET", one, nil).must(t, 404)
	call("POST", one, obj{}).must(t, 405)
	call("GET", "/webhooks/2026-09/1160452/settings", nil).must(t, 401) // not a path of this version
}
