package hubapi

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxJournalEvents is twice what HubSpot puts into one file.
const maxJournalEvents = 20_000

// JournalFile is one piece of the journal. Files follow each other without gaps, as long as they are kept.
type JournalFile struct {
	Offset      string         `json:"offset"`
	PublishedAt time.Time      `json:"publishedAt"`
	Events      []JournalEvent `json:"journalEvents"`
}

// JournalEvent is one change. Which fields are set depends on Type and Action.
type JournalEvent struct {
	Type       string    `json:"type"` // crmObject, association, app_lifecycle_event, …
	PortalID   int64     `json:"portalId"`
	OccurredAt time.Time `json:"occurredAt"`
	Action     string    `json:"action"` // CREATE, UPDATE, DELETE, MERGE, RESTORE, …

	ObjectTypeID    string            `json:"objectTypeId"`
	ObjectID        int64             `json:"objectId"`
	PropertyChanges map[string]string `json:"propertyChanges"` // "" for what was cleared

	PrimaryObjectID int64   `json:"primaryObjectId"` // of a merge
	MergedObjectIDs []int64 `json:"mergedObjectIds"`
	NewObjectID     int64   `json:"newObjectId"`

	FromObjectTypeID    string `json:"fromObjectTypeId"` // of an association
	FromObjectID        int64  `json:"fromObjectId"`
	ToObjectTypeID      string `json:"toObjectTypeId"`
	ToObjectID          int64  `json:"toObjectId"`
	AssociationTypeID   int    `json:"associationTypeId"`
	AssociationCategory string `json:"associationCategory"`
	IsPrimary           bool   `json:"isPrimaryAssociation"`

	ListID int64 `json:"listId"` // of a membership

	SnapshotStatusID string            `json:"snapshotStatusId"` // of a snapshot that was asked for
	Properties       map[string]string `json:"properties"`
}

// unmarshalJournalEvent reads an event. One of a shape that is not known here is empty: an app may be subscribed to more than
// its reader knows, and the file would be in the way of all that follow.
func unmarshalJournalEvent(dec *jsontext.Decoder, e *JournalEvent) error {
	type known JournalEvent
	return orEmpty[known](dec, func(k known) { *e = JournalEvent(k) })
}

// orEmpty reads a value, and takes one that is not a T for an empty one.
func orEmpty[T any](dec *jsontext.Decoder, take func(T)) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	var known, none T
	if json.Unmarshal(v, &known, dec.Options()) != nil {
		known = none
	}
	take(known)
	return nil
}

// ParseJournalFile reads a whole file. A file without an offset, or with more events than HubSpot writes, is an error.
func ParseJournalFile(body []byte) (*JournalFile, error) {
	file := new(JournalFile)
	if err := decodeJSON(body, file); err != nil {
		return nil, fmt.Errorf("read journal file: %w", err)
	}
	if file.Offset == "" {
		return nil, unexpected("journal file without an offset")
	}
	if len(file.Events) > maxJournalEvents {
		return nil, unexpected("journal file of %d events", len(file.Events))
	}
	return file, nil
}
