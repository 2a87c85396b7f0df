package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxJournalEvents = 10_000
	maxJournalBytes  = 5 << 20
	// journalLinkLife is how long the address of a file can be fetched.
	journalLinkLife = 10 * time.Minute
)

// Journal bends the webhooks journal.
type Journal struct {
	// Life is how long files are kept (default 3 days).
	Life time.Duration
	// Every is how long a file gathers events before it can be read (default 0: until the next call).
	Every time.Duration
}

// journal holds each app's subscriptions and files. Events no subscription asked for at the time are not in it.
type journal struct {
	active atomic.Int64 // subscriptions

	mu      sync.Mutex // guards below
	apps    map[int64]*appJournal
	lastSub int64
	n       uint64
}

type appJournal struct {
	subs  []*journalSubscription
	files []*journalFile // oldest first
	open  *journalFile   // nil when it has no events yet

	snapshots map[string]string // status by id
}

// journalFile is a piece of the journal. Once published it does not change.
type journalFile struct {
	offset    string
	published int64
	opened    int64
	events    []byte // JSON, separated by commas
	n         int
}

// journalSubscription is what an app wants in its journal. Empty lists mean all.
type journalSubscription struct {
	ID                      int64    `json:"id"`
	AppID                   int64    `json:"appId"`
	SubscriptionType        string   `json:"subscriptionType"`
	PortalID                int64    `json:"portalId,omitempty"`
	ObjectTypeID            string   `json:"objectTypeId,omitempty"`
	AssociatedObjectTypeIDs []string `json:"associatedObjectTypeIds,omitempty"`
	Actions                 []string `json:"actions"`
	Properties              []string `json:"properties,omitempty"`
	ObjectIDs               []int64  `json:"objectIds,omitempty"`
	ListIDs                 []int64  `json:"listIds,omitempty"`
	CreatedAt               string   `json:"createdAt"`
	UpdatedAt               string   `json:"updatedAt"`
}

// journalEvent is an event in a file.
type journalEvent struct {
	Type       string `json:"type"`
	PortalID   int64  `json:"portalId"`
	OccurredAt string `json:"occurredAt"`
	Action     string `json:"action"`

	ObjectTypeID    string            `json:"objectTypeId,omitempty"`
	ObjectID        int64             `json:"objectId,omitempty"`
	PropertyChanges map[string]string `json:"propertyChanges,omitempty"`

	PrimaryObjectID int64   `json:"primaryObjectId,omitempty"`
	MergedObjectIDs []int64 `json:"mergedObjectIds,omitempty"`
	NewObjectID     int64   `json:"newObjectId,omitempty"`

	FromObjectTypeID    string `json:"fromObjectTypeId,omitempty"`
	FromObjectID        int64  `json:"fromObjectId,omitempty"`
	ToObjectTypeID      string `json:"toObjectTypeId,omitempty"`
	ToObjectID          int64  `json:"toObjectId,omitempty"`
	AssociationTypeID   int    `json:"associationTypeId,omitempty"`
	AssociationCategory string `json:"associationCategory,omitempty"`
	IsPrimary           *bool  `json:"isPrimaryAssociation,omitempty"`

	ListID           int64             `json:"listId,omitempty"`
	SnapshotStatusID string            `json:"snapshotStatusId,omitempty"`
	Properties       map[string]string `json:"properties,omitempty"`
	AppID            int64             `json:"appId,omitempty"`
}

func newJournal(apps []*app) *journal {
	j := &journal{apps: map[int64]*appJournal{}, lastSub: 500}
	for _, a := range apps {
		j.apps[a.ID] = &appJournal{snapshots: map[string]string{}}
	}
	return j
}

// record writes an event into the files of those who asked for it. The account is locked.
func (j *journal) record(portalID int64, ev event) {
	if j.active.Load() == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.apps {
		// One event is in an app's journal once, however many subscriptions match.
		var merged *journalEvent
		for _, sub := range a.subs {
			body := sub.match(ev)
			switch {
			case body == nil:
			case merged == nil:
				merged = body
			default:
				maps.Copy(merged.PropertyChanges, body.PropertyChanges)
			}
		}
		if merged != nil {
			merged.PortalID, merged.OccurredAt = portalID, instantText(ev.at)
			j.write(a, merged, ev.at)
		}
	}
}

// write adds an event to the open file; mu is held.
func (j *journal) write(a *appJournal, body *journalEvent, now int64) {
	raw, err := json.Marshal(body)
	if err != nil {
		return // strings and numbers always can be written
	}
	if a.open != nil && (a.open.n >= maxJournalEvents || len(a.open.events)+len(raw) > maxJournalBytes) {
		j.publish(a, now)
	}
	if a.open == nil {
		a.open = &journalFile{opened: now}
	}
	if a.open.n > 0 {
		a.open.events = append(a.open.events, ',')
	}
	a.open.events = append(a.open.events, raw...)
	a.open.n++
}

func (j *journal) publish(a *appJournal, now int64) {
	j.n++
	f := a.open
	f.published = now
	f.offset = fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", now>>16&0xffffffff, now&0xffff, j.n>>36&0xfff, j.n>>24&0xfff, mix(j.n)&0xffffffffffff)
	a.files = append(a.files, f)
	a.open = nil
}

// settle publishes what may be read and forgets what is too old; mu is held.
func (j *journal) settle(a *appJournal, cfg Journal, now int64) {
	if a.open != nil && now-a.open.opened >= cfg.Every.Milliseconds() {
		j.publish(a, now)
	}
	a.files = slices.DeleteFunc(a.files, func(f *journalFile) bool { return now-f.published >= cfg.Life.Milliseconds() })
}

// age makes the files older.
func (j *journal) age(by time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.apps {
		for _, f := range a.files {
			f.published -= by.Milliseconds()
		}
	}
}

// content is the file as it is fetched.
func (f *journalFile) content() []byte {
	b := appendString([]byte(`{"offset":`), f.offset)
	b = appendTime(appendMember(b, "publishedAt"), f.published)
	b = append(appendMember(b, "journalEvents"), '[')
	return append(append(b, f.events...), ']', '}')
}

func allowed[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// match makes the body that an event has for a subscription, nil when it is none of its business.
func (sub *journalSubscription) match(ev event) *journalEvent {
	body := &journalEvent{Type: "crmObject", ObjectTypeID: ev.t.kind.typeID, ObjectID: ev.id}
	kind := "OBJECT"
	switch ev.kind {
	case recordCreated:
		body.Action = "CREATE"
	case recordChanged:
		body.Action = "UPDATE"
	case recordDeleted:
		body.Action = "DELETE"
	case recordRestored:
		body.Action = "RESTORE"
	case recordMerged:
		body.Action = "MERGE"
		body.PrimaryObjectID, body.MergedObjectIDs, body.NewObjectID = ev.primary, []int64{ev.loser}, ev.id
	case recordErased:
		kind, body.Type, body.Action = "GDPR_PRIVACY_DELETION", "gdprPrivacyDeletion", "PRIVACY_DELETION"
	case linkAdded, linkRemoved:
		kind = "ASSOCIATION"
		primary := ev.link.primary
		body = &journalEvent{
			Type: "association", Action: "ASSOCIATION_ADDED",
			FromObjectTypeID: ev.d.from, FromObjectID: ev.id, ToObjectTypeID: ev.d.to, ToObjectID: ev.to,
			AssociationTypeID: ev.link.id, AssociationCategory: ev.link.category, IsPrimary: &primary,
		}
		if ev.kind == linkRemoved {
			body.Action = "ASSOCIATION_REMOVED"
		}
	case segmentJoined, segmentLeft:
		kind, body.Type, body.Action, body.ListID = "LIST_MEMBERSHIP", "listMembership", "ADDED_TO_LIST", ev.segment.ID
		if ev.kind == segmentLeft {
			body.Action = "REMOVED_FROM_LIST"
		}
	}
	if sub.SubscriptionType != kind || !allowed(sub.Actions, body.Action) || !allowed(sub.ObjectIDs, ev.id) ||
		sub.ObjectTypeID != "" && sub.ObjectTypeID != ev.t.kind.typeID {
		return nil
	}
	switch kind {
	case "ASSOCIATION":
		if !allowed(sub.AssociatedObjectTypeIDs, ev.d.to) {
			return nil
		}
	case "LIST_MEMBERSHIP":
		if !allowed(sub.ListIDs, ev.segment.ID) {
			return nil
		}
	case "OBJECT":
		body.PropertyChanges = map[string]string{}
		for _, c := range ev.values {
			if allowed(sub.Properties, c.p.Name) {
				body.PropertyChanges[c.p.Name] = webhookValue(c)
			}
		}
		if ev.kind == recordChanged && len(body.PropertyChanges) == 0 {
			return nil
		}
	}
	return body
}
