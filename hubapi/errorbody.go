package hubapi

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// errorBody is HubSpot's envelope of a refusal; every field may be missing.
type errorBody struct {
	Message       string       `json:"message"`
	CorrelationID string       `json:"correlationId"`
	Category      string       `json:"category"`
	ErrorType     string       `json:"errorType"` // in place of category on some 429s
	SubCategory   any          `json:"subCategory"`
	PolicyName    string       `json:"policyName"`
	Errors        []errorEntry `json:"errors"`
	Context       contexts     `json:"context"`
}

type errorEntry struct {
	Message     string   `json:"message"`
	Code        string   `json:"code"`
	Category    string   `json:"category"`
	SubCategory any      `json:"subCategory"`
	In          string   `json:"in"`
	Context     contexts `json:"context"`

	Errors []errorEntry `json:"errors"` // of one row of a batch: its reasons
}

// contexts is a map of lists in which HubSpot sometimes writes a bare value.
type contexts map[string]any

func (c contexts) lists() map[string][]string {
	if len(c) == 0 {
		return nil
	}
	out := make(map[string][]string, len(c))
	for k, v := range c {
		out[k] = texts(v)
	}
	return out
}

// texts flattens a JSON value to its scalar leaves one level deep.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case float64:
		return []string{strconv.FormatFloat(v, 'f', -1, 64)}
	case bool:
		return []string{strconv.FormatBool(v)}
	case []any:
		var out []string
		for _, e := range v {
			if _, nested := e.([]any); !nested {
				out = append(out, texts(e)...)
			}
		}
		return out
	}
	return nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// lenient are the options for everything but record pages: HubSpot adds members at will.
func lenient() json.Options {
	return json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// newAPIError reads a refusal, whatever shape it has.
func newAPIError(req *http.Request, resp *http.Response, body []byte) *APIError {
	r := requestOf(req)
	e := &APIError{
		Status:        resp.StatusCode,
		Method:        r.method,
		Path:          r.path,
		CorrelationID: clip(resp.Header.Get("X-Hubspot-Correlation-Id"), 100),
		RetryAfter:    retryAfter(resp.Header.Get("Retry-After")),
	}
	e.parse(body)
	if e.Message == "" {
		e.Message = http.StatusText(resp.StatusCode)
	}
	return e
}

// parse fills e from a body. It accepts anything: a body that is not HubSpot's leaves a short text in Message.
func (e *APIError) parse(body []byte) {
	body = bytes.TrimSpace(body)
	if !looksJSON(body) {
		e.HTML = true
		e.Message = plainText(body)
		return
	}
	var b errorBody
	// A mistyped member leaves the members before it in place, which is all that can be used.
	_ = json.Unmarshal(body, &b, lenient())
	e.Message = clip(b.Message, maxMessage)
	e.Category = clip(b.Category, 100)
	if e.Category == "" {
		e.Category = clip(b.ErrorType, 100)
	}
	e.SubCategory = clip(text(b.SubCategory), 200)
	if b.CorrelationID != "" {
		e.CorrelationID = clip(b.CorrelationID, 100)
	}
	e.Context = b.Context.lists()
	for _, entry := range b.Errors {
		d := entry.detail()
		e.Details = append(e.Details, d)
		e.Scopes = append(e.Scopes, d.Context["requiredGranularScopes"]...)
		e.Scopes = append(e.Scopes, d.Context["requiredScopes"]...)
	}
	e.Scopes = append(e.Scopes, e.Context["requiredGranularScopes"]...)
	e.Scopes = append(e.Scopes, e.Context["requiredScopes"]...)
	if len(e.Details) == 0 {
		e.Details = detailsInMessage(b.Message)
	}
	e.Policy = policy(b)
}

// detail returns the entry as one reason of a refusal.
func (e *errorEntry) detail() Detail {
	d := Detail{
		Code: e.Code, SubCategory: text(e.SubCategory), Message: clip(e.Message, maxMessage), Context: e.Context.lists(),
	}
	if d.Code == "" {
		d.Code = e.Category
	}
	d.Property = first(d.Context["propertyName"])
	if d.Property == "" {
		d.Property = e.In
	}
	return d
}

// maxMessage bounds what is kept of HubSpot's texts; the list of allowed options of a property can be very long.
const maxMessage = 2000

// policy names the limit behind a 429. Only the search limit has no name of its own in the body.
func policy(b errorBody) string {
	switch {
	case b.PolicyName != "":
		return clip(strings.ToUpper(b.PolicyName), 60)
	case strings.Contains(b.Message, "ten_secondly"):
		return PolicyTenSecondly
	case strings.Contains(b.Message, "secondly limit"):
		return PolicySecondly
	case strings.Contains(b.Message, "daily limit"):
		return PolicyDaily
	}
	return ""
}

// The limits that HubSpot names on 429, and the one that the client names itself.
const (
	PolicyTenSecondly = "TEN_SECONDLY_ROLLING"
	PolicySecondly    = "SECONDLY"
	PolicyDaily       = "DAILY"
	PolicyMigration   = "MIGRATION" // 477: the account is being moved to another data centre
)

// detailsInMessage reads the list of invalid properties that older refusals carry inside their message.
func detailsInMessage(message string) []Detail {
	const prefix = "Property values were not valid: "
	list, ok := strings.CutPrefix(message, prefix)
	if !ok {
		return nil
	}
	var entries []struct {
		Message string `json:"message"`
		Error   string `json:"error"`
		Name    string `json:"name"`
	}
	if err := json.Unmarshal([]byte(list), &entries, lenient()); err != nil {
		return nil
	}
	details := make([]Detail, len(entries))
	for i, e := range entries {
		details[i] = Detail{Code: e.Error, Message: clip(e.Message, maxMessage), Property: e.Name}
	}
	return details
}

// existingID finds the record in the way of a create.
func existingID(e *APIError) int64 {
	if id, err := strconv.ParseInt(first(e.Context["existingId"]), 10, 64); err == nil {
		return id
	}
	_, rest, ok := strings.Cut(e.Message, "Existing ID: ")
	if !ok {
		return 0
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	id, err := strconv.ParseInt(rest[:end], 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// retryAfter reads the header in seconds, the only unit HubSpot documents. Values over a day make no sense.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(header), 64)
	if err != nil || seconds <= 0 || seconds > 24*60*60 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// looksJSON tells HubSpot's answers from the pages of a gateway.
func looksJSON(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n\ufeff")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[')
}

// plainText makes one short line of an HTML page or a bare text.
func plainText(body []byte) string {
	const enough = 4096
	if len(body) > enough {
		body = body[:enough]
	}
	var b strings.Builder
	tag := false
	for _, c := range strings.ToValidUTF8(string(body), "") {
		switch {
		case c == '<':
			tag = true
			b.WriteByte(' ')
		case c == '>':
			tag = false
		case !tag:
			b.WriteRune(c)
		}
	}
	return clip(strings.Join(strings.Fields(b.String()), " "), 200)
}

// clip cuts s to at most n bytes of whole runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
