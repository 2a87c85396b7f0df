package sandbox

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const scopesPage = "https://developers.hubspot.com/scopes"

// bearer is the token of the Authorization header, empty without one.
func bearer(h http.Header) string {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// authorize checks the bearer token: the static one, or one that the token endpoint has issued.
func (s *Server) authorize(c *call, h http.Header) *reply {
	if c.open {
		return nil
	}
	if c.token != nil {
		if expires, live := s.oauth.live(c.token); !live {
			return c.expired(expires)
		}
		return nil
	}
	if subtle.ConstantTimeCompare([]byte(bearer(h)), []byte(s.cfg.Token)) == 1 {
		return nil
	}
	return c.fail(failure{
		status: http.StatusUnauthorized,
		message: "Authentication credentials not found. This API supports OAuth 2.0 authentication and " +
			"you can find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
		category: "INVALID_AUTHENTICATION",
	})
}

// expired is the answer to an OAuth token past its time.
func (c *call) expired(at time.Time) *reply {
	return c.fail(failure{
		status: http.StatusUnauthorized,
		message: fmt.Sprintf("The OAuth token used to make this call expired %d second(s) ago.",
			max(0, int(time.Since(at).Seconds()))),
		category: "EXPIRED_AUTHENTICATION",
		context:  [][2]string{{"expire time", string(appendInstant(nil, at.UnixMilli()))}},
	})
}

// needs refuses the call unless the token has one of the scopes.
func (c *call) needs(scopes ...string) *reply {
	c.s.scopeMu.RLock()
	defer c.s.scopeMu.RUnlock()
	for _, scope := range scopes {
		if !c.s.withheld[scope] && c.granted(scope) {
			return nil
		}
	}
	return c.missingScopes(scopes...)
}

// granted tells whether the token was issued with the scope. A static token has every scope of the account.
func (c *call) granted(scope string) bool {
	if c.token == nil {
		return !strings.HasPrefix(scope, developerScopes)
	}
	return slices.Contains(c.token.scopes, scope) || slices.Contains(c.token.scopes, legacyScope(scope))
}

func (c *call) missingScopes(scopes ...string) *reply {
	var context [][2]string
	for _, scope := range scopes {
		context = append(context, [2]string{"requiredGranularScopes", scope})
	}
	if c.family == "schemas" {
		return c.fail(failure{
			status: http.StatusForbidden, category: "MISSING_SCOPES",
			message: "One or more of the following scopes are required.",
			context: append(context, [2]string{"links", scopesPage}),
		})
	}
	return c.fail(failure{
		status: http.StatusForbidden, category: "MISSING_SCOPES",
		message: "This app hasn't been granted all required scopes to make this call. " +
			"Read more about required scopes here: " + scopesPage + ".",
		errors: []detail{{message: "One or more of the following scopes are required.", context: context}},
		links:  [][2]string{{"scopes", scopesPage}},
	})
}

// WithholdScopes replaces the scopes the token has not been granted, Config.WithheldScopes at first.
func (s *Server) WithholdScopes(scopes ...string) {
	withheld := make(map[string]bool, len(scopes))
	for _, scope := range scopes {
		withheld[scope] = true
	}
	s.scopeMu.Lock()
	defer s.scopeMu.Unlock()
	s.withheld = withheld
}

func (k *kind) objectScope() string {
	if k.custom {
		return "custom"
	}
	return k.scope
}

func (k *kind) readScope() string   { return "crm.objects." + k.objectScope() + ".read" }
func (k *kind) writeScope() string  { return "crm.objects." + k.objectScope() + ".write" }
func (k *kind) schemaScope() string { return "crm.schemas." + k.objectScope() + ".read" }

func (k *kind) schemaWriteScope() string { return "crm.schemas." + k.objectScope() + ".write" }
