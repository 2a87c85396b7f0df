package sandbox

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// cursorText makes an opaque cursor of a position; readCursor undoes it.
func cursorText(position string) string { return base64.StdEncoding.EncodeToString([]byte(position)) }

func (c *call) readCursor() (string, *reply) {
	v := c.query.Get("after")
	raw, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		return "", c.invalidParameter("after", v)
	}
	return string(raw), nil
}

func (s *Server) listMembers(c *call, id int64, byJoining bool) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	limit, r := c.limit(100, maxMembershipPage)
	if r != nil {
		return r
	}
	after, r := c.readCursor()
	if r != nil {
		return r
	}
	past := member{-1, -1}
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d/%d", &past.at, &past.id); err != nil {
			return c.invalidParameter("after", c.query.Get("after"))
		}
	}
	out := c.noSegment(id)
	s.account.view(func() {
		g := s.account.segment(id)
		if g == nil {
			return
		}
		ms := g.members(byJoining)
		from, _ := slices.BinarySearchFunc(ms, past, func(m, past member) int {
			if byJoining {
				return cmp.Or(cmp.Compare(m.at, past.at), cmp.Compare(m.id, past.id+1))
			}
			return cmp.Compare(m.id, past.id+1)
		})
		to := min(from+limit, len(ms))
		out = c.ok()
		out.body = append(out.body, `{"results":[`...)
		for _, m := range ms[from:to] {
			out.body = append(appendComma(out.body), '{')
			out.body = appendID(appendMember(out.body, "recordId"), m.id)
			out.body = append(appendTime(appendMember(out.body, "membershipTimestamp"), m.at), '}')
		}
		out.body = appendInt(appendMember(append(out.body, ']'), "total"), int64(len(ms)))
		if to < len(ms) {
			last := ms[to-1]
			out.body = c.appendPaging(out.body, cursorText(fmt.Sprintf("%d/%d", last.at, last.id)))
		}
		out.body = append(out.body, '}')
	})
	return out
}

// changeMembers answers PUT memberships/add, remove and add-and-remove, and DELETE memberships.
func (s *Server) changeMembers(c *call, id int64, what string) *reply {
	var add, remove []loose
	var r *reply
	switch _, verb, _ := strings.Cut(what, "/"); verb {
	case "add":
		r = c.decode(&add)
	case "remove":
		r = c.decode(&remove)
	case "add-and-remove":
		var body struct {
			Add    []loose `json:"recordIdsToAdd"`
			Remove []loose `json:"recordIdsToRemove"`
		}
		r = c.decode(&body)
		add, remove = body.Add, body.Remove
	}
	if what != "memberships" { // which is reached with DELETE alone
		if refused := c.only(http.MethodPut); refused != nil {
			return refused
		}
		if r != nil {
			return r
		}
	}
	if len(add)+len(remove) > maxMembersWritten {
		return c.invalid(fmt.Sprintf("At most %d records can be added or removed at once", maxMembersWritten))
	}
	out := c.noSegment(id)
	a := s.account
	c.edit(func(now int64) {
		g := a.segment(id)
		if g == nil {
			return
		}
		if g.Processing == segmentDynamic {
			out = c.fail(failure{
				status: http.StatusBadRequest, category: "VALIDATION_ERROR", subCategory: "ListError.INVALID_PROCESSING_TYPE",
				message: fmt.Sprintf("List %d is dynamic: its memberships cannot be changed manually.", id),
			})
			return
		}
		out = a.editMembers(c, g, add, remove, now)
	})
	return out
}

func (a *account) editMembers(c *call, g *segment, add, remove []loose, now int64) *reply {
	t := a.byPath[g.TypeID]
	if c.method == http.MethodDelete {
		for _, m := range g.members(false) {
			a.leave(t, g, m.id)
		}
		return c.noContent()
	}
	added, removed, missing := []string{}, []string{}, []string{}
	for _, l := range add {
		e := t.lookup(l.id(), false)
		switch {
		case e == nil || e.cur.archived != 0:
			missing = append(missing, l.text)
		case g.Members[e.id] == 0:
			a.join(t, g, e.id, now)
			added = append(added, l.text)
		}
	}
	for _, l := range remove {
		if _, member := g.Members[l.id()]; member {
			a.leave(t, g, l.id())
			removed = append(removed, l.text)
		}
	}
	if len(added)+len(removed) > 0 {
		g.Updated = now
	}
	return c.answer(http.StatusOK, struct {
		Added   []string `json:"recordsIdsAdded"` // HubSpot spells it so
		Removed []string `json:"recordIdsRemoved"`
		Missing []string `json:"recordIdsMissing"`
	}{added, removed, missing})
}

func (a *account) appendMemberships(dst []byte, typeID string, id int64) []byte {
	for _, g := range a.surfaces.Segments {
		at, member := g.Members[id]
		if !member || g.TypeID != typeID || g.Deleted != 0 {
			continue
		}
		dst = append(appendComma(dst), '{')
		dst = appendID(appendMember(dst, "listId"), g.ID)
		dst = appendInt(appendMember(dst, "listVersion"), g.Version)
		dst = appendTime(appendMember(dst, "firstAddedTimestamp"), at)
		dst = append(appendTime(appendMember(dst, "lastAddedTimestamp"), at), '}')
	}
	return dst
}

func (s *Server) membershipsOf(c *call, objectType, record string) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	t, r := s.typed(c, objectType)
	if r != nil {
		return r
	}
	out := c.ok()
	s.account.view(func() {
		out.body = append(out.body, `{"results":[`...)
		out.body = s.account.appendMemberships(out.body, t.kind.typeID, loose{text: record}.id())
		out.body = append(out.body, ']', '}')
	})
	return out
}

func (s *Server) batchMemberships(c *call) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		Inputs []struct {
			ObjectTypeID string `json:"objectTypeId"`
			RecordID     loose  `json:"recordId"`
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
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for _, in := range body.Inputs {
			out.body = append(appendComma(out.body), '{')
			out.body = appendString(appendMember(out.body, "objectTypeId"), in.ObjectTypeID)
			out.body = appendString(appendMember(out.body, "recordId"), in.RecordID.text)
			out.body = append(appendMember(out.body, "listMemberships"), '[')
			out.body = append(s.account.appendMemberships(out.body, in.ObjectTypeID, in.RecordID.id()), ']', '}')
		}
		out.body = append(appendSpan(append(out.body, ']'), started), '}')
	})
	return out
}
