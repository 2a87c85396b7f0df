package sandbox

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// reply is a response before it is sent.
type reply struct {
	status int
	body   []byte
	header [][2]string
	html   bool
	// contentType, when set, is neither JSON nor HTML.
	contentType string
	pooled      *[]byte // where body came from
	limiter     string  // the policy of a 429
}

// bodies are buffers for responses.
type bodies struct{ pool sync.Pool }

// maxKeptBody is the largest buffer kept for reuse.
const maxKeptBody = 4 << 20

func newBodies() *bodies {
	return &bodies{pool: sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}}
}

func (b *bodies) get() *[]byte { return b.pool.Get().(*[]byte) }

// release gives the body's buffer back.
func (r *reply) release(b *bodies) {
	if r.pooled == nil {
		return
	}
	if cap(r.body) <= maxKeptBody {
		*r.pooled = r.body[:0]
		b.pool.Put(r.pooled)
	}
	r.pooled, r.body = nil, nil
}

func (r *reply) set(name, value string) *reply {
	r.header = append(r.header, [2]string{name, value})
	return r
}

func (r *reply) writeHeader(w http.ResponseWriter, length int) {
	h := w.Header()
	for _, kv := range r.header {
		h.Set(kv[0], kv[1])
	}
	if r.contentType != "" {
		h.Set("Content-Type", r.contentType)
	} else if r.html {
		h.Set("Content-Type", "text/html")
	} else if r.status != http.StatusNoContent {
		h.Set("Content-Type", "application/json;charset=utf-8")
	}
	if r.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(r.status)
}

// detail is one element of an error envelope's errors.
type detail struct {
	message string
	code    string
	context [][2]string // name, value
}

// failure is HubSpot's error envelope. Empty members are left out.
type failure struct {
	status      int
	message     string
	category    string
	subCategory string
	errorType   string // only 429s of the app limits
	policy      string
	errors      []detail
	context     [][2]string // name, value; values of one name are gathered
	links       [][2]string
}

// fail makes the reply for f, members in HubSpot's order.
func (c *call) fail(f failure) *reply {
	b := append([]byte(nil), `{"status":"error"`...)
	b = appendString(appendMember(b, "message"), f.message)
	if f.errorType != "" {
		b = appendString(appendMember(b, "errorType"), f.errorType)
	}
	b = appendString(appendMember(b, "correlationId"), c.correlation)
	if f.policy != "" {
		b = appendString(appendMember(b, "policyName"), f.policy)
		b = appendString(appendMember(b, "requestId"), strings.ReplaceAll(c.correlation, "-", ""))
	}
	if len(f.errors) > 0 {
		b = append(appendMember(b, "errors"), '[')
		for _, d := range f.errors {
			b = append(appendComma(b), '{')
			b = appendString(appendMember(b, "message"), d.message)
			if d.code != "" {
				b = appendString(appendMember(b, "code"), d.code)
			}
			if len(d.context) > 0 {
				b = appendContext(appendMember(b, "context"), d.context)
			}
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	if len(f.context) > 0 {
		b = appendContext(appendMember(b, "context"), f.context)
	}
	if len(f.links) > 0 {
		b = append(appendMember(b, "links"), '{')
		for _, l := range f.links {
			b = appendString(appendMember(b, l[0]), l[1])
		}
		b = append(b, '}')
	}
	if f.category != "" {
		b = appendString(appendMember(b, "category"), f.category)
	}
	if f.subCategory != "" {
		b = appendString(appendMember(b, "subCategory"), f.subCategory)
	}
	return &reply{status: f.status, body: append(b, '}')}
}

// appendContext appends {"name":["value",…],…}, gathering neighbours of one name.
func appendContext(b []byte, kvs [][2]string) []byte {
	b = append(b, '{')
	for i, kv := range kvs {
		if i > 0 && kvs[i-1][0] == kv[0] {
			b = append(b[:len(b)-1], ',')
		} else {
			b = append(appendString(appendComma(b), kv[0]), ':', '[')
		}
		b = append(appendString(b, kv[1]), ']')
	}
	return append(b, '}')
}

func htmlReply(status int, title string) *reply {
	return &reply{status: status, html: true, body: []byte(gatewayPage(title))}
}

// gatewayPage is what gateways in front of HubSpot send.
func gatewayPage(title string) string {
	return "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title +
		"</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
}

func (c *call) notFound() *reply {
	return c.fail(failure{status: http.StatusNotFound, message: "resource not found", category: "OBJECT_NOT_FOUND"})
}

// invalid is a 400 VALIDATION_ERROR.
func (c *call) invalid(message string, details ...detail) *reply {
	return c.fail(failure{
		status: http.StatusBadRequest, message: message, category: "VALIDATION_ERROR", errors: details,
	})
}

func (c *call) invalidParameter(name, value string) *reply {
	return c.invalid("Invalid value for query parameter " + name + ": " + value)
}

func (c *call) unknownType(name string) *reply {
	return c.fail(failure{status: http.StatusBadRequest, message: "Unable to infer object type from: " + name})
}
