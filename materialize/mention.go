package materialize

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"hubpg/hubapi"
)

// mention is a record that HubSpot has spoken of, in a webhook or in the journal. What was said about the record is not
// kept: it makes the record be read, and only what is read counts.
type mention struct {
	objectType string // type id
	id         int64
	links      bool   // its associations changed, not the record itself
	other      string // type id of the other end of these, "" where it was not said
}

// mentions are records to look at, each once, with whether HubSpot said that the record is gone.
type mentions struct {
	gone    map[mention]bool
	events  int // that were looked at
	ignored int // of them, those about nothing that could have a table
}

func newMentions() *mentions { return &mentions{gone: map[mention]bool{}} }

// add notes records of a type and says whether there was any to note.
func (m *mentions) add(objectType string, gone bool, ids ...int64) (about bool) {
	for _, id := range ids {
		if id > 0 && objectType != "" {
			key := mention{objectType: objectType, id: id}
			m.gone[key] = m.gone[key] || gone
			about = true
		}
	}
	return about
}

// link notes a record whose associations with another type changed.
func (m *mentions) link(objectType string, id int64, other string) bool {
	if id <= 0 || objectType == "" {
		return false
	}
	m.gone[mention{objectType, id, true, other}] = false
	return true
}

// took counts an event by whether it was about anything.
func (m *mentions) took(about bool) {
	m.events++
	if !about {
		m.ignored++
	}
}

// sorted returns the mentions in an order that is the same for all who store them, so that no two wait for each other.
func (m *mentions) sorted() []mention {
	return slices.SortedFunc(maps.Keys(m.gone), func(a, b mention) int {
		return cmp.Or(strings.Compare(a.objectType, b.objectType), cmp.Compare(a.id, b.id), strings.Compare(a.other, b.other))
	})
}

const (
	genericSubject = "object" // of webhooks whose events name their object type
	contactsType   = "0-1"    // the only type that has privacy deletions
)

// subjects returns the type ids of what stands before the dot in a webhook's subscription type.
func subjects() map[string]string {
	types := map[string]string{}
	for _, t := range hubapi.StandardTypes() {
		types[t.Singular] = t.TypeID
	}
	return types
}

// webhook notes what a webhook's event is about.
func (m *mentions) webhook(e *hubapi.WebhookEvent, subjects map[string]string) {
	subject, verb, _ := strings.Cut(e.Type, ".")
	objectType := subjects[subject]
	if subject == genericSubject {
		objectType = e.ObjectTypeID
	}
	about := false
	switch verb {
	case "creation", "restore", "propertyChange":
		about = m.add(objectType, false, e.ObjectID)
	case "deletion", "privacyDeletion":
		about = m.add(objectType, true, e.ObjectID)
	case "merge":
		about = m.merge(objectType, e.ObjectID, e.NewObjectID, e.PrimaryObjectID, e.MergedObjectIDs)
	case "associationChange":
		from, to := e.FromObjectTypeID, e.ToObjectTypeID
		if a, b, ok := strings.Cut(strings.ToLower(e.AssociationType), "_to_"); ok && from == "" {
			from, to = subjects[a], subjects[b]
		}
		one, other := m.link(from, e.FromObjectID, to), m.link(to, e.ToObjectID, from)
		about = one || other
	}
	m.took(about)
}

// journal notes what an event of the journal is about.
func (m *mentions) journal(e *hubapi.JournalEvent) {
	about := false
	switch e.Action {
	case "CREATE", "UPDATE", "RESTORE":
		about = m.add(e.ObjectTypeID, false, e.ObjectID)
	case "DELETE":
		about = m.add(e.ObjectTypeID, true, e.ObjectID)
	case "MERGE":
		about = m.merge(e.ObjectTypeID, e.ObjectID, e.NewObjectID, e.PrimaryObjectID, e.MergedObjectIDs)
	case "PRIVACY_DELETION":
		about = m.add(cmp.Or(e.ObjectTypeID, contactsType), true, e.ObjectID)
	case "ASSOCIATION_ADDED", "ASSOCIATION_REMOVED":
		one, other := m.link(e.FromObjectTypeID, e.FromObjectID, e.ToObjectTypeID), m.link(e.ToObjectTypeID, e.ToObjectID, e.FromObjectTypeID)
		about = one || other
	}
	m.took(about)
}

// merge notes all records of a merge. Which of them is left differs between accounts: reading them tells.
func (m *mentions) merge(objectType string, id, becomes, primary int64, merged []int64) bool {
	old, left := m.add(objectType, true, append([]int64{primary}, merged...)...), m.add(objectType, false, id, becomes)
	return old || left
}
