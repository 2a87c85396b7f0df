package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Sizes of the associations API.
const (
	maxLinkedPage       = 500
	maxLinkReads        = 1000
	maxLinkWrites       = 2000
	maxLinkArchives     = 100
	maxLabels           = 10
	noAssociationsFound = "crm.associations.NO_ASSOCIATIONS_FOUND"
)

// linkTypeBody is a type in an associations request.
type linkTypeBody struct {
	Category string `json:"associationCategory"`
	TypeID   int    `json:"associationTypeId"`
}

type recordRef struct {
	ID loose `json:"id"`
}

// serveAssociations answers associations/{from}/{to}/….
func (s *Server) serveAssociations(c *call) *reply {
	if len(c.rest) < 3 {
		return c.notFound()
	}
	from, to, r := s.pair(c, c.rest[0], c.rest[1])
	if r != nil {
		return r
	}
	what := strings.Join(c.rest[2:], "/")
	if what == "labels" {
		if r := c.only(http.MethodGet, http.MethodPost); r != nil {
			return r
		}
		if c.method == http.MethodPost {
			return s.createLabel(c, from, to)
		}
		return s.listLabels(c, from, to)
	}
	handle := map[string]func(*call, *table, *table) *reply{
		"batch/read":              s.batchReadLinks,
		"batch/create":            s.batchCreateLinks,
		"batch/associate/default": s.batchCreateLinks,
		"batch/archive":           s.batchArchiveLinks,
		"batch/labels/archive":    s.batchArchiveLabels,
	}[what]
	if handle == nil {
		return c.notFound()
	}
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	if what != "batch/read" {
		if r := c.needs(from.kind.writeScope()); r != nil {
			return r
		}
	}
	return handle(c, from, to)
}

// pair finds the two types and checks the read scopes of both.
func (s *Server) pair(c *call, fromName, toName string) (from, to *table, r *reply) {
	if from, r = s.typed(c, fromName); r != nil {
		return nil, nil, r
	}
	if to, r = s.typed(c, toName); r != nil {
		return nil, nil, r
	}
	for _, t := range []*table{from, to} {
		if r = c.needs(t.kind.readScope()); r != nil {
			return nil, nil, r
		}
	}
	return from, to, nil
}

func (s *Server) batchReadLinks(c *call, from, to *table) *reply {
	var body struct {
		Inputs []struct {
			ID    loose `json:"id"`
			After loose `json:"after"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxLinkReads); r != nil {
		return r
	}
	started := nowMS()
	a := s.account
	out := c.ok()
	slices.SortStableFunc(body.Inputs, func(x, y struct {
		ID    loose `json:"id"`
		After loose `json:"after"`
	},
	) int {
		return cmp.Compare(uniqueKey(x.ID.text), uniqueKey(y.ID.text))
	})
	a.view(func() {
		d := direction{from.kind.typeID, to.kind.typeID}
		var errs []byte
		n := 0
		out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
		for _, in := range body.Inputs {
			e, refusal := a.near(from, in.ID.text)
			var ls []link
			if refusal == nil {
				ls = a.visible(d, to, e.id)
				if len(ls) == 0 {
					refusal = &batchError{
						category: "OBJECT_NOT_FOUND", subCategory: noAssociationsFound,
						message: fmt.Sprintf("No %s is associated with %s %s.", to.kind.singular, from.kind.singular, in.ID.text),
						context: [][2]string{
							{"fromObjectId", in.ID.text},
							{"fromObjectType", from.kind.singular},
							{"toObjectType", to.kind.singular},
						},
					}
				}
			}
			if refusal != nil {
				errs = appendBatchError(errs, *refusal)
				n++
				continue
			}
			out.body = append(appendComma(out.body), `{"from":{"id":`...)
			out.body = append(appendID(out.body, e.id), '}')
			out.body = a.appendLinked(c, out.body, "to", d, ls, in.After.text, maxLinkedPage)
			out.body = append(out.body, '}')
		}
		out.body = append(out.body, ']')
		if n > 0 {
			c.partial(out)
			out.body = appendInt(appendMember(out.body, "numErrors"), int64(n))
			out.body = append(out.body, `,"errors":[`...)
			out.body = append(out.body, errs...)
			out.body = append(out.body, ']')
		}
		out.body = append(appendSpan(out.body, started), '}')
	})
	return out
}

// near finds the record on the asking side of an association.
func (a *account) near(t *table, id string) (*entry, *batchError) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil, &batchError{
			category: "VALIDATION_ERROR", subCategory: "crm.associations.INVALID_IDENTIFIER",
			message: fmt.Sprintf("%s is not a valid ID", id), context: [][2]string{{"id", id}},
		}
	}
	if e := t.lookup(n, false); e != nil && e.cur.archived == 0 {
		return e, nil
	}
	return nil, &batchError{
		category: "OBJECT_NOT_FOUND", subCategory: "crm.associations.FROM_OBJECT_NOT_FOUND",
		message: fmt.Sprintf("No %s with ID %s exists", t.kind.singular, id),
		context: [][2]string{{"objectId", id}, {"objectType", t.kind.singular}},
	}
}

// appendLinked appends a page of far ends as member name, and paging when there are more.
func (a *account) appendLinked(c *call, dst []byte, name string, d direction, ls []link, after string, limit int) []byte {
	if n, err := strconv.ParseInt(after, 10, 64); err == nil {
		i, _ := searchLink(ls, n)
		ls = ls[i:]
	}
	dst = append(appendMember(dst, name), '[')
	for i, k := range ls[:min(len(ls), limit)] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"toObjectId":`...)
		dst = appendInt(dst, k.to)
		dst = append(dst, `,"associationTypes":[`...)
		for _, id := range a.links.sets[k.set] {
			lt := a.links.byID[d][id]
			dst = append(appendComma(dst), '{')
			dst = appendString(appendMember(dst, "category"), lt.category)
			dst = appendInt(appendMember(dst, "typeId"), int64(id))
			dst = append(appendLabel(appendMember(dst, "label"), lt.label), '}')
		}
		dst = append(dst, ']', '}')
	}
	dst = append(dst, ']')
	if len(ls) > limit {
		dst = c.appendPaging(dst, strconv.FormatInt(ls[limit].to, 10))
	}
	return dst
}

func appendLabel(dst []byte, label string) []byte {
	if label == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, label)
}

func (s *Server) listLabels(c *call, from, to *table) *reply {
	out := c.ok()
	s.account.view(func() {
		out.body = append(out.body, `{"results":[`...)
		for _, lt := range s.account.links.types[direction{from.kind.typeID, to.kind.typeID}] {
			out.body = appendLinkType(appendComma(out.body), lt)
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

func appendLinkType(dst []byte, lt *linkType) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "category"), lt.category)
	dst = appendInt(appendMember(dst, "typeId"), int64(lt.id))
	return append(appendLabel(appendMember(dst, "label"), lt.label), '}')
}

// createLabel defines a user's label for a pair of types, with its inverse.
func (s *Server) createLabel(c *call, from, to *table) *reply {
	var body struct {
		Label        string `json:"label"`
		Name         string `json:"name"`
		InverseLabel string `json:"inverseLabel"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if missing := missingMembers(map[string]string{"label": body.Label, "name": body.Name}); len(missing) > 0 {
		return c.missing(missing...)
	}
	var out *reply
	a := s.account
	c.edit(func(int64) {
		d := direction{from.kind.typeID, to.kind.typeID}
		own := 0
		for _, lt := range a.links.types[d] {
			if lt.category == categoryUser && lt.label != "" {
				own++
			}
			if lt.name == body.Name || lt.label == body.Label {
				out = c.fail(failure{
					status: http.StatusConflict, category: "OBJECT_ALREADY_EXISTS",
					message: "Association label already exists",
				})
				return
			}
		}
		if own >= maxLabels {
			out = c.invalid(fmt.Sprintf("At most %d labels are allowed per pair of objects", maxLabels))
			return
		}
		lt := a.links.defineUserLabel(d, body.Label, body.InverseLabel, body.Name)
		out = c.ok()
		out.body = append(out.body, `{"results":[`...)
		out.body = appendLinkType(out.body, lt)
		if inverse := a.links.byID[d.reverse()][lt.inverse]; inverse != nil && inverse != lt {
			out.body = appendLinkType(appendComma(out.body), inverse)
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}
