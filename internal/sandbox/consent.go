package sandbox

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

var consentPage = template.Must(template.New("consent").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Connect {{.App}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}
button{font:inherit;padding:.5rem 1.2rem;margin-right:.6rem}</style></head><body>
<h1>Connect {{.App}} to the account {{.Portal}}?</h1>
<p>The simulated HubSpot asks on behalf of {{.App}} for:</p>
<ul>{{range .Scopes}}<li><code>{{.}}</code></li>{{end}}</ul>
<form method="post" action="{{.Action}}">
<button name="decision" value="approve">Connect app</button>
<button name="decision" value="deny">Cancel</button>
</form></body></html>
`))

var refusalPage = template.Must(template.New("refusal").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Authorization failed</title></head><body>
<h1>Authorization failed</h1><p>{{.}}</p></body></html>
`))

func page(status int, t *template.Template, data any) *reply {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return &reply{status: http.StatusInternalServerError, html: true}
	}
	return &reply{status: status, html: true, body: b.Bytes()}
}

// serveAuthorize answers GET oauth[/{portalId}]/authorize with the consent page and POST with what the user decided.
// What is wrong with the app or its redirect is told on a page: nothing may be sent to an address not known.
func (s *Server) serveAuthorize(c *call) *reply {
	if r := c.only(http.MethodGet, http.MethodPost); r != nil {
		return r
	}
	if pinned := c.version; pinned != "authorize" && pinned != strconv.FormatInt(s.cfg.PortalID, 10) {
		return page(http.StatusBadRequest, refusalPage, "You do not have access to account "+pinned+".")
	}
	q := c.query
	a := s.oauth.app(q.Get("client_id"))
	if a == nil {
		return page(http.StatusBadRequest, refusalPage, "missing or unknown client id")
	}
	redirect := q.Get("redirect_uri")
	if !a.redirects(redirect) {
		return page(http.StatusBadRequest, refusalPage, "missing or invalid redirect uri: it is not one of the app's")
	}
	to, err := url.Parse(redirect)
	if err != nil {
		return page(http.StatusBadRequest, refusalPage, "missing or invalid redirect uri")
	}
	code := authCode{
		app: a, redirect: redirect, challenge: q.Get("code_challenge"), method: q.Get("code_challenge_method"),
	}
	if code.challenge != "" && code.method != "S256" && code.method != "plain" && code.method != "" {
		return page(http.StatusBadRequest, refusalPage, "unknown code challenge method")
	}
	scopes, problem := s.askedScopes(a, strings.Fields(q.Get("scope")), strings.Fields(q.Get("optional_scope")))
	if problem != "" {
		return page(http.StatusBadRequest, refusalPage, problem)
	}
	code.scopes = scopes
	decision := ""
	if c.method == http.MethodPost {
		form, err := url.ParseQuery(string(c.body))
		if err != nil {
			return page(http.StatusBadRequest, refusalPage, "unreadable form")
		}
		decision = form.Get("decision")
	} else if s.cfg.AutoApprove {
		decision = "approve"
	}
	back := to.Query()
	switch decision {
	case "approve":
		back.Set("code", s.oauth.consent(code))
	case "deny":
		back.Set("error", "access_denied")
		back.Set("error_description", "The user has denied the app access to the account")
	default:
		return page(http.StatusOK, consentPage, map[string]any{
			"App": a.Name, "Portal": s.cfg.PortalID, "Scopes": scopes, "Action": "?" + q.Encode(),
		})
	}
	if state := q.Get("state"); state != "" {
		back.Set("state", state)
	}
	to.RawQuery = back.Encode()
	return (&reply{status: http.StatusFound, html: true}).set("Location", to.String())
}

// askedScopes are the scopes a consent grants: all required ones, and of the optional ones what the account has.
func (s *Server) askedScopes(a *app, required, optional []string) (granted []string, problem string) {
	known := accountScopes()
	s.scopeMu.RLock()
	defer s.scopeMu.RUnlock()
	for _, scope := range required {
		switch {
		case !slices.Contains(known, scope) || !a.mayAsk(scope):
			return nil, "The scopes in the address do not match the app's: " + scope
		case s.withheld[scope]:
			return nil, "This account does not have access to the scope " + scope
		}
		granted = append(granted, scope)
	}
	if len(required) == 0 {
		return nil, "missing scopes"
	}
	for _, scope := range optional {
		if slices.Contains(known, scope) && a.mayAsk(scope) && !s.withheld[scope] {
			granted = append(granted, scope)
		}
	}
	return withOAuth(granted), ""
}
