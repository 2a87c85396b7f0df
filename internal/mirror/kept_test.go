package mirror_test

import (
	"testing"

	"hubpg/internal/mirror"
)

// Where deletes become soft, the row of a deleted record keeps the value that another record gets.
func TestDeletesThatBecomeSoftKeepUniqueValues(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	if made, err := m.mapper.EnsureUnique(t.Context(), m.pool, table, "email"); err != nil || !made {
		t.Fatal(made, err)
	}
	m.put(m.ensure(contacts()), at(1), row(1, at(0), "a@x", nil, nil, nil, nil, nil))
	m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, SoftDeletes: true})
	table = m.ensure(contacts())
	m.remove(table, at(2), 1)
	seq := m.text("select last from hubpg.change_counter")
	m.put(table, at(4), row(2, at(3), "a@x", nil, nil, nil, nil, nil))
	if got := m.text("select string_agg(id || ' ' || email, ', ' order by id) from hubspot.contacts"); got != "1 a@x, 2 a@x" {
		t.Errorf("rows are %s", got)
	}
	if got := m.text("select count(*) from hubpg.changes where record_id = 1 and seq > " + seq); got != "0" {
		t.Errorf("%s events tell of the deleted record", got)
	}
}
