package writeback_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
)

// TestAChangeOfLetterCaseThatIsLostIsSentAgain holds that an update which HubSpot never saw is not taken for done because the record has
// the same letters in another case.
func TestAChangeOfLetterCaseThatIsLostIsSentAgain(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.do("update hubspot.contacts set lastname = 'Warm'")
	for _, name := range []string{"ADA", "Ada ", "Ada"} {
		a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "batch/update", Kind: sandbox.FaultDrop, Count: 1})
		if res := s.do("update hubspot.contacts set firstname = $1 where id = $2 returning firstname", name, id); res.rows[0][0] != name {
			t.Errorf("%q: returned %s", name, res)
		}
		if got := a.value("contacts", id, "firstname"); got != name {
			t.Errorf("HubSpot has %q, want %q", got, name)
		}
	}
}

// TestANewRecordWhoseAnswerIsLostIsKnownInAnyForm holds that a record is recognized as the one just made although HubSpot writes its
// numbers, times and lists in another form than they were sent in.
func TestANewRecordWhoseAnswerIsLostIsKnownInAnyForm(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.must(a.hub.AddProperty("contacts", sandbox.PropertyDef{Name: "seen_at", Label: "Seen", Type: "datetime", FieldType: "date"}))
	a.must(a.hub.AddProperty("contacts", sandbox.PropertyDef{Name: "score", Label: "Score", Type: "number", FieldType: "number"}))
	a.mirror(mirror.NewMapper(mirror.MapperConfig{PortalID: portal}), &mirror.ObjectDef{
		ObjectType: "0-1", Name: "contacts", Singular: "contact", Path: "contacts", ModifiedProperty: "lastmodifieddate",
	})
	s := a.session()
	for i, values := range []struct{ column, value string }{
		{"seen_at", "'2026-01-01 12:00:00+00'"},
		{"interests", "'{training,leasing}'"},
		{"score", "1.50"},
	} {
		a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "batch/create", Kind: sandbox.FaultDropAfter, Count: 1})
		s.do(fmt.Sprintf("insert into hubspot.contacts (email, %s) values ('c%d@example.com', %s)", values.column, i, values.value))
	}
	a.agree("contacts", "email")
}

// TestAnAnswerThatLeavesARecordOutSaysNothingOfIt holds that a record which the look behind a lost answer does not mention is not told
// to have gone.
func TestAnAnswerThatLeavesARecordOutSaysNothingOfIt(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	stop := a.runWriter()
	defer stop()
	s := a.session()
	s.do("update hubspot.contacts set lastname = 'Warm'")
	for reads, sql := range []string{"update hubspot.contacts set firstname = 'New' where id = $1", "delete from hubspot.contacts where id = $1"} {
		a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "batch/(update|archive)", Kind: sandbox.FaultDropAfter, Count: 1})
		a.bend("/contacts/batch/read", 1+int64(reads), func(body map[string]any) {
			body["results"], body["errors"], body["numErrors"] = []any{}, []any{}, 0
		})
		s.refused(writeback.CodeUnknown, sql, id)
		a.eventually("the write is resolved", func() bool {
			return a.text("select count(*) from hubpg.writes where settled_at is null") == "0"
		})
		a.agree("contacts", "email", "firstname")
	}
}

// TestManyNewRecordsWhoseAnswerIsLostAreFoundAtOnce holds that a lost answer to a hundred creations costs a look and not hundreds, which
// would take longer than anybody may wait.
func TestManyNewRecordsWhoseAnswerIsLostAreFoundAtOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.FaultKind{sandbox.FaultDrop, sandbox.FaultDropAfter} {
		a := newAccount(t)
		s := a.session()
		s.do("insert into hubspot.contacts (email) values ('Warm@example.com')")
		a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "batch/create", Kind: kind, Count: 1})
		before := a.hub.Stats().Calls
		if res := s.do("insert into hubspot.contacts (email) select 'C' || i || '@example.com' from generate_series(1, 100) i"); res.tag != "INSERT 0 100" {
			t.Errorf("%s: %s", kind, res.tag)
		}
		if calls := a.hub.Stats().Calls - before; calls > 5 {
			t.Errorf("%s: %d calls", kind, calls)
		}
		if n := a.hub.Count("contacts"); n != 101 {
			t.Errorf("%s: HubSpot has %d contacts", kind, n)
		}
		a.agree("contacts", "email")
	}
}

// TestAnAddressThatIsAnothersSecondIsTold holds that a creation which HubSpot refuses for a second address of another contact is
// refused for that, also where the first answer was lost.
func TestAnAddressThatIsAnothersSecondIsTold(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("first@example.com")
	a.must(a.hub.Update("contacts", id, map[string]string{"hs_additional_emails": "second@example.com"}))
	s := a.session()
	s.do("update hubspot.contacts set lastname = 'Warm'")
	a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "batch/create", Kind: sandbox.FaultDropAfter, Count: 1})
	var creates atomic.Int64
	arrives := func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/batch/create") {
			creates.Add(1)
		}
	}
	a.arrives.Store(&arrives)
	s.refused("23505", "insert into hubspot.contacts (email) values ('second@example.com')")
	if n := creates.Load(); n > 2 {
		t.Errorf("%d creations", n)
	}
}

// TestAnOrphanedWriteOfManyRowsIsLookedUpInFewCalls holds that recovery asks for all new records of a page at once.
func TestAnOrphanedWriteOfManyRowsIsLookedUpInFewCalls(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	for i := range 150 {
		_, err := a.hub.Create("contacts", map[string]string{"email": fmt.Sprintf("c%d@example.com", i)})
		a.must(err)
	}
	_, err := a.pool.Exec(t.Context(), `insert into hubpg.writes (portal_id, status, role, pid, rows, intent, touched_at)
select $1, 'intent', 'app', 1, 300,
  jsonb_agg(jsonb_build_object('table', 'contacts', 'op', 'insert', 'id', -i - 1,
    'unique', jsonb_build_object('property', 'email', 'value', 'C' || i || '@example.com'))), now() - interval '2 hours'
from generate_series(0, 299) i`, portal)
	a.must(err)
	before := a.hub.Stats().Calls
	stop := a.runWriter()
	defer stop()
	a.eventually("the write is resolved", func() bool { return a.text("select count(*) from hubpg.writes where settled_at is null") == "0" })
	if calls := a.hub.Stats().Calls - before; calls > 2*(3+2) { // two looks, and what they found is read
		t.Errorf("%d calls", calls)
	}
	a.agree("contacts", "email")
	if got := a.text("select count(*) from hubpg.writes, jsonb_array_elements(outcome) o where (o ->> 'done')::boolean"); got != "150" {
		t.Errorf("%s rows are done", got)
	}
}
