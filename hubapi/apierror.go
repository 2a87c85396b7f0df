package hubapi

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// APIError is a refusal in HubSpot's own words. Callers decide by the types that wrap it; it is for logs and details.
type APIError struct {
	Status        int // HTTP status, or that of one row inside a 207
	Category      string
	SubCategory   string
	Message       string
	CorrelationID string // HubSpot's support asks for it
	Method        string
	Path          string
	Policy        string // which limit was hit, on 429
	Details       []Detail
	Scopes        []string            // scopes any of which would do, on 403
	Context       map[string][]string // as HubSpot sent it
	RetryAfter    time.Duration       // from the Retry-After header; 0 when there was none or it made no sense
	HTML          bool                // a gateway answered instead of HubSpot, with a page or with nothing
}

// Detail is one of the reasons of a refusal, for writes one per property.
type Detail struct {
	Code        string // PROPERTY_DOESNT_EXIST, INVALID_OPTION, …
	SubCategory string
	Message     string
	Property    string // internal name, where HubSpot tells
	Context     map[string][]string
}

// Error says what was asked and what HubSpot answered.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hubspot %s %s: %d", e.Method, e.Path, e.Status)
	if e.Category != "" {
		fmt.Fprintf(&b, " %s", e.Category)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.CorrelationID != "" {
		fmt.Fprintf(&b, " (correlation %s)", e.CorrelationID)
	}
	return b.String()
}

// AuthError says that HubSpot does not accept the token, after the one refresh that was possible.
type AuthError struct {
	Err  error // *APIError, or the token source's own error
	Hint string
}

// Error returns the cause's text.
func (e *AuthError) Error() string { return "authenticate: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *AuthError) Unwrap() error { return e.Err }

// ScopeError says that the token may not do this. It is final for the object concerned and for nothing else.
type ScopeError struct {
	*APIError
	Scopes []string // any one of them would do; empty when HubSpot did not say
	Hint   string
}

// Unwrap returns HubSpot's answer.
func (e *ScopeError) Unwrap() error { return e.APIError }

// RateError says that a limit is used up for longer than a call should wait.
type RateError struct {
	Err        error  // *APIError when HubSpot refused, otherwise the Limiter's error
	Policy     string // DAILY, TEN_SECONDLY_ROLLING, SECONDLY, MIGRATION, or the Limiter's name for it
	RetryAfter time.Duration
	ResetsAt   time.Time // zero when not known
	Hint       string
}

// Error returns the cause's text and how long to wait.
func (e *RateError) Error() string {
	return fmt.Sprintf("%v (retry after %s)", e.Err, e.RetryAfter.Round(time.Second))
}

// Unwrap returns the cause.
func (e *RateError) Unwrap() error { return e.Err }

// NotFoundError says that the record, object type or path does not exist.
type NotFoundError struct {
	*APIError
	Hint string
}

// Unwrap returns HubSpot's answer.
func (e *NotFoundError) Unwrap() error { return e.APIError }

// ValidationError says that HubSpot understood the request and does not accept what is in it.
type ValidationError struct{ *APIError }

// Unwrap returns HubSpot's answer.
func (e *ValidationError) Unwrap() error { return e.APIError }

// ConflictError says that the record exists already or that another write was first. It is never repeated.
type ConflictError struct {
	*APIError
	ExistingID int64 // the record in the way; 0 when HubSpot did not say
}

// Unwrap returns HubSpot's answer.
func (e *ConflictError) Unwrap() error { return e.APIError }

// TooLargeError says that the request or its answer is too large: split it.
type TooLargeError struct {
	*APIError
}

// Unwrap returns HubSpot's answer; its Status is 0 when the client refused before or while reading.
func (e *TooLargeError) Unwrap() error { return e.APIError }

// UnavailableError says that the tries are used up: HubSpot or the way to it is down, or a record stays locked.
type UnavailableError struct {
	Err       error // *APIError, or the transport's error
	Attempts  int
	Ambiguous bool // a write was sent and may have been executed
	Hint      string
}

// Error returns the last attempt's error and the number of attempts.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%v (%d attempts)", e.Err, e.Attempts)
}

// Unwrap returns the last attempt's error.
func (e *UnavailableError) Unwrap() error { return e.Err }

// AmbiguousError says that a write went out and that no readable answer came back: HubSpot may have run it, wholly, in
// part, or not at all. It was not repeated. The caller finds out by reading the records concerned.
type AmbiguousError struct {
	Err           error // what became of the answer; may unwrap to *UnavailableError or *APIError
	CorrelationID string
	SentAt        time.Time // just before it was sent
	Hint          string
}

// Error returns the cause's text.
func (e *AmbiguousError) Error() string { return "outcome of a write is not known: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// SplitError says that HubSpot refused a batch as a whole: nothing of it was written, and which rows are to blame is not
// known. The caller sends halves, or single rows, to find out. It unwraps to the type of the refusal.
type SplitError struct {
	Err  error // *ValidationError, *ConflictError, *NotFoundError or *TooLargeError
	Rows int   // inputs of the batch
}

// Error returns the cause's text.
func (e *SplitError) Error() string { return fmt.Sprintf("batch of %d refused: %v", e.Rows, e.Err) }

// Unwrap returns the refusal.
func (e *SplitError) Unwrap() error { return e.Err }

// Hint returns what an operator should do about err; "" when there is nothing to say.
func Hint(err error) string {
	if e, ok := errors.AsType[*ScopeError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*AuthError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*RateError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*NotFoundError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*UnavailableError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*AmbiguousError](err); ok {
		return e.Hint
	}
	return ""
}
