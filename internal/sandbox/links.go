package sandbox

import (
	"cmp"
	"maps"
	"slices"
)

// links holds every association, once from each side. The account's lock guards it.
type links struct {
	types map[direction][]*linkType
	byID  map[direction]map[int]*linkType
	sides map[direction]map[int64][]link // by from id; each slice ordered by to
	sets  []typeSet
	setOf map[string]uint32
	next  int // next user-defined type id

	changed func(d direction, from, to int64, before, after typeSet) // nil: nobody asks
}

// direction is a pair of type ids, from and to.
type direction struct{ from, to string }

func (d direction) reverse() direction { return direction{d.to, d.from} }

// linkType is one association type in one direction; inverse is its id in the other.
type linkType struct {
	id       int
	inverse  int
	category string
	label    string // empty for the unlabeled type
	name     string // contact_to_company
	primary  bool
}

// link is the far end of an association and the set of types it has, seen from the near end.
type link struct {
	to  int64
	set uint32
}

// typeSet is an interned, ascending list of type ids.
type typeSet []int

func newLinks() *links {
	return &links{
		types: map[direction][]*linkType{},
		byID:  map[direction]map[int]*linkType{},
		sides: map[direction]map[int64][]link{},
		setOf: map[string]uint32{},
		next:  1001,
	}
}

// define adds an association type with its inverse.
func (l *links) define(d direction, lt linkType, inverseName, inverseLabel string) {
	l.add(d, &lt)
	if d.from == d.to && lt.id == lt.inverse {
		return
	}
	l.add(d.reverse(), &linkType{
		id: lt.inverse, inverse: lt.id, category: lt.category, label: inverseLabel, name: inverseName, primary: lt.primary,
	})
}

func (l *links) add(d direction, lt *linkType) {
	if l.byID[d] == nil {
		l.byID[d] = map[int]*linkType{}
	}
	l.types[d] = append(l.types[d], lt)
	l.byID[d][lt.id] = lt
}

// unlabeled is the type every association of the direction has, nil when the types cannot be associated.
func (l *links) unlabeled(d direction) *linkType {
	for _, lt := range l.types[d] {
		if lt.label == "" {
			return lt
		}
	}
	return nil
}

// of are the associations of one record, by the other's id.
func (l *links) of(d direction, from int64) []link { return l.sides[d][from] }

// between are the types of one association, nil when there is none.
func (l *links) between(d direction, from, to int64) typeSet {
	ls := l.sides[d][from]
	if i, ok := searchLink(ls, to); ok {
		return l.sets[ls[i].set]
	}
	return nil
}

// put makes ids the types between two records, from both sides; the unlabeled type is added. No ids
// remove the association.
func (l *links) put(d direction, from, to int64, ids []int) {
	if len(ids) > 0 {
		if u := l.unlabeled(d); u != nil && !slices.Contains(ids, u.id) && d.from != d.to {
			ids = append(slices.Clone(ids), u.id)
		}
	}
	inverse := make([]int, 0, len(ids))
	for _, id := range ids {
		lt := l.byID[d][id]
		inverse = append(inverse, lt.inverse)
		if lt.primary {
			l.demote(d, from, to)
		}
	}
	l.side(d, from, to, ids)
	l.side(d.reverse(), to, from, inverse)
}

// demote takes the primary type from every other association of from: there is one primary.
func (l *links) demote(d direction, from, keep int64) {
	for _, k := range slices.Clone(l.sides[d][from]) {
		if k.to == keep {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(l.sets[k.set]), func(id int) bool { return l.byID[d][id].primary })
		if len(rest) == len(l.sets[k.set]) {
			continue
		}
		l.put(d, from, k.to, rest)
	}
}

// side makes ids the types between two records, seen from one of them, and tells of the change.
func (l *links) side(d direction, from, to int64, ids []int) {
	before := l.between(d, from, to)
	l.setSide(d, from, to, ids)
	if l.changed != nil {
		l.changed(d, from, to, before, l.between(d, from, to))
	}
}

func (l *links) setSide(d direction, from, to int64, ids []int) {
	side := l.sides[d]
	if side == nil {
		side = map[int64][]link{}
		l.sides[d] = side
	}
	ls := side[from]
	i, found := searchLink(ls, to)
	switch {
	case len(ids) == 0 && found:
		if ls = slices.Delete(ls, i, i+1); len(ls) == 0 {
			delete(side, from)
			return
		}
		side[from] = ls
	case len(ids) == 0:
	case found:
		ls[i].set = l.intern(ids)
	default:
		side[from] = slices.Insert(ls, i, link{to, l.intern(ids)})
	}
}

// load fills one direction and its reverse with associations of one type set; pairs must not repeat.
// It is for seeding: cheap, and without the primary rule.
func (l *links) load(d direction, pairs [][2]int64, ids []int) {
	inverse := make([]int, len(ids))
	for i, id := range ids {
		inverse[i] = l.byID[d][id].inverse
	}
	l.loadSide(d, pairs, 0, l.intern(ids))
	l.loadSide(d.reverse(), pairs, 1, l.intern(inverse))
}

func (l *links) loadSide(d direction, pairs [][2]int64, near int, set uint32) {
	side := l.sides[d]
	if side == nil {
		side = make(map[int64][]link, len(pairs)/(1+4*near))
		l.sides[d] = side
	}
	for _, p := range pairs {
		from, to := p[near], p[1-near]
		ls := side[from]
		if i, found := searchLink(ls, to); !found {
			side[from] = slices.Insert(ls, i, link{to, set})
		}
	}
}

// forget removes every association of a record.
func (l *links) forget(t *table, id int64) {
	for d := range l.sides {
		if d.from != t.kind.typeID {
			continue
		}
		for _, k := range slices.Clone(l.sides[d][id]) {
			l.side(d, id, k.to, nil)
			l.side(d.reverse(), k.to, id, nil)
		}
	}
}

// move gives the associations of old to id; where id has one with the same record, its types stay.
func (l *links) move(t *table, old, id int64) {
	for _, d := range slices.SortedFunc(maps.Keys(l.sides), func(a, b direction) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	}) {
		if d.from != t.kind.typeID {
			continue
		}
		hasPrimary := slices.ContainsFunc(l.sides[d][id], func(k link) bool { return l.primary(d, l.sets[k.set]) })
		for _, k := range slices.Clone(l.sides[d][old]) {
			ids := l.sets[k.set]
			l.side(d, old, k.to, nil)
			l.side(d.reverse(), k.to, old, nil)
			if k.to == id || l.between(d, id, k.to) != nil {
				continue
			}
			if hasPrimary {
				ids = slices.DeleteFunc(slices.Clone(ids), func(i int) bool { return l.byID[d][i].primary })
			}
			l.put(d, id, k.to, ids)
		}
	}
}

func (l *links) primary(d direction, ids []int) bool {
	return slices.ContainsFunc(ids, func(id int) bool { return l.byID[d][id].primary })
}

func searchLink(ls []link, to int64) (int, bool) {
	return slices.BinarySearchFunc(ls, to, func(k link, id int64) int { return cmp.Compare(k.to, id) })
}

func (l *links) intern(ids []int) uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var key []byte
	for _, id := range ids {
		key = append(appendInt(key, int64(id)), ',')
	}
	if n, ok := l.setOf[string(key)]; ok {
		return n
	}
	n := uint32(len(l.sets))
	l.sets = append(l.sets, ids)
	l.setOf[string(key)] = n
	return n
}
