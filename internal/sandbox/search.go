package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

type searchBody struct {
	Query        string            `json:"query"`
	Filters      []filterBody      `json:"filters"`
	FilterGroups []groupBody       `json:"filterGroups"`
	Sorts        []json.RawMessage `json:"sorts"`
	Properties   []string          `json:"properties"`
	Limit        *int              `json:"limit"`
	After        loose             `json:"after"`
}

type groupBody struct {
	Filters []filterBody `json:"filters"`
}

// order is the one sort of a search.
type order struct {
	p    *property // nil: creation, oldest first
	desc bool
}

// inquiry is a search request understood.
type inquiry struct {
	groups []*filterGroup
	query  func(*record) bool // nil without free text
	order  order
	offset int
	limit  int
}

// serveSearch answers POST objects/{type}/search from the index.
func (s *Server) serveSearch(c *call) *reply {
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
	if t.kind.unsearched {
		return c.notFound()
	}
	body, r := c.searchBody()
	if r != nil {
		return r
	}
	a := s.account
	var out *reply
	a.view(func() {
		in, refused := c.inquire(a, t, body)
		if refused != nil {
			out = refused
			return
		}
		total, page := t.search(in)
		if a.cfg.Disorder {
			shuffleRecent(page, nowMS())
		}
		if a.cfg.Stray > 0 {
			t.straying(page, a.cfg.Stray)
		}
		out = c.ok()
		pr := a.projectOr(t, body.Properties, nil)
		out.body = append(out.body, `{"total":`...)
		out.body = appendInt(out.body, int64(total))
		out.body = append(out.body, `,"results":[`...)
		for i, rec := range page {
			if i > 0 {
				out.body = append(out.body, ',')
			}
			out.body = pr.append(out.body, nil, rec)
		}
		out.body = append(out.body, ']')
		if end := in.offset + in.limit; end < total {
			out.body = append(out.body, `,"paging":{"next":{"after":`...)
			out.body = appendID(out.body, int64(end))
			out.body = append(out.body, '}', '}')
		}
		out.body = append(out.body, '}')
	})
	return out
}

// searchBody reads the request and refuses what is too large.
func (c *call) searchBody() (*searchBody, *reply) {
	if len(c.body) > maxSearchBody {
		return nil, c.invalid(fmt.Sprintf("The request body is too long: at most %d characters are allowed", maxSearchBody))
	}
	body := &searchBody{}
	if r := c.decode(body); r != nil {
		return nil, r
	}
	if len(body.Filters) > 0 {
		body.FilterGroups = append([]groupBody{{body.Filters}}, body.FilterGroups...)
	}
	if n := len(body.FilterGroups); n > maxFilterGroups {
		return nil, c.invalid(fmt.Sprintf("Too many filter groups: %d, at most %d are allowed", n, maxFilterGroups))
	}
	all := 0
	for _, g := range body.FilterGroups {
		if n := len(g.Filters); n > maxGroupFilters {
			return nil, c.invalid(fmt.Sprintf("Too many filters in a group: %d, at most %d are allowed", n, maxGroupFilters))
		}
		all += len(g.Filters)
	}
	if all > maxFilters {
		return nil, c.invalid(fmt.Sprintf("Too many filters: %d, at most %d are allowed", all, maxFilters))
	}
	if len(body.Sorts) > 1 {
		return nil, c.invalid("Only one sort is allowed")
	}
	return body, nil
}

// inquire understands a request for t.
func (c *call) inquire(a *account, t *table, body *searchBody) (*inquiry, *reply) {
	in := &inquiry{limit: defaultPage}
	if body.Limit != nil {
		in.limit = *body.Limit
		if in.limit < 0 || in.limit > maxSearchPage {
			return nil, c.invalid(fmt.Sprintf("Page size should be between 0 and %d", maxSearchPage))
		}
	}
	if body.After.set && body.After.text != "" {
		n, err := strconv.Atoi(body.After.text)
		if err != nil || n < 0 {
			return nil, c.invalid(fmt.Sprintf(
				"Cannot deserialize value of type `int` from String %q: not a valid `int` value", body.After.text))
		}
		in.offset = n
	}
	if in.offset+in.limit > maxSearchResults {
		return nil, c.fail(failure{status: http.StatusBadRequest, message: "There was a problem with the request."})
	}
	for _, g := range body.FilterGroups {
		if len(g.Filters) == 0 {
			continue
		}
		group, err := a.compileGroup(t, g.Filters)
		if err != nil {
			if fe := (*filterError)(nil); errors.As(err, &fe) && fe.epoch {
				return nil, c.internal()
			}
			return nil, c.invalid(err.Error())
		}
		in.groups = append(in.groups, group)
	}
	if strings.TrimSpace(body.Query) != "" {
		in.query = queryMatcher(t, body.Query)
	}
	if len(body.Sorts) == 1 {
		o, message := parseOrder(t, body.Sorts[0])
		if message != "" {
			return nil, c.invalid(message)
		}
		in.order = o
	}
	return in, nil
}

// parseOrder reads a sort: an object, "property" or "-property".
func parseOrder(t *table, raw json.RawMessage) (o order, message string) {
	var object struct {
		PropertyName string `json:"propertyName"`
		Direction    string `json:"direction"`
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		text, o.desc = strings.CutPrefix(text, "-")
	} else if err := json.Unmarshal(raw, &object); err != nil {
		return o, "Invalid input JSON: sorts"
	} else {
		text = object.PropertyName
		switch object.Direction {
		case "", "ASCENDING":
		case "DESCENDING":
			o.desc = true
		default:
			return o, fmt.Sprintf("Invalid sort direction %q", object.Direction)
		}
	}
	if o.p = t.property(text); o.p == nil {
		return o, fmt.Sprintf("There was a problem with the request. Property %q does not exist", text)
	}
	return o, ""
}

// straying replaces some rows by what their records are by now.
func (t *table) straying(page []*record, probability float64) {
	for i, r := range page {
		e := t.entries[r.id]
		if e == nil || e.cur == r || e.cur.archived != 0 {
			continue
		}
		if float64(mix(e.cur.seq)%1000) < probability*1000 {
			page[i] = e.cur
		}
	}
}

// shuffleRecent swaps neighbours among the rows of the last minute, as the index does near now.
func shuffleRecent(page []*record, now int64) {
	for i := 1; i < len(page); i++ {
		if now-page[i-1].updated < 60_000 && now-page[i].updated < 60_000 && mix(page[i].seq)&3 == 0 {
			page[i-1], page[i] = page[i], page[i-1]
		}
	}
}

// emptySearch is a page without rows whose cursor leads to the same place again.
func (s *Server) emptySearch(c *call) *reply {
	var body searchBody
	if r := c.decode(&body); r != nil {
		return r
	}
	after := body.After.text
	if after == "" {
		after = "0"
	}
	out := c.ok()
	out.body = append(out.body, `{"total":1,"results":[],"paging":{"next":{"after":`...)
	out.body = append(appendString(out.body, after), '}', '}', '}')
	return out
}
