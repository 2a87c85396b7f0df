package writeback_test

import (
	"fmt"
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
	for _, test := range []struct{ table, path, property, value string }{
		{"contacts", "contacts", "email", "there@example.com"}, // HubSpot's refusal names the record
		{"robots", typeID, "serial", "S1"},                     // and only the property here
	} {
		id, err := a.hub.Create(test.path, map[string]string{test.property: test.value})
		a.must(err)
		before := a.newest()
		e := s.refused("23505", fmt.Sprintf("insert into hubspot.%s (%s) values ($1)", test.table, test.property), test.value)
		if !e.Behind {
			t.Errorf("%s: %+v", test.table, e)
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
	// A statement of which HubSpot took a row is over, and the record in its way comes all the same.
	_, err = a.hub.Create("contacts", map[string]string{"email": "second@example.com"})
	a.must(err)
	stop := a.runWriter()
	defer stop()
	e := s.refused("23505", "insert into hubspot.contacts (email) values ('second@example.com'), ('new@example.com')")
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
