package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// linkIDs checks the types of a new association. None means the unlabeled one.
func (a *account) linkIDs(d direction, types []linkTypeBody) ([]int, *batchError) {
	if len(types) == 0 {
		u := a.links.unlabeled(d)
		if u == nil {
			return nil, invalidLinkType(d, 0)
		}
		return []int{u.id}, nil
	}
	ids := make([]int, 0, len(types))
	for _, t := range types {
		lt := a.links.byID[d][t.TypeID]
		if lt == nil || lt.category != t.Category {
			return nil, invalidLinkType(d, t.TypeID)
		}
		ids = append(ids, lt.id)
	}
	return ids, nil
}

func invalidLinkType(d direction, id int) *batchError {
	return &batchError{
		category: "VALIDATION_ERROR", subCategory: "crm.associations.INVALID_ASSOCIATION_TYPE",
		message: fmt.Sprintf("Association type %d is not valid from object type %s to %s", id, d.from, d.to),
		context: [][2]string{{"type", strconv.Itoa(id)}, {"fromObjectType", d.from}, {"toObjectType", d.to}},
	}
}

// associate checks both ends and makes ids the types between them.
func (a *account) associate(from, to *table, fromID, toID string, types []linkTypeBody) (x, y *entry, err *batchError) {
	if x, err = a.near(from, fromID); err != nil {
		return nil, nil, err
	}
	if y, err = a.near(to, toID); err != nil {
		return nil, nil, err
	}
	if from == to && x == y {
		return nil, nil, &batchError{
			category: "VALIDATION_ERROR", message: fmt.Sprintf("Object %s cannot be associated to itself (%s)", fromID, toID),
			context: [][2]string{{"objectId", fromID}},
		}
	}
	d := direction{from.kind.typeID, to.kind.typeID}
	ids, err := a.linkIDs(d, types)
	if err != nil {
		return nil, nil, err
	}
	a.links.put(d, x.id, y.id, ids)
	a.rollUp(from, x, to, y)
	return x, y, nil
}

// dissociate removes types between two records, all of them when none is given or the unlabeled one is.
func (a *account) dissociate(from, to *table, x, y int64, types []int) {
	d := direction{from.kind.typeID, to.kind.typeID}
	have := a.links.between(d, x, y)
	if have == nil {
		return
	}
	var rest []int
	u := a.links.unlabeled(d)
	if len(types) > 0 && (u == nil || !slices.Contains(types, u.id)) {
		rest = slices.DeleteFunc(slices.Clone(have), func(id int) bool { return slices.Contains(types, id) })
		if u == nil && len(rest) == len(have) {
			return
		}
	}
	a.links.put(d, x, y, rest)
	a.rollUp(from, from.entries[x], to, to.entries[y])
}

func (s *Server) batchCreateLinks(c *call, from, to *table) *reply {
	var body struct {
		Inputs []struct {
			From  recordRef      `json:"from"`
			To    recordRef      `json:"to"`
			Types []linkTypeBody `json:"types"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxLinkWrites); r != nil {
		return r
	}
	byDefault := c.rest[len(c.rest)-1] == "default"
	started := nowMS()
	out := c.ok()
	a := s.account
	c.edit(func(int64) {
		d := direction{from.kind.typeID, to.kind.typeID}
		var errs []byte
		n := 0
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for _, in := range body.Inputs {
			types := in.Types
			if byDefault {
				types = nil
			}
			x, y, refusal := a.associate(from, to, in.From.ID.text, in.To.ID.text, types)
			if refusal != nil {
				errs = appendBatchError(errs, *refusal)
				n++
				continue
			}
			out.body = a.appendLinkMade(appendComma(out.body), d, x.id, y.id)
		}
		out.body = append(out.body, ']')
		switch {
		case n > 0:
			c.partial(out)
			out.body = appendInt(appendMember(out.body, "numErrors"), int64(n))
			out.body = append(out.body, `,"errors":[`...)
			out.body = append(out.body, errs...)
			out.body = append(out.body, ']')
		case c.version != "2026-09" && !byDefault:
			out.status = http.StatusCreated
		}
		out.body = append(appendSpan(out.body, started), '}')
	})
	return out
}

func (a *account) appendLinkMade(dst []byte, d direction, x, y int64) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "fromObjectTypeId"), d.from)
	dst = appendInt(appendMember(dst, "fromObjectId"), x)
	dst = appendString(appendMember(dst, "toObjectTypeId"), d.to)
	dst = appendInt(appendMember(dst, "toObjectId"), y)
	var labels []string
	for _, id := range a.links.between(d, x, y) {
		if lt := a.links.byID[d][id]; lt.label != "" {
			labels = append(labels, lt.label)
		}
	}
	return append(appendStrings(appendMember(dst, "labels"), labels), '}')
}

func (s *Server) batchArchiveLinks(c *call, from, to *table) *reply {
	var body struct {
		Inputs []struct {
			From recordRef   `json:"from"`
			To   []recordRef `json:"to"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxLinkArchives); r != nil {
		return r
	}
	return s.unlink(c, func(a *account) {
		for _, in := range body.Inputs {
			for _, other := range in.To {
				a.dissociate(from, to, in.From.ID.id(), other.ID.id(), nil)
			}
		}
	})
}

func (s *Server) batchArchiveLabels(c *call, from, to *table) *reply {
	var body struct {
		Inputs []struct {
			From  recordRef      `json:"from"`
			To    recordRef      `json:"to"`
			Types []linkTypeBody `json:"types"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxLinkWrites); r != nil {
		return r
	}
	return s.unlink(c, func(a *account) {
		for _, in := range body.Inputs {
			var ids []int
			for _, t := range in.Types {
				ids = append(ids, t.TypeID)
			}
			if len(ids) > 0 {
				a.dissociate(from, to, in.From.ID.id(), in.To.ID.id(), ids)
			}
		}
	})
}

// unlink runs removals and answers as the version does: 204 in v4, a body in the dated ones.
func (s *Server) unlink(c *call, fn func(*account)) *reply {
	started := nowMS()
	c.edit(func(int64) { fn(s.account) })
	if c.version == "v4" {
		return c.noContent()
	}
	out := c.ok()
	out.body = append(out.body, `{"status":"COMPLETE","results":[]`...)
	out.body = append(appendSpan(out.body, started), '}')
	return out
}

// id is the loose text as a record id, 0 when it is none.
func (l loose) id() int64 {
	n, err := strconv.ParseInt(l.text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// serveRecordAssociations answers objects/{from}/{id}/associations/….
func (s *Server) serveRecordAssociations(c *call) *reply {
	rest := c.rest
	byDefault := len(rest) == 6 && rest[3] == "default"
	if byDefault {
		rest = append(slices.Clone(rest[:3]), rest[4:]...)
	}
	if len(rest) > 5 || c.version == "v3" {
		return c.notFound()
	}
	from, to, r := s.pair(c, rest[0], rest[3])
	if r != nil {
		return r
	}
	if len(rest) == 4 {
		if c.version == "2026-09" {
			return c.notFound() // not part of this version
		}
		if r := c.only(http.MethodGet); r != nil {
			return r
		}
		return s.listLinks(c, from, to)
	}
	if r := c.only(http.MethodPut, http.MethodDelete); r != nil {
		return r
	}
	if r := c.needs(from.kind.writeScope()); r != nil {
		return r
	}
	if c.method == http.MethodDelete {
		x, y := loose{text: rest[1]}.id(), loose{text: rest[4]}.id()
		c.edit(func(int64) { s.account.dissociate(from, to, x, y, nil) })
		return c.noContent()
	}
	var types []linkTypeBody
	if !byDefault {
		if r := c.decode(&types); r != nil {
			return r
		}
	}
	var out *reply
	a := s.account
	c.edit(func(int64) {
		x, y, refusal := a.associate(from, to, rest[1], rest[4], types)
		if refusal != nil {
			status := http.StatusBadRequest
			if refusal.category == "OBJECT_NOT_FOUND" {
				status = http.StatusNotFound
			}
			out = c.fail(failure{
				status: status, message: refusal.message, category: refusal.category,
				subCategory: refusal.subCategory, context: refusal.context,
			})
			return
		}
		out = c.ok()
		if !byDefault {
			out.status = http.StatusCreated
		}
		out.body = a.appendLinkMade(out.body, direction{from.kind.typeID, to.kind.typeID}, x.id, y.id)
	})
	return out
}

func (s *Server) listLinks(c *call, from, to *table) *reply {
	limit, r := c.limit(maxLinkedPage, maxLinkedPage)
	if r != nil {
		return r
	}
	out := c.ok()
	a := s.account
	a.view(func() {
		e, refusal := a.near(from, c.rest[1])
		if refusal != nil {
			out = c.notFound()
			return
		}
		d := direction{from.kind.typeID, to.kind.typeID}
		out.body = append(out.body, '{')
		out.body = a.appendLinked(c, out.body, "results", d, a.visible(d, to, e.id), c.query.Get("after"), limit)
		out.body = append(out.body, '}')
	})
	return out
}
