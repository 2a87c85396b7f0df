package mirror_test

import (
	"testing"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// TestAUniqueValueThatMovesWithinOneReadIsInTheLog has an address go from one contact to another, both of which one read
// shows as they are afterwards.
func TestAUniqueValueThatMovesWithinOneReadIsInTheLog(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	m.put(table, at(1), row(1, at(0), "a@x", "1", nil, nil, nil, nil), row(2, at(0), "b@x", "2", nil, nil, nil, nil), row(3, at(0), "c@x", "2", nil, nil, nil, nil), row(4, at(0), nil, nil, nil, nil, nil, nil))
	if ok, err := m.mapper.EnsureUnique(t.Context(), m.pool, table, "email"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	table = m.ensure(contacts())
	if len(table.Unique) != 1 {
		t.Fatal(table.Unique)
	}
	var last int64
	m.scan("select last from hubpg.change_counter", &last)
	// 1 loses its address to 4; 2 and 3 swap.
	m.put(table, at(11), row(1, at(10), nil, "1", nil, nil, nil, nil), row(2, at(10), "c@x", "2", nil, nil, nil, nil), row(3, at(10), "b@x", "2", nil, nil, nil, nil), row(4, at(10), "a@x", nil, nil, nil, nil, nil))
	got := map[int64]string{}
	for _, e := range events(m.log(last)) {
		got[e.ID] += string(e.Op) + " " + e.Before + e.After
	}
	want := map[int64]string{
		1: string(changes.Update) + ` {"email":"a@x"}{"email":null}`,
		2: string(changes.Update) + ` {"email":"b@x"}{"email":"c@x"}`,
		3: string(changes.Update) + ` {"email":"c@x"}{"email":"b@x"}`,
		4: string(changes.Update) + ` {"email":null}{"email":"a@x"}`,
	}
	for id, w := range want {
		if got[id] != w {
			t.Errorf("record %d: log has %q, want %q", id, got[id], w)
		}
	}
}

// TestAMergeInventsNoUpdate has the record that two have become arrive with the address of one of them: nobody has
// taken that from the old record, which has merely become another.
func TestAMergeInventsNoUpdate(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	def.Properties = append(def.Properties, mirror.PropertyDef{Name: "hs_merged_object_ids", Type: "enumeration", FieldType: "checkbox"})
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); err != nil {
		t.Fatal(err)
	}
	table := m.ensure(def)
	m.put(table, at(1), row(1, at(0), "a@x", "1", nil, nil, nil, nil, nil), row(2, at(0), "b@x", "2", nil, nil, nil, nil, nil))
	if ok, err := m.mapper.EnsureUnique(t.Context(), m.pool, table, "email"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	table = m.ensure(def)
	var last int64
	m.scan("select last from hubpg.change_counter", &last)
	m.put(table, at(11), row(9, at(10), "a@x", "1", nil, nil, nil, nil, "1;2"))
	for _, e := range m.log(last) {
		if e.Table == "contacts" && e.Op == changes.Update {
			t.Errorf("record %d: HubSpot never said %s", e.RecordID, canonical(e.After))
		}
		if e.Table == "contacts" && e.Op == changes.Merge && e.RecordID == 1 && canonical(e.Before) != `{"created_at":"2026-01-02T03:04:05+00:00","email":"a@x","id":1,"score":1,"updated_at":"2026-01-02T03:04:05+00:00"}` {
			t.Errorf("before the merge record 1 was %s", canonical(e.Before))
		}
	}
	if n := m.text("select count(*) from hubpg.suspects"); n != "0" {
		t.Errorf("%s suspects", n)
	}
}
