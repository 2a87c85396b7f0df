package sandbox

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"
)

// Record is the truth about one record, for comparison with a mirror.
type Record struct {
	ID        int64     `json:"id"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	Archived  bool      `json:"archived"`
	// ArchivedAt is zero unless Archived.
	ArchivedAt time.Time `json:"archivedAt"`
	// Properties holds every value that is set, "" for one that was cleared.
	Properties map[string]string `json:"properties"`
}

// Edge is one association as seen from one side. A pair with two types is two edges.
type Edge struct {
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Category string `json:"category"`
	TypeID   int    `json:"typeId"`
	Label    string `json:"label"`
}

// Stats counts what clients asked. Rejected and failed calls count too.
type Stats struct {
	Calls int64 `json:"calls"`
	// ByFamily counts calls per endpoint family: list, read, search, batch-read, write, associations,
	// properties, schemas, owners, pipelines, account, other.
	ByFamily map[string]int64 `json:"byFamily"`
	ByStatus map[int]int64    `json:"byStatus"`
	// RateLimited counts the 429s sent, by policy.
	RateLimited map[string]int64 `json:"rateLimited"`
	// Violations counts the calls that arrived over a limit, by limiter, whether limits are enforced or
	// not: burst (ten seconds rolling), search (one second rolling), associations, daily.
	Violations map[string]int64 `json:"violations"`
	// Peak is the largest number of calls seen in a limiter's rolling window.
	Peak map[string]int `json:"peak"`
	// DailyUsed is the account's daily count, calls of other apps included.
	DailyUsed int `json:"dailyUsed"`
	// Webhooks counts deliveries.
	Webhooks WebhookStats `json:"webhooks"`
	// Changes counts spontaneous changes made by [Server.Run] and [Server.Step].
	Changes int64 `json:"changes"`
}

// ObjectTypes lists the names of the active object types, those without records too.
func (s *Server) ObjectTypes() []string {
	var names []string
	s.account.view(func() {
		for _, t := range s.account.tables {
			if !t.kind.inactive {
				names = append(names, t.kind.name)
			}
		}
	})
	return names
}

// Count is the number of live records of a type, 0 for an unknown one.
func (s *Server) Count(objectType string) int {
	n := 0
	s.account.view(func() {
		if t := s.account.table(objectType); t != nil {
			n = t.live.len()
		}
	})
	return n
}

// Snapshot returns every record of a type as it is now, archived ones too, in id order.
func (s *Server) Snapshot(objectType string) []Record {
	return slices.Collect(s.Records(objectType))
}

// Records is [Server.Snapshot] one record at a time, for a type that would not fit in memory that way.
func (s *Server) Records(objectType string) iter.Seq[Record] {
	var t *table
	var versions []*record
	s.account.view(func() {
		if t = s.account.table(objectType); t == nil {
			return
		}
		versions = make([]*record, 0, t.live.len()+t.gone.len())
		add := func(e *entry) bool { versions = append(versions, e.cur); return true }
		t.live.ascend(place{}, add)
		t.gone.ascend(place{}, add)
	})
	slices.SortFunc(versions, func(a, b *record) int { return cmp.Compare(a.id, b.id) })
	return func(yield func(Record) bool) {
		for _, v := range versions {
			var r Record
			s.account.view(func() { r = t.truth(v) })
			if !yield(r) {
				return
			}
		}
	}
}

// Lookup returns one record as it is now. A merged-away id gives the survivor.
func (s *Server) Lookup(objectType string, id int64) (r Record, ok bool) {
	s.account.view(func() {
		if t := s.account.table(objectType); t != nil {
			if e := t.lookup(id, true); e != nil {
				r, ok = t.truth(e.cur), true
			}
		}
	})
	return r, ok
}

func (t *table) truth(r *record) Record {
	out := Record{
		ID: r.id, CreatedAt: time.UnixMilli(r.created).UTC(), UpdatedAt: time.UnixMilli(r.updated).UTC(),
		Archived: r.archived != 0, Properties: map[string]string{},
	}
	if out.Archived {
		out.ArchivedAt = time.UnixMilli(r.archived).UTC()
	}
	for _, p := range t.slots {
		if p.archived != 0 {
			continue
		}
		if v := t.text(r, p, nil); v != nil {
			out.Properties[p.Name] = string(v)
		}
	}
	return out
}

// Edges returns the associations from one type to another, without those of archived records, ordered
// by from, to and type.
func (s *Server) Edges(fromType, toType string) []Edge {
	var out []Edge
	a := s.account
	a.view(func() {
		from, to := a.table(fromType), a.table(toType)
		if from == nil || to == nil {
			return
		}
		d := direction{from.kind.typeID, to.kind.typeID}
		for _, id := range slices.Sorted(maps.Keys(a.links.sides[d])) {
			if e := from.entries[id]; e == nil || e.cur.archived != 0 {
				continue
			}
			for _, k := range a.visible(d, to, id) {
				for _, typeID := range a.links.sets[k.set] {
					lt := a.links.byID[d][typeID]
					out = append(out, Edge{From: id, To: k.to, Category: lt.category, TypeID: typeID, Label: lt.label})
				}
			}
		}
	})
	return out
}
