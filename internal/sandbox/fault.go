package sandbox

import "time"

// FaultKind names a way in which HubSpot fails.
type FaultKind string

// The kinds of faults. Each kind sends the body HubSpot is known to send.
const (
	// FaultStatus sends Fault.Status and Fault.Body as they are.
	FaultStatus FaultKind = "status"
	// FaultRateBurst is the 429 of the ten-second limit, FaultRateDaily of the daily limit, FaultRateSearch
	// the one of search.
	FaultRateBurst  FaultKind = "rate-burst"
	FaultRateDaily  FaultKind = "rate-daily"
	FaultRateSearch FaultKind = "rate-search"
	// FaultInternal is a 500, FaultBadGateway a 502 and FaultGatewayTimeout a 504 with an HTML body.
	FaultInternal       FaultKind = "internal"
	FaultBadGateway     FaultKind = "bad-gateway"
	FaultGatewayTimeout FaultKind = "gateway-timeout"
	// FaultLocked is 423: a bulk operation holds the record.
	FaultLocked FaultKind = "locked"
	// FaultMigrating is 477 with a Retry-After of Fault.RetryAfter seconds (default 1).
	FaultMigrating FaultKind = "migrating"
	// FaultURITooLong is the HTML 414.
	FaultURITooLong FaultKind = "uri-too-long"
	// FaultExpiredToken is the 401 of an expired OAuth token, and expires the one the request bears;
	// FaultMissingScopes is the 403.
	FaultExpiredToken  FaultKind = "expired-token"
	FaultMissingScopes FaultKind = "missing-scopes"
	// FaultDrop closes the connection before the request is served, FaultDropAfter once it has been
	// served and committed, without a response.
	FaultDrop      FaultKind = "drop"
	FaultDropAfter FaultKind = "drop-after"
	// FaultCut sends the first half of the body, then closes the connection.
	FaultCut FaultKind = "cut"
	// FaultSlow sends the body in ten pieces over Fault.Delay (default 1 s).
	FaultSlow FaultKind = "slow"
	// FaultEmptyPage makes search answer an empty page with a cursor to the same place.
	FaultEmptyPage FaultKind = "empty-page"
	// FaultSilence makes a batch read, of records or associations, answer 200 without results or errors.
	FaultSilence FaultKind = "silence"
)

// Fault makes matching API requests fail.
type Fault struct {
	// Method matches the request method exactly; empty matches all.
	Method string `json:"method"`
	// Path is a regular expression matched against the path without the query; empty matches all.
	Path string    `json:"path"`
	Kind FaultKind `json:"kind"`
	// OAuth matches only requests that bear an OAuth access token. A static token does not expire.
	OAuth bool `json:"oauth"`
	// Status and Body are sent by FaultStatus.
	Status int    `json:"status"`
	Body   string `json:"body"`
	// RetryAfter, in seconds, is sent as a header when positive.
	RetryAfter int           `json:"retryAfter"`
	Delay      time.Duration `json:"delay"`
	// Skip lets this many matching requests pass first.
	Skip int `json:"skip"`
	// Count is the number of requests that fail; 0 means all until the faults are cleared.
	Count int `json:"count"`
	// Probability of failing a matching request; 0 means always.
	Probability float64 `json:"probability"`
}
