package materialize_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// TestATableThatIsNotWantedAnyMoreIsLeftAndComesBack: it is not emptied, not followed, and says so; when it is wanted
// again, what happened meanwhile is found.
func TestATableThatIsNotWantedAnyMoreIsLeftAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 40})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "deals", "lists"}
	stop := w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "deals", "lists")
	w.awaitEqual(10 * time.Second)
	stop()

	fewer := w.config2(cfg)
	fewer.Objects = []string{"contacts"}
	stop = w.start(fewer)
	eventually(t, 20*time.Second, func() string {
		for _, table := range []string{"deals", "lists"} {
			if s := w.status(table); s.Phase != "gone" || s.Hint == "" {
				return fmt.Sprintf("%s are %q (%s)", table, s.Phase, s.Hint)
			}
			if left := w.lanes(table); left != "" {
				return fmt.Sprintf("lanes of %s go on: %s", table, left)
			}
		}
		return ""
	})
	deal := w.live("deals")[0].ID
	w.must(w.hub.Update("deals", deal, map[string]string{"dealname": "Unseen"}))
	w.must(w.hub.Archive("deals", w.live("deals")[1].ID))
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "Seen"}))
	w.awaitEqual(20*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.deals where dealname = 'Unseen'`); n != 0 {
		t.Error("a table that is left out is followed")
	}
	stop()

	w.start(w.config2(cfg))
	w.awaitLive(30*time.Second, "contacts", "deals", "lists")
	w.awaitEqual(30*time.Second, "contacts", "deals")
	if d := w.replayDifference(); d != "" {
		t.Error(d)
	}
}

// TestANameThatTheAccountDoesNotHaveIsShown: whoever mistypes a name in the setting objects sees it in the status, with the
// name that was meant; it goes from there with the name.
func TestANameThatTheAccountDoesNotHaveIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "dealz", "Companies", "owners", "contacts_companies", "nonsense", "lists"}
	stop := w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "lists")
	for name, hint := range map[string]string{
		"dealz":              "deals was probably meant",
		"Companies":          "companies was probably meant",
		"nonsense":           "hubpg plan",
		"contacts_companies": "comes with the tables of its two ends",
	} {
		eventually(t, 20*time.Second, func() string {
			if s := w.status(name); s.Phase != "degraded" || s.LastError == "" || !strings.Contains(s.Hint, hint) {
				return fmt.Sprintf("%s is %q: %s (%s)", name, s.Phase, s.LastError, s.Hint)
			}
			return ""
		})
	}
	if s := w.status("owners"); s.Phase != "live" || s.LastError != "" {
		t.Errorf("owners, which every account has, are %+v", s)
	}
	w.singleStatus()
	stop()

	cfg = w.config2(cfg)
	cfg.Objects = []string{"contacts", "deals", "companies"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "deals", "companies", "contacts_companies")
	if n := w.count(`select count(*) from hubpg.absent`); n != 0 {
		t.Errorf("%d names are still shown as absent", n)
	}
	w.singleStatus()
}

// singleStatus fails if hubpg.status has two rows for a table.
func (w *world) singleStatus() {
	w.t.Helper()
	if n := w.count(`select count(*) from (select table_name from hubpg.status group by 1 having count(*) > 1) twice`); n > 0 {
		w.t.Errorf("hubpg.status has several rows for %d tables", n)
	}
}

// boatType is a custom object with one property of its own.
func boatType(property string) sandbox.SchemaDef {
	return sandbox.SchemaDef{
		Name: "boats", SingularLabel: "Boat", PluralLabel: "Boats", PrimaryDisplayProperty: "name",
		Properties: []sandbox.PropertyDef{
			{Name: "name", Label: "Name", Type: "string", FieldType: "text"}, {Name: property, Label: property, Type: "string", FieldType: "text"},
		},
		AssociatedObjects: []string{"contacts"},
	}
}

// launch creates boats, each of one contact.
func (w *world) launch(typeID, property string, n int) {
	w.t.Helper()
	if w.boats != typeID { // before the scope for it may be lost
		w.boats, w.boatLink = typeID, w.boatLinkOf(typeID)
	}
	contacts := w.live("contacts")
	for i := range n {
		id, err := w.hub.Create(typeID, map[string]string{"name": fmt.Sprint("boat ", i), property: fmt.Sprint(property, " ", i)})
		w.must(err)
		w.must(w.hub.Associate(typeID, id, "contacts", contacts[i].ID, w.boatLink))
	}
}

// boatLinkOf is the association type that the account has defined from boats to contacts.
func (w *world) boatLinkOf(typeID string) int {
	w.t.Helper()
	labels, err := w.client().ListAssociationLabels(w.t.Context(), typeID, "contacts")
	w.must(err)
	return labels[0].TypeID
}

// scrap removes a custom object: its records first, as HubSpot wants it.
func (w *world) scrap(typeID string) {
	w.t.Helper()
	for _, r := range w.live(typeID) {
		w.must(w.hub.Archive(typeID, r.ID))
	}
	w.must(w.hub.RemoveObjectType(typeID))
}

// TestACustomObjectThatIsRemovedAndMadeAgain: the table of a removed object stays to be looked at; another object of the same
// name takes it over, and nothing of the old one is left in it.
func TestACustomObjectThatIsRemovedAndMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	first, err := w.hub.AddObjectType(boatType("sails"))
	w.must(err)
	w.launch(first, "sails", 5)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "boats"}
	cfg.Pace.Archived, cfg.Pace.IDs = time.Hour, time.Hour // the removal comes first
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats")
	w.awaitEqual(20 * time.Second)
	eventually(t, 20*time.Second, w.edgeDifference)

	w.scrap(first)
	for _, table := range []string{"boats", "contacts_boats"} {
		eventually(t, 30*time.Second, func() string {
			s := w.status(table)
			if left := w.lanes(table); s.Phase != "gone" || s.Hint == "" || left != "" {
				return fmt.Sprintf("%s is %q: %s (%s), with lanes: %s", table, s.Phase, s.LastError, s.Hint, left)
			}
			return ""
		})
	}
	second, err := w.hub.AddObjectType(boatType("engines"))
	w.must(err)
	w.launch(second, "engines", 3)
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats")
	w.awaitEqual(30 * time.Second)
	eventually(t, 30*time.Second, w.edgeDifference)
	if n := w.count(`select count(*) from hubspot.boats where engines is not null and sails is null`); n != 3 {
		t.Errorf("%d of the 3 boats with engines", n)
	}
	if n := w.count(`select count(*) from hubspot.contacts_boats`); n != 3 {
		t.Errorf("%d of the 3 associations", n)
	}
	w.must(w.hub.Update(second, w.live(second)[0].ID, map[string]string{"engines": "none"}))
	w.awaitEqual(30*time.Second, "boats")
	if d := w.replayDifference(); d != "" {
		t.Error(d)
	}
	w.singleStatus()
	if d := w.shownErrors(); d != "" {
		t.Error(d)
	}
}

// shownErrors returns what hubpg.status shows to be wrong.
func (w *world) shownErrors() (text string) {
	w.t.Helper()
	list, err := materialize.Status(context.Background(), w.pool)
	w.must(err)
	for _, s := range list {
		if s.LastError != "" {
			text += fmt.Sprintf("%s: %s by %s\n", s.Table, s.LastError, s.ErrorLane)
		}
	}
	return text
}

// TestATableThatIsGoneCanBeDropped: the hint says so. Nothing asks for it afterwards, and an object of the same name
// begins with a table of its own.
func TestATableThatIsGoneCanBeDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	first, err := w.hub.AddObjectType(boatType("sails"))
	w.must(err)
	w.launch(first, "sails", 5)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "boats", "lists"}
	stop := w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats", "lists")
	w.scrap(first)
	stop()
	cfg = w.config2(cfg)
	cfg.Objects = []string{"contacts", "boats"}
	w.start(cfg)
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.objects where phase = 'gone' and table_name in ('boats', 'contacts_boats', 'lists')`); n < 3 {
			return fmt.Sprint(n, " of the 3 tables are gone")
		}
		return ""
	})
	w.exec(`drop table hubspot.boats`)
	w.exec(`drop table hubspot.lists`)
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.objects where table_name in ('boats', 'contacts_boats', 'lists')`); n > 0 {
			return fmt.Sprint(n, " of the tables that were dropped are still kept")
		}
		return ""
	})
	w.must(w.hub.Archive("contacts", w.live("contacts")[0].ID))
	w.must(w.hub.Erase("contacts", w.live("contacts")[1].ID))
	w.awaitEqual(60*time.Second, "contacts")
	eventually(t, 30*time.Second, func() string { // what failed while the table was missing has come right; the setting names it
		return strings.TrimPrefix(w.shownErrors(), "boats: the account has no objects of this name, or does not show them by schema\n")
	})
	second, err := w.hub.AddObjectType(boatType("engines"))
	w.must(err)
	w.launch(second, "engines", 3)
	w.awaitLive(60*time.Second, "boats", "contacts_boats")
	w.awaitEqual(30 * time.Second)
	eventually(t, 30*time.Second, w.edgeDifference)
}

// TestATableThatSomebodyDropsIsMadeAgain: an object table, an association table and a lookup table are filled anew; what
// somebody puts in the place of one is left alone, with the remedy.
func TestATableThatSomebodyDropsIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies", "deals"}
	w.start(cfg)
	w.awaitLive(2*time.Minute, "contacts", "companies", "deals", "contacts_companies", "deals_contacts", "owners")
	w.awaitEqual(time.Minute, "contacts", "companies", "deals")
	owners := w.count(`select count(*) from hubspot.owners`)
	for _, sql := range []string{
		`drop table hubspot.contacts, hubspot.deals_contacts, hubspot.owners`,
		`drop table hubspot.companies`, `create table hubspot.companies as select 1 as mine`,
	} {
		w.exec(sql)
	}
	eventually(t, time.Minute, func() string {
		if s := w.status("companies"); s.LastError == "" || !strings.Contains(s.Hint, "rename or drop it") {
			return fmt.Sprintf("companies says %q (%s)", s.LastError, s.Hint)
		}
		return ""
	})
	w.awaitLive(time.Minute, "contacts", "deals_contacts", "owners")
	w.awaitEqual(time.Minute, "contacts", "deals")
	if n := w.count(`select count(*) from hubspot.companies`); n != 1 {
		t.Errorf("somebody's table has %d rows", n)
	}
	w.exec(`drop table hubspot.companies`)
	eventually(t, time.Minute, func() string {
		if n := w.count(`select count(*) from hubpg.objects where phase <> 'live'`); n > 0 {
			return fmt.Sprint(n, " tables are not live")
		}
		return ""
	})
	w.awaitEqual(time.Minute, "contacts", "companies", "deals")
	eventually(t, time.Minute, w.edgeDifference)
	if n := w.count(`select count(*) from hubspot.owners`); n != owners {
		t.Errorf("%d owners, there were %d", n, owners)
	}
	eventually(t, time.Minute, w.shownErrors)
	if report := w.verify(); !report.Equal() {
		t.Errorf("verify finds %+v", report.Tables)
	}
	before := w.count(`select last from hubpg.change_counter`)
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "again"}))
	eventually(t, time.Minute, func() string {
		if w.count(`select count(*) from hubpg.changes where seq > $1 and table_name = 'contacts' and op = 'update'`, before) == 0 {
			return "no event"
		}
		return ""
	})
}

// TestARenamedCustomObject: HubSpot changes labels only; the table keeps its name and says the new label.
func TestARenamedCustomObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	boats, err := w.hub.AddObjectType(boatType("sails"))
	w.must(err)
	w.launch(boats, "sails", 3)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "boats"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats")
	w.must(w.hub.RelabelObjectType(boats, "Yacht", "Yachts"))
	eventually(t, 20*time.Second, func() string {
		if n := w.count(`select count(*) where obj_description('hubspot.boats'::regclass) = 'HubSpot Yachts'`); n == 0 {
			return "the table does not say its new name"
		}
		return ""
	})
	w.launch(boats, "sails", 2)
	w.awaitEqual(20*time.Second, "boats")
	w.singleStatus()
	if d := w.shownErrors(); d != "" {
		t.Error(d)
	}
}

// TestACustomObjectWhoseScopeIsLost: its table stays as it is, says what is missing, and is true again when it may be read.
func TestACustomObjectWhoseScopeIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	boats, err := w.hub.AddObjectType(boatType("sails"))
	w.must(err)
	w.launch(boats, "sails", 3)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "boats"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats")
	w.hub.WithholdScopes("crm.schemas.custom.read", "custom-object-read", "crm.objects.custom.read")
	eventually(t, 30*time.Second, func() string {
		if s := w.status("boats"); s.Phase != "degraded" || s.Hint == "" {
			return fmt.Sprintf("boats are %q: %s (%s)", s.Phase, s.LastError, s.Hint)
		}
		return ""
	})
	w.singleStatus()
	if n := w.count(`select count(*) from hubspot.boats`); n != 3 {
		t.Errorf("%d of 3 rows are left", n)
	}
	w.must(w.hub.Archive(boats, w.live(boats)[0].ID))
	w.launch(boats, "sails", 2)
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "goes on"}))
	w.awaitEqual(20*time.Second, "contacts")
	w.hub.WithholdScopes()
	w.awaitLive(60*time.Second, "contacts", "boats", "contacts_boats")
	w.awaitEqual(60*time.Second, "contacts", "boats")
	eventually(t, 60*time.Second, w.edgeDifference)
	eventually(t, 30*time.Second, func() string {
		return w.shownErrors()
	})
	if d := w.replayDifference(); d != "" {
		t.Error(d)
	}
}

// TestATableThatIsGoneKeepsItsHint: a lane of a table had failed before its type was removed. What it takes back when it ends
// is not the hint that the table is gone.
func TestATableThatIsGoneKeepsItsHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 10})
	boats, err := w.hub.AddObjectType(boatType("sails"))
	w.must(err)
	w.launch(boats, "sails", 2)
	cfg := w.config()
	cfg.Objects, cfg.Pace = []string{"contacts", "boats"}, slowSweeps()
	cfg.Pace.Schema = 500 * time.Millisecond
	w.start(cfg)
	w.awaitLive(60*time.Second, "boats")
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultInternal, Path: "/objects/([^/]+/)?" + boats + "/search$"})
	eventually(t, 60*time.Second, func() string {
		if s := w.status("boats"); s.ErrorLane != "follow" {
			return fmt.Sprintf("boats show a failure of %q: %s", s.ErrorLane, s.LastError)
		}
		return ""
	})
	w.scrap(boats)
	w.hub.ClearFaults()
	eventually(t, 60*time.Second, func() string {
		left := w.lanes("boats")
		if s := w.status("boats"); s.Phase != "gone" || left != "" {
			return fmt.Sprintf("boats is %q: %s, with lanes: %s", s.Phase, s.LastError, left)
		}
		return ""
	})
	if s := w.status("boats"); !strings.Contains(s.Hint, "drop the table") || s.LastError != "" {
		t.Errorf("boats are gone with %q (%s)", s.LastError, s.Hint)
	}
}
