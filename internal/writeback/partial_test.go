package writeback_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
)

// follow stores those records of a table of which it has an older version than HubSpot, as a poll does, and returns how many.
func (a *account) follow(table string) int {
	a.t.Helper()
	var ids, behind []int64
	records := a.hub.Snapshot(table)
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	known, err := mirror.Known(a.t.Context(), a.pool, a.tables[table], ids)
	a.must(err)
	for _, r := range records {
		if version, ok := known[r.ID]; !r.Archived && (!ok || version.UnixMilli() < r.UpdatedAt.UnixMilli()) {
			behind = append(behind, r.ID)
		}
	}
	for ids := range slices.Chunk(behind, hubapi.MaxPage) {
		a.store(table, a.page(table, ids...))
	}
	return len(behind)
}

// TestWhatIsNotReadBackComesWithTheNextPoll holds that a row of which HubSpot has told only what was written, because the statement has many
// rows or since reading it back has failed, does not pass for stored: what others have changed of the record comes with the next poll.
func TestWhatIsNotReadBackComesWithTheNextPoll(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"many rows": 1001, "a read that fails": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			var first int64
			for i := range n {
				id, err := a.hub.Create("contacts", map[string]string{"email": fmt.Sprintf("c%d@example.com", i), "jobtitle": "Reader"})
				a.must(err)
				if i == 0 {
					first = id
				}
			}
			a.read("contacts", changes.Backfill)
			s := a.session()
			s.do("update hubspot.contacts set lastname = 'Warm' where id = $1", first)
			a.must(a.hub.Update("contacts", first, map[string]string{"jobtitle": "Writer"})) // which no poll has seen yet
			if n == 1 {
				a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "contacts/batch/read", Kind: sandbox.FaultInternal})
			}
			s.do("update hubspot.contacts set firstname = 'New'")
			a.hub.ClearFaults()
			before := a.newest()
			if got := a.follow("contacts"); got != n {
				t.Errorf("the poll has read %d of %d records", got, n)
			}
			a.agree("contacts", "email", "firstname", "jobtitle")
			if log := a.log(before); len(log) != 1 || strings.Join(log[0].Changed, ",") != "jobtitle" {
				t.Errorf("the poll's news: %+v", log)
			}
			if got := a.follow("contacts"); got != 0 {
				t.Errorf("the next poll has read %d records", got)
			}
		})
	}
}

// TestChangesOfOneRecordAddUpWithoutReadingBack holds that a row has what all changes of a statement have made of it, also where HubSpot has
// told only what the last of them wrote.
func TestChangesOfOneRecordAddUpWithoutReadingBack(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.exec(`create function app.twice(who bigint) returns text language plpgsql as $$
begin
  update hubspot.contacts set firstname = 'First' where id = who;
  update hubspot.contacts set lastname = 'Last' where id = who;
  return (select firstname || lastname from hubspot.contacts where id = who);
end $$`)
	s.do("update hubspot.contacts set lastname = 'Warm' where id = $1", id)
	a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "contacts/batch/read", Kind: sandbox.FaultInternal})
	if res := s.do("select app.twice($1)", id); res.String() != "FirstLast" {
		t.Errorf("the session sees %s", res)
	}
	a.hub.ClearFaults()
	a.agree("contacts", "firstname", "lastname")
}
