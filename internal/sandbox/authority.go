package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// codeLife is how long an authorization code may be redeemed.
	codeLife = time.Minute
	// tokenMemory is how long an expired token is still known as one.
	tokenMemory = 24 * time.Hour
)

// authority issues tokens: it is the account's side of OAuth.
type authority struct {
	apps   []*app
	life   time.Duration
	rotate bool

	mu      sync.Mutex // guards below
	codes   map[string]*authCode
	refresh map[string]*grant
	access  map[string]*accessToken
}

// authCode is the result of a consent, to be redeemed once.
type authCode struct {
	app       *app
	scopes    []string
	redirect  string
	challenge string // PKCE; empty without
	method    string
	expires   time.Time
}

// grant is an installation of an app.
type grant struct {
	app    *app
	scopes []string
	token  string // the refresh token
}

// accessToken is a bearer token. Only expires changes, under the authority's lock.
type accessToken struct {
	app     *app
	scopes  []string
	grant   *grant // nil for client credentials
	text    string
	expires time.Time
}

func newAuthority(cfg Config) *authority {
	return &authority{
		apps: newApps(cfg.Apps), life: cfg.TokenLife, rotate: cfg.RotateRefreshTokens,
		codes: map[string]*authCode{}, refresh: map[string]*grant{}, access: map[string]*accessToken{},
	}
}

// app finds an app by client id.
func (o *authority) app(clientID string) *app {
	for _, a := range o.apps {
		if a.ClientID == clientID {
			return a
		}
	}
	return nil
}

// find finds an access token, expired or not.
func (o *authority) find(text string) *accessToken {
	if text == "" {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.access[text]
}

// live tells whether a token is good, and until when it is or was.
func (o *authority) live(t *accessToken) (expires time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return t.expires, time.Now().Before(t.expires)
}

// expire ends a token's life now.
func (o *authority) expire(t *accessToken) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t.expires = earlier(t.expires, time.Now())
}

// age makes everything issued older.
func (o *authority) age(by time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.access {
		t.expires = t.expires.Add(-by)
	}
	for _, code := range o.codes {
		code.expires = code.expires.Add(-by)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// consent makes a code.
func (o *authority) consent(code authCode) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	code.expires = time.Now().Add(codeLife)
	text := "na1-" + strings.ToLower(rand.Text())
	o.codes[text] = &code
	return text
}

// redeem takes a code out, nil when it is unknown, used or too old.
func (o *authority) redeem(text string) *authCode {
	o.mu.Lock()
	defer o.mu.Unlock()
	code := o.codes[text]
	delete(o.codes, text)
	if code == nil || time.Now().After(code.expires) {
		return nil
	}
	return code
}

// verifies tells whether a PKCE verifier belongs to the code's challenge.
func (c *authCode) verifies(verifier string) bool {
	if c.challenge == "" {
		return verifier == ""
	}
	if c.method == "S256" {
		sum := sha256.Sum256([]byte(verifier))
		verifier = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return subtle.ConstantTimeCompare([]byte(verifier), []byte(c.challenge)) == 1
}

// install makes a refresh token.
func (o *authority) install(a *app, scopes []string) *grant {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &grant{app: a, scopes: scopes, token: newRefreshToken()}
	o.refresh[g.token] = g
	return g
}

func newRefreshToken() string {
	t := strings.ToLower(rand.Text() + rand.Text())
	return "na1-" + t[:4] + "-" + t[4:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:28]
}

// granted finds the installation of a refresh token.
func (o *authority) granted(refresh string) *grant {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refresh[refresh]
}

// issue makes an access token for an installation, or for the app itself when g is nil. rotate gives the installation
// a new refresh token first, where the authority is set to; the returned text is the refresh token in force.
func (o *authority) issue(a *app, g *grant, scopes []string, rotate bool) (t *accessToken, refresh string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(o.access, func(_ string, t *accessToken) bool { return now.Sub(t.expires) > tokenMemory })
	maps.DeleteFunc(o.codes, func(_ string, code *authCode) bool { return now.After(code.expires) })
	t = &accessToken{app: a, scopes: scopes, grant: g, text: newAccessToken(), expires: now.Add(o.life)}
	o.access[t.text] = t
	if g == nil {
		return t, ""
	}
	if rotate && o.rotate {
		delete(o.refresh, g.token)
		g.token = newRefreshToken()
		o.refresh[g.token] = g
	}
	return t, g.token
}

// newAccessToken is as long as HubSpot's: longer than what fits a short column.
func newAccessToken() string {
	var b strings.Builder
	b.WriteString("CP")
	for range 11 {
		b.WriteString(rand.Text())
	}
	return b.String()
}

// revoke ends a refresh token with the access tokens of its installation, or one access token, and tells whether
// there was one.
func (o *authority) revoke(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.refresh[text]; g != nil {
		o.forget(g)
		return true
	}
	if o.access[text] != nil {
		delete(o.access, text)
		return true
	}
	return false
}

// uninstall revokes everything an app has.
func (o *authority) uninstall(a *app) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range slices.Collect(maps.Values(o.refresh)) {
		if g.app == a {
			o.forget(g)
		}
	}
}

func (o *authority) forget(g *grant) {
	delete(o.refresh, g.token)
	maps.DeleteFunc(o.access, func(_ string, t *accessToken) bool { return t.grant == g })
}

// Install installs an app without its consent page and returns a refresh token. Without scopes every scope of the
// account is granted.
func (s *Server) Install(clientID string, scopes ...string) (refreshToken string, err error) {
	a := s.oauth.app(clientID)
	if a == nil {
		return "", ErrNotFound
	}
	if len(scopes) == 0 {
		scopes = accountScopes()
	}
	token := s.oauth.install(a, withOAuth(scopes)).token
	s.lifecycle(a, "INSTALL")
	return token, nil
}

// Uninstall revokes all tokens of an app, as a user of the account may at any time.
func (s *Server) Uninstall(clientID string) error {
	a := s.oauth.app(clientID)
	if a == nil {
		return ErrNotFound
	}
	s.oauth.uninstall(a)
	s.lifecycle(a, "UNINSTALL")
	return nil
}

// ExpireTokens ends the life of all access tokens now. Refresh tokens stay.
func (s *Server) ExpireTokens() {
	s.oauth.mu.Lock()
	defer s.oauth.mu.Unlock()
	now := time.Now()
	for _, t := range s.oauth.access {
		t.expires = earlier(t.expires, now)
	}
}

// withOAuth adds the scope that every installation has.
func withOAuth(scopes []string) []string {
	scopes = append([]string{"oauth"}, scopes...)
	slices.Sort(scopes)
	return slices.Compact(scopes)
}
