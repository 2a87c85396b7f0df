package hubapi

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// MaxPage is the largest page of a listing, and the largest batch.
const MaxPage = 100

// MaxListURL is the longest path and query that ListObjects sends. HubSpot's gateway answers 414 at about 8 KB; a query
// of 5 KB is known to pass.
const MaxListURL = 5400

// ListOptions says what a listing returns.
type ListOptions struct {
	Projection *Projection
	After      string // cursor of the page before; "" starts at the smallest id
	Limit      int    // records per page, MaxPage when 0
	Archived   bool   // only archived records instead of only live ones
}

// ListObjects returns one page of the records of a type, in the order of their ids. This is HubSpot's only consistent
// bulk read. A Projection too long for a URL is a *TooLargeError without a call; see FitsURL.
func (c *Client) ListObjects(ctx context.Context, objectType string, o ListOptions) (*Page, error) {
	if o.Limit == 0 {
		o.Limit = MaxPage
	}
	if o.Limit < 1 || o.Limit > MaxPage {
		return nil, fmt.Errorf("list %s: limit %d is outside 1 to %d", objectType, o.Limit, MaxPage)
	}
	r := read(FamilyObject, http.MethodGet, c.versions.objects()+"/"+segment(objectType))
	r.query = o.query()
	if len(r.path)+1+len(r.query) > MaxListURL {
		return nil, &TooLargeError{&APIError{
			Method: r.method, Path: r.path,
			Message: fmt.Sprintf("%d properties do not fit a URL of %d bytes", o.Projection.Len(), MaxListURL),
		}}
	}
	page := new(Page)
	r.decode = func(body []byte) error {
		b, err := decodeRecords(body, o.Projection, o.Limit)
		if err == nil {
			page.Records, page.After = b.records, b.after
		}
		return err
	}
	if err := c.call(ctx, r); err != nil {
		return nil, err
	}
	page.ReadAt = r.readAt
	return page, nil
}

// Objects walks all pages of a listing from o.After on. It ends after the last page or the first error; a page without
// records does not end it.
func (c *Client) Objects(ctx context.Context, objectType string, o ListOptions) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		for {
			page, err := c.ListObjects(ctx, objectType, o)
			if err == nil {
				err = goesOn(o.After, page.After)
			}
			if !yield(page, err) || err != nil || page.After == "" {
				return
			}
			o.After = page.After
		}
	}
}

// FitsURL says whether ListObjects can ask for all of p at once. What does not fit is read with BatchRead.
func (c *Client) FitsURL(objectType string, p *Projection) bool {
	const longestCursor = 100
	o := ListOptions{Projection: p, Limit: MaxPage, Archived: true, After: strings.Repeat("9", longestCursor)}
	return len(c.versions.objects())+1+len(segment(objectType))+1+len(o.query()) <= MaxListURL
}

func (o ListOptions) query() string {
	b := []byte("limit=")
	b = strconv.AppendInt(b, int64(o.Limit), 10)
	if o.Archived {
		b = append(b, "&archived=true"...)
	}
	if o.After != "" {
		b = append(append(b, "&after="...), url.QueryEscape(o.After)...)
	}
	if o.Projection.Len() > 0 {
		b = append(append(b, "&properties="...), o.Projection.queryList()...)
	}
	return string(b)
}

// queryList names the properties for a URL.
func (p *Projection) queryList() string {
	var b []byte
	for i, name := range p.names {
		if i > 0 {
			b = append(b, ',') // legal in a query as it is, and a third as long
		}
		b = append(b, url.QueryEscape(name)...)
	}
	return string(b)
}
