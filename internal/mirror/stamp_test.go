package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

func stamped() *mirror.ObjectDef {
	return &mirror.ObjectDef{
		ObjectType: "0-1", Name: "contacts", Singular: "contact", Path: "contacts", ModifiedProperty: "lastmodifieddate",
		Properties: []mirror.PropertyDef{
			{Name: "email", Type: "string"},
			{Name: "lastmodifieddate", Type: "datetime"},
			{Name: "hs_lastmodifieddate", Type: "datetime"},
		},
	}
}

// A job of HubSpot's own that stamps 12,000 records on one millisecond is stored and wakes nobody.
func TestMonthEndStampIsStoredAndIsNoEvent(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(stamped())
	const records, page = 12_000, 1000
	write := func(stamp, read int, quiet bool) (sum mirror.Result) {
		text := at(stamp).Format("2006-01-02T15:04:05.000Z")
		for first := int64(1); first <= records; first += page {
			b := &mirror.Batch{Table: table, Columns: table.Readable(), ReadAt: at(read), Source: changes.Follow, Quiet: quiet}
			for id := first; id < first+page; id++ {
				b.Rows = append(b.Rows, row(id, at(stamp), "a@example.com", text, text))
			}
			res := m.in(func(tx pgx.Tx) (mirror.Result, error) { return m.applier.Upsert(t.Context(), tx, b) })
			sum.Updated += res.Updated
			sum.Unchanged += res.Unchanged
		}
		return sum
	}
	write(0, 1, true)
	if res := write(5, 10, false); res.Updated != 0 || res.Unchanged != records {
		t.Errorf("stamping counts %d updated, %d unchanged", res.Updated, res.Unchanged)
	}
	if list := m.log(0); len(list) != 0 {
		t.Errorf("%d events, the first %+v", len(list), list[0])
	}
	const stored = "select count(*) from hubspot.contacts where updated_at = lastmodifieddate and updated_at = hs_lastmodifieddate and updated_at > created_at"
	if n := m.text(stored); n != "12000" {
		t.Errorf("%s rows have the new stamps", n)
	}
}

func TestStampsAreInNoEvent(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(stamped())
	const one, two, three = "2026-01-02T03:04:05.001Z", "2026-01-02T03:04:05.002Z", "not an instant"
	m.put(table, at(1), row(1, at(1), "a@example.com", one, one))
	m.put(table, at(2), row(1, at(2), "b@example.com", two, two))
	m.put(table, at(3), row(1, at(3), "b@example.com", three, two))
	m.remove(table, at(4), 1)
	m.put(table, at(5), row(1, at(5), "b@example.com", three, two))
	list := m.log(0)
	if len(list) != 4 {
		t.Fatalf("%d events, want insert, update, delete, restore", len(list))
	}
	for _, c := range list {
		if slices.ContainsFunc(c.Changed, func(name string) bool { return name != "email" }) {
			t.Errorf("%s names %v", c.Op, c.Changed)
		}
		for _, text := range []string{string(c.Before), string(c.After)} {
			if strings.Contains(text, "lastmodifieddate") {
				t.Errorf("%s holds %s", c.Op, text)
			}
		}
	}
	if got := m.text("select _unparsed from hubspot.contacts"); !strings.Contains(got, three) {
		t.Errorf("the stamp that does not parse is not kept: %s", got)
	}
}

// A partial read that asks for a stamp stores it, too.
func TestPartialReadStoresStamps(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(stamped())
	m.put(table, at(1), row(1, at(1), "a@example.com", nil, nil))
	stamp, _ := table.Column("lastmodifieddate")
	b := &mirror.Batch{Table: table, ReadAt: at(2), Source: changes.Follow, Rows: []mirror.Row{row(1, at(1), "2026-01-02T03:04:05.001Z")}}
	b.Columns = append(b.Columns, stamp)
	m.in(func(tx pgx.Tx) (mirror.Result, error) { return m.applier.Upsert(t.Context(), tx, b) })
	if got := m.text("select lastmodifieddate is not null from hubspot.contacts"); got != "true" {
		t.Error("the stamp was not stored")
	}
	if list := m.log(1); len(list) != 0 {
		t.Errorf("events %+v", list)
	}
}
