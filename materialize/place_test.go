package materialize_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestWhatIsPutInThePlaceOfAnAssociationTableCostsThatTableOnly: it is left alone, and keeps neither other associations nor deletions waiting.
func TestWhatIsPutInThePlaceOfAnAssociationTableCostsThatTableOnly(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	gone := w.live("contacts")[20].ID
	w.exec(`drop table hubspot.contacts_companies`)
	w.exec(`create table hubspot.contacts_companies (id bigint, note text)`)
	w.exec(`insert into hubspot.contacts_companies values ($1, 'mine')`, gone)
	time.Sleep(3 * time.Second) // a look at the schema
	w.relink()
	eventually(t, 30*time.Second, func() string { return w.pairDifference("deals", "contacts", "deals_contacts") })
	w.must(w.hub.Archive("contacts", gone))
	w.exec(`update hubpg.objects set sweep_from = now() where table_name = 'contacts'`)
	w.wakeLane("archived")
	w.awaitEqual(30*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.contacts_companies where note = 'mine'`); n != 1 {
		t.Errorf("somebody's table has %d rows", n)
	}
	eventually(t, 30*time.Second, func() string {
		w.wakeLane("associations")
		if s := w.status("contacts_companies"); s.LastError == "" || !strings.Contains(s.Hint, "rename or drop it") {
			return fmt.Sprintf("contacts_companies says %q (%s)", s.LastError, s.Hint)
		}
		return ""
	})
	w.exec(`drop table hubspot.contacts_companies`)
	eventually(t, time.Minute, func() string {
		w.wakeLane("associations")
		return w.edgeDifference()
	})
	eventually(t, time.Minute, w.shownErrors)
}
