package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/catalog"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// calculatedColumn is a property of contacts that HubSpot computes, and that takes any text.
func (w *world) calculatedColumn() catalog.Column {
	w.t.Helper()
	for _, c := range w.catalog().Named("contacts").Columns {
		if c.Calculated && c.Kind == catalog.Text && !c.Overflow {
			return c
		}
	}
	w.t.Fatal("contacts have no calculated column")
	return catalog.Column{}
}

func TestCalculatedValueArrivesWithoutAChangeOfTheRecord(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 950}, func(c *materialize.Config) { c.Pace.Calculated = 300 * time.Millisecond })
	column := w.calculatedColumn()
	live := w.live("contacts")
	changed := map[int64]bool{}
	for i := 0; i < len(live); i += 90 { // on every page of the walk
		w.must(w.hub.SetCalculated("contacts", live[i].ID, column.Property, "computed anew"))
		changed[live[i].ID] = true
	}
	// A value of a user's that changed without the record being modified is not the sweep's to bring.
	w.must(w.hub.SetCalculated("contacts", live[5].ID, "firstname", "Unbumped"))
	ours := `select count(*) from hubspot.contacts where ` + column.Name + ` = 'computed anew'`
	eventually(t, 120*time.Second, func() string {
		if n := w.count(ours); n != int64(len(changed)) {
			return fmt.Sprintf("%d of %d computed values are here", n, len(changed))
		}
		return ""
	})
	if n := w.count(`select count(*) from hubspot.contacts where firstname = 'Unbumped'`); n != 0 {
		t.Error("the sweep has touched what it did not ask for")
	}
	if n := w.count(`select count(*) from hubpg.changes where op = 'update' and source = 'sweep' and changed = array[$1::text]`, column.Name); n != int64(len(changed)) {
		t.Errorf("%d events of the sweep, want %d", n, len(changed))
	}
	if n := w.count(`select count(*) from hubpg.changes where source = 'sweep' and changed <> array[$1::text]`, column.Name); n != 0 {
		t.Errorf("%d other events of the sweep", n)
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

// A page of the sweep that was read before a change and arrives after it must not undo it.
func TestLatePageOfCalculatedValuesLoses(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 90}, func(c *materialize.Config) { c.Pace.Calculated = 100 * time.Millisecond })
	column := w.calculatedColumn()
	id := w.live("contacts")[3].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "first", column.Property: "value 0"}))
	w.awaitEqual(120*time.Second, "contacts")
	// Nobody but the sweep reads now: the next page to be asked for is one of its own, and takes long to arrive.
	reads := w.hub.Stats().ByFamily["batch-read"]
	w.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "/contacts/batch/read$", Kind: sandbox.FaultSlow, Delay: 4 * time.Second, Count: 1})
	eventually(t, 120*time.Second, func() string {
		if w.hub.Stats().ByFamily["batch-read"] == reads {
			return "no page is on its way"
		}
		return ""
	})
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "second", column.Property: "value 1"}))
	w.awaitEqual(120*time.Second, "contacts")
	pass := w.count(`select revision from hubpg.cursors where table_name = 'contacts' and lane = 'calculated'`)
	eventually(t, 120*time.Second, func() string {
		if w.count(`select revision from hubpg.cursors where table_name = 'contacts' and lane = 'calculated'`) == pass {
			return "the late page has not arrived"
		}
		return ""
	})
	w.awaitEqual(120*time.Second, "contacts")
	// The values were numbered: none may ever give way to an older one, not even for a moment.
	if n := w.count(`
select count(*)
from (select before ->> $2 as was, after ->> $2 as now from hubpg.changes where record_id = $1 and $2 = any (changed)) c
where was like 'value %' and (now is null or now not like 'value %' or substr(now, 7)::int < substr(was, 7)::int)`,
		id, column.Name); n != 0 {
		t.Fatalf("an older value came back %d times", n)
	}
}
