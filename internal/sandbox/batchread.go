package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBatch is the most inputs of an object batch.
const maxBatch = 100

type batchReadBody struct {
	Inputs []struct {
		ID loose `json:"id"`
	} `json:"inputs"`
	Properties            []string `json:"properties"`
	PropertiesWithHistory []string `json:"propertiesWithHistory"`
	IDProperty            string   `json:"idProperty"`
}

// serveBatchRead answers POST objects/{type}/batch/read. The results are not in the order asked.
func (s *Server) serveBatchRead(c *call) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if r := c.needs(t.kind.readScope()); r != nil {
		return r
	}
	var body batchReadBody
	if r := c.decode(&body); r != nil {
		return r
	}
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	most := maxBatch
	if len(body.PropertiesWithHistory) > 0 {
		most = maxHistoryPage
	}
	if r := c.batchSize(len(body.Inputs), most); r != nil {
		return r
	}
	started := nowMS()
	out := c.ok()
	a := s.account
	var refused *reply
	a.view(func() {
		find, r := c.finder(a, t, body.IDProperty)
		if r != nil {
			refused = r
			return
		}
		var found []*entry
		var missing []string
		for _, in := range body.Inputs {
			if e := find(in.ID.text); e != nil && (e.cur.archived != 0) == archived {
				found = append(found, e)
			} else {
				missing = append(missing, in.ID.text)
			}
		}
		slices.SortFunc(found, func(x, y *entry) int {
			return cmp.Or(cmp.Compare(mix(uint64(x.id)), mix(uint64(y.id))), cmp.Compare(x.id, y.id))
		})
		found = slices.Compact(found)
		pr := a.projectOr(t, body.Properties, body.PropertiesWithHistory)
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for i, e := range found {
			if i > 0 {
				out.body = append(out.body, ',')
			}
			out.body = pr.append(out.body, e, e.cur)
		}
		out.body = append(out.body, ']')
		if len(missing) > 0 {
			c.partial(out)
			out.body = append(out.body, `,"numErrors":1,"errors":[`...)
			out.body = appendBatchError(out.body, batchError{
				category: "OBJECT_NOT_FOUND",
				message: fmt.Sprintf("Could not get some %s objects, they may be deleted or not exist. "+
					"Check that ids are valid.", strings.ToUpper(t.kind.singular)),
				context: contextOf("ids", missing),
			})
			out.body = append(out.body, ']')
		}
		out.body = appendSpan(out.body, started)
		out.body = append(out.body, '}')
	})
	if refused != nil {
		out.release(s.bodies)
		return refused
	}
	return out
}

// partial marks a batch reply as partly failed: 207, except in the versions that declare only 200.
func (c *call) partial(out *reply) {
	if c.version != "2026-09" {
		out.status = http.StatusMultiStatus
	}
}

func (c *call) batchSize(n, most int) *reply {
	if n == 0 {
		return c.missing("inputs")
	}
	if n > most {
		return c.invalid(fmt.Sprintf("Batch size of %d exceeds the maximum of %d", n, most))
	}
	return nil
}

// finder finds records by id, or by a unique property.
func (c *call) finder(a *account, t *table, idProperty string) (func(string) *entry, *reply) {
	if idProperty == "" || idProperty == "hs_object_id" {
		return func(id string) *entry {
			n, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				return nil
			}
			return t.lookup(n, true)
		}, nil
	}
	p := t.property(idProperty)
	if p == nil || t.unique[p] == nil {
		return nil, c.invalid(fmt.Sprintf("Property %q is not a unique identifier property of %s", idProperty, t.kind.name))
	}
	return func(id string) *entry { return t.byUnique(p, id) }, nil
}

// batchError is one element of a batch reply's errors.
type batchError struct {
	category, subCategory, message string
	context                        [][2]string
}

func appendBatchError(dst []byte, e batchError) []byte {
	dst = append(appendComma(dst), `{"status":"error"`...)
	dst = appendString(appendMember(dst, "category"), e.category)
	if e.subCategory != "" {
		dst = appendString(appendMember(dst, "subCategory"), e.subCategory)
	}
	dst = appendString(appendMember(dst, "message"), e.message)
	dst = appendContext(appendMember(dst, "context"), e.context)
	return append(dst, '}')
}

func contextOf(name string, values []string) [][2]string {
	kvs := make([][2]string, len(values))
	for i, v := range values {
		kvs[i] = [2]string{name, v}
	}
	return kvs
}

// silence is the answer to a batch read that says nothing about any input, though all is well.
func (c *call) silence() *reply {
	out := c.ok()
	out.body = append(out.body, `{"status":"COMPLETE","results":[]`...)
	out.body = append(appendSpan(out.body, nowMS()), '}')
	return out
}

// appendSpan appends startedAt and completedAt.
func appendSpan(dst []byte, started int64) []byte {
	dst = appendTime(appendMember(dst, "startedAt"), started)
	return appendTime(appendMember(dst, "completedAt"), max(started, time.Now().UnixMilli()))
}
