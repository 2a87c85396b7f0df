package hubapi

import "net/http"

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
