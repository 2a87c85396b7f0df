package materialize_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// lateSweeps is fastPace with sweeps that come by once an hour: what only they find is late at any moment.
func lateSweeps() materialize.Pace {
	p := fastPace()
	p.Archived, p.IDs, p.Pairs, p.Calculated, p.Lookups, p.Schema = time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour
	return p
}

// unrest changes everything of an account that the lanes learn of late.
type unrest struct {
	w      *world
	people []int64 // contacts to use up
	doomed int64   // list that is deleted by and by
	form   string
	column string // calculated
	n      int
}

func newUnrest(w *world) *unrest {
	w.t.Helper()
	u := &unrest{w: w}
	for _, r := range w.live("contacts") {
		u.people = append(u.people, r.ID)
	}
	list, err := w.hub.AddList("contacts", "Late joiners", "DYNAMIC", "jobtitle", "late")
	w.must(err)
	_, err = w.hub.AddList("contacts", "Latecomers", "DYNAMIC", "jobtitle", "late")
	w.must(err)
	u.doomed = list
	forms, err := w.client().ListForms(context.Background(), false)
	w.must(err)
	u.form, u.column = forms[0].ID, w.calculatedColumn().Property
	return u
}

// next takes a contact that is not used otherwise.
func (u *unrest) next() int64 {
	u.w.t.Helper()
	if len(u.people) == 0 {
		u.w.t.Fatal("no contacts are left")
	}
	id := u.people[0]
	u.people = u.people[1:]
	return id
}

// stir makes one change of each kind.
func (u *unrest) stir() {
	u.w.t.Helper()
	w := u.w
	u.n++
	company := w.live("companies")[u.n%5].ID
	w.must(w.hub.Archive("contacts", u.next()))
	w.must(w.hub.Erase("contacts", u.next()))
	_, err := w.hub.Merge("contacts", u.next(), u.next())
	w.must(err)
	calm := u.next()
	w.must(w.hub.Associate("contacts", calm, "companies", company, 1))
	w.must(w.hub.SetCalculated("contacts", calm, u.column, fmt.Sprint("computed ", u.n)))
	if edges := w.hub.Edges("contacts", "companies"); len(edges) > 0 {
		w.must(w.hub.Dissociate("contacts", edges[u.n%len(edges)].From, "companies", edges[u.n%len(edges)].To, edges[u.n%len(edges)].TypeID))
	}
	joins := u.next()
	w.must(w.hub.Update("contacts", joins, map[string]string{"jobtitle": "late"}))
	if u.n%2 == 0 {
		list, err := w.hub.AddList("contacts", fmt.Sprint("Short-lived ", u.n), "DYNAMIC", "jobtitle", "late")
		w.must(err)
		w.api(http.MethodDelete, fmt.Sprintf("/crm/v3/lists/%d", u.doomed), "")
		u.doomed = list
		w.must(w.hub.Update("contacts", joins, map[string]string{"jobtitle": "gone"}))
	}
	w.must(w.hub.SubmitForm(u.form, map[string]string{"email": fmt.Sprintf("late%d@example.com", u.n)}))
	_, err = w.hub.AddOwner(fmt.Sprintf("late%d@example.com", u.n), "Late", fmt.Sprint("Owner", u.n))
	w.must(err)
	w.must(w.hub.AddProperty("contacts", sandbox.PropertyDef{Name: fmt.Sprint("late_", u.n), Label: "Late", Type: "string", FieldType: "text"}))
	w.must(w.hub.Update("contacts", calm, map[string]string{fmt.Sprint("late_", u.n): "value"}))
}

// TestVerifyOfAChangingAccountFindsOnlyWhatIsWrong: changes that the lanes have yet to learn of are no differences, and
// what is wrong is found among them.
func TestVerifyOfAChangingAccountFindsOnlyWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Seed: 12, Contacts: 400})
	cfg := w.config()
	cfg.Pace = lateSweeps()
	cfg.Objects = append(surfaceTables(), "contacts", "companies")
	stop := w.start(cfg)
	w.awaitLive(5*time.Minute, "contacts", "companies", "contacts_companies", "lists", "list_memberships", "forms", "form_submissions", "owners")
	eventually(t, time.Minute, func() string {
		if n := w.count("select count(*) from hubpg.objects where phase <> 'live'"); n > 0 {
			return fmt.Sprint(n, " tables are not live")
		}
		return ""
	})
	u := newUnrest(w)
	u.stir()
	u.stir()
	live := w.live("contacts")
	wrong, lost := live[len(live)-20].ID, live[len(live)-21].ID // which no unrest comes to, however long it lasts
	w.exec("update hubspot.contacts set firstname = 'somebody else' where id = $1", wrong)
	w.exec("delete from hubspot.contacts where id = $1", lost)
	w.exec("update hubpg.objects set row_count = row_count - 1 where table_name = 'contacts'")
	w.exec("update hubpg.objects set settled_at = now() - interval '1 minute' where settled_at is not null") // as after an hour

	var unquiet atomic.Bool
	done := make(chan struct{})
	unquiet.Store(true)
	go func() {
		defer close(done)
		for unquiet.Load() && len(u.people) > 80 {
			u.stir()
			time.Sleep(50 * time.Millisecond)
		}
	}()
	got := differences(w.verify())
	unquiet.Store(false)
	<-done
	want := map[string]int{"contacts missing " + fmt.Sprint(lost): 1, "contacts value " + fmt.Sprint(wrong): 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("while everything changes (-want +got):\n%s", diff)
	}

	// Nobody keeps the account: what is late stays late, and is different.
	stop()
	if err := w.hub.Archive("contacts", u.next()); err != nil {
		t.Fatal(err)
	}
	erased := u.next()
	w.must(w.hub.Erase("contacts", erased))
	if got := differences(w.verify()); got["contacts extra "+fmt.Sprint(erased)] != 1 {
		t.Errorf("an erased record that no lane looks for is not told of: %v", got)
	}
}

// differences counts what a report tells, by table, kind and record.
func differences(report *materialize.Report) map[string]int {
	got := map[string]int{}
	for _, r := range report.Tables {
		if r.Err != nil {
			got[r.Table+" "+r.Err.Error()]++
		}
		for _, d := range r.Differences {
			got[fmt.Sprint(r.Table, " ", d.Kind, " ", d.ID)]++
		}
	}
	return got
}

// TestVerifyTellsOfRowsThatAreHealedWhileItLooks: the lanes that Verify has look put right what somebody has done to a table.
// It was wrong all the same, where what is stored proves that HubSpot did not change it.
func TestVerifyTellsOfRowsThatAreHealedWhileItLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Seed: 12, Contacts: 60})
	cfg := w.config()
	cfg.Pace = lateSweeps()
	cfg.Objects, cfg.BackfillEvents = append(surfaceTables(), "contacts", "companies", "owners"), false
	w.start(cfg)
	w.awaitLive(5*time.Minute, "contacts", "companies", "contacts_companies", "campaigns", "owners")
	eventually(t, time.Minute, func() string {
		if n := w.count("select count(*) from hubpg.objects where phase <> 'live'"); n > 0 {
			return fmt.Sprint(n, " tables are not live")
		}
		return ""
	})
	if report := w.verify(); !report.Equal() {
		t.Fatalf("before anything happened: %v", differences(report))
	}
	// An association of which the log tells, one that came with the first filling, and one that the lanes have yet to learn of.
	live, companies := w.live("contacts"), w.live("companies")
	logged, filled := live[7].ID, w.count("select min(contact_id) from hubspot.contacts_companies")
	if filled == logged {
		logged = live[8].ID
	}
	w.must(w.hub.Associate("contacts", logged, "companies", companies[4].ID, 279))
	w.must(w.hub.Update("contacts", logged, map[string]string{"firstname": "linked"}))
	eventually(t, time.Minute, func() string {
		if n := w.count(`select count(*) from hubpg.changes where table_name = 'contacts_companies' and record_id = $1 and op = 'associate'`, logged); n == 0 {
			return "the association is not in the log"
		}
		return ""
	})
	w.nothingPends(60 * time.Second) // or the pending lane may heal what Verify is to see
	w.must(w.hub.Associate("contacts", live[20].ID, "companies", companies[3].ID, 279))
	w.exec("delete from hubspot.contacts_companies where contact_id in ($1, $2)", logged, filled)
	w.exec("update hubspot.campaigns set name = 'elsewhere' where id = (select min(id) from hubspot.campaigns)")
	w.exec("delete from hubspot.owners where id = (select min(id) from hubspot.owners)")

	report := w.verify("contacts_companies", "campaigns", "owners")
	healed, late := map[string]int{}, map[string]int64{}
	for _, r := range report.Tables {
		late[r.Table] = r.Late
		for _, d := range r.Differences {
			if d.Healed {
				healed[fmt.Sprint(r.Table, " ", d.Kind)]++
			}
			if r.Table == "contacts_companies" && d.ID != logged {
				t.Errorf("record %d differs: %+v", d.ID, d)
			}
		}
	}
	if report.Equal() || healed["contacts_companies missing"] == 0 || late["contacts_companies"] != 2 || healed["campaigns value"] != 1 {
		t.Errorf("healed %v, late %v, all %v", healed, late, differences(report))
	}
	if got := differences(report); got["owners missing 0"]+got[fmt.Sprint("owners missing ", w.firstOwner())] != 1 {
		t.Errorf("the owner: %v", got)
	}
	if report := w.verify("contacts_companies", "campaigns"); !report.Equal() {
		t.Errorf("after the lanes have healed them: %v", differences(report))
	}
}

// firstOwner is the smallest id of an owner in HubSpot.
func (w *world) firstOwner() int64 {
	w.t.Helper()
	owners, err := w.client().ListOwners(context.Background(), false)
	w.must(err)
	first := owners[0].ID
	for i := range owners {
		first = min(first, owners[i].ID)
	}
	return first
}
