package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// pendingWorld is linkedWorld with a short pause before associations are read.
func pendingWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies", "deals"}
	cfg.Pace.Pending = 10 * time.Millisecond
	w.start(cfg)
	w.awaitLive(60*time.Second, "deals_contacts", "contacts_companies", "deals_companies")
	eventually(t, 60*time.Second, w.edgeDifference)
	return w
}

// nothingPends waits until no changed record waits for its associations to be read.
func (w *world) nothingPends(within time.Duration) {
	w.t.Helper()
	eventually(w.t, within, func() string {
		if n := w.count(`select count(*) from hubpg.pending_associations`); n > 0 {
			return fmt.Sprint(n, " records wait")
		}
		return ""
	})
}

// TestRecordsThatHubSpotSaysNothingAboutDoNotStay: a changed record whose associations HubSpot leaves out of every answer is
// asked for a few times, ever more rarely, keeps nobody waiting, and is left to the next pass over the pair.
func TestRecordsThatHubSpotSaysNothingAboutDoNotStay(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	before := w.count(`select count(*) from hubspot.deals_contacts`)
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultStatus, Method: "POST", Path: dealsContacts, Status: 207,
		Body: `{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"status":"error","category":"INTERNAL","message":"something"}]}`,
	})
	w.relink()
	eventually(t, 60*time.Second, func() string { return w.pairDifference("contacts", "companies", "contacts_companies") })
	calls := w.hub.Stats().ByFamily["association"]
	w.nothingPends(90 * time.Second)
	if n := w.hub.Stats().ByFamily["association"] - calls; n > 200 {
		t.Errorf("%d calls were spent on them", n)
	}
	if n := w.count(`select count(*) from hubspot.deals_contacts`); n != before {
		t.Errorf("%d edges of %d are left", n, before)
	}
	w.hub.ClearFaults()
	w.exec(`select hubpg.hasten('hubspot', 'deals_contacts')`)
	eventually(t, 60*time.Second, w.edgeDifference)
}

// TestAPairThatIsRefusedForGoodKeepsNobodyWaiting: HubSpot may not know a pair of types at all.
func TestAPairThatIsRefusedForGoodKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultStatus, Method: "POST", Path: dealsContacts, Status: 400,
		Body: `{"status":"error","message":"Unable to infer object type from: 0-3","category":"VALIDATION_ERROR"}`,
	})
	w.relink()
	eventually(t, 60*time.Second, func() string { return w.pairDifference("contacts", "companies", "contacts_companies") })
	w.nothingPends(30 * time.Second)
	eventually(t, 30*time.Second, func() string {
		if s := w.status("deals_contacts"); s.LastError == "" {
			return "the status does not say that deals_contacts cannot be read"
		}
		return ""
	})
	w.hub.ClearFaults()
	eventually(t, 90*time.Second, w.edgeDifference)
}

// TestPendingRecordsOfTablesThatAreNotThereGo: their table was left out, or is none.
func TestPendingRecordsOfTablesThatAreNotThereGo(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	w.exec(`update hubpg.objects set phase = 'gone' where table_name = 'deals'`)
	w.exec(`
insert into hubpg.pending_associations (portal_id, table_name, record_id)
select portal_id, u.name, u.id
from hubpg.accounts
cross join (values ('deals', 1), ('boats', 2), ('contacts', 3)) as u (name, id)`) // nobody has such a contact
	w.nothingPends(30 * time.Second)
}

// TestATableThatFailsKeepsNoNewsWaiting: records of one table that HubSpot fails to show, however often, do not hold up those
// of others that it has named.
func TestATableThatFailsKeepsNoNewsWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies"}
	cfg.Pace.Busy, cfg.Pace.Idle = time.Hour, time.Hour // nobody polls
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "companies")
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultInternal, Method: "POST", Path: "/objects/([^/]+/)?(contacts|0-1)/batch/read$"})
	name := func(table string, id int64) {
		w.exec(`
insert into hubpg.news (portal_id, table_name, record_id, feed)
select portal_id, $1, $2, 'webhook'
from hubpg.accounts
on conflict (portal_id, table_name, record_id) do update
set since = clock_timestamp()`, table, id)
	}
	person, company := w.live("contacts")[0].ID, w.live("companies")[0].ID
	w.must(w.hub.Update("contacts", person, map[string]string{"firstname": "late"}))
	name("contacts", person)
	for n := range 8 {
		want := fmt.Sprint("number ", n)
		w.must(w.hub.Update("companies", company, map[string]string{"name": want}))
		name("companies", company)
		eventually(t, 25*time.Second, func() string { // a call that fails is tried again for some seconds
			if w.count(`select count(*) from hubspot.companies where id = $1 and name = $2`, company, want) == 0 {
				return "the company is not yet " + want
			}
			return ""
		})
		time.Sleep(2 * time.Second) // for failures of contacts to add up
	}
	w.hub.ClearFaults()
	w.awaitEqual(30*time.Second, "contacts", "companies")
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.news`); n != 0 {
			return fmt.Sprint(n, " news are left")
		}
		return ""
	})
}
