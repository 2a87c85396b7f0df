package sandbox_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/sandbox"
)

func TestTheBurstLimitRollsOverTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, Limits: true, Tier: sandbox.TierStarter})
		get := func() answer { return h.get("/crm/v3/objects/contacts?limit=1") }
		for range 60 {
			get().must(t, 200)
		}
		time.Sleep(5 * time.Second)
		for range 39 {
			get().must(t, 200)
		}
		last := get().must(t, 200)
		if last.header.Get("X-HubSpot-RateLimit-Max") != "100" || last.header.Get("X-HubSpot-RateLimit-Remaining") != "0" ||
			last.header.Get("X-HubSpot-RateLimit-Interval-Milliseconds") != "10000" || last.header.Get("X-HubSpot-RateLimit-Daily-Remaining") != "249900" {
			t.Errorf("headers %v", last.header)
		}
		over := get().must(t, 429)
		if over.text("policyName") != "TEN_SECONDLY_ROLLING" || over.text("errorType") != "RATE_LIMIT" || over.at("category") != nil ||
			over.text("message") != "You have reached your ten_secondly_rolling limit." || over.header.Get("Retry-After") != "" {
			t.Errorf("got %s %v", over.raw, over.header)
		}
		time.Sleep(5 * time.Second) // the first sixty have left the window
		for range 60 {
			get().must(t, 200)
		}
		get().must(t, 429)
		st := h.Stats()
		if st.Violations["burst"] == 0 || st.RateLimited["TEN_SECONDLY_ROLLING"] != 2 || st.Peak["burst"] < 101 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestSearchHasItsOwnLimitWithoutHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, Limits: true})
		for range 5 {
			got := h.post(contactSearch, obj{}).must(t, 200)
			for name := range got.header {
				if strings.Contains(name, "Ratelimit") {
					t.Errorf("search sends %s", name)
				}
			}
		}
		over := h.post("/crm/v3/objects/deals/search", obj{}).must(t, 429)
		if over.text("category") != "RATE_LIMITS" || over.text("message") != "You have reached your secondly limit." || over.at("policyName") != nil {
			t.Errorf("got %s", over.raw)
		}
		h.get("/crm/v3/objects/contacts").must(t, 200) // not part of it
		time.Sleep(time.Second)
		h.post(contactSearch, obj{}).must(t, 200)
		if st := h.Stats(); st.ByFamily["search"] != 7 || st.RateLimited["SECONDLY"] != 1 || st.Violations["search"] != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestTheDailyLimitEndsAtMidnightOfTheAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, Limits: true, DailyUsed: 999_999})
		h.get("/crm/v3/owners").must(t, 200)
		over := h.get("/crm/v3/owners").must(t, 429)
		if over.text("policyName") != "DAILY" || over.text("message") != "You have reached your daily limit." {
			t.Errorf("got %s", over.raw)
		}
		time.Sleep(24 * time.Hour)
		usage := h.get("/account-info/v3/api-usage/daily/private-apps").must(t, 200)
		if usage.at("results", 0, "currentUsage") != 1.0 {
			t.Errorf("got %s", usage.raw)
		}
	})
}

func TestAssociationsHaveTheirOwnBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, Limits: true, Tier: sandbox.TierStarter})
		for range 100 {
			h.get("/crm/v4/associations/contacts/companies/labels").must(t, 200)
		}
		h.get("/crm/v4/associations/contacts/companies/labels").must(t, 429)
		h.get("/crm/v3/objects/contacts").must(t, 200)
	})
}

func TestViolationsAreCountedWithLimitsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true})
		for range 195 {
			got := h.get("/crm/v3/owners").must(t, 200)
			if got.header.Get("X-HubSpot-RateLimit-Max") != "" {
				t.Fatal("a limit is announced though none is in force")
			}
		}
		if st := h.Stats(); st.Violations["burst"] != 5 || st.Peak["burst"] != 195 || st.Calls != 195 {
			t.Errorf("stats %+v", st)
		}
		h.ResetStats()
		if st := h.Stats(); st.Calls != 0 || len(st.Violations) != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestLatencyDelaysEachResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, Latency: 200 * time.Millisecond})
		began := time.Now()
		h.get("/crm/v3/owners").must(t, 200)
		if d := time.Since(began); d != 200*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

func TestTokensAndScopesAreChecked(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Token: "secret", WithheldScopes: []string{
		"crm.objects.deals.read", "crm.objects.contacts.write", "crm.schemas.custom.read", "custom-object-read",
	}})
	as := func(token, method, target string) answer {
		r := httptest.NewRequest(method, target, strings.NewReader("{}"))
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	}
	for _, bad := range []string{"", "Bearer nope", "Basic secret", "secret"} {
		got := as(bad, "GET", "/crm/v3/objects/contacts").must(t, 401)
		if !strings.Contains(got.raw, `"category":"INVALID_AUTHENTICATION"`) || strings.Contains(got.raw, "secret") {
			t.Errorf("%q: %s", bad, got.raw)
		}
	}
	const token = "Bearer secret"
	ok := as(token, "GET", "/crm/v3/objects/contacts").must(t, 200)
	if ok.header.Get("X-HubSpot-Correlation-Id") == "" || ok.header.Get("Content-Type") != "application/json;charset=utf-8" {
		t.Errorf("headers %v", ok.header)
	}
	for method, target := range map[string]string{
		"GET": "/crm/v3/objects/deals", "POST": "/crm/v3/objects/deals/search", "PATCH": "/crm/v3/objects/contacts/1",
	} {
		got := as(token, method, target).must(t, 403)
		if !strings.Contains(got.raw, `"category":"MISSING_SCOPES"`) || !strings.Contains(got.raw, `"requiredGranularScopes":["crm.objects.`) {
			t.Errorf("%s: %s", target, got.raw)
		}
	}
	as(token, "GET", "/crm/v3/schemas").must(t, 403)
	as(token, "GET", "/crm/v3/properties/deals").must(t, 200) // another scope allows it
	h.WithholdScopes()
	as(token, "GET", "/crm/v3/objects/deals").must(t, 200)
}
