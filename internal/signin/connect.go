package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Connect signs in to an account: it gives show the address of HubSpot's consent page, waits on the app's redirect
// address for the browser to come back, and exchanges the code. It ends with the first whole answer or with ctx.
func (a App) Connect(ctx context.Context, show func(address string)) (*Grant, error) {
	redirect, err := url.Parse(a.RedirectURL)
	if err != nil || redirect.Scheme != "http" || !loopback(redirect.Hostname()) {
		return nil, fmt.Errorf("connect: redirect address %q is not http on a loopback address", a.RedirectURL)
	}
	host := redirect.Host
	if redirect.Port() == "" {
		host = net.JoinHostPort(redirect.Hostname(), "80")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if redirect.Port() == "0" {
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		redirect.Host = net.JoinHostPort(redirect.Hostname(), port)
		a.RedirectURL = redirect.String()
	}
	c := &callback{path: redirect.EscapedPath(), state: rand.Text(), answers: make(chan answer, 1)}
	server := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	var served error
	ended := make(chan struct{}) // served is set
	go func() {                  // ends with Shutdown below
		defer close(ended)
		served = server.Serve(listener)
	}()
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
		<-ended
	}()
	verifier := oauth2.GenerateVerifier()
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier)}
	if len(a.OptionalScopes) > 0 {
		options = append(options, oauth2.SetAuthURLParam("optional_scope", strings.Join(a.OptionalScopes, " ")))
	}
	show(a.config().AuthCodeURL(c.state, options...))
	select {
	case got := <-c.answers:
		if got.err != nil {
			return nil, got.err
		}
		return a.exchange(ctx, got.code, verifier)
	case <-ended:
		return nil, fmt.Errorf("connect: wait for the browser: %w", served)
	case <-ctx.Done():
		return nil, fmt.Errorf("connect: wait for the browser: %w", context.Cause(ctx))
	}
}

func (a App) exchange(ctx context.Context, code, verifier string) (*Grant, error) {
	t, err := a.config().Exchange(a.context(ctx), code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, exchangeError(err)
	}
	g, err := newGrant(t)
	if err == nil && g.PortalID == 0 {
		err = &ExchangeError{Reason: "the answer does not name the account"}
	}
	return g, err
}

// answer is what the browser brought.
type answer struct {
	code string
	err  error
}

// callback receives the browser. Only a request with the right state ends the wait; others are told nothing.
type callback struct {
	path    string
	state   string
	answers chan answer // of size 1; the first one counts
}

// ServeHTTP takes the code, or the refusal, of the request that carries the state.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	switch {
	case r.Method != http.MethodGet || r.URL.EscapedPath() != c.path && c.path != "":
		http.NotFound(w, r)
		return
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(c.state)) != 1:
		w.WriteHeader(http.StatusBadRequest)
		c.page(w, "This page was not opened by hubpg connect. Start again from the address that it printed.")
		return
	case q.Get("error") != "":
		c.give(answer{err: &DeniedError{Code: clip(q.Get("error")), Reason: clip(q.Get("error_description"))}})
		c.page(w, "The account was not connected. You can close this window.")
	case q.Get("code") == "":
		w.WriteHeader(http.StatusBadRequest)
		c.page(w, "HubSpot sent no code. Start again from the address that hubpg connect printed.")
	default:
		c.give(answer{code: q.Get("code")})
		c.page(w, "HubSpot has answered. You can close this window; hubpg goes on in the terminal.")
	}
}

func (c *callback) give(a answer) {
	select {
	case c.answers <- a:
	default:
	}
}

func (c *callback) page(w http.ResponseWriter, text string) {
	_, _ = fmt.Fprintf(w, "<!doctype html><title>hubpg</title><p>%s</p>\n", html.EscapeString(text))
}

// DeniedError says that the account's user did not consent, or that HubSpot did not ask.
type DeniedError struct{ Code, Reason string }

// Error says why.
func (e *DeniedError) Error() string { return "account not connected: " + e.Code + ": " + e.Reason }

// Hint says what to do.
func (e *DeniedError) Hint() string { return "run hubpg connect again and approve in the browser" }

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
