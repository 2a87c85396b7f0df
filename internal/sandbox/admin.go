package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Errors of the admin methods.
var (
	// ErrNotFound means that there is no such record, property or association.
	ErrNotFound = errors.New("not found")
	// ErrUnknownType means that there is no such object type.
	ErrUnknownType = errors.New("unknown object type")
	// ErrInvalid means that the account does not allow it.
	ErrInvalid = errors.New("invalid")
)

// with runs fn on a table with the account writable.
func (s *Server) with(objectType string, fn func(a *account, t *table, now int64) error) error {
	a := s.account
	var err error
	a.edit(func(now int64) {
		t := a.table(objectType)
		if t == nil {
			err = fmt.Errorf("%w: %s", ErrUnknownType, objectType)
			return
		}
		err = fn(a, t, now)
	})
	return err
}

func (t *table) must(id int64) (*entry, error) {
	if e := t.lookup(id, true); e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%s %d: %w", t.kind.singular, id, ErrNotFound)
}

// changes translates admin values, which are taken as they are: read-only and calculated properties
// may be set, nothing is required and nothing is normalized.
func (t *table) changes(props map[string]string) ([]change, error) {
	var cs []change
	for _, name := range slices.Sorted(maps.Keys(props)) {
		p := t.property(name)
		if p == nil {
			return nil, fmt.Errorf("property %s of %s: %w", name, t.kind.name, ErrNotFound)
		}
		cs = append(cs, change{p, []byte(props[name])})
	}
	return cs, nil
}

// Create makes a record. Unlike the API it takes any value for any property that exists.
func (s *Server) Create(objectType string, props map[string]string) (id int64, err error) {
	err = s.with(objectType, func(a *account, t *table, now int64) error {
		cs, err := t.changes(props)
		if err != nil {
			return err
		}
		if f := a.conflict(t, nil, cs); f != nil {
			return fmt.Errorf("%w: %s", ErrInvalid, f.message)
		}
		id = a.insert(t, append(a.serverSet(t, cs), cs...), now).id
		return nil
	})
	return id, err
}

// Update changes a record and its modified time. An empty value clears a property.
func (s *Server) Update(objectType string, id int64, props map[string]string) error {
	return s.with(objectType, func(a *account, t *table, now int64) error {
		e, err := t.must(id)
		if err != nil {
			return err
		}
		cs, err := t.changes(props)
		if err != nil {
			return err
		}
		if f := a.conflict(t, e, cs); f != nil {
			return fmt.Errorf("%w: %s", ErrInvalid, f.message)
		}
		a.set(t, e, append(a.follows(t, e.cur, cs), cs...), false, now, "CRM_UI")
		return nil
	})
}

// Archive deletes a record into the archive. Its modified time stays.
func (s *Server) Archive(objectType string, id int64) error {
	return s.with(objectType, func(a *account, t *table, now int64) error {
		e, err := t.must(id)
		if err == nil {
			a.archive(t, e, now)
		}
		return err
	})
}

// Restore takes a record out of the archive. Its modified time stays.
func (s *Server) Restore(objectType string, id int64) error {
	return s.with(objectType, func(a *account, t *table, now int64) error {
		e, err := t.must(id)
		if err == nil {
			a.restore(t, e, now)
		}
		return err
	})
}

// Erase removes a record for good, as a GDPR deletion: it is not in the archive either.
func (s *Server) Erase(objectType string, id int64) error {
	return s.with(objectType, func(a *account, t *table, _ int64) error {
		e, err := t.must(id)
		if err == nil {
			a.erase(t, e)
		}
		return err
	})
}

// Merge merges two records into a new one, which takes over; both old ids become aliases.
func (s *Server) Merge(objectType string, primary, other int64) (newID int64, err error) {
	err = s.with(objectType, func(a *account, t *table, now int64) error {
		x, err := t.must(primary)
		if err != nil {
			return err
		}
		y, err := t.must(other)
		if err != nil {
			return err
		}
		if x == y || x.cur.archived != 0 || y.cur.archived != 0 {
			return fmt.Errorf("%w: merge %d and %d", ErrInvalid, primary, other)
		}
		newID = a.merge(t, x, y, now).id
		return nil
	})
	return newID, err
}

// Associate adds a type to the association of two records; 0 is the unlabeled type. No modified time
// moves.
func (s *Server) Associate(fromType string, from int64, toType string, to int64, typeID int) error {
	return s.withPair(fromType, from, toType, to, func(a *account, x, y *entry, ft, tt *table) error {
		d := direction{ft.kind.typeID, tt.kind.typeID}
		if typeID == 0 {
			if u := a.links.unlabeled(d); u != nil {
				typeID = u.id
			}
		}
		if a.links.byID[d][typeID] == nil || ft == tt && x == y {
			return fmt.Errorf("%w: association type %d from %s to %s", ErrInvalid, typeID, fromType, toType)
		}
		a.links.put(d, x.id, y.id, append(slices.Clone(a.links.between(d, x.id, y.id)), typeID))
		a.rollUp(ft, x, tt, y)
		return nil
	})
}

// Dissociate removes a type from the association of two records, or the whole association when typeID
// is 0 or the unlabeled type. No modified time moves.
func (s *Server) Dissociate(fromType string, from int64, toType string, to int64, typeID int) error {
	return s.withPair(fromType, from, toType, to, func(a *account, x, y *entry, ft, tt *table) error {
		have := a.links.between(direction{ft.kind.typeID, tt.kind.typeID}, x.id, y.id)
		if have == nil || typeID != 0 && !slices.Contains(have, typeID) {
			return fmt.Errorf("association of %d and %d: %w", from, to, ErrNotFound)
		}
		var ids []int
		if typeID != 0 {
			ids = []int{typeID}
		}
		a.dissociate(ft, tt, x.id, y.id, ids)
		return nil
	})
}

func (s *Server) withPair(
	fromType string, from int64, toType string, to int64, fn func(a *account, x, y *entry, ft, tt *table) error,
) error {
	return s.with(fromType, func(a *account, ft *table, _ int64) error {
		tt := a.table(toType)
		if tt == nil {
			return fmt.Errorf("%w: %s", ErrUnknownType, toType)
		}
		x, err := ft.must(from)
		if err != nil {
			return err
		}
		y, err := tt.must(to)
		if err != nil {
			return err
		}
		return fn(a, x, y, ft, tt)
	})
}

// AddProperty defines a property, or restores the definition of an archived one.
func (s *Server) AddProperty(objectType string, d PropertyDef) error {
	return s.with(objectType, func(_ *account, t *table, now int64) error {
		switch p := t.props[d.Name]; {
		case d.Name == "":
			return fmt.Errorf("%w: property without a name", ErrInvalid)
		case p != nil && p.archived == 0:
			return fmt.Errorf("%w: property %s already exists", ErrInvalid, d.Name)
		case p != nil:
			p.archived, p.updated = 0, now
		default:
			if d.GroupName == "" && len(t.groups) > 0 {
				d.GroupName = t.groups[0].name
			}
			p = t.addProperty(d)
			p.created, p.updated = now, now
		}
		return nil
	})
}

// ChangeProperty replaces a property's definition, its type included; values stay as they are.
func (s *Server) ChangeProperty(objectType string, d PropertyDef) error {
	return s.with(objectType, func(_ *account, t *table, now int64) error {
		p := t.property(d.Name)
		if p == nil {
			return fmt.Errorf("property %s: %w", d.Name, ErrNotFound)
		}
		p.define(d)
		p.updated = now
		return nil
	})
}

// ArchiveProperty archives a definition; its values are no longer shown.
func (s *Server) ArchiveProperty(objectType, name string) error {
	return s.with(objectType, func(_ *account, t *table, now int64) error {
		p := t.property(name)
		if p == nil || p.from != stored {
			return fmt.Errorf("property %s: %w", name, ErrNotFound)
		}
		p.archived = now
		return nil
	})
}

// AddObjectType defines a custom object type.
func (s *Server) AddObjectType(d SchemaDef) (typeID string, err error) {
	a := s.account
	a.edit(func(now int64) {
		t, failed := a.addType(d, now)
		if failed != nil {
			err = fmt.Errorf("%w: %w", ErrInvalid, failed)
			return
		}
		typeID = t.kind.typeID
	})
	return typeID, err
}

// RemoveObjectType deletes a custom object type, as an administrator does. Its records must have been archived; they go
// with it, and its name is free again.
func (s *Server) RemoveObjectType(typeID string) error {
	return s.with(typeID, func(a *account, t *table, _ int64) error {
		if !t.kind.custom || t.live.len() > 0 {
			return fmt.Errorf("%w: object type %s is not custom or has records", ErrInvalid, typeID)
		}
		a.tables = slices.DeleteFunc(a.tables, func(other *table) bool { return other == t })
		maps.DeleteFunc(a.byPath, func(_ string, other *table) bool { return other == t })
		gone := func(d direction) bool { return d.from == t.kind.typeID || d.to == t.kind.typeID }
		maps.DeleteFunc(a.links.types, func(d direction, _ []*linkType) bool { return gone(d) })
		maps.DeleteFunc(a.links.byID, func(d direction, _ map[int]*linkType) bool { return gone(d) })
		maps.DeleteFunc(a.links.sides, func(d direction, _ map[int64][]link) bool { return gone(d) })
		return nil
	})
}

// RelabelObjectType gives a custom object type other labels. Its name stays.
func (s *Server) RelabelObjectType(typeID, singular, plural string) error {
	return s.with(typeID, func(_ *account, t *table, now int64) error {
		t.kind.label, t.kind.plural, t.kind.updatedAt = singular, plural, now
		return nil
	})
}

// SetCalculated changes a value without a change of the modified time, as HubSpot does with
// calculated and rollup properties.
func (s *Server) SetCalculated(objectType string, id int64, prop, value string) error {
	return s.with(objectType, func(a *account, t *table, now int64) error {
		e, err := t.must(id)
		if err != nil {
			return err
		}
		cs, err := t.changes(map[string]string{prop: value})
		if err == nil {
			a.set(t, e, cs, true, now, "CALCULATED")
		}
		return err
	})
}

// StampAll gives the first n live records, in id order, the modified time at, to the millisecond. It is
// what HubSpot's own bulk jobs do.
func (s *Server) StampAll(objectType string, n int, at time.Time) error {
	return s.with(objectType, func(a *account, t *table, now int64) error {
		if n > t.live.len() {
			return fmt.Errorf("%w: %s has %d records, not %d", ErrInvalid, t.kind.name, t.live.len(), n)
		}
		t.live.ascend(place{}, func(e *entry) bool {
			if n == 0 {
				return false
			}
			n--
			a.replace(t, e, e.cur.data, at.UnixMilli(), now)
			return true
		})
		return nil
	})
}

// InjectFault makes matching requests fail. A path that is not a regular expression panics.
func (s *Server) InjectFault(f Fault) {
	if err := s.faults.add(f); err != nil {
		panic(fmt.Sprintf("sandbox: fault path: %v", err))
	}
}

// ClearFaults removes all faults.
func (s *Server) ClearFaults() { s.faults.clear() }
