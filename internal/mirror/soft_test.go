package mirror_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

func TestSoftDeletesKeepTheRowAndTellTheSame(t *testing.T) {
	t.Parallel()
	var logs [2]string
	for i, soft := range []bool{false, true} {
		m := newMirrored(t)
		m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, SoftDeletes: soft})
		table := m.ensure(companies())
		m.put(table, at(1), row(1, at(0), "a"), row(2, at(0), "b"))
		if res := m.remove(table, at(2), 1); res.Deleted != 1 {
			t.Errorf("result %+v", res)
		}
		if res := m.remove(table, at(3), 1); res.Deleted != 0 || res.Events != 0 {
			t.Errorf("deleted once more: %+v", res)
		}
		if res := m.put(table, at(2), row(1, at(9), "late")); res.Stale != 1 {
			t.Errorf("a read begun before the deletion: %+v", res)
		}
		known, err := mirror.Known(t.Context(), m.pool, table, []int64{1, 2})
		if err != nil || len(known) != 1 {
			t.Errorf("known are %v, %v", known, err)
		}
		if soft {
			if got := m.text("select string_agg(id || ' ' || name || ' ' || (archived_at is null), ',' order by id) from hubspot.companies"); got != "1 a false,2 b true" {
				t.Errorf("rows are %s", got)
			}
		}
		if got := m.text("select row_count from hubpg.objects where table_name = 'companies'"); got != "1" {
			t.Errorf("row count is %s", got)
		}
		if res := m.put(table, at(5), row(1, at(4), "a again")); res.Restored != 1 {
			t.Errorf("restored: %+v", res)
		}
		if soft {
			if got := m.text("select string_agg(id || ' ' || name || ' ' || (archived_at is null), ',' order by id) from hubspot.companies"); got != "1 a again true,2 b true" {
				t.Errorf("rows are %s", got)
			}
		}
		logs[i] = m.text("select string_agg(concat_ws(' ', seq, op, record_id, changed, before, after), '\n' order by seq) from hubpg.changes")
	}
	if logs[0] != logs[1] || strings.Count(logs[0], "\n") != 3 {
		t.Errorf("hard deletes tell\n%s\nsoft ones\n%s", logs[0], logs[1])
	}
}

func TestErasedRecordsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, SoftDeletes: true})
	table := m.ensure(companies())
	m.put(table, at(1), row(1, at(0), "a"), row(2, at(0), "b"))
	m.remove(table, at(2), 1)
	m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Erase(t.Context(), tx, table, []int64{1, 2}, at(3), changes.Sweep)
	})
	if got := m.text("select count(*) from hubspot.companies"); got != "0" {
		t.Errorf("%s rows are left", got)
	}
	if got := m.text("select count(*) from hubpg.changes where op = 'delete'"); got != "2" {
		t.Errorf("%s deletions are logged", got)
	}
	if got := m.text("select row_count from hubpg.objects where table_name = 'companies'"); got != "0" {
		t.Errorf("row count is %s", got)
	}
}

func TestDeletesCanBeMadeSoftAndHardAgain(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	hard, soft := m.mapper, mirror.NewMapper(mirror.MapperConfig{PortalID: portal, SoftDeletes: true})
	table := m.ensure(companies())
	m.put(table, at(1), row(1, at(0), "a"), row(2, at(0), "b"))
	m.mapper = soft
	table = m.ensure(companies())
	m.remove(table, at(2), 1)
	if got := m.text("select count(*) from hubspot.companies"); got != "2" {
		t.Fatalf("%s rows", got)
	}
	m.mapper = hard
	table = m.ensure(companies())
	if got := m.text("select string_agg(to_jsonb(t) ->> 'name' || ' ' || (to_jsonb(t) ? 'archived_at'), ',') from hubspot.companies t"); got != "b false" {
		t.Errorf("rows are %s", got)
	}
	m.remove(table, at(3), 2)
	if got := m.text("select count(*) from hubspot.companies"); got != "0" {
		t.Errorf("%s rows", got)
	}
}
