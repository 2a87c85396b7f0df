package sandbox

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// hubDomain is the account's domain as tokens know it.
const hubDomain = "northbeam.example"

// oauthError is a refusal of the token endpoint: RFC 6749's error and HubSpot's own status.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	Status      string `json:"status"`
	Message     string `json:"message"`
}

func (c *call) refuse(code, status, message string) *reply {
	return c.answer(http.StatusBadRequest, oauthError{code, message, status, message})
}

// oauthVersions serve the token endpoint; v1 answers less.
var oauthVersions = [...]string{"2026-09", "2026-03", "v3", "v1"}

// routeOAuth finds the handlers below /oauth and /appinstalls.
func (s *Server) routeOAuth(c *call, segments []string) handler {
	switch first, n := segments[0], len(segments); {
	case first == "oauth" && n >= 2:
	case first == "appinstalls" && n == 3 && segments[2] == "external-install":
		c.label, c.version, c.family = "oauth", segments[1], "appinstalls"
		return s.serveUninstall
	default:
		return nil
	}
	c.label, c.family, c.limits, c.open = "oauth", "oauth", limitNone, true
	c.version, c.rest = segments[1], segments[2:]
	what := strings.Join(c.rest, "/")
	switch {
	case c.version == "authorize" && what == "", what == "authorize":
		return s.serveAuthorize
	case c.version == "v2" && what == "private-apps/get/access-token-info":
		return s.servePrivateApp
	case !slices.Contains(oauthVersions[:], c.version):
		return (*call).notFound
	case what == "token":
		return s.serveToken
	case c.version == "v1" && len(c.rest) == 2 && (c.rest[0] == "access-tokens" || c.rest[0] == "refresh-tokens"):
		return s.serveTokenMetadata
	case c.version == "v1":
		return (*call).notFound
	case what == "token/introspect":
		return s.serveIntrospect
	case what == "token/revoke":
		return s.serveRevoke
	default:
		return (*call).notFound
	}
}

// form reads the body of a token request. Parameters in the address do not count.
func (c *call) form() (url.Values, *reply) {
	if r := c.only(http.MethodPost); r != nil {
		return nil, r
	}
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return nil, c.refuse("invalid_request", "BAD_REQUEST", "unreadable form")
	}
	return form, nil
}

// client checks the client's credentials.
func (s *Server) client(c *call, form url.Values) (*app, *reply) {
	a := s.oauth.app(form.Get("client_id"))
	if a == nil {
		return nil, c.refuse("invalid_client", "BAD_CLIENT_ID", "missing or unknown client id")
	}
	if subtle.ConstantTimeCompare([]byte(form.Get("client_secret")), []byte(a.ClientSecret)) != 1 {
		return nil, c.refuse("invalid_client", "BAD_CLIENT_SECRET", "missing or invalid client secret")
	}
	return a, nil
}

// serveToken answers POST oauth/{version}/token.
func (s *Server) serveToken(c *call) *reply {
	form, r := c.form()
	if r != nil {
		return r
	}
	grantType := form.Get("grant_type")
	if grantType != "authorization_code" && grantType != "refresh_token" &&
		(grantType != "client_credentials" || c.version == "v1") {
		return c.refuse("unsupported_grant_type", "BAD_GRANT_TYPE", "missing or unknown grant type")
	}
	a, r := s.client(c, form)
	if r != nil {
		return r
	}
	switch grantType {
	case "authorization_code":
		code := s.oauth.redeem(form.Get("code"))
		switch {
		case code == nil || code.app != a:
			return c.refuse("invalid_grant", "BAD_AUTH_CODE", "missing or unknown auth code")
		case form.Get("redirect_uri") != code.redirect:
			return c.refuse("invalid_grant", "BAD_REDIRECT_URI", "missing or invalid redirect uri")
		case !code.verifies(form.Get("code_verifier")):
			return c.refuse("invalid_grant", "BAD_CODE_VERIFIER", "missing or invalid code verifier")
		}
		g := s.oauth.install(a, code.scopes)
		s.lifecycle(a, "INSTALL")
		t, refresh := s.oauth.issue(a, g, g.scopes, false)
		return s.tokenReply(c, t, refresh)
	case "refresh_token":
		g := s.oauth.granted(form.Get("refresh_token"))
		if g == nil || g.app != a {
			return c.refuse("invalid_grant", "BAD_REFRESH_TOKEN", "refresh token is invalid, expired or revoked")
		}
		t, refresh := s.oauth.issue(a, g, g.scopes, true)
		return s.tokenReply(c, t, refresh)
	default:
		scopes := strings.Fields(form.Get("scope"))
		for _, scope := range scopes {
			if !slices.Contains(journalScopes[:], scope) || !a.mayAsk(scope) {
				scopes = nil
				break
			}
		}
		if len(scopes) == 0 {
			return c.refuse("invalid_scope", "BAD_SCOPES", "missing or unknown scopes")
		}
		t, _ := s.oauth.issue(a, nil, scopes, false)
		return s.tokenReply(c, t, "")
	}
}

// tokenBody is what the token endpoint answers. The members after TokenType are not in v1.
type tokenBody struct {
	AccessToken  string   `json:"access_token"`
	RefreshToken string   `json:"refresh_token,omitempty"`
	ExpiresIn    int      `json:"expires_in"`
	TokenType    string   `json:"token_type"`
	TokenUse     string   `json:"token_use,omitempty"`
	HubID        int64    `json:"hub_id,omitempty"`
	UserID       int64    `json:"user_id,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
}

func (s *Server) tokenReply(c *call, t *accessToken, refresh string) *reply {
	body := tokenBody{
		AccessToken: t.text, RefreshToken: refresh, ExpiresIn: max(1, int(s.oauth.life.Seconds())), TokenType: "bearer",
	}
	if c.version != "v1" {
		body.TokenUse, body.Scopes = "access_token", t.scopes
		if t.grant != nil {
			body.HubID = s.cfg.PortalID
			body.UserID, _ = s.installer()
		}
	}
	return c.answer(http.StatusOK, body).set("Cache-Control", "no-store")
}

// installer is the user who installs apps: the first owner.
func (s *Server) installer() (userID int64, email string) {
	s.account.view(func() {
		if os := s.account.activeOwners(); len(os) > 0 {
			userID, email = os[0].userID, os[0].email
		}
	})
	return userID, email
}

// tokenInfo is what introspection tells of a good token; only active is in the answer for another.
type tokenInfo struct {
	Active               bool     `json:"active"`
	Token                string   `json:"token,omitempty"`
	HubID                int64    `json:"hub_id,omitempty"`
	UserID               int64    `json:"user_id,omitempty"`
	User                 string   `json:"user,omitempty"`
	HubDomain            string   `json:"hub_domain,omitempty"`
	ClientID             string   `json:"client_id,omitempty"`
	AppID                int64    `json:"app_id,omitempty"`
	Scopes               []string `json:"scopes,omitempty"`
	ExpiresIn            int      `json:"expires_in,omitempty"`
	IsPrivateDistributed *bool    `json:"is_private_distribution,omitempty"`
	TokenUse             string   `json:"token_use,omitempty"`
	TokenType            string   `json:"token_type,omitempty"`
}

// serveIntrospect answers POST oauth/{version}/token/introspect.
func (s *Server) serveIntrospect(c *call) *reply {
	form, r := c.form()
	if r != nil {
		return r
	}
	a, r := s.client(c, form)
	if r != nil {
		return r
	}
	for _, name := range []string{"token", "access_token", "refresh_token"} {
		if text := form.Get(name); text != "" {
			return c.answer(http.StatusOK, s.introspect(a, text))
		}
	}
	return c.refuse("invalid_request", "BAD_TOKEN", "missing token")
}

// introspect describes a token of an app, or says that it is not active.
func (s *Server) introspect(a *app, text string) tokenInfo {
	info := tokenInfo{
		Active: true, Token: text, HubID: s.cfg.PortalID, HubDomain: hubDomain, ClientID: a.ClientID, AppID: a.ID,
		IsPrivateDistributed: &a.Private, TokenType: "bearer",
	}
	info.UserID, info.User = s.installer()
	if g := s.oauth.granted(text); g != nil && g.app == a {
		info.Scopes, info.TokenUse = g.scopes, "refresh_token"
		return info
	}
	t := s.oauth.find(text)
	if t == nil || t.app != a {
		return tokenInfo{}
	}
	expires, live := s.oauth.live(t)
	if !live {
		return tokenInfo{}
	}
	if t.grant == nil {
		info.HubID, info.HubDomain, info.UserID, info.User = 0, "", 0, ""
	}
	info.Scopes, info.TokenUse, info.ExpiresIn = t.scopes, "access_token", int(time.Until(expires).Seconds())
	return info
}

// serveRevoke answers POST oauth/{version}/token/revoke. An unknown token is answered alike.
func (s *Server) serveRevoke(c *call) *reply {
	form, r := c.form()
	if r != nil {
		return r
	}
	if _, r := s.client(c, form); r != nil {
		return r
	}
	if form.Get("token") == "" {
		return c.refuse("invalid_request", "BAD_TOKEN", "missing token")
	}
	s.oauth.revoke(form.Get("token"))
	return c.answer(http.StatusOK, struct{}{})
}

// serveTokenMetadata answers GET oauth/v1/access-tokens/{token} and GET, DELETE oauth/v1/refresh-tokens/{token}.
func (s *Server) serveTokenMetadata(c *call) *reply {
	text := c.rest[1]
	var a *app
	if c.rest[0] == "access-tokens" {
		if r := c.only(http.MethodGet); r != nil {
			return r
		}
		if t := s.oauth.find(text); t != nil {
			a = t.app
		}
	} else {
		if r := c.only(http.MethodGet, http.MethodDelete); r != nil {
			return r
		}
		if g := s.oauth.granted(text); g != nil {
			a = g.app
		}
	}
	if a == nil {
		return c.notFound()
	}
	if c.method == http.MethodDelete {
		s.oauth.revoke(text)
		return c.noContent()
	}
	info := s.introspect(a, text)
	if !info.Active {
		return c.notFound()
	}
	body := map[string]any{
		"token": info.Token, "user": info.User, "hub_domain": info.HubDomain, "scopes": info.Scopes,
		"hub_id": info.HubID, "user_id": info.UserID,
	}
	if c.rest[0] == "access-tokens" {
		body["app_id"], body["expires_in"], body["token_type"] = info.AppID, info.ExpiresIn, "access"
	} else {
		body["client_id"], body["token_type"] = info.ClientID, "refresh"
	}
	return c.answer(http.StatusOK, body)
}

// servePrivateApp answers POST oauth/v2/private-apps/get/access-token-info about the static token.
func (s *Server) servePrivateApp(c *call) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		TokenKey string `json:"tokenKey"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if body.TokenKey == "" {
		return c.missing("tokenKey")
	}
	if subtle.ConstantTimeCompare([]byte(body.TokenKey), []byte(s.cfg.Token)) != 1 {
		return c.notFound()
	}
	userID, _ := s.installer()
	s.scopeMu.RLock()
	scopes := slices.DeleteFunc(accountScopes(), func(scope string) bool { return s.withheld[scope] })
	s.scopeMu.RUnlock()
	return c.answer(http.StatusOK, struct {
		UserID int64    `json:"userId"`
		HubID  int64    `json:"hubId"`
		AppID  int64    `json:"appId"`
		Scopes []string `json:"scopes"`
	}{userID, s.cfg.PortalID, s.oauth.apps[0].ID - 1, scopes})
}

// serveUninstall answers DELETE appinstalls/{version}/external-install, by the app itself.
func (s *Server) serveUninstall(c *call) *reply {
	if r := c.only(http.MethodDelete); r != nil {
		return r
	}
	if c.token == nil || c.token.grant == nil {
		return c.missingScopes("oauth")
	}
	s.oauth.uninstall(c.token.app)
	s.lifecycle(c.token.app, "UNINSTALL")
	return c.noContent()
}
