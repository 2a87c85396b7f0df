package sandbox

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// The processing types of a segment.
const (
	segmentManual   = "MANUAL"
	segmentDynamic  = "DYNAMIC"
	segmentSnapshot = "SNAPSHOT"
)

// segment is what HubSpot's API calls a list: a set of records of one type. A dynamic one follows a filter.
type segment struct {
	ID, Version               int64
	Name, TypeID, Processing  string
	Property, Value           string          // the filter of a dynamic or snapshot segment
	Members                   map[int64]int64 // record id → when it joined, epoch ms
	Created, Updated, Deleted int64
	By                        int64 // user id
}

// surfaces is what the account holds besides CRM records. Its members are exported for [Server.Save].
type surfaces struct {
	Segments    []*segment
	LastSegment int64
	Forms       []*form
	Emails      []*marketingEmail
	Campaigns   []*campaign
	Teams       []*userTeam
}

// clone copies what may still change.
func (f surfaces) clone() surfaces {
	f.Segments = slices.Clone(f.Segments)
	for i, g := range f.Segments {
		one := *g
		one.Members = maps.Clone(g.Members)
		f.Segments[i] = &one
	}
	f.Forms = slices.Clone(f.Forms)
	for i, one := range f.Forms {
		copied := *one
		copied.Submissions = slices.Clone(one.Submissions)
		f.Forms[i] = &copied
	}
	return f
}

// segment finds a live segment.
func (a *account) segment(id int64) *segment {
	for _, g := range a.surfaces.Segments {
		if g.ID == id && g.Deleted == 0 {
			return g
		}
	}
	return nil
}

func (g *segment) matches(t *table, r *record) bool {
	p := t.property(g.Property)
	return p != nil && r.archived == 0 && string(t.text(r, p, nil)) == g.Value
}

// sortIntoSegments lets e join and leave the dynamic segments of its type.
func (a *account) sortIntoSegments(t *table, e *entry, now int64) {
	for _, g := range a.surfaces.Segments {
		if g.TypeID != t.kind.typeID || g.Processing != segmentDynamic || g.Deleted != 0 {
			continue
		}
		_, member := g.Members[e.id]
		switch should := g.matches(t, e.cur); {
		case should && !member:
			a.join(t, g, e.id, now)
		case !should && member:
			a.leave(t, g, e.id)
		}
	}
}

func (a *account) join(t *table, g *segment, id, now int64) {
	g.Members[id] = now
	a.happened(event{kind: segmentJoined, t: t, id: id, segment: g})
}

func (a *account) leave(t *table, g *segment, id int64) {
	delete(g.Members, id)
	a.happened(event{kind: segmentLeft, t: t, id: id, segment: g})
}

// leaveSegments takes a deleted record out of every segment.
func (a *account) leaveSegments(t *table, id int64) {
	for _, g := range a.surfaces.Segments {
		if _, member := g.Members[id]; member && g.TypeID == t.kind.typeID {
			a.leave(t, g, id)
		}
	}
}

// moveSegments gives the memberships of a merged-away record to the new one.
func (a *account) moveSegments(t *table, old, id int64) {
	for _, g := range a.surfaces.Segments {
		if at, member := g.Members[old]; member && g.TypeID == t.kind.typeID {
			delete(g.Members, old)
			g.Members[id] = at
		}
	}
}

// member is one membership.
type member struct{ id, at int64 }

// members are the memberships by record id, or in the order of joining.
func (g *segment) members(byJoining bool) []member {
	out := make([]member, 0, len(g.Members))
	for id, at := range g.Members {
		out = append(out, member{id, at})
	}
	slices.SortFunc(out, func(a, b member) int {
		if byJoining {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id))
		}
		return cmp.Compare(a.id, b.id)
	})
	return out
}

// addSegment makes a segment and, when it has a filter, fills it.
func (a *account) addSegment(t *table, g segment, now int64) *segment {
	a.surfaces.LastSegment++
	g.ID, g.Version, g.TypeID, g.Members = a.surfaces.LastSegment, 1, t.kind.typeID, map[int64]int64{}
	g.Created, g.Updated = now, now
	if os := a.activeOwners(); len(os) > 0 {
		g.By = os[0].userID
	}
	if g.Property != "" {
		t.live.ascend(place{}, func(e *entry) bool {
			if g.matches(t, e.cur) {
				g.Members[e.id] = now
			}
			return true
		})
	}
	added := &g
	a.surfaces.Segments = append(a.surfaces.Segments, added)
	return added
}

// seedSegments makes some segments over the seeded records.
func (a *account) seedSegments(now int64) {
	contacts, companies := a.table("0-1"), a.table("0-2")
	a.addSegment(contacts, segment{Name: "Customers", Processing: segmentDynamic, Property: "lifecyclestage", Value: "customer"}, now)
	a.addSegment(contacts, segment{Name: "Leads", Processing: segmentDynamic, Property: "lifecyclestage", Value: "lead"}, now)
	invited := a.addSegment(contacts, segment{Name: "Trade fair invitations", Processing: segmentManual}, now)
	top := a.addSegment(companies, segment{Name: "Key accounts 2026", Processing: segmentSnapshot}, now)
	for g, t := range map[*segment]*table{invited: contacts, top: companies} {
		t.live.ascend(place{}, func(e *entry) bool {
			if mix(uint64(e.id))%9 == 0 {
				g.Members[e.id] = now - int64(mix(uint64(e.id)+1)%1_000_000)*1000
			}
			return len(g.Members) < 500
		})
	}
}

// AddList makes a list of HubSpot's: MANUAL or SNAPSHOT, or DYNAMIC for the records whose property has the value.
func (s *Server) AddList(objectType, name, processing, property, value string) (id int64, err error) {
	err = s.with(objectType, func(a *account, t *table, now int64) error {
		switch {
		case processing != segmentManual && processing != segmentDynamic && processing != segmentSnapshot:
			return fmt.Errorf("%w: processing type %s", ErrInvalid, processing)
		case property != "" && t.property(property) == nil:
			return fmt.Errorf("property %s: %w", property, ErrNotFound)
		}
		id = a.addSegment(t, segment{Name: name, Processing: processing, Property: property, Value: value}, now).ID
		return nil
	})
	return id, err
}

// ListMembers are the record ids of a list, ascending.
func (s *Server) ListMembers(id int64) []int64 {
	var ids []int64
	s.account.view(func() {
		if g := s.account.segment(id); g != nil {
			ids = slices.Sorted(maps.Keys(g.Members))
		}
	})
	return ids
}

func (g *segment) append(dst []byte, filters bool, more []string) []byte {
	dst = append(dst, '{')
	dst = appendID(appendMember(dst, "listId"), g.ID)
	dst = appendInt(appendMember(dst, "listVersion"), g.Version)
	dst = appendTime(appendMember(dst, "createdAt"), g.Created)
	dst = appendTime(appendMember(dst, "updatedAt"), g.Updated)
	dst = appendTime(appendMember(dst, "filtersUpdatedAt"), g.Created)
	dst = appendString(appendMember(dst, "processingStatus"), "COMPLETE")
	dst = appendID(appendMember(dst, "createdById"), g.By)
	dst = appendID(appendMember(dst, "updatedById"), g.By)
	dst = appendString(appendMember(dst, "processingType"), g.Processing)
	dst = appendString(appendMember(dst, "objectTypeId"), g.TypeID)
	dst = appendString(appendMember(dst, "name"), g.Name)
	if filters && g.Property != "" {
		dst = append(appendMember(dst, "filterBranch"), `{"filterBranchType":"OR","filterBranches":[{"filterBranchType":"AND",`...)
		dst = append(dst, `"filterBranches":[],"filters":[{"filterType":"PROPERTY"`...)
		dst = appendString(appendMember(dst, "property"), g.Property)
		dst = append(dst, `,"operation":{"operationType":"ENUMERATION","operator":"IS_ANY_OF","values":[`...)
		dst = append(appendString(dst, g.Value), `]}}]}],"filters":[]}`...)
	}
	dst = append(appendMember(dst, "additionalProperties"), '{')
	for _, name := range more {
		switch name {
		case "hs_list_size":
			dst = appendString(appendMember(dst, name), strconv.Itoa(len(g.Members)))
		case "hs_last_record_added_at":
			last := int64(0)
			for _, at := range g.Members {
				last = max(last, at)
			}
			dst = appendString(appendMember(dst, name), strconv.FormatInt(last, 10))
		}
	}
	return append(dst, '}', '}')
}
