package materialize_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

func (w *world) verify(tables ...string) *materialize.Report {
	w.t.Helper()
	cfg := w.config()
	report, err := materialize.Verify(context.Background(), materialize.VerifyConfig{
		Pool: w.pool, Client: cfg.Client, PortalID: w.count("select portal_id from hubpg.accounts"), Tables: tables, Settle: 10 * time.Millisecond,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if err := pgx.BeginFunc(context.Background(), w.pool, func(tx pgx.Tx) error {
		// The tables are guarded against everybody but appliers.
		if _, err := tx.Exec(context.Background(), "set local hubpg.applier = 'on'"); err != nil {
			return err
		}
		_, err := tx.Exec(context.Background(), sql, args...)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

// mirroredWorld is an account that was mirrored completely, and is left alone after that.
func mirroredWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, sandbox.Config{Seed: 11, Contacts: 60})
	stop := w.start(w.config())
	w.awaitLive(5 * time.Minute)
	w.awaitEqual(2 * time.Minute)
	eventually(t, 30*time.Second, func() string {
		if n := w.count(pendingRecords); n > 0 {
			return "associations are pending"
		}
		return ""
	})
	stop()
	return w
}

// TestVerify shares one mirrored account among its parts, because mirroring is what takes the time. They run in order.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := mirroredWorld(t)
	for _, part := range []struct {
		claim string
		check func(t *testing.T, w *world)
	}{
		{"finds nothing in a true mirror", verifyTrueMirror},
		{"reports what it could not compare", verifyIncomparable},
		{"finds every kind of difference", verifyDifferences},
		{"repairs every kind of difference", verifyRepairs},
		{"finds by a sample what ids tell", verifySamples},
		{"reads a table again while it is in use", verifyResync},
	} {
		t.Run(part.claim, func(t *testing.T) { part.check(t, w) })
	}
}

func verifyTrueMirror(t *testing.T, w *world) {
	t.Helper()
	report := w.verify()
	for _, r := range report.Tables {
		if r.Err != nil || r.HubSpotRows != r.StoredRows || len(r.Differences) > 0 {
			t.Errorf("%+v", r)
		}
	}
	if !report.Equal() || len(report.Tables) < 10 {
		t.Errorf("equal is %v over %d tables", report.Equal(), len(report.Tables))
	}
}

func verifyDifferences(t *testing.T, w *world) {
	t.Helper()
	live := w.live("contacts")
	gone, changed, pending := live[0].ID, live[1].ID, live[2].ID
	w.exec("delete from hubspot.contacts where id = $1", gone)
	w.exec("update hubspot.contacts set firstname = 'someone', lastname = null where id = $1", changed)
	w.exec("insert into hubspot.contacts (id, email, _read_at) values (1, 'ghost@example.com', now())")
	w.exec("update hubspot.pipeline_stages set label = 'elsewhere' where id = (select min(id) from hubspot.pipeline_stages where object_table = 'deals')")
	w.exec("delete from hubspot.owners where id = (select min(id) from hubspot.owners)")
	w.exec("insert into hubspot.contacts_companies select contact_id, -1, label, type_id, category, _read_at from hubspot.contacts_companies limit 1")
	w.must(w.hub.Update("contacts", pending, map[string]string{"firstname": "just now"})) // after verified_at: not claimed yet

	report := w.verify("contacts", "contacts_companies", "owners", "pipeline_stages", "companies")
	type counts struct{ Missing, Extra, Different, Pending int64 }
	got := map[string]counts{}
	var contacts []materialize.Difference
	for _, r := range report.Tables {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Table, r.Err)
		}
		got[r.Table] = counts{r.Missing, r.Extra, r.Different, r.Pending}
		if r.Table == "contacts" {
			contacts = r.Differences
		}
	}
	want := map[string]counts{
		"contacts": {1, 1, 1, 1}, "companies": {}, "contacts_companies": {Extra: 1}, "owners": {Missing: 1}, "pipeline_stages": {Different: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" || report.Equal() {
		t.Errorf("equal is %v\n%s", report.Equal(), diff)
	}
	first, last := live[1].Properties["firstname"], live[1].Properties["lastname"]
	expected := []materialize.Difference{
		{Kind: materialize.RowExtra, ID: 1},
		{Kind: materialize.RowMissing, ID: gone},
		{Kind: materialize.ValueDiffer, ID: changed, Column: "firstname", HubSpot: `"` + first + `"`, Stored: `"someone"`},
		{Kind: materialize.ValueDiffer, ID: changed, Column: "lastname", HubSpot: `"` + last + `"`, Stored: "null"},
	}
	byRow := cmpopts.SortSlices(func(x, y materialize.Difference) bool {
		return x.ID < y.ID || x.ID == y.ID && x.Column < y.Column
	})
	if diff := cmp.Diff(expected, contacts, byRow); diff != "" {
		t.Error(diff)
	}
}

func (w *world) verifyConfig() materialize.VerifyConfig {
	return materialize.VerifyConfig{
		Pool: w.pool, Client: w.config().Client, PortalID: w.count("select portal_id from hubpg.accounts"), Settle: 10 * time.Millisecond,
	}
}

// verifyRepairs finds the account as verifyDifferences has left it.
func verifyRepairs(t *testing.T, w *world) {
	t.Helper()
	// Whatever made a row claim to be of the future, HubSpot is right.
	w.exec("update hubspot.companies set updated_at = now() + interval '1 year', name = 'nobody' where id = (select min(id) from hubspot.companies)")
	w.exec("update hubpg.objects set row_count = row_count + 7 where table_name = 'companies'")
	cfg := w.verifyConfig()
	cfg.Repair = true
	report, err := materialize.Verify(t.Context(), cfg)
	w.must(err)
	repaired := map[string]int64{}
	for _, r := range report.Tables {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Table, r.Err)
		}
		if r.Repaired > 0 {
			repaired[r.Table] = r.Repaired
		}
	}
	want := map[string]int64{"contacts": 3, "companies": 1, "contacts_companies": 1, "owners": 1, "pipeline_stages": 1}
	if diff := cmp.Diff(want, repaired); diff != "" {
		t.Error(diff)
	}
	if report := w.verify(); !report.Equal() {
		t.Errorf("after the repair: %+v", report)
	}
	if d := w.difference("companies"); d != "" {
		t.Error(d)
	}
	if n := w.count("select count(*) from hubpg.changes where source = 'repair'"); n < 6 {
		t.Errorf("%d events tell of the repair", n)
	}
}

func verifySamples(t *testing.T, w *world) {
	t.Helper()
	gone := w.live("contacts")[5].ID
	w.exec("delete from hubspot.contacts where id = $1", gone)
	cfg := w.verifyConfig()
	cfg.Sample, cfg.Tables = 3, []string{"contacts", "contacts_companies"}
	report, err := materialize.Verify(t.Context(), cfg)
	w.must(err)
	if r := report.Tables[0]; r.Missing != 1 || r.Differences[0].ID != gone || r.HubSpotRows != 60 {
		t.Errorf("a sample finds %+v", r)
	}
	w.exec("update hubspot.contacts set firstname = 'someone'")
	report, err = materialize.Verify(t.Context(), cfg)
	w.must(err)
	// The sample may hold the missing record, which then is no different one.
	if n := report.Tables[0].Different; n != 3 && n != 2 {
		t.Errorf("a sample of 3 finds %+v", report)
	}
}

// verifyResync finds a contact missing and all first names wrong.
func verifyResync(t *testing.T, w *world) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	fewest := make(chan int64, 1)
	go func() { // a reader
		least := int64(1 << 60)
		for ctx.Err() == nil {
			var n int64
			if err := w.pool.QueryRow(ctx, "select count(*) from hubspot.contacts").Scan(&n); err == nil {
				least = min(least, n)
			}
		}
		fewest <- least
	}()
	cfg := w.verifyConfig()
	report, err := materialize.Resync(t.Context(), cfg, "contacts")
	stop()
	w.must(err)
	if report.Read != 60 || report.Changed < 50 {
		t.Errorf("resync reports %+v", report)
	}
	if n := <-fewest; n < 59 {
		t.Errorf("a reader saw %d rows", n)
	}
	if d := w.difference("contacts"); d != "" {
		t.Error(d)
	}
	if report := w.verify(); !report.Equal() {
		t.Errorf("after the resync: %+v", report)
	}
	w.exec("delete from hubspot.contacts_companies")
	w.exec("delete from hubspot.owners")
	for _, table := range []string{"contacts_companies", "owners"} {
		if _, err := materialize.Resync(t.Context(), cfg, table); err != nil {
			t.Error(err)
		}
	}
	if report := w.verify("contacts_companies", "owners"); !report.Equal() {
		t.Errorf("after the resync: %+v", report)
	}
	if _, err := materialize.Resync(t.Context(), cfg, "merges"); err == nil {
		t.Error("merges were read again by themselves")
	}
	if _, err := materialize.Resync(t.Context(), cfg, "nothing"); err == nil {
		t.Error("a table that is not there was read again")
	}
}

func verifyIncomparable(t *testing.T, w *world) {
	t.Helper()
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultStatus, Method: "GET", Path: "/objects/.*/?deals", Status: 403,
		Body: `{"status":"error","message":"no","category":"MISSING_SCOPES"}`,
	})
	report := w.verify("deals", "companies")
	for _, r := range report.Tables {
		if (r.Err != nil) != (r.Table == "deals") {
			t.Errorf("%s: %v", r.Table, r.Err)
		}
	}
	if report.Equal() {
		t.Error("a table that was not compared counts as equal")
	}
	w.hub.ClearFaults()
	_, err := materialize.Verify(t.Context(), materialize.VerifyConfig{
		Pool: w.pool, Client: w.config().Client,
		PortalID: w.count("select portal_id from hubpg.accounts"), Tables: []string{"nothing"},
	})
	if err == nil || !strings.Contains(err.Error(), "table nothing is not mirrored") {
		t.Errorf("got %v", err)
	}
}
