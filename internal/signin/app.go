package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Version is the version of HubSpot's token endpoint.
const Version = "2026-09"

// App is the HubSpot app that an account is connected through.
type App struct {
	ClientID       string
	ClientSecret   string
	AuthorizeURL   string   // of the consent page
	APIURL         string   // of HubSpot's API
	RedirectURL    string   // one of those registered with the app; http on a loopback address, port 0 for any
	Scopes         []string // required
	OptionalScopes []string // granted as far as the account has them
	HTTP           *http.Client
}

// exchangeTimeout bounds one call to the token endpoint.
const exchangeTimeout = 20 * time.Second

func (a App) config() *oauth2.Config {
	return &oauth2.Config{
		ClientID: a.ClientID, ClientSecret: a.ClientSecret, RedirectURL: a.RedirectURL, Scopes: a.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: a.AuthorizeURL, TokenURL: a.tokenURL(), AuthStyle: oauth2.AuthStyleInParams},
	}
}

func (a App) tokenURL() string {
	return strings.TrimRight(a.APIURL, "/") + "/oauth/" + Version + "/token"
}

// context gives calls to the token endpoint their client.
func (a App) context(ctx context.Context) context.Context {
	client := a.HTTP
	if client == nil {
		client = &http.Client{Timeout: exchangeTimeout}
	}
	return context.WithValue(ctx, oauth2.HTTPClient, client)
}

// Grant is what the token endpoint gave.
type Grant struct {
	PortalID     int64
	AccessToken  string
	RefreshToken string
	Life         time.Duration // of the access token
	Scopes       []string
}

func newGrant(t *oauth2.Token) (*Grant, error) {
	g := &Grant{AccessToken: t.AccessToken, RefreshToken: t.RefreshToken, Life: time.Duration(t.ExpiresIn) * time.Second}
	if id, ok := t.Extra("hub_id").(float64); ok {
		g.PortalID = int64(id)
	}
	if list, ok := t.Extra("scopes").([]any); ok {
		for _, s := range list {
			if text, ok := s.(string); ok {
				g.Scopes = append(g.Scopes, text)
			}
		}
	}
	if g.Life <= 0 {
		g.Life = 30 * time.Minute
	}
	if g.AccessToken == "" || g.RefreshToken == "" {
		return nil, &ExchangeError{Reason: "the answer holds no tokens", passing: true}
	}
	return g, nil
}

// refresh exchanges a refresh token.
func (a App) refresh(ctx context.Context, refreshToken string) (*Grant, error) {
	t, err := a.config().TokenSource(a.context(ctx), &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return nil, exchangeError(err)
	}
	return newGrant(t)
}

// ExchangeError says that the token endpoint gave no token. It shows nothing that was sent.
type ExchangeError struct {
	Code    string // invalid_client, …; empty when there was no answer that says
	Reason  string
	passing bool
}

// Error returns the code and the reason.
func (e *ExchangeError) Error() string {
	if e.Code == "" {
		return "exchange token: " + e.Reason
	}
	return "exchange token: " + e.Code + ": " + e.Reason
}

// Temporary says that the same exchange may succeed later.
func (e *ExchangeError) Temporary() bool { return e.passing }

// Hint says what to do.
func (e *ExchangeError) Hint() string {
	switch e.Code {
	case "invalid_client":
		return "check hubspot.client_id and hubspot.client_secret: they are those of the app in HubSpot"
	case "invalid_grant":
		return connectHint
	}
	return ""
}

const connectHint = "run hubpg connect to sign in to the account again"

func exchangeError(err error) error {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return &ExchangeError{Reason: networkReason(err), passing: true}
	}
	out := &ExchangeError{Code: clip(e.ErrorCode), Reason: clip(e.ErrorDescription)}
	status := http.StatusInternalServerError
	if e.Response != nil {
		status = e.Response.StatusCode
	}
	out.passing = status >= 500 || status == http.StatusTooManyRequests || e.ErrorCode == ""
	if out.Reason == "" {
		out.Reason = fmt.Sprintf("status %d", status)
	}
	return out
}

// networkReason leaves out what an error may repeat of an address or an answer.
func networkReason(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return clip(err.Error())
}

func clip(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
