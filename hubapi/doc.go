// Package hubapi speaks to HubSpot's CRM API as it is.
//
// Guarantee: a call either returns a complete, syntactically whole answer or an error; never a part of one. What HubSpot
// refuses comes back as one type per thing that the caller must do:
//
//	*AuthError         reconnect the account
//	*ScopeError        skip this object; the remedy is in Hint
//	*RateError         come back after RetryAfter
//	*NotFoundError     the record, type or path is not there
//	*ValidationError   fix the values; Details names each property
//	*ConflictError     the record exists already, or another writer was first
//	*TooLargeError     ask for less: fewer properties, fewer records
//	*UnavailableError  HubSpot, or the way to it, is down; tries are used up
//	*AmbiguousError    a write went out and no readable answer came: read the records to learn what became of it
//	*SplitError        a batch was refused as a whole: send its halves to find the rows to blame
//
// Most of them unwrap to *APIError where HubSpot answered at all. No error and no log line holds a token.
//
// Flow. Every call takes one path, a chain of http.RoundTrippers:
//
//	call ─▶ retry ─▶ auth ─▶ budget ─▶ trace ─▶ reply ─▶ transport
//	          │        │        │         │        └ reads the whole body: size limit, inactivity watchdog
//	          │        │        │         └ ReadAt, observer, debug log
//	          │        │        └ one token of the Limiter for every attempt that goes out
//	          │        └ bearer token; one forced refresh when HubSpot says EXPIRED_AUTHENTICATION
//	          └ the only layer that repeats: by the policy of the answer, within a bounded number of tries
//
// Retry stands outermost, since a repeated attempt costs quota like a first one. A read (GET, batch/read, search) is
// repeated after any failure that may pass; a write only when HubSpot certainly did not run it.
//
// Batch writes give every input its own outcome, whatever the version's way to say so (207, or 200 with errors): each
// input carries a trace id, so that a bad row fails alone.
//
// Record pages are decoded from the bytes on the wire straight into slots of a [Projection], without a map per record.
// Values are text as HubSpot sends it; typing them is the caller's business. A page of 100 records × 150 properties takes
// 1.8 ms and 0.57 MB (BenchmarkDecodePage, two cores of an AMD EPYC, November 2026), encoding/json into maps 9.6 ms and
// 2.4 MB in the same run.
//
// Concurrency: a Client, a Projection and the table of [StandardTypes] may be used by any number of goroutines. Pages
// and results belong to the caller.
//
//	limits of a call                     records   associations
//	listing, batch read, batch write     100       1,000 read, 2,000 written, 100 ended
//	search                               200 a page, 10,000 a query
//
// Beyond records: definitions of properties and their groups, read and written, users and teams, lists ([Segment]) and
// their members, read and changed, forms and submissions, marketing emails and campaigns, exports, webhooks
// ([WebhookVerifier] tells true deliveries from forged ones) and the webhooks journal with its snapshots ([Journal]). Each
// family of endpoints has its own API version, see [Versions].
//
// What it does not do: it keeps no state between calls but connections and the token, splits no batch, and knows nothing
// of where the data goes.
package hubapi
