package hubapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// GetOptions says how a record is read.
type GetOptions struct {
	Projection *Projection
	IDProperty string // the unique property that the key is a value of; "" reads by id
	Archived   bool   // look among archived records instead of live ones
}

// Found is one record and the instant it was asked for.
type Found struct {
	Record Record // under its own id, which differs from the key when that was merged away
	ReadAt time.Time
}

// GetObject returns one record by id or by the value of a unique property. What is not there is a *NotFoundError, if HubSpot
// says so: a gateway that knows no such address is an *UnavailableError.
func (c *Client) GetObject(ctx context.Context, objectType, key string, o GetOptions) (*Found, error) {
	if key == "" {
		return nil, fmt.Errorf("get %s: no key given", objectType)
	}
	r := read(FamilyObject, http.MethodGet, c.versions.objects()+"/"+segment(objectType)+"/"+segment(key))
	r.template = c.versions.objects() + "/" + segment(objectType) + "/{id}"
	q := url.Values{}
	if o.IDProperty != "" {
		q.Set("idProperty", o.IDProperty)
	}
	if o.Archived {
		q.Set("archived", "true")
	}
	r.query = q.Encode()
	if o.Projection.Len() > 0 {
		if r.query != "" {
			r.query += "&"
		}
		r.query += "properties=" + o.Projection.queryList()
	}
	if len(r.path)+1+len(r.query) > MaxListURL {
		return nil, &TooLargeError{&APIError{
			Method: r.method, Path: r.template,
			Message: fmt.Sprintf("%d properties do not fit a URL of %d bytes", o.Projection.Len(), MaxListURL),
		}}
	}
	found, err := c.one(ctx, r, o.Projection)
	if e, ok := errors.AsType[*NotFoundError](err); ok && (e.Status != http.StatusNotFound || e.HTML) {
		err = &UnavailableError{Err: e.APIError, Attempts: r.attempt, Hint: hintAddress}
	}
	return found, err
}

// MergeObjects merges a record into another of its type and returns what they have become, which as a rule has a new id.
// There is no way back. A merge whose answer is lost is an *AmbiguousError.
func (c *Client) MergeObjects(ctx context.Context, objectType string, primary, other int64, p *Projection) (*Found, error) {
	body, err := json.Marshal(struct {
		Primary string `json:"primaryObjectId"`
		Other   string `json:"objectIdToMerge"`
	}{strconv.FormatInt(primary, 10), strconv.FormatInt(other, 10)})
	if err != nil {
		return nil, fmt.Errorf("encode merge: %w", err)
	}
	r := write(FamilyObject, http.MethodPost, c.versions.objects()+"/"+segment(objectType)+"/merge")
	r.body = body
	return c.one(ctx, r, p)
}

// GDPRDelete erases a record for good, by id or by the value of idProperty. An email that nobody has is blocked from
// being added later.
func (c *Client) GDPRDelete(ctx context.Context, objectType, key, idProperty string) error {
	body, err := json.Marshal(struct {
		ID         string `json:"objectId"`
		IDProperty string `json:"idProperty,omitzero"`
	}{key, idProperty})
	if err != nil {
		return fmt.Errorf("encode erasure: %w", err)
	}
	r := write(FamilyObject, http.MethodPost, c.versions.objects()+"/"+segment(objectType)+"/gdpr-delete")
	r.body = body
	return c.call(ctx, r)
}

func (c *Client) one(ctx context.Context, r *request, p *Projection) (*Found, error) {
	found := new(Found)
	r.decode = func(body []byte) (err error) {
		found.Record, err = decodeRecord(body, p)
		return err
	}
	if err := c.call(ctx, r); err != nil {
		return nil, err
	}
	found.ReadAt = r.readAt
	return found, nil
}
