package hubapi

import "slices"

// Projection is the list of properties that a call asks for. Each has a slot; a record's value stands in Values at the
// slot's index. A Projection never changes and may be shared by any number of calls.
type Projection struct {
	names []string
	slots map[string]int
}

// NewProjection returns a Projection with a slot for each name, in the order given. A name given twice has one slot, the
// first.
func NewProjection(properties []string) *Projection {
	p := &Projection{
		names: make([]string, 0, len(properties)),
		slots: make(map[string]int, len(properties)),
	}
	for _, name := range properties {
		if _, ok := p.slots[name]; ok {
			continue
		}
		p.slots[name] = len(p.names)
		p.names = append(p.names, name)
	}
	return p
}

// Len returns the number of slots. A nil Projection has none.
func (p *Projection) Len() int {
	if p == nil {
		return 0
	}
	return len(p.names)
}

// Names returns the properties in slot order.
func (p *Projection) Names() []string {
	if p == nil {
		return nil
	}
	return slices.Clone(p.names)
}

// Slot returns the index of a property in Values.
func (p *Projection) Slot(property string) (slot int, ok bool) {
	if p == nil {
		return 0, false
	}
	slot, ok = p.slots[property]
	return slot, ok
}
