package sandbox

import (
	"fmt"
	"net/http"
	"strconv"
)

// serveCreate answers POST objects/{type}.
func (s *Server) serveCreate(c *call) *reply {
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if r := s.mayWrite(c, t); r != nil {
		return r
	}
	var body recordBody
	if r := c.decode(&body); r != nil {
		return r
	}
	if body.Properties == nil {
		return c.missing("properties")
	}
	a := s.account
	var out *reply
	c.edit(func(now int64) {
		p, f := a.planCreate(t, body)
		if f != nil {
			f.context = nil
			out = c.fail(*f)
			return
		}
		e := a.create(t, p, now)
		out = c.ok()
		out.status = http.StatusCreated
		out.set("Location", fmt.Sprintf("https://api.hubapi.com%s/%d", c.path, e.id))
		out.body = a.answerOf(t, p).append(out.body, e, e.cur)
	})
	return out
}

// servePatch answers PATCH objects/{type}/{id}. A merged-away id changes the survivor.
func (s *Server) servePatch(c *call, t *table) *reply {
	if r := s.mayWrite(c, t); r != nil {
		return r
	}
	var body recordBody
	if r := c.decode(&body); r != nil {
		return r
	}
	if body.Properties == nil {
		return c.missing("properties")
	}
	a := s.account
	var out *reply
	c.edit(func(now int64) {
		e, refused := c.record(a, t)
		if refused != nil {
			out = refused
			return
		}
		if e.cur.archived != 0 {
			out = c.notFound()
			return
		}
		p, f := a.planUpdate(t, e, body)
		if f != nil {
			f.context = nil
			out = c.fail(*f)
			return
		}
		a.update(t, e, p, now, "INTEGRATION")
		out = c.ok()
		out.body = a.answerOf(t, p).append(out.body, e, e.cur)
	})
	return out
}

// serveMerge answers POST objects/{type}/merge.
func (s *Server) serveMerge(c *call) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if !t.kind.merges {
		return c.notFound()
	}
	if r := s.mayWrite(c, t); r != nil {
		return r
	}
	var body struct {
		Primary loose `json:"primaryObjectId"`
		Other   loose `json:"objectIdToMerge"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if !body.Primary.set || !body.Other.set {
		return c.missing("primaryObjectId", "objectIdToMerge")
	}
	a := s.account
	var out *reply
	c.edit(func(now int64) {
		x, y := t.lookup(body.Primary.id(), true), t.lookup(body.Other.id(), true)
		switch {
		case x == nil || y == nil || x.cur.archived != 0 || y.cur.archived != 0:
			out = c.notFound()
		case x == y:
			out = c.invalid("Cannot merge a record with itself")
		default:
			e := a.merge(t, x, y, now)
			out = c.ok()
			out.body = a.projectOr(t, nil, nil).append(out.body, e, e.cur)
		}
	})
	return out
}

// serveErase answers POST objects/contacts/gdpr-delete.
func (s *Server) serveErase(c *call) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if t.kind.typeID != "0-1" && t.kind.typeID != "0-421" {
		return c.notFound()
	}
	if r := s.mayWrite(c, t); r != nil {
		return r
	}
	var body struct {
		ObjectID   loose  `json:"objectId"`
		IDProperty string `json:"idProperty"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if !body.ObjectID.set {
		return c.missing("objectId")
	}
	a := s.account
	out := c.noContent()
	c.edit(func(int64) {
		find, r := c.finder(a, t, body.IDProperty)
		if r != nil {
			out = r
			return
		}
		if e := find(body.ObjectID.text); e != nil {
			a.erase(t, e)
		} else if body.IDProperty == "" {
			out = c.notFound()
		} // an unknown email is blocklisted
	})
	return out
}

// merge makes a new record of x with what only y has; both old ids become aliases of it.
func (a *account) merge(t *table, x, y *entry, now int64) *entry {
	var e *entry
	moved := 0
	a.silently(func() { e, moved = a.unite(t, x, y, now) })
	a.happened(event{kind: recordMerged, at: now, t: t, id: e.id, primary: x.id, loser: y.id, moved: moved})
	return e
}

// unite carries a merge out and tells how many values came from y.
func (a *account) unite(t *table, x, y *entry, now int64) (e *entry, moved int) {
	values := make([][]byte, len(t.slots))
	unpack(y.cur.data, values)
	mine := make([][]byte, len(t.slots))
	unpack(x.cur.data, mine)
	second := ""
	if email := t.property("email"); email != nil {
		second = string(values[email.slot])
	}
	for i, v := range mine {
		if len(v) > 0 {
			values[i] = v
		} else if len(values[i]) > 0 {
			moved++
		}
	}
	var cs []change
	for i, v := range values {
		if v != nil {
			cs = append(cs, change{t.slots[i], v})
		}
	}
	give := func(name string, join func(was string) string) {
		p := t.property(name)
		if p == nil {
			return
		}
		text := []byte(join(string(values[p.slot])))
		values[p.slot] = text
		cs = append(cs, change{p, text})
	}
	also := func(more string) func(string) string {
		return func(was string) string {
			if was == "" {
				return more
			}
			return was + ";" + more
		}
	}
	ids := fmt.Sprintf("%d;%d", x.id, y.id)
	give("hs_merged_object_ids", also(ids))
	give("hs_calculated_merged_vids", also(fmt.Sprintf("%d:%d;%d:%d", x.id, now, y.id, now)))
	if email := t.property("email"); email != nil && second != "" && second != string(values[email.slot]) {
		give("hs_additional_emails", also(second))
	}
	created := min(x.cur.created, y.cur.created)

	t.release(x.cur)
	t.release(y.cur)
	e = a.insert(t, cs, now)
	if all := t.property("hs_all_contact_vids"); all != nil {
		a.set(t, e, []change{{all, []byte(ids + ";" + strconv.FormatInt(e.id, 10))}}, true, now, "MERGE_OBJECTS")
	}
	r := *e.cur
	a.seq++
	r.created, r.seq = created, a.seq
	e.cur = &r
	a.enqueue(t, e, now)

	for _, old := range []*entry{x, y} {
		a.links.move(t, old.id, e.id)
		a.moveSegments(t, old.id, e.id)
		a.erase(t, old)
		for from, to := range t.aliases {
			if to == old.id {
				t.aliases[from] = e.id
			}
		}
		t.aliases[old.id] = e.id
	}
	t.claim(e.cur)
	return e, moved
}
