package hubapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// DefaultBaseURL is HubSpot's public API.
const DefaultBaseURL = "https://api.hubapi.com"

// Client calls HubSpot on behalf of one account.
type Client struct {
	base     *url.URL
	class    Class
	versions Versions
	chain    http.RoundTripper
	plain    http.RoundTripper // without token and quota, for files behind links
	hands    *hands
}

// Option changes how New builds a Client.
type Option func(*settings)

type settings struct {
	limiter    Limiter
	transport  http.RoundTripper
	versions   Versions
	logger     *slog.Logger
	observers  []func(Call)
	userAgent  string
	retry      RetryPolicy
	inactivity time.Duration
	maxBody    int64
}

// WithLimiter makes every attempt wait for l. Without it calls go out as they come.
func WithLimiter(l Limiter) Option { return func(s *settings) { s.limiter = l } }

// WithTransport replaces the transport at the end of the chain. It must neither follow redirects nor retry.
func WithTransport(t http.RoundTripper) Option { return func(s *settings) { s.transport = t } }

// WithVersions chooses API versions; empty fields keep their default.
func WithVersions(v Versions) Option { return func(s *settings) { s.versions = v } }

// WithLogger receives one debug line per attempt. Without it nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(s *settings) { s.logger = l } }

// WithObserver calls f after every attempt, in the goroutine of the call. It may be given several times.
func WithObserver(f func(Call)) Option {
	return func(s *settings) { s.observers = append(s.observers, f) }
}

// WithProductVersion completes the User-Agent: hubpg/<version>.
func WithProductVersion(version string) Option {
	return func(s *settings) { s.userAgent = "hubpg/" + version }
}

// WithRetry replaces DefaultRetry; zero fields keep their default.
func WithRetry(p RetryPolicy) Option { return func(s *settings) { s.retry = p } }

// WithInactivity sets how long an attempt may make no progress (no header, no byte of the body) before it is given up
// as lost. The default is 60 s. A slow answer that keeps coming is never cut.
func WithInactivity(d time.Duration) Option { return func(s *settings) { s.inactivity = d } }

// WithMaxBody sets how many bytes an answer may have, 64 MiB by default.
func WithMaxBody(n int64) Option { return func(s *settings) { s.maxBody = n } }

// New returns a Client for the account that the tokens belong to. An empty baseURL means DefaultBaseURL. If the token
// source also implements [Refresher], a token that expires early is replaced once per call.
func New(baseURL string, tokens oauth2.TokenSource, opts ...Option) (*Client, error) {
	base, err := parseBase(baseURL)
	if err != nil {
		return nil, err
	}
	if tokens == nil {
		return nil, errors.New("create hubspot client: no token source")
	}
	s := settings{
		limiter:    unlimited{},
		logger:     slog.New(slog.DiscardHandler),
		userAgent:  "hubpg/dev",
		inactivity: 60 * time.Second,
		maxBody:    64 << 20,
	}
	for _, opt := range opts {
		opt(&s)
	}
	if s.transport == nil {
		s.transport = newTransport()
	}
	c := &Client{base: base, class: Fresh, versions: s.versions.withDefaults(), hands: new(hands)}
	c.chain, c.plain = s.chains(tokens, c.hands)
	return c, nil
}

// chains composes the layers; see the package documentation for their order. The second chain knows no token.
func (s *settings) chains(tokens oauth2.TokenSource, h *hands) (chain, plain http.RoundTripper) {
	var rt http.RoundTripper = &replyLayer{inactivity: s.inactivity, maxBody: s.maxBody, next: s.transport}
	rt = &traceLayer{observers: s.observers, logger: s.logger, userAgent: s.userAgent, hands: h, next: rt}
	plain = &retryLayer{policy: s.retry.withDefaults(), logger: s.logger, next: rt}
	rt = &budgetLayer{limiter: s.limiter, next: rt}
	rt = &authLayer{tokens: tokens, next: rt}
	return &retryLayer{policy: s.retry.withDefaults(), logger: s.logger, next: rt}, plain
}

// As returns a Client whose calls belong to class. It shares everything else with c.
func (c *Client) As(class Class) *Client {
	as := *c
	as.class = class
	return &as
}

// StaticToken returns the TokenSource of a private app's token or a service key.
func StaticToken(token string) oauth2.TokenSource {
	return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token, TokenType: "Bearer"})
}

// call sends one request through the chain. The answer is handed to r.decode inside the retried attempt.
func (c *Client) call(ctx context.Context, r *request) error {
	if r.class = c.class; !r.replay {
		r.class = Writes // whoever makes it, it is none of the reads' share
	}
	u := c.base.Scheme + "://" + c.base.Host + c.base.EscapedPath() + r.path
	if r.query != "" {
		u += "?" + r.query
	}
	var body io.Reader
	if r.body != nil {
		body = http.NoBody // each attempt gets its own reader from r.body
	}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, requestKey{}, r), r.method, u, body)
	if err != nil {
		return fmt.Errorf("build request for %s: %w", r.template, err)
	}
	req.Header.Set("Accept", "application/json")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.chain.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func parseBase(baseURL string) (*url.URL, error) {
	if baseURL == "" {
		baseURL = DefaultBaseURL
	}
	u, err := url.Parse(strings.TrimRight(baseURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("parse hubspot url: %w", err)
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("parse hubspot url: %q is not of the form https://host[:port][/path]", u.Redacted())
	}
	return u, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
}
