package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	maxSegmentSearch  = 500
	maxSegmentOffset  = 10_000
	maxMembershipPage = 250
	maxMembersWritten = 100_000
)

// serveSegments answers the lists API.
func (s *Server) serveSegments(c *call) *reply {
	scopes := []string{"crm.lists.read"}
	readingPost := len(c.rest) > 0 && (c.rest[0] == "search" || c.rest[len(c.rest)-1] == "read")
	if c.method != http.MethodGet && !readingPost {
		scopes = []string{"crm.lists.read", "crm.lists.write"} // writing needs both
	}
	for _, scope := range scopes {
		if r := c.needs(scope); r != nil {
			return r
		}
	}
	what := c.rest
	switch {
	case len(what) == 0:
		if r := c.only(http.MethodGet, http.MethodPost); r != nil {
			return r
		}
		if c.method == http.MethodPost {
			return s.createSegment(c)
		}
		return s.segmentsByID(c)
	case slices.Equal(what, []string{"search"}):
		return s.searchSegments(c)
	case len(what) == 4 && what[0] == "object-type-id" && what[2] == "name":
		return s.segmentByName(c, what[1], what[3])
	case len(what) == 4 && what[0] == "records" && what[3] == "memberships":
		return s.membershipsOf(c, what[1], what[2])
	case slices.Equal(what, []string{"records", "memberships", "batch", "read"}):
		return s.batchMemberships(c)
	}
	id, err := strconv.ParseInt(what[0], 10, 64)
	if err != nil {
		return c.notFound()
	}
	switch rest := strings.Join(what[1:], "/"); rest {
	case "":
		return s.serveSegment(c, id)
	case "restore":
		return s.restoreSegment(c, id)
	case "memberships":
		if c.method == http.MethodDelete {
			return s.changeMembers(c, id, rest)
		}
		return s.listMembers(c, id, false)
	case "memberships/join-order":
		return s.listMembers(c, id, true)
	case "memberships/add", "memberships/remove", "memberships/add-and-remove":
		return s.changeMembers(c, id, rest)
	default:
		return c.notFound()
	}
}

func (c *call) noSegment(id int64) *reply {
	return c.fail(failure{
		status: http.StatusNotFound, category: "OBJECT_NOT_FOUND", subCategory: "ListError.LIST_NOT_FOUND",
		message: fmt.Sprintf("List does not exist with ID %d.", id),
	})
}

func (s *Server) searchSegments(c *call) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		Count                *int     `json:"count"`
		Offset               int      `json:"offset"`
		Query                string   `json:"query"`
		ListIDs              []loose  `json:"listIds"`
		ProcessingTypes      []string `json:"processingTypes"`
		ObjectTypeID         string   `json:"objectTypeId"`
		AdditionalProperties []string `json:"additionalProperties"`
		Sort                 string   `json:"sort"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	count := 20
	if body.Count != nil {
		count = *body.Count
	}
	if count < 1 || count > maxSegmentSearch {
		return c.invalid(fmt.Sprintf("count must be between 1 and %d", maxSegmentSearch))
	}
	if body.Offset < 0 || body.Offset > maxSegmentOffset {
		return c.invalid(fmt.Sprintf("offset must be between 0 and %d", maxSegmentOffset))
	}
	out := c.ok()
	s.account.view(func() {
		var found []*segment
		for _, g := range s.account.surfaces.Segments {
			asked := len(body.ListIDs) == 0 ||
				slices.ContainsFunc(body.ListIDs, func(l loose) bool { return l.id() == g.ID })
			if asked && g.Deleted == 0 &&
				(body.ObjectTypeID == "" || body.ObjectTypeID == g.TypeID) &&
				(len(body.ProcessingTypes) == 0 || slices.Contains(body.ProcessingTypes, g.Processing)) &&
				strings.Contains(strings.ToLower(g.Name), strings.ToLower(body.Query)) {
				found = append(found, g)
			}
		}
		from := min(body.Offset, len(found))
		to := min(from+count, len(found))
		out.body = appendInt(append(out.body, `{"offset":`...), int64(to))
		out.body = appendBool(appendMember(out.body, "hasMore"), to < len(found))
		out.body = appendInt(appendMember(out.body, "total"), int64(len(found)))
		out.body = append(appendMember(out.body, "lists"), '[')
		for _, g := range found[from:to] {
			more := append([]string{"hs_list_size"}, body.AdditionalProperties...)
			slices.Sort(more)
			out.body = g.append(appendComma(out.body), false, slices.Compact(more))
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

func (s *Server) segmentsByID(c *call) *reply {
	filters, r := c.flag("includeFilters")
	if r != nil {
		return r
	}
	out := c.ok()
	s.account.view(func() {
		out.body = append(out.body, `{"lists":[`...)
		for _, text := range c.list("listIds") {
			if g := s.account.segment(loose{text: text}.id()); g != nil {
				out.body = g.append(appendComma(out.body), filters, nil)
			}
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

// found answers {"list":…}.
func (c *call) foundSegment(g *segment, filters bool) *reply {
	out := c.ok()
	out.body = append(g.append(append(out.body, `{"list":`...), filters, []string{"hs_list_size"}), '}')
	return out
}

func (s *Server) segmentByName(c *call, objectType, name string) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	out := c.notFound()
	s.account.view(func() {
		for _, g := range s.account.surfaces.Segments {
			if g.Deleted == 0 && g.TypeID == objectType && strings.EqualFold(g.Name, name) {
				out = c.foundSegment(g, false)
			}
		}
	})
	return out
}

func (s *Server) serveSegment(c *call, id int64) *reply {
	if r := c.only(http.MethodGet, http.MethodDelete); r != nil {
		return r
	}
	filters, r := c.flag("includeFilters")
	if r != nil {
		return r
	}
	out := c.noSegment(id)
	if c.method == http.MethodDelete {
		c.edit(func(now int64) {
			if g := s.account.segment(id); g != nil {
				g.Deleted = now
				out = c.noContent()
			}
		})
		return out
	}
	s.account.view(func() {
		if g := s.account.segment(id); g != nil {
			out = c.foundSegment(g, filters)
		}
	})
	return out
}

func (s *Server) restoreSegment(c *call, id int64) *reply {
	if r := c.only(http.MethodPut); r != nil {
		return r
	}
	out := c.noSegment(id)
	c.edit(func(now int64) {
		for _, g := range s.account.surfaces.Segments {
			if g.ID == id && g.Deleted != 0 && now-g.Deleted < s.cfg.ArchiveLife.Milliseconds() {
				g.Deleted = 0
				out = c.noContent()
			}
		}
	})
	return out
}

func (s *Server) createSegment(c *call) *reply {
	var body struct {
		Name           string `json:"name"`
		ObjectTypeID   string `json:"objectTypeId"`
		ProcessingType string `json:"processingType"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if missing := missingMembers(map[string]string{
		"name": body.Name, "objectTypeId": body.ObjectTypeID, "processingType": body.ProcessingType,
	}); len(missing) > 0 {
		return c.missing(missing...)
	}
	if body.ProcessingType != segmentManual && body.ProcessingType != segmentSnapshot {
		return c.invalid("processingType must be MANUAL or SNAPSHOT: filters cannot be defined here")
	}
	t, r := s.typed(c, body.ObjectTypeID)
	if r != nil {
		return r
	}
	var out *reply
	a := s.account
	c.edit(func(now int64) {
		if slices.ContainsFunc(a.surfaces.Segments, func(g *segment) bool {
			return g.Deleted == 0 && g.TypeID == t.kind.typeID && strings.EqualFold(g.Name, body.Name)
		}) {
			out = c.fail(failure{
				status: http.StatusBadRequest, category: "VALIDATION_ERROR", subCategory: "ListError.DUPLICATE_LIST_NAMES",
				message: fmt.Sprintf("A list named %q already exists.", body.Name),
			})
			return
		}
		out = c.foundSegment(a.addSegment(t, segment{Name: body.Name, Processing: body.ProcessingType}, now), false)
	})
	return out
}
