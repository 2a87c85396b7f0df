package sandbox

import (
	"cmp"
	"slices"
	"strings"
)

// search finds the page of an inquiry and how many records match in all. One window of modified time,
// which is what followers ask for, costs O(log n) and the page when it is also the order, and
// O(matches) otherwise; a span of ids likewise; anything else reads the whole index.
func (t *table) search(in *inquiry) (total int, page []*record) {
	x := &t.index.byModified
	byModified := in.order.p != nil && in.order.p.from == derivedModified
	one := in.query == nil && len(in.groups) == 1
	if len(in.groups) == 0 && in.query == nil && byModified {
		return t.window(everything, in)
	}
	if one && byModified && len(in.groups[0].rest) == 0 && in.groups[0].id == everything {
		return t.window(in.groups[0].modified, in)
	}
	if len(in.groups) == 0 && in.query == nil && in.order.p == nil {
		return x.len(), t.oldest(in)
	}

	matches := func(r *record) bool {
		if in.query != nil && !in.query(r) {
			return false
		}
		return len(in.groups) == 0 || slices.ContainsFunc(in.groups, func(g *filterGroup) bool { return g.match(r) })
	}
	var found []*record
	collect := func(r *record) {
		if matches(r) {
			found = append(found, r)
		}
	}
	switch {
	case one && in.groups[0].modified != everything:
		w := in.groups[0].modified
		x.ascend(x.seek(func(r *record) bool { return r.updated >= w.lo }), func(r *record) bool {
			if r.updated > w.hi {
				return false
			}
			collect(r)
			return true
		})
	case one && in.groups[0].id != everything:
		ids := in.groups[0].id
		t.live.ascend(t.live.seek(func(e *entry) bool { return e.id >= ids.lo }), func(e *entry) bool {
			if e.id > ids.hi {
				return false
			}
			if e.indexed != nil {
				collect(e.indexed)
			}
			return true
		})
	default:
		x.ascend(place{}, func(r *record) bool { collect(r); return true })
	}
	t.arrange(found, in.order)
	from := min(in.offset, len(found))
	return len(found), found[from:min(from+in.limit, len(found))]
}

// window is a search for a span of modified time in that order.
func (t *table) window(w span, in *inquiry) (total int, page []*record) {
	x := &t.index.byModified
	lo := x.rank(x.seek(func(r *record) bool { return r.updated >= w.lo }))
	hi := max(x.rank(x.seek(func(r *record) bool { return r.updated > w.hi })), lo)
	total = hi - lo
	n := max(0, min(in.limit, total-in.offset))
	first := lo + in.offset
	if in.order.desc {
		first = hi - in.offset - n
	}
	page = make([]*record, 0, n)
	if n > 0 {
		x.ascend(x.at(first), func(r *record) bool {
			page = append(page, r)
			return len(page) < n
		})
	}
	if in.order.desc {
		slices.Reverse(page)
	}
	return total, page
}

// oldest is a page of all records in order of their ids, which is the order of creation.
func (t *table) oldest(in *inquiry) []*record {
	page := make([]*record, 0, in.limit)
	skip := in.offset
	t.live.ascend(place{}, func(e *entry) bool {
		switch {
		case e.indexed == nil:
		case skip > 0:
			skip--
		case len(page) < in.limit:
			page = append(page, e.indexed)
		}
		return len(page) < in.limit
	})
	return page
}

// arrange sorts by an order, then by id. Records without a value come last.
func (t *table) arrange(rs []*record, o order) {
	sign := 1
	if o.desc {
		sign = -1
	}
	switch p := o.p; {
	case p == nil || p.from == derivedCreated:
		slices.SortFunc(rs, func(a, b *record) int {
			return sign * cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.id, b.id))
		})
	case p.from == derivedID:
		slices.SortFunc(rs, func(a, b *record) int { return sign * cmp.Compare(a.id, b.id) })
	case p.from == derivedModified:
		slices.SortFunc(rs, func(a, b *record) int { return sign * compareModified(a, b) })
	default:
		t.arrangeByValue(rs, p, sign)
	}
}

func (t *table) arrangeByValue(rs []*record, p *property, sign int) {
	type keyed struct {
		r    *record
		n    float64
		text string
		none bool
	}
	numbers := p.Type == "number" || p.Type == "date" || p.Type == "datetime"
	ks := make([]keyed, len(rs))
	for i, r := range rs {
		k := keyed{r: r}
		if numbers {
			n, ok := numeric(t, r, p)
			k.n, k.none = n, !ok
		} else {
			v := packedValue(r.data, p.slot)
			k.text, k.none = strings.ToLower(string(v)), len(v) == 0
		}
		ks[i] = k
	}
	slices.SortFunc(ks, func(a, b keyed) int {
		if a.none != b.none {
			if a.none {
				return 1
			}
			return -1
		}
		return cmp.Or(sign*cmp.Compare(a.n, b.n), sign*strings.Compare(a.text, b.text), cmp.Compare(a.r.id, b.r.id))
	})
	for i, k := range ks {
		rs[i] = k.r
	}
}
