package writeback_test

import (
	"fmt"
	"testing"

	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
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
