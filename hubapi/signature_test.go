package hubapi_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

const clientSecret = "b4e0c3d2-secret"

// sign3 signs as HubSpot does, over an address that is decoded already.
func sign3(method, plain string, body []byte, stamp string) string {
	sum := hmac.New(sha256.New, []byte(clientSecret))
	sum.Write([]byte(method + plain + string(body) + stamp))
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

func header(kvs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(kvs); i += 2 {
		h.Set(kvs[i], kvs[i+1])
	}
	return h
}

func TestSignatureOfVersionThreeCoversEverything(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_790_000_000_000)
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	body := []byte(`[{"objectId":1}]`)
	const address = "https://h.example/a%2Fb?q=%3A%3f%40%21%24%27%28%29%2A%2C%3B&r=%20%25%2B"
	const plain = "https://h.example/a/b?q=:?@!$'()*,;&r=%20%25%2B"
	good := sign3("POST", plain, body, stamp)
	v := hubapi.WebhookVerifier{Secret: clientSecret}
	delivery := func(change func(*hubapi.Delivery)) hubapi.Delivery {
		d := hubapi.Delivery{Method: "POST", URL: address, Body: bytes.Clone(body), Header: header(
			"X-HubSpot-Signature-v3", good, "X-HubSpot-Request-Timestamp", stamp,
		)}
		change(&d)
		return d
	}
	if err := v.Verify(delivery(func(*hubapi.Delivery) {}), now); err != nil {
		t.Errorf("a true delivery: %v", err)
	}
	for name, change := range map[string]func(*hubapi.Delivery){
		"method":        func(d *hubapi.Delivery) { d.Method = "PUT" },
		"address":       func(d *hubapi.Delivery) { d.URL += "x" },
		"decoded twice": func(d *hubapi.Delivery) { d.URL = strings.Replace(d.URL, "%2F", "%252F", 1) },
		"body":          func(d *hubapi.Delivery) { d.Body[3] ^= 1 },
		"no time":       func(d *hubapi.Delivery) { d.Header.Del("X-HubSpot-Request-Timestamp") },
		"other time":    func(d *hubapi.Delivery) { d.Header.Set("X-HubSpot-Request-Timestamp", "1790000000001") },
		"odd time":      func(d *hubapi.Delivery) { d.Header.Set("X-HubSpot-Request-Timestamp", "now") },
		"cut":           func(d *hubapi.Delivery) { d.Header.Set("X-HubSpot-Signature-v3", good[:20]) },
		"not base64":    func(d *hubapi.Delivery) { d.Header.Set("X-HubSpot-Signature-v3", "?") },
		"none":          func(d *hubapi.Delivery) { d.Header.Del("X-HubSpot-Signature-v3") },
	} {
		if err := v.Verify(delivery(change), now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, age := range []time.Duration{hubapi.SignatureWindow, -hubapi.SignatureWindow} {
		if err := v.Verify(delivery(func(*hubapi.Delivery) {}), now.Add(age)); err != nil {
			t.Errorf("%s old: %v", age, err)
		}
	}
	for _, age := range []time.Duration{hubapi.SignatureWindow + time.Millisecond, -hubapi.SignatureWindow - time.Millisecond} {
		if err := v.Verify(delivery(func(*hubapi.Delivery) {}), now.Add(age)); err == nil {
			t.Errorf("%s old: accepted", age)
		}
	}
	if err := (hubapi.WebhookVerifier{}).Verify(delivery(func(*hubapi.Delivery) {}), now); err == nil {
		t.Error("accepted without a secret")
	}
}

func TestOldSignaturesAreAcceptedOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	body := []byte(`[]`)
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	v1 := hubapi.Delivery{Method: "POST", URL: "https://h.example/x", Body: body, Header: header(
		"X-HubSpot-Signature", hash(clientSecret+string(body)), "X-HubSpot-Signature-Version", "v1",
	)}
	v2 := hubapi.Delivery{Method: "POST", URL: "https://h.example/x", Body: body, Header: header(
		"X-HubSpot-Signature", hash(clientSecret+"POST"+"https://h.example/x"+string(body)), "X-HubSpot-Signature-Version", "v2",
	)}
	now := time.Now()
	for _, d := range []hubapi.Delivery{v1, v2} {
		if err := (hubapi.WebhookVerifier{Secret: clientSecret, Legacy: true}).Verify(d, now); err != nil {
			t.Errorf("%v: %v", d.Header, err)
		}
		if err := (hubapi.WebhookVerifier{Secret: clientSecret}).Verify(d, now); err == nil {
			t.Errorf("%v: accepted", d.Header)
		}
		// A wrong signature of version 3 is not mended by a right one of an older version.
		d.Header.Set("X-HubSpot-Signature-v3", "AAAA")
		d.Header.Set("X-HubSpot-Request-Timestamp", strconv.FormatInt(now.UnixMilli(), 10))
		if err := (hubapi.WebhookVerifier{Secret: clientSecret, Legacy: true}).Verify(d, now); err == nil {
			t.Error("fell back to an older version")
		}
	}
}

func TestDeliveriesOfTheSandboxAreVerifiedAndRead(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{Empty: true, Quiet: true})
	v := hubapi.WebhookVerifier{Secret: sandbox.DefaultClientSecret}
	got := make(chan []hubapi.WebhookEvent, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		err = v.Verify(hubapi.Delivery{Method: r.Method, URL: "http://" + r.Host + r.URL.RequestURI(), Header: r.Header, Body: body}, time.Now())
		if err != nil {
			t.Errorf("true delivery: %v", err)
		}
		events, err := hubapi.ParseWebhook(body)
		if err != nil {
			t.Error(err)
		}
		got <- events
	}))
	defer receiver.Close()
	if err := s.SetWebhookTarget(sandbox.DefaultClientID, receiver.URL+"/hook%2Fa?b=c%3A", 10); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Subscribe(sandbox.DefaultClientID, sandbox.WebhookSubscription{EventType: "contact.creation", Active: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	id, err := s.Create("contacts", map[string]string{"firstname": "x"})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case events := <-got:
		e := events[0]
		if e.ObjectID != id || e.Type != "contact.creation" || e.PortalID != sandbox.DefaultPortalID || time.Since(e.OccurredAt) > time.Minute {
			t.Errorf("event %+v", e)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was delivered")
	}
}

func FuzzWebhookVerifier(f *testing.F) {
	now := time.UnixMilli(1_790_000_000_000)
	f.Add("POST", "https://h.example/a%2Fb?x=%3A", []byte(`[{"objectId":1}]`), "1790000000000", "c2ln", "", "")
	f.Add("GET", "%", []byte(nil), "-1", "", "abcd", "v1")
	f.Add("POST", "%2", []byte("{}"), "9223372036854775807", "====", "zz", "v2")
	f.Fuzz(func(t *testing.T, method, address string, body []byte, stamp, v3, old, version string) {
		h := http.Header{
			"X-Hubspot-Signature-V3": {v3}, "X-Hubspot-Request-Timestamp": {stamp},
			"X-Hubspot-Signature": {old}, "X-Hubspot-Signature-Version": {version},
		}
		d := hubapi.Delivery{Method: method, URL: address, Header: h, Body: body}
		if err := (hubapi.WebhookVerifier{Secret: clientSecret, Legacy: true}).Verify(d, now); err == nil {
			t.Fatalf("a guess was accepted: %+v", d)
		}
		_, _ = hubapi.ParseWebhook(body)
	})
}

func FuzzJournalFile(f *testing.F) {
	f.Add([]byte(`{"offset":"a","publishedAt":"2026-01-02T03:04:05Z","journalEvents":[{"type":"crmObject","portalId":1,` +
		`"occurredAt":"2026-01-02T03:04:05.678Z","action":"UPDATE","objectTypeId":"0-1","objectId":"7","propertyChanges":{"a":null,"b":"c"}}]}`))
	f.Add([]byte(`{"offset":"a","journalEvents":null}`))
	f.Add([]byte(`{"offset":"a","journalEvents":[{"objectId":1e400}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		file, err := hubapi.ParseJournalFile(body)
		if (err == nil) != (file != nil) {
			t.Fatalf("file %v, error %v", file, err)
		}
		if err == nil && file.Offset == "" {
			t.Fatal("a file without an offset was accepted")
		}
	})
}
