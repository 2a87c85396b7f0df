package materialize_test

import (
	"fmt"
	"strings"
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

// pendingRecords counts the records that wait for their associations to be read, all or those of one pair.
const pendingRecords = `
select (select count(*) from hubpg.pending_associations) + (select count(*) from hubpg.pending_pairs)`

// nothingPends waits until no changed record waits for its associations to be read.
func (w *world) nothingPends(within time.Duration) {
	w.t.Helper()
	eventually(w.t, within, func() string {
		if n := w.count(pendingRecords); n > 0 {
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
	calls := w.hub.Stats().ByFamily["associations"]
	w.nothingPends(90 * time.Second)
	if n := w.hub.Stats().ByFamily["associations"] - calls; n > 200 {
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

// TestAnAssociationToldOfAgainWhileItsPairIsReadIsReadAgain: the answer that is under way does not have it.
func TestAnAssociationToldOfAgainWhileItsPairIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	w.nothingPends(60 * time.Second)
	contact, before := w.live("contacts")[7].ID, w.hub.Stats().ByFamily["associations"]
	tell := func() {
		w.exec(`
insert into hubpg.pending_pairs (portal_id, table_name, record_id, other_table)
select portal_id, 'contacts', $1, 'companies'
from hubpg.accounts
on conflict (portal_id, table_name, record_id, other_table) do update
set since = clock_timestamp()`, contact)
	}
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultSlow, Method: "POST", Path: "/associations/.*/batch/read$", Delay: 3 * time.Second, Count: 1,
	})
	tell()
	eventually(t, 30*time.Second, func() string {
		if w.hub.Stats().ByFamily["associations"] == before {
			return "nothing is read"
		}
		return ""
	})
	w.must(w.hub.Associate("contacts", contact, "companies", w.live("companies")[3].ID, 279))
	tell()
	w.nothingPends(30 * time.Second)
	if d := w.edgeDifference(); d != "" {
		t.Error(d)
	}
}

// TestProcessesOfEarlierVersionsQueueAsBefore: they go on for a while when the schema is new. What they note of a record, which is
// one row for it, is read in all pairs, whatever pair they had in mind.
func TestProcessesOfEarlierVersionsQueueAsBefore(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	w.nothingPends(60 * time.Second)
	contact := w.live("contacts")[7].ID
	w.must(w.hub.Associate("deals", w.live("deals")[2].ID, "contacts", contact, 3))
	w.must(w.hub.Associate("contacts", contact, "companies", w.live("companies")[3].ID, 279))
	w.exec(`
insert into hubpg.pending_associations as p (portal_id, table_name, record_id, other_table)
select portal_id, 'contacts', $1, 'companies'
from hubpg.accounts
on conflict (portal_id, table_name, record_id) do update
set since = clock_timestamp(), tries = 0, other_table = case when p.other_table = excluded.other_table then p.other_table else '' end`, contact)
	w.nothingPends(30 * time.Second)
	if d := w.edgeDifference(); d != "" {
		t.Error(d)
	}
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

// TestAnEmptyAnswerTakesNoAssociations: on a bad day HubSpot answers association reads with status 200 and nothing in it.
func TestAnEmptyAnswerTakesNoAssociations(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	before, seq := w.count(`select count(*) from hubspot.deals_contacts`), w.count(`select last from hubpg.change_counter`)
	lost := func() int64 {
		return w.count(`select count(*) from hubpg.changes where seq > $1 and op = 'dissociate'`, seq)
	}
	for lane, way := range map[string]struct {
		sql   string
		calls int64 // with those that ask again
	}{
		"pending": {`
insert into hubpg.pending_associations (portal_id, table_name, record_id)
select distinct portal_id, 'deals', deal_id
from hubspot.deals_contacts
cross join hubpg.accounts
on conflict do nothing`, 4},
		"associations": {`select hubpg.hasten('hubspot', 'deals_contacts')`, 2},
	} {
		w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: dealsContacts, Count: 1})
		calls := w.hub.Stats().ByFamily["associations"]
		eventually(t, 60*time.Second, func() string {
			n := w.hub.Stats().ByFamily["associations"] - calls
			if n == 0 {
				w.exec(way.sql)
			}
			if n < way.calls {
				return fmt.Sprintf("%s: %d calls", lane, n)
			}
			return ""
		})
		w.nothingPends(60 * time.Second)
		if n := w.count(`select count(*) from hubspot.deals_contacts`); n != before || lost() != 0 {
			t.Fatalf("%s: %d edges of %d are left, %d were lost for a while", lane, n, before, lost())
		}
		if n := w.count(`select count(*) from hubpg.silences`); n != 0 {
			t.Errorf("%s: %d records are doubted still", lane, n)
		}
	}
	// What HubSpot leaves out for good is gone.
	gone := w.live("deals")[0].ID
	for _, contact := range w.ids64(fmt.Sprint(`select contact_id from hubspot.deals_contacts where deal_id = `, gone)) {
		w.must(w.hub.Dissociate("deals", gone, "contacts", contact, 0))
	}
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: dealsContacts})
	w.exec(`insert into hubpg.pending_associations (portal_id, table_name, record_id) select portal_id, 'deals', $1 from hubpg.accounts`, gone)
	eventually(t, 60*time.Second, func() string {
		if n := w.count(`select count(*) from hubspot.deals_contacts where deal_id = $1`, gone); n != 0 {
			return fmt.Sprint(n, " edges of the record are left")
		}
		return ""
	})
	w.hub.ClearFaults()
	w.nothingPends(60 * time.Second)
	eventually(t, 60*time.Second, w.edgeDifference)
}

// TestSuspectsThatHubSpotSaysNothingAbout: HubSpot leaves records out of batch reads, time and again. Each is asked for ever more
// rarely, after some tries in the way in which one record is read, and stays as it is until HubSpot says something.
func TestSuspectsThatHubSpotSaysNothingAbout(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 150}, nil)
	live := w.live("contacts")
	erased, there := live[3].ID, live[4].ID
	const reads, single = `/objects/([^/]+/)?(contacts|0-1)/batch/read$`, `/objects/([^/]+/)?(contacts|0-1)/[0-9]+$`
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: reads})
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultInternal, Path: single})
	w.must(w.hub.Erase("contacts", erased))
	w.must(w.hub.Update("contacts", there, map[string]string{"firstname": "there"}))
	w.exec(`insert into hubpg.suspects (portal_id, table_name, record_id) select portal_id, 'contacts', $1 from hubpg.accounts`, erased)
	tries := func(n int64) {
		t.Helper()
		eventually(t, 120*time.Second, func() string {
			w.exec(`update hubpg.river_job set scheduled_at = now() where args ->> 'lane' = 'archived' and state in ('available', 'scheduled')`)
			if got := w.count(`select coalesce(min(tries), 0) from hubpg.suspects`); got < n || w.count(`select count(*) from hubpg.suspects`) != 2 {
				return fmt.Sprint("the suspects were asked for ", got, " times")
			}
			return ""
		})
	}
	// The change was found by the index, and its record is a suspect, too.
	for n := range int64(4) {
		tries(n + 1)
		if pause := w.count(`select extract(epoch from min(since - now()))::bigint from hubpg.suspects where tries = $1`, n+1); pause < 5<<n {
			t.Errorf("after %d tries the next is in %d s", n+1, pause)
		}
		if n < 3 {
			w.exec(`update hubpg.suspects set since = now() - interval '1 minute'`)
		}
	}
	if s := w.status("contacts"); !strings.Contains(s.LastError, "2 records") || s.Hint == "" || s.Phase != "live" {
		t.Errorf("the status is %q: %s (%s)", s.Phase, s.LastError, s.Hint)
	}
	if n := w.count(`select count(*) from hubspot.contacts where id in ($1, $2)`, erased, there); n != 2 {
		t.Fatalf("%d of the rows are left", n)
	}
	w.exec(`update hubpg.suspects set tries = 30, since = now() - interval '1 minute'`) // as after a day
	tries(31)
	if pause := w.count(`select extract(epoch from max(since - now()))::bigint from hubpg.suspects`); pause > 3600 {
		t.Errorf("the longest pause is %d s", pause)
	}
	w.hub.ClearFaults()
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: reads})
	w.exec(`update hubpg.suspects set since = now() - interval '1 minute'`)
	eventually(t, 60*time.Second, func() string {
		w.exec(`update hubpg.river_job set scheduled_at = now() where args ->> 'lane' = 'archived' and state in ('available', 'scheduled')`)
		if n := w.count(`select count(*) from hubpg.suspects`); n > 0 {
			return fmt.Sprint(n, " suspects are left")
		}
		return ""
	})
	w.awaitEqual(30*time.Second, "contacts")
	if s := w.status("contacts"); s.LastError != "" {
		t.Errorf("the status still says %s", s.LastError)
	}
}

// TestAnEmptyReadLosesNoRecord: HubSpot says nothing about a record that the index has found for longer than the follow lane
// looks back. The record is a suspect, and is read as soon as HubSpot shows it.
func TestAnEmptyReadLosesNoRecord(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 60}, nil)
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: `/objects/([^/]+/)?(contacts|0-1)/batch/read$`})
	w.must(w.hub.Update("contacts", w.live("contacts")[4].ID, map[string]string{"firstname": "there"}))
	eventually(t, 60*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.suspects`); n != 1 {
			return fmt.Sprint(n, " suspects")
		}
		return ""
	})
	w.hub.ClearFaults()
	w.awaitEqual(120*time.Second, "contacts")
}

// TestPlainChangesWaitForOthersWhereTheDayIsShort: where a short day makes calls dear, records of which only what users write has
// changed wait before their associations are read, and go along with the first that does not. A change while they wait is
// not forgotten, and puts them off no longer.
func TestPlainChangesWaitForOthersWhereTheDayIsShort(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	w.nothingPends(60 * time.Second)
	w.exec(`
insert into hubpg.quota_buckets (portal_id, bucket, max_calls, share)
select portal_id, 'daily', 200000, 0.3333
from hubpg.accounts`)
	calls := w.hub.Stats().ByFamily["associations"]
	live := w.live("contacts")
	change := func(n int, name string) { // the first contacts, and waits until all of them wait for others
		t.Helper()
		for i := range n {
			w.must(w.hub.Update("contacts", live[i].ID, map[string]string{"firstname": name}))
		}
		eventually(t, 60*time.Second, func() string {
			if got := w.count(`
select count(*)
from hubspot.contacts t
join hubpg.pending_associations p on p.table_name = 'contacts' and p.record_id = t.id and p.since > clock_timestamp()
where t.firstname = $1`, name); got != int64(n) {
				return fmt.Sprint(got, " records wait")
			}
			return ""
		})
	}
	since := func() int64 {
		return w.count(`
select (extract(epoch from since) * 1e6)::bigint
from hubpg.pending_associations
where record_id = $1 and since > clock_timestamp()`, live[0].ID)
	}
	change(5, "plain")
	first := since()
	change(1, "plain again")
	if again := since(); again >= first || again < first-1000 {
		t.Errorf("a change while it waits moves a record from %d to %d", first, again)
	}
	w.must(w.hub.Associate("contacts", live[1].ID, "companies", w.live("companies")[3].ID, 279))
	_, err := w.hub.Create("contacts", map[string]string{"email": "new@example.com"})
	w.must(err)
	w.nothingPends(30 * time.Second)
	eventually(t, 30*time.Second, w.edgeDifference)
	if n := w.hub.Stats().ByFamily["associations"] - calls; n > 6 {
		t.Errorf("%d calls read the associations of six records", n)
	}
}
