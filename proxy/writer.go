package proxy

import (
	"context"
	"encoding/json"
)

// Writer makes HubSpot accept what a statement wants before Postgres may keep it. A [Server] without one relays
// statements that write as they are, and the guard in the database refuses them.
//
// The proxy runs a statement that changes mirrored tables twice on the client's own backend: a rehearsal whose rows
// are captured and taken back, then, once Write has returned, the performance with HubSpot's answers in place.
// Implementations must allow any number of sessions at once.
type Writer interface {
	// Permit lets the backend with that process id, logged in as role, rehearse and perform until Revoke.
	Permit(ctx context.Context, pid uint32, role string) (permit string, err error)
	// Revoke takes a permit back.
	Revoke(ctx context.Context, permit string)
	// Write returns when HubSpot has taken all rows of a statement, or, where the request skips bad rows, those it
	// took. An error that holds a [*WriteError] is told to the client; any other is a failure of hubpg's own.
	Write(ctx context.Context, r WriteRequest) (WriteResult, error)
	// Settle says what became in Postgres of a statement that HubSpot has accepted. It is called once for each
	// result with an ID, and with false for each error that is Behind; false means that the records must be read from
	// HubSpot again.
	Settle(ctx context.Context, id int64, committed bool) error
}

// CapturedRow is one row that the rehearsal of a statement wanted to change.
type CapturedRow struct {
	N             int64  // its place in the statement; the answer to it carries the same number
	Schema, Table string // of the mirrored table
	Op            string // insert, update or delete
	Old, New      json.RawMessage
}

// WriteMode says how far a write goes.
type WriteMode string

// The values of the setting hubpg.writes under which a Writer is called. With "off" it is not.
const (
	WriteOn     WriteMode = "on"
	WriteDryRun WriteMode = "dry_run" // validate, describe in notices, call nobody
)

// WriteRequest is a statement that has been rehearsed.
type WriteRequest struct {
	Permit      string
	PID         uint32 // of the backend
	Role        string // whose privileges the statement runs with
	Database    string
	Application string // application_name
	Client      string // network address, empty for a Unix socket
	SQL         string // of the statement, cut to a reasonable length
	Mode        WriteMode
	SkipBadRows bool // hubpg.on_row_error = skip
	Rows        []CapturedRow
}

// WriteResult is what HubSpot said to a request.
type WriteResult struct {
	ID      int64           // of the record in hubpg.writes, to be settled; 0 if there is nothing to settle
	Answers json.RawMessage // for hubpg.perform
	Notices []WriteNotice   // for the client, in order
}

// WriteNotice is said to the client without failing its statement.
type WriteNotice struct {
	Severity string // NOTICE or WARNING
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string
}

// WriteError is why a statement was refused, as the client will see it.
type WriteError struct {
	Code                  string // SQLSTATE
	Message, Detail, Hint string
	Schema, Table, Column string // what it is about, as far as it is one thing
	ID                    int64  // of the record in hubpg.writes, 0 before there is one

	// Behind says that HubSpot took nothing, and only because of records that the tables lack or have in an older version.
	// Once Settle has stored them, the statement may have another meaning.
	Behind bool
}

// Error returns the message and the code.
func (e *WriteError) Error() string { return e.Message + " (SQLSTATE " + e.Code + ")" }
