// Package changes holds the one noun that the materializer and the proxy share: a row of the change log.
//
// Guarantee: the log is ordered and complete. Sequence numbers are taken from one counter row at the end of the
// transaction that makes the change, so a reader that has seen seq = n never later sees a smaller one appear, and
// no number is missing. NOTIFY only says that there is something to read; the log is the truth.
//
//	applier ──insert──▶ hubpg.changes ──Read(after seq)──▶ hub, listen, replay
//	        ──notify──▶ hubpg_wake     (one bell per transaction)
//
// The package has no state; everything in it may be used concurrently.
package changes

import (
	"encoding/json"
	"time"
)

// WakeChannel is the channel on which a transaction that added to the log rings once, without a payload.
const WakeChannel = "hubpg_wake"

// Op says what happened to a record.
type Op string

// The operations of the change log. Associate and Dissociate appear on association tables only.
const (
	Insert     Op = "insert"
	Update     Op = "update"
	Delete     Op = "delete"
	Merge      Op = "merge"
	Restore    Op = "restore"
	Associate  Op = "associate"
	Dissociate Op = "dissociate"
)

// Source names the detector that found a change.
type Source string

// The detectors. A reader should treat an unknown source as one more detector.
const (
	Backfill Source = "backfill"
	Follow   Source = "follow"
	Trailing Source = "trailing"
	Journal  Source = "journal"
	Webhook  Source = "webhook"
	Sweep    Source = "sweep"
	Schema   Source = "schema"
	Write    Source = "write"
	Repair   Source = "repair"
)

// Change is one row of hubpg.changes.
type Change struct {
	Seq      int64
	At       time.Time
	Schema   string // schema of the table, one per HubSpot account
	Table    string
	RecordID int64 // 0 where the table's key is not a number (pipelines, properties)
	Op       Op
	Changed  []string        // columns that differ, in table order
	Before   json.RawMessage // JSON object of the changed columns before; nil for an insert
	After    json.RawMessage // JSON object of the changed columns after; nil for a delete
	Source   Source
}
