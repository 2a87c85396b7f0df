package hubapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
)

// Refresher is a token source that can replace a token before it expires. A source that also has the method
// TokenContext(context.Context) (*oauth2.Token, error) is asked by it instead of Token. An error with the method
// Temporary() bool that says true makes the call be repeated; one with Hint() string brings its own remedy.
type Refresher interface {
	oauth2.TokenSource
	// Refresh returns a token other than refused. It must let concurrent calls with the same refused token share one
	// exchange, and return the newer token at once when refused is no longer the current one.
	Refresh(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error)
}

// authLayer puts the bearer token on each attempt. It sets the header below the point where requests are built, so that
// no other layer sees the token.
type authLayer struct {
	tokens oauth2.TokenSource
	next   http.RoundTripper
}

func (l *authLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := l.token(req.Context())
	if err != nil {
		return nil, tokenError("obtain token", err)
	}
	resp, err := l.send(req, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	refresher, ok := l.tokens.(Refresher)
	if !ok || newAPIError(req, resp, bodyOf(resp)).Category != "EXPIRED_AUTHENTICATION" {
		return resp, nil
	}
	resp.Body.Close()
	if token, err = refresher.Refresh(req.Context(), token); err != nil {
		return nil, tokenError("refresh token", err)
	}
	return l.send(requestOf(req).fresh(req.Context(), req), token)
}

// token asks with the caller's context where the source takes one.
func (l *authLayer) token(ctx context.Context) (*oauth2.Token, error) {
	if s, ok := l.tokens.(interface {
		TokenContext(ctx context.Context) (*oauth2.Token, error)
	}); ok {
		return s.TokenContext(ctx)
	}
	return l.tokens.Token()
}

// noTokenError is a failure of the token source that passes. The call was not sent.
type noTokenError struct{ err error }

func (e *noTokenError) Error() string { return e.err.Error() }
func (e *noTokenError) Unwrap() error { return e.err }

// tokenError tells a source that is away for now from one that HubSpot has refused for good.
func tokenError(verb string, err error) error {
	err = fmt.Errorf("%s: %w", verb, err)
	var passing interface{ Temporary() bool }
	if errors.As(err, &passing) && passing.Temporary() {
		return &noTokenError{err}
	}
	e := &AuthError{Err: err, Hint: hintReconnect}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		e.Hint = hinted.Hint()
	}
	return e
}

func (l *authLayer) send(req *http.Request, token *oauth2.Token) (*http.Response, error) {
	if token.AccessToken == "" || strings.ContainsAny(token.AccessToken, "\r\n\x00 \t") {
		return nil, &AuthError{
			Err:  errors.New("the token is empty or holds white space"),
			Hint: hintToken,
		}
	}
	token.SetAuthHeader(req)
	resp, err := l.next.RoundTrip(req)
	req.Header.Del("Authorization")
	if err == nil && resp.StatusCode >= 300 {
		hide(bodyOf(resp), token.AccessToken)
	}
	return resp, err
}

// hide overwrites a secret where HubSpot repeats it in a refusal.
func hide(body []byte, secret string) {
	for {
		i := bytes.Index(body, []byte(secret))
		if i < 0 {
			return
		}
		copy(body[i:], bytes.Repeat([]byte{'*'}, len(secret)))
		body = body[i+len(secret):]
	}
}
