package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// archiveProperty archives a definition, unless something uses it.
func (a *account) archiveProperty(t *table, p *property, now int64) *failure {
	if p.HubSpotDefined {
		return &failure{
			status: http.StatusBadRequest, category: "VALIDATION_ERROR",
			message: fmt.Sprintf("Property %q is defined by HubSpot and cannot be archived", p.Name),
		}
	}
	inUse := t.kind.custom && (p.Name == t.kind.display || slices.Contains(t.kind.requiredList, p.Name)) ||
		slices.ContainsFunc(a.surfaces.Segments, func(g *segment) bool {
			return g.Deleted == 0 && g.TypeID == t.kind.typeID && g.Property == p.Name
		})
	if inUse {
		return &failure{
			status: http.StatusBadRequest, category: "VALIDATION_ERROR",
			subCategory: "PropertyValidationError.CANNOT_DELETE_PROPERTY_IN_USE",
			message:     fmt.Sprintf("Property %q is in use and cannot be archived", p.Name),
		}
	}
	p.archived = now
	return nil
}

// batchProperties answers POST properties/{type}/batch/{verb}.
func (s *Server) batchProperties(c *call, t *table, verb string) *reply {
	handle := map[string]func(*call, *table) *reply{
		"read": s.batchReadProperties, "create": s.batchCreateProperties, "archive": s.batchArchiveProperties,
	}[verb]
	if handle == nil {
		return c.notFound()
	}
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	return handle(c, t)
}

// batchCreateProperties makes what it can and tells of the rest.
func (s *Server) batchCreateProperties(c *call, t *table) *reply {
	var body struct {
		Inputs []PropertyDef `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxBatch); r != nil {
		return r
	}
	started := nowMS()
	out := c.ok()
	c.edit(func(now int64) {
		var errs []byte
		n := 0
		out.status = http.StatusCreated
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for _, d := range body.Inputs {
			p, refusal := t.createProperty(d, now)
			if refusal != nil {
				errs = appendBatchError(errs, batchError{
					category: refusal.category, subCategory: refusal.subCategory, message: refusal.message,
					context: [][2]string{{"name", d.Name}},
				})
				n++
				continue
			}
			out.body = p.append(appendComma(out.body))
		}
		out.body = append(out.body, ']')
		if n > 0 {
			c.partial(out)
			out.body = append(out.body, `,"numErrors":`...)
			out.body = append(strconv.AppendInt(out.body, int64(n), 10), `,"errors":[`...)
			out.body = append(append(out.body, errs...), ']')
		}
		out.body = append(appendSpan(out.body, started), '}')
	})
	return out
}

// batchArchiveProperties archives what it can; the answer is the same either way.
func (s *Server) batchArchiveProperties(c *call, t *table) *reply {
	var body struct {
		Inputs []struct {
			Name string `json:"name"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxBatch); r != nil {
		return r
	}
	c.edit(func(now int64) {
		for _, in := range body.Inputs {
			if p := t.property(in.Name); p != nil {
				_ = s.account.archiveProperty(t, p, now) // what is in use stays
			}
		}
	})
	return c.noContent()
}

func (s *Server) batchReadProperties(c *call, t *table) *reply {
	var body struct {
		Archived bool `json:"archived"`
		Inputs   []struct {
			Name string `json:"name"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxBatch); r != nil {
		return r
	}
	started := nowMS()
	out := c.ok()
	s.account.view(func() {
		var missing []string
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for _, in := range body.Inputs {
			if p := t.props[in.Name]; p != nil && (p.archived != 0) == body.Archived {
				out.body = p.append(appendComma(out.body))
			} else {
				missing = append(missing, in.Name)
			}
		}
		out.body = append(out.body, ']')
		if len(missing) > 0 {
			c.partial(out)
			out.body = append(out.body, `,"numErrors":1,"errors":[`...)
			out.body = appendBatchError(out.body, batchError{
				category: "OBJECT_NOT_FOUND", message: "Could not get some properties, they may be deleted or not exist.",
				context: contextOf("name", missing),
			})
			out.body = append(out.body, ']')
		}
		out.body = append(appendSpan(out.body, started), '}')
	})
	return out
}
