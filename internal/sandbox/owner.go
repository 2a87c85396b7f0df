package sandbox

import (
	"cmp"
	"slices"
	"strconv"
)

// owner is a user who may own records. Its id is not its user id.
type owner struct {
	id, userID       int64
	email            string
	first, last      string
	teams            []team
	created, updated int64
	archived         bool
}

type team struct {
	id, name string
	primary  bool
}

func (o *owner) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendID(appendMember(dst, "id"), o.id)
	dst = appendString(appendMember(dst, "email"), o.email)
	dst = appendString(appendMember(dst, "type"), "PERSON")
	dst = appendString(appendMember(dst, "firstName"), o.first)
	dst = appendString(appendMember(dst, "lastName"), o.last)
	if dst = appendMember(dst, "userId"); o.archived {
		dst = append(dst, "null"...)
	} else {
		dst = appendInt(dst, o.userID)
	}
	dst = appendInt(appendMember(dst, "userIdIncludingInactive"), o.userID)
	dst = appendTime(appendMember(dst, "createdAt"), o.created)
	dst = appendTime(appendMember(dst, "updatedAt"), o.updated)
	dst = appendBool(appendMember(dst, "archived"), o.archived)
	if len(o.teams) > 0 {
		dst = append(appendMember(dst, "teams"), '[')
		for _, t := range o.teams {
			dst = append(appendComma(dst), '{')
			dst = appendString(appendMember(dst, "id"), t.id)
			dst = appendString(appendMember(dst, "name"), t.name)
			dst = appendBool(appendMember(dst, "primary"), t.primary)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// serveOwners answers GET owners and GET owners/{id}.
func (s *Server) serveOwners(c *call) *reply {
	if r := c.only("GET"); r != nil {
		return r
	}
	if r := c.needs("crm.objects.owners.read"); r != nil {
		return r
	}
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	if len(c.rest) > 1 {
		return c.notFound()
	}
	if len(c.rest) == 1 {
		return s.serveOwner(c, c.rest[0], archived)
	}
	limit, r := c.limit(100, 500)
	if r != nil {
		return r
	}
	after := int64(0)
	if v := c.query.Get("after"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return c.invalidParameter("after", v)
		}
		after = n
	}
	email := c.query.Get("email")
	a := s.account
	out := c.ok()
	a.view(func() {
		os := slices.SortedFunc(slices.Values(a.owners), func(x, y *owner) int { return cmp.Compare(x.id, y.id) })
		out.body = append(out.body, `{"results":[`...)
		n, last, more := 0, int64(0), false
		for _, o := range os {
			if o.archived != archived || o.id <= after || email != "" && o.email != email {
				continue
			}
			if more = n == limit; more {
				break
			}
			out.body = o.append(appendComma(out.body))
			n, last = n+1, o.id
		}
		out.body = append(out.body, ']')
		if more {
			out.body = c.appendPaging(out.body, strconv.FormatInt(last, 10))
		}
		out.body = append(out.body, '}')
	})
	return out
}

func (s *Server) serveOwner(c *call, id string, archived bool) *reply {
	byUser := c.query.Get("idProperty") == "userId"
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return c.notFound()
	}
	var out *reply
	s.account.view(func() {
		for _, o := range s.account.owners {
			if o.archived == archived && (!byUser && o.id == n || byUser && o.userID == n) {
				out = c.ok()
				out.body = o.append(out.body)
				return
			}
		}
		out = c.notFound()
	})
	return out
}
