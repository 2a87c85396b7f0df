package sandbox

import (
	"net/http"
	"strconv"
)

// serveRecord answers GET, PATCH and DELETE objects/{type}/{id}.
func (s *Server) serveRecord(c *call) *reply {
	if r := c.only(http.MethodGet, http.MethodPatch, http.MethodDelete); r != nil {
		return r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	switch c.method {
	case http.MethodGet:
		return s.serveRead(c, t)
	case http.MethodPatch:
		return s.servePatch(c, t)
	default:
		return s.serveDelete(c, t)
	}
}

func (s *Server) serveRead(c *call, t *table) *reply {
	if r := c.needs(t.kind.readScope()); r != nil {
		return r
	}
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	names, withHistory, linked := c.list("properties"), c.list("propertiesWithHistory"), c.list("associations")
	a := s.account
	var out *reply
	a.view(func() {
		e, refused := c.record(a, t)
		if refused != nil {
			out = refused
			return
		}
		if (e.cur.archived != 0) != archived {
			out = c.notFound()
			return
		}
		out = c.ok()
		out.body = a.projectOr(t, names, withHistory).appendOpen(out.body, e, e.cur)
		out.body = a.appendInline(out.body, t, e.id, a.inlineTypes(t, linked))
		out.body = append(out.body, '}')
	})
	return out
}

// record finds the record the path names, by idProperty when given. Merged-away ids give the survivor.
func (c *call) record(a *account, t *table) (*entry, *reply) {
	id, idProperty := c.rest[1], c.query.Get("idProperty")
	find, r := c.finder(a, t, idProperty)
	if r != nil {
		return nil, r
	}
	if e := find(id); e != nil {
		return e, nil
	}
	if _, err := strconv.ParseInt(id, 10, 64); err != nil && idProperty == "" {
		return nil, c.fail(failure{
			status: http.StatusNotFound, message: "Object not found.  objectId are usually numeric.",
			context: [][2]string{{"id", id}}, category: "OBJECT_NOT_FOUND",
		})
	}
	return nil, c.notFound()
}

func (s *Server) serveDelete(c *call, t *table) *reply {
	if r := s.mayWrite(c, t); r != nil {
		return r
	}
	id, err := strconv.ParseInt(c.rest[1], 10, 64)
	if err != nil {
		return c.notFound()
	}
	a := s.account
	out := c.noContent()
	c.edit(func(now int64) {
		if e := t.lookup(id, true); e != nil {
			a.archive(t, e, now) // a second delete answers the same
		} else {
			out = c.notFound()
		}
	})
	return out
}

// mayWrite checks the scope and that the type takes writes at all.
func (s *Server) mayWrite(c *call, t *table) *reply {
	if r := c.needs(t.kind.writeScope()); r != nil {
		return r
	}
	if t.kind.readOnly {
		return c.fail(failure{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"})
	}
	return nil
}
