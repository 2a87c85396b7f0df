package mirror_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

func (m *mirrored) pair() *catalog.Pair {
	m.t.Helper()
	p, _, err := m.mapper.EnsurePair(m.t.Context(), m.pool, m.ensure(companies()), m.ensure(contacts()))
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

func (m *mirrored) link(p *catalog.Pair, readAt time.Time, from []int64, edges ...mirror.Edge) mirror.Result {
	m.t.Helper()
	return m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Associate(m.t.Context(), tx, &mirror.AssociationBatch{Pair: p, From: from, Edges: edges, ReadAt: readAt, Source: changes.Follow})
	})
}

func edge(a, b int64, typeID int, label string) mirror.Edge {
	return mirror.Edge{A: a, B: b, TypeID: typeID, Category: "HUBSPOT_DEFINED", Label: label}
}

const edgesSQL = "select string_agg(format('%s-%s %s %s', contact_id, company_id, type_id, label), ', ' order by contact_id, company_id, type_id) from hubspot.contacts_companies"

func TestAssociationsBecomeWhatWasRead(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	p := m.pair()
	if p.Name != "contacts_companies" {
		t.Fatalf("pair is %s", p.Name)
	}
	m.link(p, at(1), []int64{1, 2, 3}, edge(1, 10, 279, ""), edge(1, 10, 1, "Primary"), edge(2, 10, 279, ""))
	res := m.link(p, at(2), []int64{1, 3}, edge(1, 10, 279, "Boss"), edge(1, 11, 279, ""), edge(3, 10, 279, ""))
	if res.Inserted != 2 || res.Updated != 1 || res.Deleted != 1 {
		t.Errorf("got %+v", res)
	}
	if got, want := m.text(edgesSQL), "1-10 279 Boss, 1-11 279 , 2-10 279 , 3-10 279 "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.text("select row_count from hubpg.objects where table_name = 'contacts_companies'"); got != "4" {
		t.Errorf("row count is %s", got)
	}
	rest := func(label string) string {
		return `{"category":"HUBSPOT_DEFINED","company_id":10,"contact_id":1,` + label + `"type_id":`
	}
	want := []event{
		{4, 1, "dissociate", []string{}, rest(`"label":"Primary",`) + "1}", ""},
		{5, 1, "update", []string{"label"}, rest("") + "279}", rest(`"label":"Boss",`) + "279}"},
		{6, 1, "associate", []string{}, "", `{"category":"HUBSPOT_DEFINED","company_id":11,"contact_id":1,"type_id":279}`},
		{7, 3, "associate", []string{}, "", `{"category":"HUBSPOT_DEFINED","company_id":10,"contact_id":3,"type_id":279}`},
	}
	if diff := cmp.Diff(want, events(m.log(3))); diff != "" {
		t.Error(diff)
	}
	m.in(func(tx pgx.Tx) (mirror.Result, error) {
		linked, err := m.applier.Linked(t.Context(), tx, p, []int64{10, 12})
		if !slices.Equal(linked, []int64{1, 2, 3}) {
			t.Errorf("linked to 10: %v", linked)
		}
		return mirror.Result{}, err
	})
}

func TestOlderAssociationsNeverOverwriteNewer(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	p := m.pair()
	m.link(p, at(10), []int64{1, 2}, edge(1, 10, 279, "")) // 2 has none, and that is known
	res := m.link(p, at(5), []int64{1, 2, 3}, edge(2, 10, 279, ""), edge(3, 10, 279, ""))
	if !slices.Equal(res.Refused, []int64{1, 2}) {
		t.Errorf("refused %v", res.Refused)
	}
	if got := m.text(edgesSQL); got != "1-10 279 , 3-10 279 " {
		t.Errorf("got %q", got)
	}
}

func TestAssociationsGoWithTheirRecords(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	p := m.pair()
	m.put(p.A, at(1), row(1, at(0), "a", nil, nil, nil, nil, nil), row(2, at(0), "b", nil, nil, nil, nil, nil))
	m.put(p.B, at(1), row(10, at(0), "X"))
	m.link(p, at(2), []int64{1, 2}, edge(1, 10, 279, ""), edge(2, 10, 279, ""), edge(2, 11, 279, ""))
	m.remove(p.A, at(5), 1)
	m.remove(p.B, at(5), 10)
	if got := m.text(edgesSQL); got != "2-11 279 " {
		t.Errorf("got %q", got)
	}
	if got := m.text("select row_count from hubpg.objects where table_name = 'contacts_companies'"); got != "1" {
		t.Errorf("row count is %s", got)
	}
	var ops []changes.Op
	for _, c := range m.log(6) {
		ops = append(ops, c.Op)
	}
	if want := []changes.Op{"delete", "dissociate", "delete", "dissociate"}; !slices.Equal(ops, want) {
		t.Errorf("log has %v, want %v", ops, want)
	}
	// A read begun before the deletions brings neither back.
	res := m.link(p, at(4), []int64{1, 2}, edge(1, 11, 279, ""), edge(2, 10, 279, ""), edge(2, 11, 279, ""))
	if got := m.text(edgesSQL); got != "2-11 279 " || !slices.Equal(res.Refused, []int64{1}) {
		t.Errorf("got %q, refused %v", got, res.Refused)
	}
}

func TestAssociationsOfOtherRecordsAreRefused(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	p := m.pair()
	bad := []*mirror.AssociationBatch{
		{Pair: p, From: []int64{1}, Edges: []mirror.Edge{edge(2, 10, 279, "")}, ReadAt: at(1)},
		{Pair: p, From: []int64{1}},
		{Pair: catalog.NewPair(p.A, p.A), From: []int64{1}, ReadAt: at(1)},
	}
	for i, b := range bad {
		err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
			_, err := m.applier.Associate(t.Context(), tx, b)
			return err
		})
		if err == nil {
			t.Errorf("%d: stored", i)
		}
	}
}

func TestATypeMayBeAssociatedWithItself(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	firms := m.ensure(companies())
	p, made, err := m.mapper.EnsurePair(t.Context(), m.pool, firms, firms)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	m.link(p, at(1), []int64{1, 2}, edge(1, 2, 13, "Parent"), edge(2, 1, 14, "Child"))
	m.put(firms, at(1), row(1, at(0), "A"))
	m.remove(firms, at(2), 1)
	if got := m.text("select count(*) from hubspot.companies_companies"); got != "0" {
		t.Errorf("%s edges left", got)
	}
}

func TestLookupsAreReplacedWhole(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); err != nil {
		t.Fatal(err)
	}
	replace := func(s *mirror.Snapshot) mirror.Result {
		t.Helper()
		s.Schema, s.Source = "hubspot", changes.Schema
		return m.in(func(tx pgx.Tx) (mirror.Result, error) { return m.applier.Replace(t.Context(), tx, s) })
	}
	created := base()
	replace(&mirror.Snapshot{Table: "owners", ReadAt: at(1), Rows: []mirror.LookupRow{
		mirror.Owner{ID: 1, Email: "a@x\x00", TeamIDs: []int64{5, 6}, CreatedAt: &created}, mirror.Owner{ID: 2, Email: "b@x"},
	}})
	res := replace(&mirror.Snapshot{Table: "owners", ReadAt: at(2), Rows: []mirror.LookupRow{
		mirror.Owner{ID: 1, Email: "c@x", TeamIDs: []int64{5, 6}, CreatedAt: &created}, mirror.Owner{ID: 3, Archived: true},
	}})
	if res.Inserted != 1 || res.Updated != 1 || res.Deleted != 1 {
		t.Errorf("got %+v", res)
	}
	want := []event{
		{3, 1, "update", []string{"email"}, `{"email":"a@x","id":1}`, `{"email":"c@x","id":1}`},
		{4, 2, "delete", []string{}, `{"archived":false,"email":"b@x","id":2}`, ""},
		{5, 3, "insert", []string{}, "", `{"archived":true,"id":3}`},
	}
	if diff := cmp.Diff(want, events(m.log(2))); diff != "" {
		t.Error(diff)
	}
	if res := replace(&mirror.Snapshot{Table: "owners", ReadAt: at(1)}); res.Stale != 0 || m.text("select count(*) from hubspot.owners") != "2" {
		t.Errorf("an older snapshot emptied the table: %+v", res)
	}
	same := &mirror.Snapshot{Table: "owners", ReadAt: at(3), Rows: []mirror.LookupRow{
		mirror.Owner{ID: 1, Email: "c@x", TeamIDs: []int64{5, 6}, CreatedAt: &created}, mirror.Owner{ID: 3, Archived: true},
	}}
	if res := replace(same); res.Unchanged != 2 || res.Events != 0 {
		t.Errorf("got %+v", res)
	}
	// Scopes are replaced one by one.
	stage := func(table, id, label string) mirror.LookupRow {
		return mirror.PipelineStage{ObjectTable: table, PipelineID: "default", ID: id, Label: label, Metadata: []byte(`{"isClosed":"true"}`)}
	}
	replace(&mirror.Snapshot{Table: "pipeline_stages", Scope: "deals", ReadAt: at(1), Rows: []mirror.LookupRow{stage("deals", "won", "Won"), stage("deals", "lost", "Lost")}})
	replace(&mirror.Snapshot{Table: "pipeline_stages", Scope: "tickets", ReadAt: at(1), Rows: []mirror.LookupRow{stage("tickets", "1", "New")}})
	replace(&mirror.Snapshot{Table: "pipeline_stages", Scope: "deals", ReadAt: at(2), Rows: []mirror.LookupRow{stage("deals", "won", "Won!")}})
	if got := m.text("select string_agg(object_table || ':' || label, ' ' order by object_table) from hubspot.pipeline_stages"); got != "deals:Won! tickets:New" {
		t.Errorf("got %s", got)
	}
	if got := m.text("select row_count from hubpg.objects where table_name = 'pipeline_stages'"); got != "2" {
		t.Errorf("row count is %s", got)
	}
}

func TestALookupIsRecognizedAsWhatWasStoredLast(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); err != nil {
		t.Fatal(err)
	}
	pipeline := func(readAt int, table string, labels ...string) *mirror.Snapshot {
		s := &mirror.Snapshot{Schema: "hubspot", Table: "pipelines", Scope: table, ReadAt: at(readAt), Source: changes.Schema}
		for _, label := range labels {
			s.Rows = append(s.Rows, mirror.Pipeline{ObjectTable: table, ID: label, Label: label})
		}
		return s
	}
	replace := func(s *mirror.Snapshot) mirror.Result {
		t.Helper()
		return m.in(func(tx pgx.Tx) (mirror.Result, error) { return m.applier.Replace(t.Context(), tx, s) })
	}
	unchanged := func(s *mirror.Snapshot, want bool) {
		t.Helper()
		if got, err := m.applier.Unchanged(t.Context(), m.pool, s); got != want || err != nil {
			t.Errorf("%s as read at %s is unchanged: %t, %v", s.Scope, s.ReadAt, got, err)
		}
	}
	unchanged(pipeline(1, "deals"), false) // never read
	replace(pipeline(1, "deals", "A", "B"))
	replace(pipeline(1, "tickets", "A"))
	unchanged(pipeline(2, "deals", "A"), false)
	unchanged(pipeline(2, "deals"), false)
	unchanged(pipeline(4, "deals", "A", "B"), true)
	if res := replace(pipeline(3, "deals", "C")); res.Stale != 1 {
		t.Errorf("what was read before the unchanged was: %+v", res)
	}
	unchanged(pipeline(5, "deals", "A", "B"), true)
	replace(pipeline(6, "deals", "C")) // by another worker
	unchanged(pipeline(7, "deals", "A", "B"), false)
	unchanged(pipeline(7, "deals", "C"), true)
	unchanged(pipeline(6, "deals", "C"), true) // and late
	if res := replace(pipeline(7, "deals", "A")); res.Stale != 1 {
		t.Errorf("a late answer that said the same made the table older: %+v", res)
	}

	for _, sql := range []string{"drop table hubspot.pipelines", "delete from hubpg.objects where table_name = 'pipelines'"} {
		if _, err := m.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); err != nil {
		t.Fatal(err)
	}
	unchanged(pipeline(8, "deals", "C"), false)
}

func TestLookupSnapshotsThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); err != nil {
		t.Fatal(err)
	}
	for i, s := range []*mirror.Snapshot{
		{Schema: "hubspot", Table: "owners"},
		{Schema: "hubspot", Table: "owners", Scope: "deals", ReadAt: at(1)},
		{Schema: "hubspot", Table: "pipelines", ReadAt: at(1)},
		{Schema: "hubspot", Table: "owners", ReadAt: at(1), Rows: []mirror.LookupRow{mirror.Team{ID: 1}}},
		{Schema: "hubspot", Table: "contacts", ReadAt: at(1)},
	} {
		err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
			_, err := m.applier.Replace(t.Context(), tx, s)
			return err
		})
		if err == nil {
			t.Errorf("%d: replaced", i)
		}
	}
}

func TestSweepsFindWhatIsGone(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	for i := range int64(6) {
		m.put(table, at(1), row(i+1, at(int(i)), "x", nil, nil, nil, nil, nil))
	}
	m.put(table, at(20), row(5, at(9), "read while the sweep ran", nil, nil, nil, nil, nil))
	gone, err := mirror.Missing(t.Context(), m.pool, table, 2, 5, []int64{3}, at(10))
	if err != nil || !slices.Equal(gone, []int64{2, 4}) {
		t.Errorf("got %v, %v", gone, err)
	}
	known, err := mirror.Known(t.Context(), m.pool, table, []int64{1, 2, 99})
	if err != nil || len(known) != 2 || !known[2].Equal(at(1)) {
		t.Errorf("got %v, %v", known, err)
	}
}

func TestDeleteTakesOnlyDeletions(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
		_, err := m.applier.Delete(t.Context(), tx, table, []int64{1}, at(1), changes.Update, changes.Sweep)
		return err
	})
	if err == nil || errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("got %v", err)
	}
}

// TestSilenceIsNotBelievedAtOnce: records that answers leave out keep their associations until an answer that was asked for
// later leaves them out again, and no other answer or write has come between.
func TestSilenceIsNotBelievedAtOnce(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	p := m.pair()
	m.link(p, at(1), []int64{1, 2}, edge(1, 10, 279, ""), edge(2, 10, 279, ""))
	hear := func(readAt time.Time, doubted []int64, left string) {
		t.Helper()
		res := m.in(func(tx pgx.Tx) (mirror.Result, error) {
			return m.applier.Associate(t.Context(), tx, &mirror.AssociationBatch{
				Pair: p, Silent: []int64{3, 1}, From: []int64{2}, Edges: []mirror.Edge{edge(2, 10, 279, "")}, ReadAt: readAt, Source: changes.Follow,
			})
		})
		if got := m.text(edgesSQL); got != left || !slices.Equal(res.Doubted, doubted) {
			t.Errorf("%v: doubted %v, %q is left; want %v, %q", readAt, res.Doubted, got, doubted, left)
		}
	}
	both, one := "1-10 279 , 2-10 279 ", []int64{1}
	first := at(2)
	hear(first, one, both) // 3 has nothing that could be lost
	hear(first.Add(mirror.SilencePause-time.Second), one, both)
	broken := first.Add(mirror.SilencePause)
	m.link(p, broken, []int64{1}, edge(1, 10, 279, ""))
	hear(broken.Add(time.Second), one, both)
	hear(broken.Add(mirror.SilencePause), one, both)
	hear(broken.Add(time.Second+mirror.SilencePause), nil, "2-10 279 ")
	if n := m.text("select count(*) from hubpg.silences"); n != "0" {
		t.Errorf("%s silences are left", n)
	}
}
