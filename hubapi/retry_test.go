package hubapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"hubpg/hubapi"
)

// script answers one attempt after the other; the last answer is repeated.
type script struct {
	mu      sync.Mutex
	answers []answer
	sent    []*http.Request
	bodies  []string
	at      []time.Time
}

type answer struct {
	status int
	body   string
	header http.Header
	err    error
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.answers[min(len(s.sent), len(s.answers)-1)]
	s.sent = append(s.sent, req.Clone(context.Background()))
	s.at = append(s.at, time.Now())
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, string(b))
	}
	if a.err != nil {
		return nil, a.err
	}
	header := a.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body)), Request: req}, nil
}

// counter is a Limiter that lets everything pass and counts.
type counter struct {
	mu       sync.Mutex
	waits    int
	observed []string
	err      error
}

func (c *counter) Wait(_ context.Context, family, class string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits++
	return c.err
}

func (c *counter) Observe(family string, status int, _ http.Header, policy string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observed = append(c.observed, fmt.Sprintf("%s %d %s", family, status, policy))
}

const testToken = "pat-na1-secret-0001"

func newClient(t *testing.T, rt http.RoundTripper, opts ...hubapi.Option) *hubapi.Client {
	t.Helper()
	c, err := hubapi.New("https://api.invalid", hubapi.StaticToken(testToken), append(opts, hubapi.WithTransport(rt))...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const emptyPage = `{"results":[]}`

var ok = answer{status: 200, body: emptyPage}

func listContacts(ctx context.Context, c *hubapi.Client) error {
	_, err := c.ListObjects(ctx, "contacts", hubapi.ListOptions{})
	return err
}

func TestFailuresThatMayPassAreRepeated(t *testing.T) {
	t.Parallel()
	rolling := `{"message":"You have reached your ten_secondly_rolling limit.","policyName":"TEN_SECONDLY_ROLLING"}`
	secondly := `{"message":"You have reached your secondly limit.","category":"RATE_LIMITS"}`
	for name, c := range map[string]struct {
		first    answer
		min, max time.Duration // pause before the second attempt
	}{
		"internal error":       {answer{status: 500, body: `{"message":"internal error"}`}, 100 * time.Millisecond, time.Second},
		"bad gateway page":     {answer{status: 502, body: `<html>502</html>`}, 100 * time.Millisecond, time.Second},
		"unavailable, header":  {answer{status: 503, header: http.Header{"Retry-After": {"3"}}}, 3 * time.Second, 3100 * time.Millisecond},
		"cloudflare timeout":   {answer{status: 524, body: "error code: 524"}, 100 * time.Millisecond, time.Second},
		"page with status 200": {answer{status: 200, body: "<html>login</html>"}, 100 * time.Millisecond, time.Second},
		"nothing with 200":     {answer{status: 200}, 100 * time.Millisecond, time.Second},
		"half an answer":       {answer{status: 200, body: `{"results":[{"id":"1"`}, 100 * time.Millisecond, time.Second},
		"connection reset":     {answer{err: &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}}, 100 * time.Millisecond, time.Second},
		"dial timeout": {
			answer{err: &net.OpError{Op: "dial", Err: context.DeadlineExceeded}}, 100 * time.Millisecond, time.Second,
		},
		"rolling limit":     {answer{status: 429, body: rolling}, time.Second, 10 * time.Second},
		"search limit":      {answer{status: 429, body: secondly}, time.Second, 1500 * time.Millisecond},
		"unnamed limit":     {answer{status: 429, body: ``}, time.Second, 1500 * time.Millisecond},
		"limit with header": {answer{status: 429, body: rolling, header: http.Header{"Retry-After": {"4"}}}, 4 * time.Second, 4500 * time.Millisecond},
		"locked":            {answer{status: 423, body: `{"message":"locked"}`}, 2 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{c.first, ok}}
				limiter := new(counter)
				if err := listContacts(t.Context(), newClient(t, s, hubapi.WithLimiter(limiter))); err != nil {
					t.Fatal(err)
				}
				if len(s.sent) != 2 || limiter.waits != 2 || len(limiter.observed) != 2 {
					t.Fatalf("%d attempts with %d tokens and %d reports, want 2 of each", len(s.sent), limiter.waits, len(limiter.observed))
				}
				if pause := s.at[1].Sub(s.at[0]); pause < c.min || pause > c.max {
					t.Errorf("paused %v, want %v to %v", pause, c.min, c.max)
				}
			})
		})
	}
}

func TestRefusalsAreNotRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer answer
		is     func(*hubapi.APIError, error) error
	}{
		"bad request":            {answer{status: 400, body: `{"message":"m"}`}, wantType[*hubapi.ValidationError]},
		"unauthorized":           {answer{status: 401, body: `{"category":"INVALID_AUTHENTICATION"}`}, wantType[*hubapi.AuthError]},
		"expired":                {answer{status: 401, body: `{"category":"EXPIRED_AUTHENTICATION"}`}, wantType[*hubapi.AuthError]},
		"forbidden":              {answer{status: 403, body: `{"category":"MISSING_SCOPES"}`}, wantType[*hubapi.ScopeError]},
		"forbidden by a gateway": {answer{status: 403, body: `<html>`}, wantType[*hubapi.ScopeError]},
		"not found":              {answer{status: 404, body: `{}`}, wantType[*hubapi.NotFoundError]},
		"conflict":               {answer{status: 409, body: `{}`}, wantType[*hubapi.ConflictError]},
		"long URL":               {answer{status: 414, body: `<h1>414</h1>`}, wantType[*hubapi.TooLargeError]},
		"daily limit":            {answer{status: 429, body: `{"policyName":"DAILY"}`}, wantPolicy(hubapi.PolicyDaily)},
		"moving":                 {answer{status: 477, header: http.Header{"Retry-After": {"7200"}}}, wantPolicy(hubapi.PolicyMigration)},
		"no id in a record":      {answer{status: 200, body: `{"results":[{"properties":{}}]}`}, wantType[*hubapi.UnavailableError]},
		"redirect":               {answer{status: 302, header: http.Header{"Location": {"https://elsewhere.invalid"}}}, wantType[*hubapi.APIError]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{c.answer, ok}}
				err := listContacts(t.Context(), newClient(t, s))
				if err == nil {
					t.Fatal("no error")
				}
				if werr := c.is(nil, err); werr != nil {
					t.Error(werr)
				}
				if len(s.sent) != 1 {
					t.Errorf("%d attempts, want 1", len(s.sent))
				}
			})
		})
	}
}

func TestTriesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{status: 500, body: `{"message":"internal error","correlationId":"abc"}`}}}
		start := time.Now()
		err := listContacts(t.Context(), newClient(t, s))
		down, is := errors.AsType[*hubapi.UnavailableError](err)
		if !is || down.Attempts != 6 || len(s.sent) != 6 || down.Ambiguous {
			t.Fatalf("after %d attempts: %#v", len(s.sent), err)
		}
		if api, is := errors.AsType[*hubapi.APIError](err); !is || api.CorrelationID != "abc" {
			t.Errorf("HubSpot's answer is lost: %v", err)
		}
		if took := time.Since(start); took < 3*time.Second || took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{status: 429, body: `{"message":"You have reached your secondly limit."}`}}}
		err := listContacts(t.Context(), newClient(t, s))
		if werr := wantPolicy(hubapi.PolicySecondly)(nil, err); werr != nil || len(s.sent) != 12 {
			t.Fatalf("after %d attempts: %v", len(s.sent), err)
		}
	})
}

func TestCancelEndsAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{status: 423}}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := listContacts(ctx, newClient(t, s))
		if !errors.Is(err, context.DeadlineExceeded) || len(s.sent) != 1 {
			t.Fatalf("after %d attempts: %v", len(s.sent), err)
		}
	})
}

func TestBodyOfAReadIsSentWholeEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{status: 500}, {status: 207, body: emptyPage}}}
		if _, err := newClient(t, s).BatchRead(t.Context(), "contacts", []int64{1, 2}, nil); err != nil {
			t.Fatal(err)
		}
		if len(s.bodies) != 2 || s.bodies[0] != s.bodies[1] || !strings.Contains(s.bodies[0], `{"id":"2"}`) {
			t.Errorf("bodies %q", s.bodies)
		}
	})
}

// exhausted is what a Limiter says when its share is spent for longer than it waits.
type exhausted struct{}

func (exhausted) Error() string             { return "daily budget used up" }
func (exhausted) RetryAfter() time.Duration { return time.Hour }

func TestLimiterErrorsEndTheCall(t *testing.T) {
	t.Parallel()
	s := &script{answers: []answer{ok}}
	err := listContacts(t.Context(), newClient(t, s, hubapi.WithLimiter(&counter{err: exhausted{}})))
	rate, is := errors.AsType[*hubapi.RateError](err)
	if !is || rate.RetryAfter != time.Hour || len(s.sent) != 0 || hubapi.Hint(err) == "" {
		t.Errorf("%d attempts: %#v", len(s.sent), err)
	}
	boom := errors.New("database gone")
	if err := listContacts(t.Context(), newClient(t, s, hubapi.WithLimiter(&counter{err: boom}))); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

// renewing is a token source that can refresh.
type renewing struct {
	mu      sync.Mutex
	n       int
	refused []string
}

func (r *renewing) Token() (*oauth2.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &oauth2.Token{AccessToken: fmt.Sprintf("token-%d", r.n)}, nil
}

func (r *renewing) Refresh(_ context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, refused.AccessToken)
	r.n++
	return &oauth2.Token{AccessToken: fmt.Sprintf("token-%d", r.n)}, nil
}

func TestExpiredTokenIsRefreshedOnce(t *testing.T) {
	t.Parallel()
	expired := answer{status: 401, body: `{"category":"EXPIRED_AUTHENTICATION","message":"token-0 expired"}`}
	for name, c := range map[string]struct {
		answers []answer
		sent    int
		auth    bool
	}{
		"then it works":      {[]answer{expired, ok}, 2, false},
		"then it is refused": {[]answer{expired, expired, ok}, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, tokens, limiter := &script{answers: c.answers}, new(renewing), new(counter)
			client, err := hubapi.New("https://api.invalid", tokens, hubapi.WithTransport(s), hubapi.WithLimiter(limiter))
			if err != nil {
				t.Fatal(err)
			}
			err = listContacts(t.Context(), client)
			if _, is := errors.AsType[*hubapi.AuthError](err); is != c.auth || (!c.auth && err != nil) {
				t.Fatalf("got %v", err)
			}
			if len(s.sent) != c.sent || limiter.waits != c.sent || len(tokens.refused) != 1 {
				t.Errorf("%d attempts, %d tokens of quota, refused %v", len(s.sent), limiter.waits, tokens.refused)
			}
			if got := s.sent[1].Header.Get("Authorization"); got != "Bearer token-1" {
				t.Errorf("second attempt went out with %q", got)
			}
		})
	}
}

func TestNoErrorHoldsTheToken(t *testing.T) {
	t.Parallel()
	for _, a := range []answer{
		{status: 403, body: `{"message":"This oauth-token (` + testToken + `) does not have proper permissions!"}`},
		{status: 401, body: `<html>` + testToken + `</html>`},
		{status: 400, body: `{"errors":[{"message":"` + testToken + `","context":{"a":["` + testToken + `"]}}]}`},
	} {
		err := listContacts(t.Context(), newClient(t, &script{answers: []answer{a}}))
		if err == nil {
			t.Fatal("no error")
		}
		api, _ := errors.AsType[*hubapi.APIError](err)
		if text := fmt.Sprintf("%v %+v %s", err, *api, hubapi.Hint(err)); strings.Contains(text, testToken) {
			t.Errorf("the token is in %s", text)
		}
	}
}

func TestObserverSeesEveryAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls []hubapi.Call
		s := &script{answers: []answer{{status: 500}, {err: errors.New("reset")}, ok}}
		c := newClient(t, s, hubapi.WithObserver(func(c hubapi.Call) { calls = append(calls, c) }), hubapi.WithProductVersion("1.2"))
		page, err := c.As(hubapi.Backfill).ListObjects(t.Context(), "contacts", hubapi.ListOptions{After: "9"})
		if err != nil {
			t.Fatal(err)
		}
		if len(calls) != 3 || calls[0].Status != 500 || calls[1].Err == nil || calls[2].Attempt != 3 || calls[2].Class != hubapi.Backfill {
			t.Fatalf("observed %+v", calls)
		}
		if calls[2].Path != "/crm/objects/2026-03/contacts" {
			t.Errorf("path %q", calls[2].Path)
		}
		if !page.ReadAt.Equal(s.at[2]) {
			t.Errorf("ReadAt %v is not the time of the successful attempt %v", page.ReadAt, s.at[2])
		}
		if got := s.sent[0].Header.Get("User-Agent"); got != "hubpg/1.2" {
			t.Errorf("User-Agent %q", got)
		}
	})
}
