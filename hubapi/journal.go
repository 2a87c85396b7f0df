package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// MaxJournalBatch is how many files of the journal one call names.
const MaxJournalBatch = 100

// JournalEntry is a file of the journal and where it is to be fetched.
type JournalEntry struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expiresAt"` // of the URL; the file itself is kept for three days
	Offset    string    `json:"currentOffset"`
}

// JournalSubscription is what is written to an app's journal. Empty lists mean all.
type JournalSubscription struct {
	ID                      int64    `json:"id,omitzero"`
	Type                    string   `json:"subscriptionType"` // OBJECT, ASSOCIATION, LIST_MEMBERSHIP, …
	PortalID                int64    `json:"portalId,omitzero"`
	ObjectTypeID            string   `json:"objectTypeId,omitzero"`
	AssociatedObjectTypeIDs []string `json:"associatedObjectTypeIds,omitzero"`
	Actions                 []string `json:"actions,omitzero"`
	Properties              []string `json:"properties,omitzero"`
	ObjectIDs               []int64  `json:"objectIds,omitzero"`
	ListIDs                 []int64  `json:"listIds,omitzero"`
}

// Journal reads an app's webhooks journal: an ordered feed of changes that can be read again for three days. Its client
// needs the app's own token (client credentials). Its calls are not counted against the account's limits.
type Journal struct {
	c      *Client
	portal int64
}

// Journal returns the journal of one account, or of all that have the app when portal is 0.
func (c *Client) Journal(portal int64) *Journal { return &Journal{c, portal} }

// Earliest returns the oldest file that is kept, nil when there is none.
func (j *Journal) Earliest(ctx context.Context) (*JournalEntry, error) {
	return j.entry(ctx, "/earliest", "/earliest")
}

// Latest returns the newest file, nil when there is none.
func (j *Journal) Latest(ctx context.Context) (*JournalEntry, error) {
	return j.entry(ctx, "/latest", "/latest")
}

// Next returns the file after offset, nil when there is none yet. An offset that is not kept any more is a
// *NotFoundError: changes since then have to be found by other means.
func (j *Journal) Next(ctx context.Context, offset string) (*JournalEntry, error) {
	return j.entry(ctx, "/offset/"+segment(offset)+"/next", "/offset/{offset}/next")
}

// NextBatch returns up to count files after offset, oldest first; none when there are none yet. An empty offset begins
// with the oldest file.
func (j *Journal) NextBatch(ctx context.Context, offset string, count int) ([]JournalEntry, error) {
	if count < 1 || count > MaxJournalBatch {
		return nil, fmt.Errorf("read journal: %d files, want 1 to %d", count, MaxJournalBatch)
	}
	path, template := "/batch/earliest/", "/batch/earliest/{count}"
	if offset != "" {
		path, template = "/batch/"+segment(offset)+"/next/", "/batch/{offset}/next/{count}"
	}
	var b listBody[JournalEntry]
	err := j.read(ctx, path+strconv.Itoa(count), template, func(body []byte) error {
		b = listBody[JournalEntry]{}
		return decodeJSON(body, &b)
	})
	return b.Results, err
}

func (j *Journal) entry(ctx context.Context, path, template string) (*JournalEntry, error) {
	var entry *JournalEntry
	err := j.read(ctx, path, template, func(body []byte) error {
		entry = new(JournalEntry)
		if err := decodeJSON(body, entry); err != nil {
			return err
		}
		if entry.URL == "" || entry.Offset == "" {
			return unexpected("journal entry without address or offset")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entry, nil
}

// read reads what may be 204 for nothing.
func (j *Journal) read(ctx context.Context, path, template string, decode func(body []byte) error) error {
	base := j.c.versions.journal("journal")
	r := read(FamilyExempt, http.MethodGet, base+path)
	r.template = base + template
	if j.portal != 0 {
		r.query = "installPortalId=" + url.QueryEscape(strconv.FormatInt(j.portal, 10))
	}
	r.decode = func(body []byte) error {
		if len(body) == 0 {
			return nil
		}
		return decode(body)
	}
	return j.c.call(ctx, r)
}

// File fetches a file of the journal.
func (j *Journal) File(ctx context.Context, e *JournalEntry) (*JournalFile, error) {
	var file *JournalFile
	err := j.c.download(ctx, e.URL, j.c.versions.journal("journal")+"/{file}", func(body []byte) (err error) {
		if file, err = ParseJournalFile(body); err == nil && file.Offset != e.Offset {
			err = unexpected("journal file %s in place of %s", clip(file.Offset, 100), clip(e.Offset, 100))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Subscriptions returns what is written to the journal.
func (j *Journal) Subscriptions(ctx context.Context) ([]JournalSubscription, error) {
	return list[JournalSubscription](ctx, j.c, read(FamilyExempt, http.MethodGet, j.c.versions.journal("subscriptions")))
}

// Subscribe has more written to the journal, from now on.
func (j *Journal) Subscribe(ctx context.Context, s JournalSubscription) (JournalSubscription, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return JournalSubscription{}, fmt.Errorf("encode journal subscription: %w", err)
	}
	r := write(FamilyExempt, http.MethodPost, j.c.versions.journal("subscriptions"))
	r.body = body
	return get[JournalSubscription](ctx, j.c, r)
}

// Unsubscribe ends a subscription.
func (j *Journal) Unsubscribe(ctx context.Context, id int64) error {
	base := j.c.versions.journal("subscriptions")
	r := write(FamilyExempt, http.MethodDelete, base+"/"+strconv.FormatInt(id, 10))
	r.template = base + "/{id}"
	return j.c.call(ctx, r)
}
