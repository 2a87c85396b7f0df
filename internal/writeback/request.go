package writeback

import "encoding/json"

// Row is one row that the rehearsal of a statement captured.
type Row struct {
	N             int64
	Schema, Table string
	Op            string // insert, update or delete
	Old, New      json.RawMessage
}

// Request is a statement that wants to change mirrored tables.
type Request struct {
	Permit      string
	PID         uint32
	Role        string
	Database    string
	Application string
	Client      string
	SQL         string
	DryRun      bool // validate and say what would be sent
	SkipBadRows bool // keep the good rows, warn about the bad ones
	Rows        []Row
}

// Result is what a statement's performance needs.
type Result struct {
	ID      int64           // to be settled; 0 when nothing was sent
	Answers json.RawMessage // for hubpg.perform
	Notices []Notice
}

// Notice is something that the client is told although its statement goes on.
type Notice struct {
	Severity string // NOTICE or WARNING
	Code     string
	Message  string
	Detail   string
	Hint     string
}

// Error is why a statement fails, in the fields of Postgres's own errors.
type Error struct {
	Code, Message, Detail, Hint string
	Schema, Table, Column       string
	ID                          int64 // in hubpg.writes; 0 when HubSpot was not called

	// Behind says that HubSpot took nothing, and only because of records that the tables lack or have in an older version.
	// [Writer.Settle] with the ID, as after a rollback, stores them; then the statement may have another meaning.
	Behind bool
}

// Error returns the message with its detail.
func (e *Error) Error() string {
	text := e.Message + " (SQLSTATE " + e.Code + ")"
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// The SQLSTATEs of class HS, which is hubpg's own.
const (
	CodeRefused     = "HS000" // HubSpot refused, for a reason without a code of its own
	CodeDirect      = "HS001" // a write that did not come through the proxy; raised by the tables' guards
	CodeGone        = "HS002" // the record is not in HubSpot any more
	CodeUnavailable = "HS003" // HubSpot does not answer
	CodeUnknown     = "HS004" // HubSpot may or may not have created the record
)

// Postgres's own for a value that another record has, and for a statement that was given up.
const (
	codeUnique    = "23505"
	codeCancelled = "57014"
)
