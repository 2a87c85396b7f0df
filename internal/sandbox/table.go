package sandbox

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
)

// table holds the records of one object type. The account's lock guards it.
type table struct {
	kind   *kind
	props  map[string]*property
	slots  []*property
	groups []group

	entries map[int64]*entry
	live    sorted[*entry]
	gone    sorted[*entry] // archived, still listed under archived=true
	aliases map[int64]int64
	unique  map[*property]map[uint64]int64 // by hash of the value; lookups verify
	lastID  int64
	purgeAt int64 // epoch ms; when the archive is next looked through

	index searchIndex
}

// group is a property group.
type group struct {
	name, label  string
	displayOrder int
	archived     bool
}

func newTable(k *kind) *table {
	byID := func(a, b *entry) int { return cmp.Compare(a.id, b.id) }
	return &table{
		kind:    k,
		props:   map[string]*property{},
		entries: map[int64]*entry{},
		live:    sorted[*entry]{compare: byID},
		gone:    sorted[*entry]{compare: byID},
		aliases: map[int64]int64{},
		unique:  map[*property]map[uint64]int64{},
		purgeAt: never,
		index:   newSearchIndex(),
	}
}

// addProperty defines a property in a new slot.
func (t *table) addProperty(d PropertyDef) *property {
	p := newProperty(d, len(t.slots))
	switch d.Name {
	case "hs_object_id":
		p.from = derivedID
	case t.kind.modifiedProp:
		p.from = derivedModified
	case t.kind.createdProp, "hs_createdate":
		p.from = derivedCreated
	}
	t.props[d.Name] = p
	t.slots = append(t.slots, p)
	if d.HasUniqueValue && p.from == stored {
		t.unique[p] = map[uint64]int64{}
	}
	return p
}

// property finds a definition in use.
func (t *table) property(name string) *property {
	if p := t.props[name]; p != nil && p.archived == 0 {
		return p
	}
	return nil
}

// properties are the definitions in use, or the archived ones, by name.
func (t *table) properties(archived bool) []*property {
	var ps []*property
	for _, p := range t.slots {
		if (p.archived != 0) == archived {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b *property) int { return cmp.Compare(a.Name, b.Name) })
	return ps
}

// text is the value of p in r: nil when never set, empty when cleared. It may be appended to scratch.
func (t *table) text(r *record, p *property, scratch []byte) []byte {
	switch p.from {
	case derivedID:
		return appendInt(scratch[:0], r.id)
	case derivedCreated:
		return appendInstant(scratch[:0], r.created)
	case derivedModified:
		return appendInstant(scratch[:0], r.updated)
	default:
		return packedValue(r.data, p.slot)
	}
}

// lookup finds a record by id. A merged-away id gives the survivor when follow is set.
func (t *table) lookup(id int64, follow bool) *entry {
	if e := t.entries[id]; e != nil {
		return e
	}
	if to, ok := t.aliases[id]; ok && follow {
		return t.entries[to]
	}
	return nil
}

// byUnique finds the record that has value for a unique property.
func (t *table) byUnique(p *property, value string) *entry {
	e := t.entries[t.unique[p][uniqueKey(value)]]
	if e == nil || e.cur.archived != 0 || !t.holdsUnique(e.cur, p, value) {
		return nil
	}
	return e
}

func (t *table) holdsUnique(r *record, p *property, value string) bool {
	for _, v := range t.uniqueValues(r, p) {
		if strings.EqualFold(v, value) {
			return true
		}
	}
	return false
}

// uniqueValues are the values of p that no other record may have: secondary emails count as email.
func (t *table) uniqueValues(r *record, p *property) []string {
	var vs []string
	if v := packedValue(r.data, p.slot); len(v) > 0 {
		vs = append(vs, string(v))
	}
	if p.Name != "email" {
		return vs
	}
	if more := t.props["hs_additional_emails"]; more != nil {
		for v := range strings.SplitSeq(string(packedValue(r.data, more.slot)), ";") {
			if v != "" {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

func uniqueKey(value string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(strings.ToLower(value)))
	return h.Sum64()
}

// claim makes the unique values of r its own; release gives them up.
func (t *table) claim(r *record) {
	for p, ids := range t.unique {
		for _, v := range t.uniqueValues(r, p) {
			ids[uniqueKey(v)] = r.id
		}
	}
}

func (t *table) release(r *record) {
	for p, ids := range t.unique {
		for _, v := range t.uniqueValues(r, p) {
			if k := uniqueKey(v); ids[k] == r.id {
				delete(ids, k)
			}
		}
	}
}

// load fills an empty table with records in id order, all live and indexed.
func (t *table) load(rs []*record) {
	if len(rs) == 0 {
		return
	}
	block := make([]entry, len(rs))
	es := make([]*entry, len(rs))
	t.entries = make(map[int64]*entry, len(rs))
	for p := range t.unique {
		t.unique[p] = make(map[uint64]int64, len(rs))
	}
	for i, r := range rs {
		block[i] = entry{id: r.id, cur: r, indexed: r}
		es[i] = &block[i]
		t.entries[r.id] = es[i]
		t.claim(r)
	}
	t.lastID = rs[len(rs)-1].id
	t.live.fill(es)
	t.index.fill(rs)
}
