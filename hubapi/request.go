package hubapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// request is one call on its way through the layers. A call is used by one goroutine.
type request struct {
	family   string // of limits
	class    Class
	method   string
	template string // path without record ids: what metrics and logs show
	path     string // escaped
	query    string // escaped
	body     []byte
	raw      bool // the answer need not be JSON
	replay   bool // may be sent again after a failure that does not tell whether HubSpot ran it
	decode   func(body []byte) error

	attempt     int       // number of the attempt under way, from 1
	readAt      time.Time // just before the last attempt was sent
	open        bool      // an attempt went out and nothing said yet that HubSpot did not run it
	correlation string    // of the answer
}

type requestKey struct{}

// requestOf returns the call that req is an attempt of.
func requestOf(req *http.Request) *request {
	r, ok := req.Context().Value(requestKey{}).(*request)
	if !ok {
		return &request{method: req.Method, template: req.URL.Path, path: req.URL.Path}
	}
	return r
}

// fresh returns a copy of req for one attempt, with a body that has not been read.
func (r *request) fresh(ctx context.Context, req *http.Request) *http.Request {
	attempt := req.Clone(ctx)
	if r.body != nil {
		attempt.Body = io.NopCloser(bytes.NewReader(r.body))
		attempt.ContentLength = int64(len(r.body))
		attempt.GetBody = nil // the transport must not repeat what the retry layer does not see
	}
	return attempt
}

// read returns a call without side effects.
func read(family, method, path string) *request {
	return &request{family: family, method: method, path: path, template: path, replay: true}
}

// write returns a call with side effects: it is repeated only when HubSpot certainly did not run it.
func write(family, method, path string) *request {
	return &request{family: family, method: method, path: path, template: path}
}

// segment escapes one path segment: an object type given by name, type id or qualified name.
func segment(s string) string { return url.PathEscape(s) }
