package sandbox

import (
	"net/http"
	"strconv"
)

// Page sizes of the object API.
const (
	defaultPage     = 10
	maxPage         = 100
	maxHistoryPage  = 50
	maxInlineLinked = 100
)

// serveList answers GET objects/{type}: ids ascending, the cursor is the next record's id.
func (s *Server) serveList(c *call) *reply {
	if r := c.only(http.MethodGet, http.MethodPost); r != nil {
		return r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if r := c.needs(t.kind.readScope()); r != nil {
		return r
	}
	withHistory := c.list("propertiesWithHistory")
	most := maxPage
	if len(withHistory) > 0 {
		most = maxHistoryPage
	}
	limit, r := c.limit(defaultPage, most)
	if r != nil {
		return r
	}
	archived, r := c.flag("archived")
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
	names, linked := c.list("properties"), c.list("associations")
	out := c.ok()
	a := s.account
	a.view(func() {
		set := &t.live
		if archived {
			set = &t.gone
		}
		pr := a.projectOr(t, names, withHistory)
		inline := a.inlineTypes(t, linked)
		n, next := 0, int64(0)
		out.body = append(out.body, `{"results":[`...)
		set.ascend(set.seek(func(e *entry) bool { return e.id >= after }), func(e *entry) bool {
			if n == limit {
				next = e.id
				return false
			}
			if n > 0 {
				out.body = append(out.body, ',')
			}
			n++
			out.body = pr.appendOpen(out.body, e, e.cur)
			out.body = a.appendInline(out.body, t, e.id, inline)
			out.body = append(out.body, '}')
			return true
		})
		out.body = append(out.body, ']')
		if next != 0 {
			out.body = c.appendPaging(out.body, strconv.FormatInt(next, 10))
		}
		out.body = append(out.body, '}')
	})
	return out
}

// inlineTypes finds the types asked for in associations=; unknown ones are ignored.
func (a *account) inlineTypes(t *table, names []string) []*table {
	var ts []*table
	for _, name := range names {
		if to := a.table(name); to != nil && a.links.types[direction{t.kind.typeID, to.kind.typeID}] != nil {
			ts = append(ts, to)
		}
	}
	return ts
}

// appendInline appends the associations member of one record, at most a hundred per type. A record
// without any has no such member.
func (a *account) appendInline(dst []byte, t *table, id int64, to []*table) []byte {
	open := false
	for _, other := range to {
		d := direction{t.kind.typeID, other.kind.typeID}
		ls := a.visible(d, other, id)
		if len(ls) == 0 {
			continue
		}
		if !open {
			dst = append(dst, `,"associations":{`...)
			open = true
		}
		dst = append(appendMember(dst, other.kind.name), `{"results":[`...)
		for _, k := range ls[:min(len(ls), maxInlineLinked)] {
			for _, typeID := range a.links.sets[k.set] {
				dst = append(appendComma(dst), '{')
				dst = appendID(appendMember(dst, "id"), k.to)
				dst = appendString(appendMember(dst, "type"), a.links.inlineName(d, typeID))
				dst = append(dst, '}')
			}
		}
		dst = append(dst, ']')
		if len(ls) > maxInlineLinked {
			next := strconv.FormatInt(ls[maxInlineLinked].to, 10)
			dst = append(dst, `,"paging":{"next":{`...)
			dst = appendString(appendMember(dst, "after"), next)
			dst = appendString(appendMember(dst, "link"), "https://api.hubapi.com/crm/v3/objects/"+t.kind.name+"/"+
				strconv.FormatInt(id, 10)+"/associations/"+other.kind.name+"?after="+next)
			dst = append(dst, '}', '}')
		}
		dst = append(dst, '}')
	}
	if open {
		dst = append(dst, '}')
	}
	return dst
}

// inlineName is the name of a type in inline associations.
func (l *links) inlineName(d direction, typeID int) string {
	lt := l.byID[d][typeID]
	if lt.label != "" {
		return lt.name
	}
	for _, other := range l.types[d] {
		if other.primary {
			return lt.name + "_unlabeled"
		}
	}
	return lt.name
}

// visible are the associations of a record with records that are not archived.
func (a *account) visible(d direction, other *table, id int64) []link {
	ls := a.links.of(d, id)
	if other.gone.len() == 0 {
		return ls
	}
	out := make([]link, 0, len(ls))
	for _, k := range ls {
		if e := other.entries[k.to]; e != nil && e.cur.archived == 0 {
			out = append(out, k)
		}
	}
	return out
}
