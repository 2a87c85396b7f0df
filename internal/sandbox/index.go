package sandbox

import (
	"cmp"
	"container/heap"
	"slices"
)

// searchIndex is what search sees: for each live record one version, which trails the record by the
// account's index lag.
type searchIndex struct {
	byModified sorted[*record] // by modified time, then id
	lagging    lagQueue
}

func newSearchIndex() searchIndex {
	return searchIndex{byModified: sorted[*record]{compare: compareModified}}
}

func compareModified(a, b *record) int {
	return cmp.Or(cmp.Compare(a.updated, b.updated), cmp.Compare(a.id, b.id))
}

func (x *searchIndex) fill(rs []*record) {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, compareModified)
	x.byModified.fill(rs)
}

// show makes r the version search sees of e.
func (x *searchIndex) show(e *entry, r *record) {
	if e.indexed != nil {
		if e.indexed.seq >= r.seq {
			return
		}
		x.byModified.remove(e.indexed)
	}
	e.indexed = r
	x.byModified.insert(r)
}

// hide takes e out of search.
func (x *searchIndex) hide(e *entry) {
	if e.indexed != nil {
		x.byModified.remove(e.indexed)
		e.indexed = nil
	}
}

// settle shows every version due by now (epoch ms) and returns when the next one is due, or never.
func (x *searchIndex) settle(now int64) int64 {
	for len(x.lagging) > 0 {
		l := x.lagging[0]
		if l.due > now {
			return l.due
		}
		heap.Pop(&x.lagging)
		if l.e.cur != nil && l.e.cur.archived == 0 {
			x.show(l.e, l.r)
		}
	}
	return never
}

// lagged is a version on its way into the index.
type lagged struct {
	due int64
	e   *entry
	r   *record
}

// lagQueue is a heap by due time, then version.
type lagQueue []lagged

func (q lagQueue) Len() int { return len(q) }
func (q lagQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].due, q[j].due), cmp.Compare(q[i].r.seq, q[j].r.seq)) < 0
}
func (q lagQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *lagQueue) Push(v any)   { *q = append(*q, v.(lagged)) }
func (q *lagQueue) Pop() any {
	old := *q
	v := old[len(old)-1]
	*q = old[:len(old)-1]
	return v
}
