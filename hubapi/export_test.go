package hubapi

import (
	"context"
	"net/http"
)

// DecodePage lets tests and benchmarks decode a body without a server.
func DecodePage(body []byte, p *Projection, expect int) (*Page, error) {
	b, err := decodeRecords(body, p, expect)
	if err != nil {
		return nil, err
	}
	return &Page{Records: b.records, After: b.after}, nil
}

// ParseError lets tests and fuzzing read a refusal without a server.
func ParseError(status int, header http.Header, body []byte) *APIError {
	req, err := http.NewRequest(http.MethodGet, "https://api.invalid/crm/objects", nil)
	if err != nil {
		panic(err)
	}
	return newAPIError(req, &http.Response{StatusCode: status, Header: header}, body)
}

// Refusal exposes the choice of an error type.
func Refusal(e *APIError) error { return refusal(e) }

// Post sends a call that is not a read, as writes will be.
func (c *Client) Post(ctx context.Context, path string) error {
	return c.call(ctx, &request{family: FamilyObject, method: http.MethodPost, path: path, template: path, body: []byte("{}")})
}
