package mirror_test

import (
	"testing"

	"hubpg/internal/catalog"
)

// A custom object may have any name, and what it is associated with has a table all the same.
func TestAssociationsOfAnyName(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	for i, name := range []string{"type", "label", "category", "to_contact"} {
		def := companies()
		def.ObjectType, def.Name, def.Singular, def.Custom = "2-"+string(rune('1'+i)), name, name, true
		own := m.ensure(def)
		for _, other := range []*catalog.Table{m.ensure(contacts()), own} {
			if _, _, err := m.mapper.EnsurePair(t.Context(), m.pool, own, other); err != nil {
				t.Errorf("%s with %s: %v", name, other.Name, err)
			}
		}
	}
}
