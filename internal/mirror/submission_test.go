package mirror_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

func (m *mirrored) lookups(own ...string) {
	m.t.Helper()
	if err := m.mapper.EnsureLookups(m.t.Context(), m.pool, own...); err != nil {
		m.t.Fatal(err)
	}
}

func TestSubmissionsComeOnceAndGoWhenNoPassShowsThem(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.lookups(mirror.FormSubmissions)
	submission := func(ms int, name string) mirror.FormSubmission {
		return mirror.FormSubmission{SubmittedAt: at(ms), Fields: json.RawMessage(fmt.Sprintf(`[{"name":%q}]`, name)), PageURL: "https://x.example/\x00"}
	}
	submit := func(readAt int, mark bool, rows ...mirror.FormSubmission) mirror.Result {
		return m.in(func(tx pgx.Tx) (mirror.Result, error) {
			return m.applier.Submit(t.Context(), tx, &mirror.SubmissionBatch{
				Schema: "hubspot", FormID: "f", Rows: rows, ReadAt: at(readAt), Mark: mark, Source: changes.Sweep,
			})
		})
	}
	withdraw := func(since int) mirror.Result {
		return m.in(func(tx pgx.Tx) (mirror.Result, error) {
			return m.applier.Withdraw(t.Context(), tx, "hubspot", "f", at(since), changes.Sweep, false)
		})
	}
	first, tied, odd := submission(1, "one"), submission(1, "two"), submission(2, "nul \x00")
	odd.Fields = json.RawMessage(`[{"name":"nul \u0000"}]`)
	if r := submit(10, true, first, tied, odd, first); r.Inserted != 3 || r.Events != 3 {
		t.Fatalf("first: %+v", r)
	}
	if r := submit(20, true, first, odd); r.Inserted != 0 || r.Events != 0 {
		t.Fatalf("again: %+v", r)
	}
	if r := submit(30, false, tied); r.Inserted != 0 { // a short pass marks nothing
		t.Fatalf("short: %+v", r)
	}
	if r := withdraw(10); r.Deleted != 0 {
		t.Fatalf("all were shown since: %+v", r)
	}
	if r := withdraw(20); r.Deleted != 1 || r.Events != 1 {
		t.Fatalf("one was not shown: %+v", r)
	}
	var rows, counted int
	var gone string
	m.scan(`select count(*) from hubspot.form_submissions`, &rows)
	m.scan(`select row_count from hubpg.objects where table_name = 'form_submissions'`, &counted)
	m.scan(`select before #>> '{fields,0,name}' from hubpg.changes where op = 'delete'`, &gone)
	if rows != 2 || counted != 2 || gone != "two" {
		t.Fatalf("%d rows, counted %d, %q is gone", rows, counted, gone)
	}
}

func TestReadOfARangeTouchesOnlyTheRange(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.lookups(mirror.ListMemberships)
	put := func(readAt int, list string, after, upTo int64, records ...int64) (mirror.Result, error) {
		s := &mirror.Snapshot{
			Schema: "hubspot", Table: mirror.ListMemberships, Scope: list, ReadAt: at(readAt), Source: changes.Sweep,
			Range: &mirror.Range{After: after, UpTo: upTo},
		}
		var id int64
		_, err := fmt.Sscan(list, &id)
		for _, r := range records {
			s.Rows = append(s.Rows, mirror.ListMembership{ListID: id, RecordID: r})
		}
		var res mirror.Result
		if err == nil {
			err = pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) (err error) {
				res, err = m.applier.Replace(t.Context(), tx, s)
				return err
			})
		}
		return res, err
	}
	for i, step := range []struct {
		list        string
		after, upTo int64
		records     []int64
		ins, del    int
	}{
		{"1", 0, math.MaxInt64, []int64{10, 20, 30, 40}, 4, 0},
		{"2", 0, math.MaxInt64, []int64{20}, 1, 0},
		{"1", 10, 30, []int64{30}, 0, 1}, // 20 is in the range and has left; 10 and 40 are outside
		{"1", 30, math.MaxInt64, nil, 0, 1},
		{"1", 0, 10, []int64{5, 10}, 1, 0},
	} {
		if r, err := put(10*(i+1), step.list, step.after, step.upTo, step.records...); err != nil || r.Inserted != step.ins || r.Deleted != step.del {
			t.Fatalf("step %d: %+v, %v", i, r, err)
		}
	}
	if _, err := put(30, "1", 0, math.MaxInt64); !errors.Is(err, mirror.ErrOlder) {
		t.Fatalf("a page that is older than what is stored: %v", err)
	}
	var have string
	m.scan(`select string_agg(list_id || ':' || record_id, ' ' order by list_id, record_id) from hubspot.list_memberships`, &have)
	if have != "1:5 1:10 1:30 2:20" {
		t.Fatalf("stored: %s", have)
	}
}

// Tables that are somebody else's do not keep the others from being made.
func TestLookupsAreMadeAroundForeignTables(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	for _, name := range []string{"owners", "forms"} {
		if _, err := m.pool.Exec(t.Context(), "create table hubspot."+name+" (mine int)"); err != nil {
			t.Fatal(err)
		}
	}
	conflicts, rest := mirror.Conflicts(m.mapper.EnsureLookups(t.Context(), m.pool, mirror.Forms, mirror.Lists))
	if rest != nil || len(conflicts) != 2 || conflicts[0].Table != "owners" || conflicts[1].Table != "forms" {
		t.Fatalf("conflicts %v, rest %v", conflicts, rest)
	}
	var made []string
	m.scan(`select array_agg(table_name order by table_name) from hubpg.objects`, &made)
	if want := "[lists merges pipeline_stages pipelines properties property_options teams]"; fmt.Sprint(made) != want {
		t.Fatalf("made %v", made)
	}
	if list, rest := mirror.Conflicts(errors.Join(conflicts[0], errors.New("else"))); len(list) != 1 || rest == nil {
		t.Fatalf("conflicts %v, rest %v", list, rest)
	}
}
