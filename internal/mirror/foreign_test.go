package mirror_test

import (
	"testing"

	"hubpg/internal/mirror"
)

// Nobody's table of the name properties keeps tables from being completed.
func TestUniquenessIsLookedForAroundAForeignTable(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.exec("create table hubspot.properties (mine int)")
	table := m.ensure(contacts())
	known, err := mirror.Load(t.Context(), m.pool, portal)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.mapper.EnsureUniques(t.Context(), m.pool, known, table.Name); err != nil {
		t.Fatal(err)
	}
	if table = m.ensure(contacts()); len(table.Unique) != 1 {
		t.Errorf("unique are %v", table.Unique)
	}
}
