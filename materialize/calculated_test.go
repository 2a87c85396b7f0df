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
	eventually(t, 30*time.Second, func() string {
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
	for i := range 12 {
		// Half of the batches take so long that the change below is polled and stored while they are on their way.
		w.hub.InjectFault(sandbox.Fault{
			Method: "POST", Path: "/contacts/batch/read$", Kind: sandbox.FaultSlow, Delay: 400 * time.Millisecond, Probability: 0.5,
		})
		value := fmt.Sprintf("value %d", i)
		w.must(w.hub.Update("contacts", id, map[string]string{"firstname": value, column.Property: value}))
		eventually(t, 20*time.Second, func() string {
			if w.count(`select count(*) from hubspot.contacts where id = $1 and firstname = $2`, id, value) == 0 {
				return "the change is not here"
			}
			return ""
		})
		w.hub.ClearFaults()
	}
	w.awaitEqual(20*time.Second, "contacts")
	// Each value came once and never again: an older page would have brought back the value before, as an event.
	if n := w.count(`
select count(*)
from hubpg.changes a
join hubpg.changes b on b.record_id = a.record_id and b.seq > a.seq and b.before -> $2::text = a.after -> $2::text
join hubpg.changes c on c.record_id = a.record_id and c.seq > b.seq and c.after -> $2::text = a.after -> $2::text
where a.record_id = $1 and $2 = any (a.changed) and $2 = any (b.changed) and $2 = any (c.changed)`, id, column.Name); n != 0 {
		t.Fatalf("an older value came back %d times", n)
	}
}
