package hubapi

import (
	"fmt"
	"net/http"
	"strings"
)

// Hints are for operators: what to do, not what went wrong.
const (
	hintReconnect = "HubSpot does not accept the token: check that it was copied whole and not revoked or rotated, " +
		"then set a new one"
	hintToken     = "set the token of a service key or private app; it starts with pat-"
	hintDaily     = "the account's daily API quota is used up; it starts again at midnight in the account's time zone"
	hintBudget    = "the share of the API quota given to this work is used up for now; raise the share or wait"
	hintMigration = "HubSpot is moving this account to another data centre; calls resume by themselves"
	hintAddress   = "check the HubSpot URL: it did not answer like HubSpot's API"
	hintLocked    = "HubSpot is busy with the record, for instance with an import or a bulk edit; try again when that has ended"
	hintDown      = "HubSpot or the network between is failing; see status.hubspot.com, calls resume by themselves"
)

// scopeHint says how a missing permission is granted.
func scopeHint(scopes []string) string {
	if len(scopes) == 0 {
		return "the token may not read this: grant its app or service key the matching read scope in HubSpot " +
			"(Development → Keys), or check that the account's plan includes the object"
	}
	return fmt.Sprintf("add the scope %s to the app or service key in HubSpot (Development → Keys), "+
		"or check that the account's plan includes the object", strings.Join(scopes, " or "))
}

// refusal wraps a refusal that no repetition can mend in the type of what the caller must do.
func refusal(e *APIError) error {
	switch e.Status {
	case http.StatusUnauthorized:
		return &AuthError{Err: e, Hint: hintReconnect}
	case http.StatusForbidden:
		return &ScopeError{APIError: e, Scopes: e.Scopes, Hint: scopeHint(e.Scopes)}
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		nf := &NotFoundError{APIError: e}
		if e.HTML {
			nf.Hint = hintAddress
		}
		return nf
	case http.StatusConflict:
		return &ConflictError{APIError: e, ExistingID: existingID(e)}
	case http.StatusRequestURITooLong, http.StatusRequestEntityTooLarge:
		return &TooLargeError{e}
	case http.StatusTooManyRequests:
		re := &RateError{Err: e, Policy: e.Policy, RetryAfter: e.RetryAfter}
		if e.Policy == PolicyDaily {
			re.Hint = hintDaily
		}
		return re
	case statusMigrating:
		return &RateError{Err: e, Policy: PolicyMigration, RetryAfter: e.RetryAfter, Hint: hintMigration}
	}
	if e.Status >= 400 && e.Status < 500 {
		return &ValidationError{e}
	}
	return e
}

// statusMigrating is HubSpot's own status for an account on its way to another data centre.
const statusMigrating = 477
