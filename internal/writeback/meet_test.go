package writeback_test

import (
	"fmt"
	"strings"
	"testing"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
)

func TestARecordInTheWayIsStored(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	typeID, err := a.hub.AddObjectType(sandbox.SchemaDef{
		Name: "robots", SingularLabel: "Robot", PluralLabel: "Robots", PrimaryDisplayProperty: "serial",
		Properties: []sandbox.PropertyDef{{Name: "serial", Label: "Serial", Type: "string", FieldType: "text", HasUniqueValue: true}},
	})
	a.must(err)
	a.mirror(mirror.NewMapper(mirror.MapperConfig{PortalID: portal}), &mirror.ObjectDef{
		ObjectType: typeID, Name: "robots", Singular: "robot", Path: typeID, ModifiedProperty: "hs_lastmodifieddate", Custom: true,
	})
	s := a.session()
	for _, test := range []struct {
		table, path, property, value string
		calls                        int
	}{
		{"contacts", "contacts", "email", "there@example.com", 1}, // HubSpot's refusal names the record
		{"robots", typeID, "serial", "S1", 2},                     // and only the property here: it is looked up
	} {
		id, err := a.hub.Create(test.path, map[string]string{test.property: test.value})
		a.must(err)
		before := a.newest()
		e := s.refused("23505", fmt.Sprintf("insert into hubspot.%s (%s) values ($1)", test.table, test.property), test.value)
		if !e.Behind {
			t.Errorf("%s: %+v", test.table, e)
		}
		if got := a.text("select calls from hubpg.writes where id = $1", e.ID); got != fmt.Sprint(test.calls) {
			t.Errorf("%s: %s calls, want %d", test.table, got, test.calls)
		}
		a.must(a.writer.Settle(t.Context(), e.ID, false))
		if got := a.text(fmt.Sprintf("select id from hubspot.%s where %s = $1", test.table, test.property), test.value); got != fmt.Sprint(id) {
			t.Errorf("%s: the table has %s, want %d", test.table, got, id)
		}
		if log := a.log(before); len(log) != 1 || log[0].Op != changes.Insert || log[0].Source != changes.Write {
			t.Errorf("%s: log %+v", test.table, log)
		}
		if got, want := a.text("select status || ' ' || (outcome -> 0 ->> 'exists') from hubpg.writes where id = $1", e.ID), fmt.Sprint("repaired ", id); got != want {
			t.Errorf("%s: the write is %s, want %s", test.table, got, want)
		}
	}
	// HubSpot does not tell letter cases apart, and an index of Postgres does: then the error names the record.
	robot, err := a.hub.Create(typeID, map[string]string{"serial": "Case-7"})
	a.must(err)
	e := s.refused("23505", "insert into hubspot.robots (serial) values ('case-7')")
	if want := fmt.Sprintf("record %d has this value already, perhaps in another letter case", robot); !e.Behind || !strings.HasPrefix(e.Hint, want) || e.Column != "serial" {
		t.Errorf("another letter case: %+v", e)
	}
	a.must(a.writer.Settle(t.Context(), e.ID, false))
	// A statement of which HubSpot took a row is over, and the record in its way comes all the same.
	_, err = a.hub.Create("contacts", map[string]string{"email": "second@example.com"})
	a.must(err)
	stop := a.runWriter()
	defer stop()
	e = s.refused("23505", "insert into hubspot.contacts (email) values ('second@example.com'), ('new@example.com')")
	if e.Behind {
		t.Errorf("HubSpot took a row: %+v", e)
	}
	a.eventually("both are in the table", func() bool { return a.text("select count(*) from hubspot.contacts") == "3" })
	a.eventually("the record in the way is not taken for the write's own", func() bool {
		return a.text("select status || ' ' || (outcome -> 0 ->> 'done') || ' ' || (outcome -> 1 ->> 'done') from hubpg.writes where id = $1", e.ID) ==
			"repaired false true"
	})
	a.agree("contacts", "email")
}
