package hubapi

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Class says how urgent a call is. The Limiter shares the quota between classes.
type Class string

// The classes, most urgent first.
const (
	Writes   Class = "writes"   // a user waits for it
	Fresh    Class = "fresh"    // keeps a live table true
	Backfill Class = "backfill" // fills a new table
	Sweeps   Class = "sweeps"   // looks for what nothing else shows
)

// The families of calls by the limits that HubSpot counts them against.
const (
	FamilyObject      = "object"      // burst and daily
	FamilySearch      = "search"      // five a second per account, and daily
	FamilyAssociation = "association" // a burst bucket of its own, and daily
	FamilyExempt      = "exempt"      // not counted
)

// Limiter hands out the account's quota. It is called once before every attempt and once after it.
type Limiter interface {
	// Wait blocks until one call of the family may go out. An error ends the call; one that has the method
	// RetryAfter() time.Duration reaches the caller as a *RateError.
	Wait(ctx context.Context, family, class string) error
	// Observe reports the answer. Status is 0 and header nil when there was none. Policy names the limit on 429.
	// It must not block.
	Observe(family string, status int, header http.Header, policy string)
}

// unlimited is the Limiter of a Client that was given none.
type unlimited struct{}

func (unlimited) Wait(ctx context.Context, _, _ string) error { return ctx.Err() }
func (unlimited) Observe(string, int, http.Header, string)    {}

// budgetLayer takes a token for each attempt and reports each answer.
type budgetLayer struct {
	limiter Limiter
	next    http.RoundTripper
}

func (l *budgetLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	r := requestOf(req)
	if err := l.limiter.Wait(req.Context(), r.family, string(r.class)); err != nil {
		return nil, limiterError(err)
	}
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		l.limiter.Observe(r.family, 0, nil, "")
		return nil, err
	}
	policy := ""
	if resp.StatusCode == http.StatusTooManyRequests {
		policy = newAPIError(req, resp, bodyOf(resp)).Policy
	}
	l.limiter.Observe(r.family, resp.StatusCode, resp.Header, policy)
	return resp, nil
}

// quotaError marks an error of the Limiter, which no further attempt can mend.
type quotaError struct{ err error }

func (e *quotaError) Error() string { return "wait for quota: " + e.err.Error() }
func (e *quotaError) Unwrap() error { return e.err }

func limiterError(err error) error {
	var until interface{ RetryAfter() time.Duration }
	if errors.As(err, &until) {
		e := &RateError{Err: err, Policy: "BUDGET", RetryAfter: until.RetryAfter(), Hint: hintBudget}
		e.ResetsAt = time.Now().Add(e.RetryAfter)
		return &quotaError{e}
	}
	return &quotaError{err}
}
