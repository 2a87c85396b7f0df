package sandbox_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

const (
	tokenPath = "/oauth/2026-09/token"
	callback  = "http://127.0.0.1:7777/callback"
)

// form posts a form without a token.
func (h *hub) form(target string, kvs ...string) answer {
	h.t.Helper()
	q := url.Values{}
	for i := 0; i < len(kvs); i += 2 {
		q.Set(kvs[i], kvs[i+1])
	}
	return h.as("", "POST", target, q.Encode())
}

func (h *hub) token(kvs ...string) answer {
	h.t.Helper()
	return h.form(tokenPath, append([]string{
		"client_id", sandbox.DefaultClientID, "client_secret", sandbox.DefaultClientSecret,
	}, kvs...)...)
}

func authorizePath(kvs ...string) string {
	q := url.Values{
		"client_id": {sandbox.DefaultClientID}, "redirect_uri": {callback}, "scope": {"crm.objects.contacts.read"}, "state": {"s 1"},
	}
	for i := 0; i < len(kvs); i += 2 {
		q.Set(kvs[i], kvs[i+1])
	}
	return "/oauth/authorize?" + q.Encode()
}

// decide answers the consent page and returns the parameters of the redirect.
func (h *hub) decide(target, decision string) url.Values {
	h.t.Helper()
	page := h.as("", "GET", target, nil).must(h.t, 200)
	if !strings.Contains(page.raw, `method="post"`) || !strings.Contains(page.raw, "crm.objects.contacts.read") {
		h.t.Fatalf("no consent page: %s", page.raw)
	}
	got := h.form(target, "decision", decision).must(h.t, 302)
	to, err := url.Parse(got.header.Get("Location"))
	if err != nil || !strings.HasPrefix(to.String(), callback+"?") {
		h.t.Fatalf("redirect to %s: %v", to, err)
	}
	return to.Query()
}

func TestConsentGivesACodeThatGivesTokensOnce(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, WithheldScopes: []string{"forms"}})
	back := h.decide(authorizePath("optional_scope", "forms crm.lists.read"), "approve")
	if back.Get("state") != "s 1" || back.Get("code") == "" {
		t.Fatalf("redirected with %v", back)
	}
	redeem := []string{"grant_type", "authorization_code", "code", back.Get("code"), "redirect_uri", callback}
	got := h.token(redeem...).must(t, 200)
	if got.at("expires_in") != 1800.0 || got.text("token_type") != "bearer" || got.at("hub_id") != float64(sandbox.DefaultPortalID) {
		t.Errorf("got %s", got.raw)
	}
	var scopes []string
	for _, s := range got.list("scopes") {
		scopes = append(scopes, s.(string))
	}
	if want := []string{"crm.lists.read", "crm.objects.contacts.read", "oauth"}; !slices.Equal(scopes, want) {
		t.Errorf("scopes %v, want %v: what the account lacks is not granted", scopes, want)
	}
	if n := len(got.text("access_token")); n < 256 || n > 512 {
		t.Errorf("the access token has %d characters", n)
	}
	if again := h.token(redeem...).must(t, 400); again.text("status") != "BAD_AUTH_CODE" {
		t.Errorf("second use: %s", again.raw)
	}
	access := got.text("access_token")
	h.as(access, "GET", "/crm/v3/objects/contacts", nil).must(t, 200)
	h.as(access, "GET", "/account-info/v3/details", nil).must(t, 200)
	if got := h.as(access, "GET", "/crm/v3/objects/deals", nil).must(t, 403); got.text("category") != "MISSING_SCOPES" {
		t.Errorf("not granted: %s", got.raw)
	}
}

func TestDenialIsToldToTheRedirect(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	back := h.decide(authorizePath(), "deny")
	if back.Get("error") != "access_denied" || back.Get("state") != "s 1" || back.Has("code") {
		t.Errorf("redirected with %v", back)
	}
}

func TestAWrongAuthorizeAddressIsNeverRedirected(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, WithheldScopes: []string{"forms"}})
	for name, target := range map[string]string{
		"client":         authorizePath("client_id", "other"),
		"redirect":       authorizePath("redirect_uri", "https://evil.example/"),
		"unknown scope":  authorizePath("scope", "crm.objects.unicorns.read"),
		"withheld scope": authorizePath("scope", "forms"),
		"no scope":       authorizePath("scope", ""),
		"challenge":      authorizePath("code_challenge", "x", "code_challenge_method", "S512"),
		"other account":  strings.Replace(authorizePath(), "/oauth/", "/oauth/1/", 1),
	} {
		if got := h.as("", "GET", target, nil); got.status != 400 || got.header.Get("Location") != "" {
			t.Errorf("%s: %d to %s", name, got.status, got.header.Get("Location"))
		}
	}
	h.as("", "GET", strings.Replace(authorizePath(), "/oauth/", "/oauth/44237313/", 1), nil).must(t, 200)
}

func TestPKCENeedsTheVerifier(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, AutoApprove: true})
	verifier := strings.Repeat("verifier-", 6)
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	redeem := func(challenge, verifier string) answer {
		kvs := []string{}
		if challenge != "" {
			kvs = []string{"code_challenge", challenge, "code_challenge_method", "S256"}
		}
		to, err := url.Parse(h.as("", "GET", authorizePath(kvs...), nil).must(t, 302).header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return h.token("grant_type", "authorization_code", "code", to.Query().Get("code"), "redirect_uri", callback,
			"code_verifier", verifier)
	}
	redeem(challenge, verifier).must(t, 200)
	for _, wrong := range []string{"", "other", challenge} {
		if got := redeem(challenge, wrong).must(t, 400); got.text("status") != "BAD_CODE_VERIFIER" {
			t.Errorf("verifier %q: %s", wrong, got.raw)
		}
	}
	if got := redeem("", verifier).must(t, 400); got.text("status") != "BAD_CODE_VERIFIER" {
		t.Errorf("verifier without challenge: %s", got.raw)
	}
}

func TestEveryRefusalOfTheTokenEndpointHasBothShapes(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, AutoApprove: true})
	location := h.as("", "GET", authorizePath(), nil).must(t, 302).header.Get("Location")
	to, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	id, secret := sandbox.DefaultClientID, sandbox.DefaultClientSecret
	for status, tc := range map[string]struct {
		code string
		form []string
	}{
		"BAD_GRANT_TYPE":    {"unsupported_grant_type", []string{"grant_type", "password", "client_id", id, "client_secret", secret}},
		"BAD_CLIENT_ID":     {"invalid_client", []string{"grant_type", "refresh_token", "client_id", "x", "client_secret", secret}},
		"BAD_CLIENT_SECRET": {"invalid_client", []string{"grant_type", "refresh_token", "client_id", id, "client_secret", "x"}},
		"BAD_REFRESH_TOKEN": {"invalid_grant", []string{"grant_type", "refresh_token", "client_id", id, "client_secret", secret, "refresh_token", "x"}},
		"BAD_AUTH_CODE":     {"invalid_grant", []string{"grant_type", "authorization_code", "client_id", id, "client_secret", secret, "code", "x"}},
		"BAD_REDIRECT_URI": {"invalid_grant", []string{
			"grant_type", "authorization_code", "client_id", id, "client_secret", secret,
			"code", to.Query().Get("code"), "redirect_uri", "http://127.0.0.1:1/",
		}},
		"BAD_SCOPES": {"invalid_scope", []string{
			"grant_type", "client_credentials", "client_id", id, "client_secret", secret, "scope", "crm.objects.contacts.read",
		}},
	} {
		for _, version := range []string{"2026-09", "2026-03", "v3", "v1"} {
			if version == "v1" && status == "BAD_SCOPES" || version != "2026-09" && status == "BAD_REDIRECT_URI" {
				continue // v1 has no client credentials; a code serves once
			}
			got := h.form("/oauth/"+version+"/token", tc.form...).must(t, 400)
			if got.text("status") != status || got.text("error") != tc.code ||
				got.text("message") == "" || got.text("message") != got.text("error_description") {
				t.Errorf("%s in %s: %s", status, version, got.raw)
			}
		}
	}
	h.as("", "GET", tokenPath, nil).must(t, 405)
	// Parameters in the address are not read.
	got := h.as("", "POST", tokenPath+"?grant_type=refresh_token&client_id="+id, "").must(t, 400)
	if got.text("status") != "BAD_GRANT_TYPE" {
		t.Errorf("parameters in the address: %s", got.raw)
	}
}

func TestRefreshGivesTheSameTokenUnlessRotated(t *testing.T) {
	t.Parallel()
	for _, rotate := range []bool{false, true} {
		h := start(t, sandbox.Config{Empty: true, RotateRefreshTokens: rotate})
		refresh, err := h.Install(sandbox.DefaultClientID)
		if err != nil {
			t.Fatal(err)
		}
		got := h.token("grant_type", "refresh_token", "refresh_token", refresh).must(t, 200)
		if same := got.text("refresh_token") == refresh; same == rotate {
			t.Errorf("rotate %t: the same token came back: %t", rotate, same)
		}
		again := h.token("grant_type", "refresh_token", "refresh_token", refresh)
		if rotate && again.text("status") != "BAD_REFRESH_TOKEN" || !rotate && again.status != 200 {
			t.Errorf("rotate %t: the old token: %s", rotate, again.raw)
		}
	}
}

func TestAnExpiredTokenIsRefusedAndARefreshedOneIsNot(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	refresh, err := h.Install(sandbox.DefaultClientID)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() string {
		return h.token("grant_type", "refresh_token", "refresh_token", refresh).must(t, 200).text("access_token")
	}
	list := "/crm/v3/objects/contacts"
	first := fresh()
	h.as(first, "GET", list, nil).must(t, 200)
	h.ExpireTokens()
	got := h.as(first, "GET", list, nil).must(t, 401)
	if got.text("category") != "EXPIRED_AUTHENTICATION" || got.at("context", "expire time", 0) == nil {
		t.Errorf("got %s", got.raw)
	}
	second := fresh()
	h.as(second, "GET", list, nil).must(t, 200)
	h.InjectFault(sandbox.Fault{Kind: sandbox.FaultExpiredToken, OAuth: true, Count: 1})
	h.get(list).must(t, 200) // a static token does not expire
	h.as(second, "GET", list, nil).must(t, 401)
	h.as(second, "GET", list, nil).must(t, 401) // it stays expired
	third := fresh()
	h.as(third, "GET", list, nil).must(t, 200)
	if err := h.Uninstall(sandbox.DefaultClientID); err != nil {
		t.Fatal(err)
	}
	if got := h.as(third, "GET", list, nil).must(t, 401); got.text("category") != "INVALID_AUTHENTICATION" {
		t.Errorf("after uninstalling: %s", got.raw)
	}
	h.token("grant_type", "refresh_token", "refresh_token", refresh).must(t, 400)
}

func TestTokensEndByThemselves(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, TokenLife: 30 * time.Millisecond})
	refresh, err := h.Install(sandbox.DefaultClientID)
	if err != nil {
		t.Fatal(err)
	}
	access := h.token("grant_type", "refresh_token", "refresh_token", refresh).text("access_token")
	deadline := time.Now().Add(5 * time.Second)
	for h.as(access, "GET", "/crm/v3/owners", nil).status != 401 {
		if time.Now().After(deadline) {
			t.Fatal("the token still works")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestIntrospectionKnowsLiveTokensOnly(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	refresh, err := h.Install(sandbox.DefaultClientID, "crm.objects.deals.read")
	if err != nil {
		t.Fatal(err)
	}
	access := h.token("grant_type", "refresh_token", "refresh_token", refresh).text("access_token")
	ask := func(path string, kvs ...string) answer {
		return h.form(path, append([]string{
			"client_id", sandbox.DefaultClientID, "client_secret", sandbox.DefaultClientSecret,
		}, kvs...)...)
	}
	for use, kv := range map[string][2]string{"access_token": {"token", access}, "refresh_token": {"refresh_token", refresh}} {
		got := ask("/oauth/2026-09/token/introspect", kv[0], kv[1]).must(t, 200)
		if got.at("active") != true || got.text("token_use") != use || len(got.list("scopes")) != 2 {
			t.Errorf("%s: %s", use, got.raw)
		}
	}
	if got := h.as("", "GET", "/oauth/v1/access-tokens/"+access, nil).must(t, 200); got.text("hub_domain") == "" {
		t.Errorf("v1: %s", got.raw)
	}
	h.as("", "GET", "/oauth/v1/refresh-tokens/"+refresh, nil).must(t, 200)
	ask("/oauth/2026-09/token/revoke", "token", refresh).must(t, 200)
	for _, text := range []string{access, refresh, "never was"} {
		if got := ask("/oauth/2026-09/token/introspect", "token", text).must(t, 200); got.raw != `{"active":false}` {
			t.Errorf("revoked: %s", got.raw)
		}
	}
	h.as("", "GET", "/oauth/v1/access-tokens/"+access, nil).must(t, 404)
	ask("/oauth/2026-09/token/introspect").must(t, 400)

	got := h.as("", "POST", "/oauth/v2/private-apps/get/access-token-info", obj{"tokenKey": "sandbox"}).must(t, 200)
	if got.at("hubId") != float64(sandbox.DefaultPortalID) || len(got.list("scopes")) < 50 {
		t.Errorf("private app: %s", got.raw)
	}
	h.as("", "POST", "/oauth/v2/private-apps/get/access-token-info", obj{"tokenKey": "x"}).must(t, 404)
}

func TestClientCredentialsReachNoAccountData(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	got := h.token("grant_type", "client_credentials", "scope", "developer.webhooks_journal.read").must(t, 200)
	if got.text("refresh_token") != "" {
		t.Errorf("got %s", got.raw)
	}
	for _, path := range []string{"/crm/v3/objects/contacts", "/crm/v3/owners", "/account-info/v3/details", "/crm/v3/schemas"} {
		h.as(got.text("access_token"), "GET", path, nil).must(t, 403)
	}
}

func TestAnAppFromTheMarketplaceHasItsOwnBurstAndNoDay(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, Limits: true})
	refresh, err := h.Install(sandbox.DefaultClientID)
	if err != nil {
		t.Fatal(err)
	}
	access := h.token("grant_type", "refresh_token", "refresh_token", refresh).text("access_token")
	for range 110 {
		h.as(access, "GET", "/crm/v3/owners", nil).must(t, 200)
	}
	got := h.as(access, "GET", "/crm/v3/owners", nil).must(t, 429)
	if got.text("policyName") != "TEN_SECONDLY_ROLLING" || got.header.Get("X-HubSpot-RateLimit-Max") != "110" ||
		got.header.Get("X-HubSpot-RateLimit-Daily") != "" {
		t.Errorf("got %s %v", got.raw, got.header)
	}
	if got := h.get("/crm/v3/owners").must(t, 200); got.header.Get("X-HubSpot-RateLimit-Remaining") != "189" {
		t.Errorf("the static token's burst: %v", got.header)
	}
	if n := h.Stats().DailyUsed; n != 1 {
		t.Errorf("%d calls of the day used", n)
	}
}

func TestLegacyScopesIncludeGranularOnes(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	refresh, err := h.Install(sandbox.DefaultClientID, "tickets", "e-commerce")
	if err != nil {
		t.Fatal(err)
	}
	access := h.token("grant_type", "refresh_token", "refresh_token", refresh).text("access_token")
	for path, want := range map[string]int{"tickets": 200, "products": 200, "line_items": 200, "contacts": 403} {
		h.as(access, "GET", "/crm/v3/objects/"+path, nil).must(t, want)
	}
}
