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

// Refresher is a token source that can replace a token before it expires.
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
	token, err := l.tokens.Token()
	if err != nil {
		return nil, &AuthError{Err: fmt.Errorf("obtain token: %w", err), Hint: hintReconnect}
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
		return nil, &AuthError{Err: fmt.Errorf("refresh token: %w", err), Hint: hintReconnect}
	}
	return l.send(requestOf(req).fresh(req.Context(), req), token)
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
	}
}
