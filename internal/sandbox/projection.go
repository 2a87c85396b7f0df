package sandbox

import (
	"cmp"
	"slices"
)

// projection renders records of one type with chosen properties, keys in name order. It serves one
// request, under the account's lock.
type projection struct {
	t       *table
	portal  int64
	ps      []*property
	history []*property
	values  [][]byte // scratch by slot
}

// project chooses properties by name; unknown names are ignored. The created, modified and id
// properties are always there.
func (a *account) project(t *table, names []string) *projection {
	pr := &projection{t: t, portal: a.cfg.PortalID, values: make([][]byte, len(t.slots))}
	chosen := make([]bool, len(t.slots))
	choose := func(name string) {
		if p := t.property(name); p != nil && !chosen[p.slot] {
			chosen[p.slot] = true
			pr.ps = append(pr.ps, p)
		}
	}
	for _, name := range names {
		choose(name)
	}
	choose(t.kind.createdProp)
	choose(t.kind.modifiedProp)
	choose("hs_object_id")
	slices.SortFunc(pr.ps, func(a, b *property) int { return cmp.Compare(a.Name, b.Name) })
	return pr
}

// projectOr chooses names, or the type's default properties when there are none.
func (a *account) projectOr(t *table, names, withHistory []string) *projection {
	if len(names) == 0 && len(withHistory) == 0 {
		names = t.kind.defaults
	}
	pr := a.project(t, names)
	for _, name := range withHistory {
		if p := t.property(name); p != nil {
			pr.history = append(pr.history, p)
		}
	}
	return pr
}

// appendOpen appends r as a record of the object API, without the closing brace.
func (pr *projection) appendOpen(dst []byte, e *entry, r *record) []byte {
	unpack(r.data, pr.values)
	dst = append(dst, `{"id":`...)
	dst = appendID(dst, r.id)
	dst = append(dst, `,"properties":{`...)
	for i, p := range pr.ps {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, p.key...)
		switch p.from {
		case derivedID:
			dst = appendID(dst, r.id)
		case derivedCreated:
			dst = appendTime(dst, r.created)
		case derivedModified:
			dst = appendTime(dst, r.updated)
		default:
			if v := pr.values[p.slot]; v != nil {
				dst = appendString(dst, v)
			} else {
				dst = append(dst, "null"...)
			}
		}
	}
	dst = append(dst, '}')
	if len(pr.history) > 0 {
		dst = pr.appendHistory(dst, e, r)
	}
	dst = append(dst, `,"createdAt":`...)
	dst = appendTime(dst, r.created)
	dst = append(dst, `,"updatedAt":`...)
	dst = appendTime(dst, r.updated)
	if r.archived != 0 {
		dst = append(dst, `,"archived":true,"archivedAt":`...)
		dst = appendTime(dst, r.archived)
	} else {
		dst = append(dst, `,"archived":false`...)
	}
	dst = append(dst, `,"url":"https://app.hubspot.com/contacts/`...)
	dst = appendInt(dst, pr.portal)
	dst = append(dst, "/record/"...)
	dst = append(dst, pr.t.kind.typeID...)
	dst = append(dst, '/')
	dst = appendInt(dst, r.id)
	return append(dst, '"')
}

func (pr *projection) append(dst []byte, e *entry, r *record) []byte {
	return append(pr.appendOpen(dst, e, r), '}')
}

func (pr *projection) appendHistory(dst []byte, e *entry, r *record) []byte {
	dst = append(dst, `,"propertiesWithHistory":{`...)
	for _, p := range pr.history {
		dst = append(appendComma(dst), p.key...)
		dst = append(dst, '[')
		var past []pastValue
		if e.trail != nil {
			past = e.trail.bySlot[p.slot]
		}
		if past == nil {
			if v := pr.t.text(r, p, nil); v != nil {
				past = []pastValue{{text: string(v), at: r.created, source: "CRM_UI"}}
			}
		}
		for _, h := range past {
			dst = append(appendComma(dst), '{')
			dst = appendString(appendMember(dst, "value"), h.text)
			dst = appendTime(appendMember(dst, "timestamp"), h.at)
			dst = appendString(appendMember(dst, "sourceType"), h.source)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}
