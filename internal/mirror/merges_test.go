package mirror_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

func merging(m *mirrored) *catalog.Table {
	m.t.Helper()
	if err := m.mapper.EnsureLookups(m.t.Context(), m.pool); err != nil {
		m.t.Fatal(err)
	}
	return m.ensure(&mirror.ObjectDef{
		ObjectType: "0-1", Name: "contacts", Singular: "contact", Path: "contacts", ModifiedProperty: "lastmodifieddate",
		Properties: []mirror.PropertyDef{
			{Name: "email", Type: "string"},
			{Name: "hs_merged_object_ids", Type: "enumeration", FieldType: "checkbox"},
			{Name: "hs_calculated_merged_vids", Type: "enumeration", FieldType: "checkbox"},
		},
	})
}

// merges reads the table of merges as "old>new".
func (m *mirrored) merges() string {
	m.t.Helper()
	return m.text("select string_agg(old_id || '>' || new_id, ' ' order by old_id) from hubspot.merges")
}

func TestMergedRecordsLeaveAndTheirIdsLeadOn(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := merging(m)
	firms := m.ensure(companies())
	pair, _, err := m.mapper.EnsurePair(t.Context(), m.pool, table, firms)
	if err != nil {
		t.Fatal(err)
	}
	m.put(table, at(1), row(1, at(0), "a", nil, nil), row(2, at(0), "b", nil, nil), row(4, at(0), "d", nil, nil))
	m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Associate(t.Context(), tx, &mirror.AssociationBatch{
			Pair: pair, From: []int64{1, 4}, ReadAt: at(1), Source: changes.Follow,
			Edges: []mirror.Edge{{A: 1, B: 77, TypeID: 279, Category: "HUBSPOT_DEFINED"}, {A: 4, B: 77, TypeID: 279, Category: "HUBSPOT_DEFINED"}},
		})
	})
	from := int64(len(m.log(0)))
	ms := at(2).UnixMilli()
	res := m.put(table, at(3), row(3, at(2), "ab", "1;2", fmt.Sprintf("1:%d;2:%d", ms, ms)))
	if res.Inserted != 1 || res.Deleted != 2 {
		t.Errorf("result %+v", res)
	}
	if got := m.merges(); got != "1>3 2>3" {
		t.Errorf("merges are %s", got)
	}
	if got := m.text("select bool_and(merged_at = '2026-01-02T03:04:05.002Z') from hubspot.merges"); got != "true" {
		t.Error("HubSpot's time of the merge is not kept")
	}
	var ops string
	for _, c := range m.log(from) {
		ops += fmt.Sprintf("%s %s %d %s\n", c.Op, c.Table, c.RecordID, c.After)
	}
	want := `insert contacts 3 {"id": 3, "email": "ab", "created_at": "2026-01-02T03:04:05+00:00", "updated_at": "2026-01-02T03:04:05.002+00:00", ` +
		`"hs_merged_object_ids": ["1", "2"], "hs_calculated_merged_vids": ["1:1767323045002", "2:1767323045002"]}
merge contacts 1 {"id": 3}
merge contacts 2 {"id": 3}
dissociate contacts_companies 1 
insert merges 1 {"new_id": 3, "old_id": 1, "merged_at": "2026-01-02T03:04:05.002+00:00", "table_name": "contacts"}
insert merges 2 {"new_id": 3, "old_id": 2, "merged_at": "2026-01-02T03:04:05.002+00:00", "table_name": "contacts"}
`
	if ops != want {
		t.Errorf("events are\n%s\nwant\n%s", ops, want)
	}

	// The survivor is merged in its turn, and its successor does not repeat what it had taken up.
	m.put(table, at(5), row(5, at(4), "abd", "3;4", nil))
	if got := m.merges(); got != "1>5 2>5 3>5 4>5" {
		t.Errorf("after the second merge: %s", got)
	}
	if got := m.text("select string_agg(id::text, ' ') from hubspot.contacts"); got != "5" {
		t.Errorf("rows %s are left", got)
	}
	if got := m.text("select count(*) from hubspot.contacts_companies"); got != "0" {
		t.Errorf("%s associations are left", got)
	}
	for name, want := range map[string]string{"contacts": "1", "merges": "4", "contacts_companies": "0"} {
		if got := m.text("select row_count from hubpg.objects where table_name = '" + name + "'"); got != want {
			t.Errorf("%s counts %s rows, want %s", name, got, want)
		}
	}

	// Late news of the first merge, and late pages with the losers, change nothing.
	before := len(m.log(0))
	m.put(table, at(4), row(3, at(2), "ab", "1;2", nil))
	m.put(table, at(4), row(1, at(9), "late", nil, nil))
	m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Merge(t.Context(), tx, table, map[int64]int64{1: 3, 2: 5}, at(6), changes.Sweep)
	})
	if got := m.merges(); got != "1>5 2>5 3>5 4>5" {
		t.Errorf("after late news: %s", got)
	}
	if list := m.log(int64(before)); len(list) != 0 {
		t.Errorf("late news made events %+v", list)
	}
}

func TestMergeHeardOfBeforeTheSurvivorIsRead(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := merging(m)
	m.put(table, at(1), row(1, at(0), "a", nil, nil), row(2, at(0), "b", nil, nil))
	move := func(moved map[int64]int64, readAt time.Time) mirror.Result {
		return m.in(func(tx pgx.Tx) (mirror.Result, error) {
			return m.applier.Merge(t.Context(), tx, table, moved, readAt, changes.Sweep)
		})
	}
	if res := move(map[int64]int64{1: 3}, at(2)); res.Deleted != 1 || res.Events != 2 {
		t.Errorf("result %+v", res)
	}
	if got := m.merges(); got != "1>3" {
		t.Errorf("merges are %s", got)
	}
	// A row that was read after the word came is not what the word was about.
	m.put(table, at(9), row(2, at(8), "b again", nil, nil))
	if res := move(map[int64]int64{2: 3}, at(5)); res.Deleted != 0 {
		t.Errorf("result %+v", res)
	}
	if got := m.text("select email from hubspot.contacts where id = 2"); got != "b again" {
		t.Errorf("row 2 is %s", got)
	}
	// Two records that each claim the other do not send anybody in circles.
	move(map[int64]int64{3: 1}, at(10))
	if got := m.merges(); got != "1>3 2>3" {
		t.Errorf("merges are %s", got)
	}
}

// Whatever the order in which merges are heard of, old ids lead to the record that is left.
func TestChainsOfMergesAreResolvedInAnyOrder(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := merging(m)
	offset := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		offset += 1000
		const records = 8
		type step struct{ old, into int64 }
		var steps []step
		left := map[int64]int64{} // what became of each id
		alive := []int64{}
		for i := range int64(records) {
			alive = append(alive, offset+i)
		}
		next := offset + records
		for len(alive) > 1 && len(steps) < 10 {
			x := rapid.IntRange(0, len(alive)-1).Draw(rt, "primary")
			y := rapid.IntRange(0, len(alive)-1).Draw(rt, "other")
			if x == y {
				continue
			}
			into := next
			next++
			for _, old := range []int64{alive[x], alive[y]} {
				steps = append(steps, step{old, into})
				left[old] = into
			}
			px, py := alive[x], alive[y]
			var rest []int64
			for _, id := range alive {
				if id != px && id != py {
					rest = append(rest, id)
				}
			}
			alive = append(rest, into)
		}
		for i, s := range rapid.Permutation(steps).Draw(rt, "order") {
			m.in(func(tx pgx.Tx) (mirror.Result, error) {
				return m.applier.Merge(t.Context(), tx, table, map[int64]int64{s.old: s.into}, at(i), changes.Sweep)
			})
		}
		for old := range left {
			end := old
			for into, merged := left[end]; merged; into, merged = left[end] {
				end = into
			}
			if got := m.text(fmt.Sprintf("select new_id from hubspot.merges where old_id = %d", old)); got != fmt.Sprint(end) {
				rt.Fatalf("%d leads to %s, want %d", old, got, end)
			}
		}
	})
}
