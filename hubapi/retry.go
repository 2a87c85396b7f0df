package hubapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// RetryPolicy bounds how a call is repeated. A zero field means the default.
type RetryPolicy struct {
	Tries       int           // attempts in all after failures of HubSpot or the way to it; 6
	LimitTries  int           // attempts in all when limits refuse the call; 12
	Initial     time.Duration // first pause after a failure, doubled from try to try with jitter; 300 ms
	Max         time.Duration // longest pause; 10 s
	TenSecondly time.Duration // longest pause after the rolling limit refused; 10 s
	Secondly    time.Duration // pause after the search limit refused, plus up to half of it; 1 s
	Locked      time.Duration // pause after 423; 2 s
	Elapsed     time.Duration // the call gives up rather than pause beyond this since it began; 3 min
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	fill := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	if p.Tries <= 0 {
		p.Tries = 6
	}
	if p.LimitTries <= 0 {
		p.LimitTries = 12
	}
	fill(&p.Initial, 300*time.Millisecond)
	fill(&p.Max, 10*time.Second)
	fill(&p.TenSecondly, 10*time.Second)
	fill(&p.Secondly, time.Second)
	fill(&p.Locked, 2*time.Second)
	fill(&p.Elapsed, 3*time.Minute)
	return p
}

// retryLayer repeats attempts. It is the only layer that does, apart from the one refresh of an expired token.
type retryLayer struct {
	policy RetryPolicy
	logger *slog.Logger
	next   http.RoundTripper
}

func (l *retryLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	r, ctx := requestOf(req), req.Context()
	s := newSchedule(l.policy)
	repeat := func(err error, pause time.Duration) {
		l.logger.LogAttrs(ctx, slog.LevelDebug, "hubspot call will be repeated",
			slog.String("path", r.template), slog.Int("attempt", r.attempt), slog.Duration("pause", pause),
			slog.String("error", err.Error()))
	}
	resp, err := backoff.Retry(ctx, func() (*http.Response, error) {
		r.attempt++
		r.open = false
		resp, err := l.attempt(req, r)
		r.open = r.open && unclear(err)
		s.outcome(r, err)
		return resp, err
	}, backoff.WithBackOff(s), backoff.WithMaxElapsedTime(l.policy.Elapsed), backoff.WithNotify(repeat))
	if err == nil {
		return resp, nil
	}
	return nil, s.verdict(ctx, r, err)
}

// attempt sends the request once and returns a response only when it is a whole success.
func (l *retryLayer) attempt(req *http.Request, r *request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r.fresh(req.Context(), req))
	if err != nil {
		return nil, err
	}
	body := bodyOf(resp)
	r.correlation = clip(resp.Header.Get("X-Hubspot-Correlation-Id"), 100)
	err = answerError(req, resp, body)
	if err == nil && r.decode != nil {
		if err = r.decode(body); err != nil {
			err = fmt.Errorf("decode %s: %w", r.template, err)
		}
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// answerError returns nil for a success that HubSpot itself sent.
func answerError(req *http.Request, resp *http.Response, body []byte) error {
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return newAPIError(req, resp, body)
	case resp.StatusCode == http.StatusNoContent, looksJSON(body), requestOf(req).raw:
		return nil
	}
	return &notJSONError{newAPIError(req, resp, body)}
}

// notJSONError is a success whose body is not HubSpot's: a gateway's page, or nothing.
type notJSONError struct{ *APIError }

func (e *notJSONError) Unwrap() error { return e.APIError }

// schedule decides after each attempt whether and when there is another. It serves one call.
type schedule struct {
	policy   RetryPolicy
	backoff  *backoff.ExponentialBackOff
	failures int
	limited  int
	pause    time.Duration
}

func newSchedule(p RetryPolicy) *schedule {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = p.Initial, p.Max, 2, 0.5
	b.Reset()
	return &schedule{policy: p, backoff: b}
}

// Reset does nothing: a schedule starts new and serves one call.
func (s *schedule) Reset() {}

// NextBackOff returns the pause that outcome decided on, or backoff.Stop.
func (s *schedule) NextBackOff() time.Duration { return s.pause }

// outcome takes note of an attempt's error and decides on the pause before the next.
func (s *schedule) outcome(r *request, err error) {
	s.pause = backoff.Stop
	switch kind := failureOf(err); kind {
	case final:
	case limited:
		if s.limited++; s.limited < s.policy.LimitTries {
			s.pause = s.limitPause(err)
		}
	default:
		s.failures++
		if s.failures >= s.policy.Tries || (kind == ambiguous && !r.replay) {
			return
		}
		s.pause = s.backoff.NextBackOff()
		if e, ok := errors.AsType[*APIError](err); ok {
			s.pause = max(s.pause, min(e.RetryAfter, s.policy.Elapsed))
		}
	}
}

// limitPause waits by the limit that refused, spread so that those who wait do not return together.
func (s *schedule) limitPause(err error) time.Duration {
	e, _ := errors.AsType[*APIError](err)
	spread := func(d time.Duration) time.Duration { return d + rand.N(d/2+1) }
	switch {
	case e.Status == http.StatusLocked:
		return max(spread(s.policy.Locked), e.RetryAfter)
	case e.RetryAfter > 0 && e.RetryAfter <= s.policy.TenSecondly:
		return e.RetryAfter + rand.N(s.policy.Secondly/4+1)
	case e.Policy == PolicyTenSecondly:
		// The window rolls: part of it is free again soon, all of it after ten seconds.
		d := min(s.policy.TenSecondly/8<<min(s.limited, 3), s.policy.TenSecondly)
		return d/2 + rand.N(d/2+1)
	default:
		return spread(s.policy.Secondly)
	}
}

// verdict wraps the last error in the type of what the caller must do.
func (s *schedule) verdict(ctx context.Context, r *request, err error) error {
	if r.open && !r.replay {
		return &AmbiguousError{
			Err: fmt.Errorf("hubspot %s %s: %w", r.method, r.template, s.unfinished(ctx, r, err)), CorrelationID: r.correlation, SentAt: r.readAt,
		}
	}
	return s.unfinished(ctx, r, err)
}

// unfinished wraps the last error for a call that changed nothing, or that may be repeated by its caller.
func (s *schedule) unfinished(ctx context.Context, r *request, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("call hubspot %s %s: %w", r.method, r.template, cause)
	}
	if e, ok := errors.AsType[*quotaError](err); ok {
		return fmt.Errorf("hubspot %s %s: %w", r.method, r.template, e)
	}
	if e, ok := errors.AsType[*AuthError](err); ok {
		return e
	}
	if errors.Is(err, errBodyLimit) {
		return &TooLargeError{&APIError{Method: r.method, Path: r.path, Message: err.Error()}}
	}
	kind := failureOf(err)
	e, answered := errors.AsType[*APIError](err)
	locked := answered && e.Status == http.StatusLocked
	if answered && !locked && (kind == final || kind == limited) {
		return refusal(e)
	}
	down := &UnavailableError{Err: err, Attempts: r.attempt, Ambiguous: kind == ambiguous && !r.replay, Hint: hintDown}
	if !answered {
		down.Err = fmt.Errorf("hubspot %s %s: %w", r.method, r.template, err)
	}
	if locked {
		down.Hint = hintLocked
	}
	if _, ok := errors.AsType[*notJSONError](err); ok {
		down.Hint = hintAddress
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		down.Hint = hintAddress
	}
	return down
}

// failure is what an error means for another attempt.
type failure uint8

const (
	final     failure = iota // another attempt would end the same way
	limited                  // HubSpot refused without running it
	unsent                   // HubSpot never saw it
	ambiguous                // HubSpot may have run it
)

// unclear says that an attempt which went out ended without a word on whether HubSpot ran it: a lost, cut or unreadable
// answer.
func unclear(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[*contentError](err); ok {
		return true
	}
	return errors.Is(err, errBodyLimit) || failureOf(err) == ambiguous
}

// failureOf does not ask for context errors: a dial timeout looks like one, and backoff.Retry looks at the context itself.
func failureOf(err error) failure {
	if err == nil {
		return final
	}
	if e, ok := errors.AsType[*APIError](err); ok {
		return statusFailure(e)
	}
	if _, ok := errors.AsType[*noTokenError](err); ok {
		return unsent
	}
	if _, ok := errors.AsType[*AuthError](err); ok {
		return final
	}
	if _, ok := errors.AsType[*quotaError](err); ok {
		return final
	}
	if _, ok := errors.AsType[*contentError](err); ok {
		return final
	}
	if errors.Is(err, errBodyLimit) {
		return final
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return unsent
	}
	return ambiguous // lost on the way, stalled, or cut
}

func statusFailure(e *APIError) failure {
	switch {
	case e.Status == http.StatusTooManyRequests && e.Policy == PolicyDaily:
		return final
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusLocked:
		return limited
	case e.Status == http.StatusRequestTimeout, e.Status >= 500, e.Status < 300:
		return ambiguous
	}
	return final
}
