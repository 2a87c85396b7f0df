package materialize_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// Scenarios in which mirrors are known to lose data without a word. Those that are not here: more than 10,000 changes
// and 12,000 ties (follow_test.go), a throttle storm with rows in the table (follow_test.go), an association that changes
// alone, a chain of merges, erasure (detectors_test.go).

// The index shows changes up to an hour late: a modified time of long ago appears now. The follow lane has left those
// behind; the trailing lane, as it is configured by default, has not.
func TestChangesShownUpToAnHourLateAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 80, Disorder: true, IndexLag: 200 * time.Millisecond})
	w.must(w.hub.StampAll("contacts", 80, time.Now().Add(-24*time.Hour)))
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	cfg.Pace.Trailing = time.Second
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts")
	live := w.live("contacts")
	for _, late := range []struct {
		records int
		by      time.Duration
	}{{60, 58 * time.Minute}, {40, 30 * time.Minute}, {20, 5 * time.Minute}} {
		for _, r := range live[:late.records] {
			w.must(w.hub.SetCalculated("contacts", r.ID, "firstname", fmt.Sprint("late by ", late.by)))
		}
		w.must(w.hub.StampAll("contacts", late.records, time.Now().Add(-late.by)))
	}
	w.awaitEqual(60*time.Second, "contacts")
	if n := w.count(`select count(distinct record_id) from hubpg.changes where source = 'trailing' and op = 'update'`); n != 60 {
		t.Fatalf("the trailing lane found %d of 60 records", n)
	}
}

// So many properties fit a table but no URL.
func TestNineHundredPropertiesArriveWhole(t *testing.T) {
	t.Parallel()
	const properties, records = 900, 20
	w := newWorld(t, sandbox.Config{Contacts: 10})
	def := sandbox.SchemaDef{Name: "broad", SingularLabel: "Broad", PluralLabel: "Broads", PrimaryDisplayProperty: "property_0"}
	values := func(n int) map[string]string {
		props := map[string]string{}
		for i := range properties {
			props[fmt.Sprint("property_", i)] = fmt.Sprint(n, " ", i)
		}
		return props
	}
	for i := range properties {
		name := fmt.Sprint("property_", i)
		def.Properties = append(def.Properties, sandbox.PropertyDef{Name: name, Label: name, Type: "string", FieldType: "text"})
	}
	typeID, err := w.hub.AddObjectType(def)
	w.must(err)
	var last int64
	for i := range records {
		last, err = w.hub.Create(typeID, values(i))
		w.must(err)
	}
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"broad"}
	w.start(cfg)
	w.awaitLive(90*time.Second, "broad")
	whole := func(record int64, n int) string {
		if got := w.count(`
select count(*)
from hubspot.broad t
cross join lateral jsonb_each_text(to_jsonb(t)) v
where t.id = $1 and v.key like 'property\_%' and v.value = $2 || ' ' || substr(v.key, 10)`, record, fmt.Sprint(n)); got != properties {
			return fmt.Sprintf("record %d has %d of %d values", record, got, properties)
		}
		return ""
	}
	for i, r := range w.live(typeID) {
		if d := whole(r.ID, i); d != "" {
			t.Error(d)
		}
	}
	w.must(w.hub.Update(typeID, last, values(records)))
	eventually(t, 30*time.Second, func() string { return whole(last, records) })
	if n := w.count(`select count(*) from hubpg.changes where op = 'update' and cardinality(changed) = $1`, properties); n != 1 {
		t.Errorf("%d events with all columns", n)
	}
	if n := w.count(`select count(*) from hubpg.columns where table_name = 'broad' and placement <> 'column'`); n != 0 {
		t.Errorf("%d properties have no column", n)
	}
	if n := w.hub.Stats().ByStatus[414]; n != 0 {
		t.Errorf("%d URLs were too long", n)
	}
}

// The token ends again and again between the pages of every walk.
func TestTokenThatEndsInTheMiddleOfAPageLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 500})
	refresh, err := w.hub.Install(sandbox.DefaultClientID)
	w.must(err)
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultExpiredToken, Path: "^/crm/", OAuth: true, Probability: 0.1})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies"}
	cfg.Client, err = hubapi.New(w.url, &refreshing{url: w.url, refresh: refresh})
	w.must(err)
	w.start(cfg)
	for i := 0; i < 60 || i < 3000 && w.hub.Stats().ByStatus[401] < 5; i++ {
		w.scramble("contacts", i*10)
		time.Sleep(20 * time.Millisecond)
	}
	w.awaitLive(120*time.Second, "contacts", "companies")
	w.awaitEqual(60*time.Second, "contacts", "companies")
	if n := w.hub.Stats().ByStatus[401]; n < 5 {
		t.Fatalf("only %d calls were refused", n)
	}
	w.hub.ClearFaults()
	if n := w.count(`select count(*) from hubpg.changes where op in ('delete', 'merge')`); n != 0 {
		t.Errorf("%d records were deleted", n)
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

// A token may read deals but not their properties, first from the beginning, then once the table is filled.
func TestRefusedPropertyCatalogStopsOneTypeAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	refuse := func() {
		w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultMissingScopes, Path: "/properties/([^/]+/)?(deals|0-3)$"})
	}
	refuse()
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "deals"}
	cfg.Pace.Schema = 500 * time.Millisecond
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts")
	eventually(t, 20*time.Second, func() string {
		if s := w.status("deals"); s.Phase != "degraded" || s.LastError == "" || s.Hint == "" {
			return fmt.Sprintf("deals are %q: %s (%s)", s.Phase, s.LastError, s.Hint)
		}
		return ""
	})
	w.hub.ClearFaults()
	w.awaitLive(60*time.Second, "deals")
	w.awaitEqual(30*time.Second, "contacts", "deals")

	refuse()
	eventually(t, 20*time.Second, func() string {
		list, err := materialize.Status(context.Background(), w.pool)
		if err != nil {
			return err.Error()
		}
		for _, s := range list {
			if s.Table == "deals" && s.LastError != "" && s.Hint != "" {
				return ""
			}
		}
		return "nothing says that the properties of deals are refused"
	})
	w.singleStatus()
	columns := w.count(`select count(*) from hubpg.columns where table_name = 'deals' and archived_at is null`)
	w.must(w.hub.Update("deals", w.live("deals")[0].ID, map[string]string{"dealname": "goes on"}))
	w.awaitEqual(30*time.Second, "contacts", "deals")
	if n := w.count(`select count(*) from hubpg.columns where table_name = 'deals' and archived_at is null`); n != columns || n < 10 {
		t.Errorf("%d columns of %d are left", n, columns)
	}
}

const dealsContacts = "/associations/([^/]+/)?(deals|0-3)/(contacts|0-1)/batch/read$"

// linkedWorld is an account with deals, contacts and companies whose associations nothing but a changed record, or the
// return of a scope, lets anybody read again.
func linkedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies", "deals"}
	w.start(cfg)
	w.awaitLive(90*time.Second, "contacts", "companies", "deals", "contacts_companies", "deals_contacts", "deals_companies")
	eventually(t, 20*time.Second, w.edgeDifference)
	return w
}

// relink gives a contact a deal and a company, and touches the deal and the contact so that both are looked at.
func (w *world) relink() {
	w.t.Helper()
	contact, deal := w.live("contacts")[7].ID, w.live("deals")[2].ID
	w.must(w.hub.Associate("deals", deal, "contacts", contact, 3))
	w.must(w.hub.Associate("contacts", contact, "companies", w.live("companies")[3].ID, 279))
	w.must(w.hub.Update("deals", deal, map[string]string{"dealname": "linked"}))
	w.must(w.hub.Update("contacts", contact, map[string]string{"firstname": "linked"}))
}

// pairDifference compares one association table.
func (w *world) pairDifference(from, to, table string) string {
	edges := int64(len(w.hub.Edges(from, to)))
	if n := w.count(`select count(*) from hubspot.` + table); n != edges {
		return fmt.Sprintf("%s has %d edges of %d", table, n, edges)
	}
	return ""
}

func TestRefusedAssociationsDegradeTheirTableAndComeBack(t *testing.T) {
	t.Parallel()
	w := linkedWorld(t)
	before := w.count(`select count(*) from hubspot.deals_contacts`)
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultMissingScopes, Path: dealsContacts})
	w.relink()
	eventually(t, 30*time.Second, func() string { return w.pairDifference("contacts", "companies", "contacts_companies") })
	eventually(t, 30*time.Second, func() string {
		if s := w.status("deals_contacts"); s.Phase != "degraded" || s.LastError == "" || s.Hint == "" {
			return fmt.Sprintf("deals_contacts are %q: %s (%s)", s.Phase, s.LastError, s.Hint)
		}
		return ""
	})
	if n := w.count(`select count(*) from hubspot.deals_contacts`); n != before {
		t.Errorf("%d edges of %d are left", n, before)
	}
	w.hub.ClearFaults()
	eventually(t, 60*time.Second, w.edgeDifference)
	eventually(t, 60*time.Second, func() string {
		if s := w.status("deals_contacts"); s.Phase != "live" || s.LastError != "" {
			return fmt.Sprintf("deals_contacts are %q: %s", s.Phase, s.LastError)
		}
		return ""
	})
}

func TestFailingAssociationsKeepNoOtherWaiting(t *testing.T) {
	t.Parallel()
	w := linkedWorld(t)
	before := w.count(`select count(*) from hubspot.deals_contacts`)
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultInternal, Path: dealsContacts})
	w.relink()
	eventually(t, 60*time.Second, func() string { return w.pairDifference("contacts", "companies", "contacts_companies") })
	eventually(t, 60*time.Second, func() string {
		if s := w.status("deals_contacts"); s.LastError == "" {
			return "the status does not say that deals_contacts cannot be read"
		}
		return ""
	})
	if n := w.count(`select count(*) from hubspot.deals_contacts`); n != before {
		t.Errorf("%d edges of %d are left", n, before)
	}
	w.hub.ClearFaults()
	eventually(t, 90*time.Second, w.edgeDifference)
}

// What changed between a type that may not be read and the others, while it might not be read.
func TestAssociationsOfADegradedTableAreReadWhenItComesBack(t *testing.T) {
	t.Parallel()
	w := linkedWorld(t)
	w.hub.WithholdScopes("crm.objects.companies.read")
	eventually(t, 30*time.Second, func() string {
		if s := w.status("companies"); s.Phase != "degraded" {
			return "companies are " + s.Phase
		}
		return ""
	})
	w.relink()
	eventually(t, 30*time.Second, func() string {
		if n := w.count(pendingRecords); n != 0 {
			return fmt.Sprintf("%d records wait", n)
		}
		return w.pairDifference("deals", "contacts", "deals_contacts")
	})
	w.hub.WithholdScopes()
	eventually(t, 60*time.Second, w.edgeDifference)
}

func TestClearedValueBecomesNull(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 40}, nil)
	id := w.live("contacts")[4].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "Edda", "lifecyclestage": "lead"}))
	w.awaitEqual(20*time.Second, "contacts")
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "", "lifecyclestage": ""}))
	w.awaitEqual(20*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.contacts where id = $1 and firstname is null and lifecyclestage is null`, id); n != 1 {
		t.Fatal("the values stay")
	}
	if n := w.count(`
select count(*)
from hubpg.changes
where record_id = $1 and changed @> array['firstname', 'lifecyclestage'] and before ->> 'firstname' = 'Edda'
and after ->> 'firstname' is null`, id); n != 1 {
		t.Fatalf("%d events say that the values were cleared", n)
	}
}

// At the end of the month HubSpot's own jobs stamp every record with one instant. One of them really changes just then.
func TestStampOfAllRecordsIsNoNews(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 260}, func(c *materialize.Config) { c.BackfillEvents = false })
	id := w.live("contacts")[77].ID
	now := time.Now()
	w.must(w.hub.SetCalculated("contacts", id, "firstname", "Really"))
	w.must(w.hub.StampAll("contacts", 260, now))
	w.awaitEqual(30*time.Second, "contacts")
	var told []string
	rows, err := w.pool.Query(t.Context(), `select record_id || ' ' || op || ' ' || changed::text from hubpg.changes where table_name = 'contacts'`)
	w.must(err)
	for rows.Next() {
		var text string
		w.must(rows.Scan(&text))
		told = append(told, text)
	}
	w.must(rows.Err())
	if want := fmt.Sprint(id, " update {firstname}"); len(told) != 1 || told[0] != want {
		t.Fatalf("%d events, want %s: %s", len(told), want, strings.Join(told, ", "))
	}
}
