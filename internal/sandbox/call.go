package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxBody is the largest request body read.
const maxBody = 10 << 20

// call is one API request on its way through the server.
type call struct {
	s           *Server
	method      string
	path        string
	query       url.Values
	body        []byte
	correlation string

	version string   // v3, v4, 2026-03, …
	family  string   // objects, associations, properties, …
	rest    []string // path segments after the family
	label   string   // family for Stats
	limits  limitClass

	origin string       // scheme and host the client called
	open   bool         // asks for no token
	token  *accessToken // by OAuth; nil for the static token and without one
}

// app is the OAuth app that calls, nil for the static token.
func (c *call) app() *app {
	if c.token == nil {
		return nil
	}
	return c.token.app
}

// answer is a reply with v as its JSON body.
func (c *call) answer(status int, v any) *reply {
	out := c.ok()
	out.status = status
	w := bytes.NewBuffer(out.body)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		out.release(c.s.bodies)
		return c.internal()
	}
	out.body = bytes.TrimSuffix(w.Bytes(), []byte{'\n'})
	return out
}

// ok starts a 200 reply in a pooled buffer.
func (c *call) ok() *reply {
	p := c.s.bodies.get()
	return &reply{status: http.StatusOK, body: (*p)[:0], pooled: p}
}

func (c *call) noContent() *reply { return &reply{status: http.StatusNoContent} }

// only refuses methods other than those allowed.
func (c *call) only(methods ...string) *reply {
	if slices.Contains(methods, c.method) {
		return nil
	}
	return c.fail(failure{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"}).
		set("Allow", strings.Join(methods, ", "))
}

// flag reads a boolean query parameter.
func (c *call) flag(name string) (bool, *reply) {
	switch v := c.query.Get(name); strings.ToLower(v) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, c.invalidParameter(name, v)
	}
}

// limit reads the page size.
func (c *call) limit(otherwise, most int) (int, *reply) {
	v := c.query.Get("limit")
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, c.invalidParameter("limit", v)
	}
	if n > most {
		return 0, c.invalid(fmt.Sprintf("Page size should be less than or equal to %d", most))
	}
	return n, nil
}

// list reads a parameter that may be repeated or hold commas.
func (c *call) list(name string) []string {
	var out []string
	for _, v := range c.query[name] {
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one != "" {
				out = append(out, one)
			}
		}
	}
	return out
}

// appendPaging appends the paging member with its cursor.
func (c *call) appendPaging(dst []byte, after string) []byte {
	dst = append(appendMember(dst, "paging"), `{"next":{`...)
	dst = appendString(appendMember(dst, "after"), after)
	if c.method == http.MethodGet {
		q := make(url.Values, len(c.query)+1)
		maps.Copy(q, c.query)
		q.Set("after", after)
		dst = appendString(appendMember(dst, "link"), "https://api.hubapi.com"+c.path+"?"+q.Encode())
	}
	return append(dst, '}', '}')
}

// decode reads the JSON body into v.
func (c *call) decode(v any) *reply {
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.UseNumber()
	err := d.Decode(v)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(len(c.body))
	text := "Unexpected end-of-input"
	switch {
	case errors.As(err, &syntax):
		offset, text = syntax.Offset, syntax.Error()
	case errors.As(err, &kind):
		offset = kind.Offset
		text = fmt.Sprintf("Cannot deserialize value of type `%s` from %s value", kind.Type, kind.Value)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		text = err.Error()
	}
	before := c.body[:min(offset, int64(len(c.body)))]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return c.invalid(fmt.Sprintf("Invalid input JSON on line %d, column %d: %s", line, column, text))
}

// missing is the answer to a body without some attribute.
func (c *call) missing(names ...string) *reply {
	return c.invalid("Invalid input JSON: some of required attributes are not set [" + strings.Join(names, ", ") + "]")
}

// loose is a JSON scalar taken as text: HubSpot accepts numbers and booleans where it means strings.
type loose struct {
	text string
	set  bool // false for null
}

// UnmarshalJSON implements [json.Unmarshaler].
func (l *loose) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) == 0 || string(b) == "null":
		*l = loose{}
		return nil
	case b[0] == '"':
		l.set = true
		return json.Unmarshal(b, &l.text)
	case b[0] == '{' || b[0] == '[':
		return &json.UnmarshalTypeError{Value: "object", Type: stringType}
	default:
		*l = loose{text: string(b), set: true}
		return nil
	}
}

var stringType = reflect.TypeFor[string]()
