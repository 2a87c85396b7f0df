package materialize_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

func TestArchivedRecordLeavesTheTable(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 150}, func(c *materialize.Config) { c.Pace.Archived = 300 * time.Millisecond })
	for i := range 5 {
		w.must(w.hub.Archive("contacts", w.live("contacts")[i*20].ID))
	}
	w.awaitEqual(30*time.Second, "contacts")
	if n := w.count(`select count(*) from hubpg.changes where op = 'delete' and table_name = 'contacts' and after is null`); n != 5 {
		t.Fatalf("%d delete events", n)
	}
}

func TestErasedMergedAndRestoredRecordsAreFoundByTheSweep(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 250}, func(c *materialize.Config) {
		c.Pace.Archived, c.Pace.IDs = 300*time.Millisecond, 500*time.Millisecond
	})
	live := w.live("contacts")
	w.must(w.hub.Erase("contacts", live[3].ID))
	survivor, err := w.hub.Merge("contacts", live[10].ID, live[11].ID)
	w.must(err)
	w.must(w.hub.Archive("contacts", live[20].ID))
	w.awaitEqual(30*time.Second, "contacts")
	w.must(w.hub.Restore("contacts", live[20].ID))
	w.awaitEqual(30*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.contacts where id = $1`, survivor); n != 1 {
		t.Fatal("the record that others were merged into is not there")
	}
	if n := w.count(`select count(*) from hubpg.changes where op = 'merge' and record_id = any ($1)`,
		[]int64{live[10].ID, live[11].ID}); n == 0 {
		t.Fatal("no event says that records were merged")
	}
	again, err := w.hub.Merge("contacts", survivor, live[12].ID)
	w.must(err)
	w.awaitEqual(30*time.Second, "contacts")
	chain := []int64{live[10].ID, live[11].ID, live[12].ID, survivor}
	eventually(t, 10*time.Second, func() string {
		if n := w.count(`select count(*) from hubspot.merges where table_name = 'contacts' and old_id = any ($1) and new_id = $2`, chain, again); n != 4 {
			return fmt.Sprintf("%d of 4 old ids lead to the record that is left", n)
		}
		return ""
	})
	if n := w.count(`select count(*) from hubpg.changes where op = 'merge' and record_id = any ($1) and after = jsonb_build_object('id', $2::bigint)`,
		chain, again); n == 0 {
		t.Fatal("no event says what the records have become")
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

// Deleted records stay with archived_at set, come back, and go for good when they are erased.
func TestSoftDeletesKeepArchivedRecordsAndNoErasedOnes(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 150}, func(c *materialize.Config) {
		c.SoftDeletes, c.Pace.Archived, c.Pace.IDs = true, 300*time.Millisecond, 500*time.Millisecond
	})
	live := w.live("contacts")
	archived := func() int64 { return w.count(`select count(*) from hubspot.contacts where archived_at is not null`) }
	w.must(w.hub.Archive("contacts", live[3].ID))
	w.must(w.hub.Archive("contacts", live[4].ID))
	w.must(w.hub.Erase("contacts", live[5].ID))
	w.awaitEqual(30*time.Second, "contacts")
	if n := archived(); n != 2 {
		t.Fatalf("%d rows are archived", n)
	}
	if n := w.count(`select count(*) from hubspot.contacts where id = $1`, live[5].ID); n != 0 {
		t.Fatal("the erased record has left its row")
	}
	w.must(w.hub.Restore("contacts", live[3].ID))
	w.awaitEqual(30*time.Second, "contacts")
	if n := archived(); n != 1 {
		t.Fatalf("%d rows are archived after one was restored", n)
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
	if report := w.verify(); !report.Equal() {
		t.Fatalf("verify finds %+v", report.Tables)
	}
}

// Records that were merged twice before anybody looked.
func TestChainOfMergesIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	w, stop := liveContacts(t, sandbox.Config{Contacts: 60}, nil)
	stop()
	live := w.live("contacts")
	first, err := w.hub.Merge("contacts", live[4].ID, live[5].ID)
	w.must(err)
	last, err := w.hub.Merge("contacts", first, live[6].ID)
	w.must(err)
	cfg := w.config()
	cfg.Objects = []string{"contacts"}
	w.start(cfg)
	w.awaitEqual(30*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.contacts where id = $1`, last); n != 1 {
		t.Fatal("the last survivor is not there")
	}
}

// A listing that lacks records is no evidence that they are gone.
func TestShortListingDeletesNothing(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 250}, func(c *materialize.Config) {
		c.Pace.Archived, c.Pace.IDs = 300*time.Millisecond, 400*time.Millisecond
	})
	w.hub.InjectFault(sandbox.Fault{
		Method: "GET", Path: "/contacts$", Kind: sandbox.FaultStatus, Status: 200, Body: `{"results":[]}`, Probability: 0.5,
	})
	start := time.Now()
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubspot.contacts`); n != 250 {
			t.Fatalf("%d rows left", n)
		}
		if time.Since(start) < 4*time.Second {
			return "too early to tell"
		}
		return ""
	})
	w.hub.ClearFaults()
	if n := w.count(`select count(*) from hubpg.changes where op in ('delete', 'merge')`); n != 0 {
		t.Fatalf("%d deletions were logged", n)
	}
}

func TestNewPropertyIsFilledForOldRows(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 250}, func(c *materialize.Config) { c.Pace.Schema = 300 * time.Millisecond })
	w.must(w.hub.AddProperty("contacts", sandbox.PropertyDef{
		Name: "shoe_size", Label: "Shoe size", Type: "number", FieldType: "number", GroupName: "contactinformation",
	}))
	for i, r := range w.live("contacts") {
		// The value appears without a change of the modified time, so only a fill can bring it.
		w.must(w.hub.SetCalculated("contacts", r.ID, "shoe_size", fmt.Sprint(30+i%20)))
	}
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.columns where property = 'shoe_size' and filled_at is not null`); n != 1 {
			return "column is not filled"
		}
		return ""
	})
	if n := w.count(`select count(*) from hubspot.contacts where shoe_size is not null`); n != 250 {
		t.Fatalf("%d of 250 rows have the new property", n)
	}
	w.awaitEqual(10*time.Second, "contacts")
}

func TestAssociationsFollowChangedRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 120})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies", "deals"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "companies", "deals", "contacts_companies", "deals_contacts", "deals_companies")
	eventually(t, 10*time.Second, w.edgeDifference)
	contacts, companies, deals := w.live("contacts"), w.live("companies"), w.live("deals")

	w.must(w.hub.Associate("contacts", contacts[5].ID, "companies", companies[3].ID, 279))
	w.must(w.hub.Associate("deals", deals[1].ID, "contacts", contacts[6].ID, 3))
	w.must(w.hub.Update("contacts", contacts[5].ID, map[string]string{"firstname": "linked"}))
	w.must(w.hub.Update("contacts", contacts[6].ID, map[string]string{"firstname": "linked too"})) // the far end of deals_contacts
	eventually(t, 20*time.Second, w.edgeDifference)
	if n := w.count(`select count(*) from hubspot.deals_contacts where contact_id = $1 and deal_id = $2`, contacts[6].ID, deals[1].ID); n == 0 {
		t.Fatal("edge seen from the far end is missing")
	}
	if n := w.count(`select count(*) from hubpg.changes where op = 'associate' and source = 'follow'`); n == 0 {
		t.Fatal("no event for a new association")
	}

	w.must(w.hub.Dissociate("deals", deals[1].ID, "contacts", contacts[6].ID, 3))
	w.must(w.hub.Update("contacts", contacts[6].ID, map[string]string{"firstname": "unlinked"}))
	eventually(t, 20*time.Second, w.edgeDifference)
}

func TestAssociationsChangedAloneAreFoundByThePass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 80})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies"}
	cfg.Pace.Pairs = 500 * time.Millisecond
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "companies", "contacts_companies")
	w.must(w.hub.Associate("contacts", w.live("contacts")[9].ID, "companies", w.live("companies")[2].ID, 279))
	eventually(t, 20*time.Second, w.edgeDifference)
}

func TestCustomObjectsAreMirrored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 50})
	typeID, err := w.hub.AddObjectType(sandbox.SchemaDef{
		Name: "boats", SingularLabel: "Boat", PluralLabel: "Boats", PrimaryDisplayProperty: "name",
		Properties:        []sandbox.PropertyDef{{Name: "name", Label: "Name", Type: "string", FieldType: "text"}},
		AssociatedObjects: []string{"contacts"},
	})
	w.must(err)
	id, err := w.hub.Create(typeID, map[string]string{"name": "Ellida"})
	w.must(err)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "boats"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "boats")
	w.awaitEqual(10 * time.Second)
	w.must(w.hub.Update(typeID, id, map[string]string{"name": "Gullfaxi"}))
	w.awaitEqual(20 * time.Second)
	if n := w.count(`select count(*) from hubpg.objects where kind = 'association' and to_table = 'boats' or from_table = 'boats'`); n == 0 {
		t.Fatal("the custom object has no association table")
	}
}

func TestLookupTablesFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 30})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "deals"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "deals", "owners", "pipelines", "pipeline_stages", "properties", "property_options")
	for _, table := range []string{"owners", "pipelines", "pipeline_stages", "properties", "property_options"} {
		if n := w.count(`select row_count from hubpg.objects where table_name = $1`, table); n == 0 {
			t.Errorf("%s is empty", table)
		}
	}
	if n := w.count(`select count(*) from hubspot.properties p where object_table = 'contacts' and name = 'email' and column_name = 'email'`); n != 1 {
		t.Error("properties does not know contacts.email")
	}
}

// HubSpot forgets records that were deleted before; the rows that soft deletes have left must not outlive them.
func TestSoftlyDeletedRecordThatIsErasedLaterLeavesNothing(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 150}, func(c *materialize.Config) {
		c.SoftDeletes, c.Pace.Archived, c.Pace.IDs = true, 300*time.Millisecond, 500*time.Millisecond
	})
	live := w.live("contacts")
	for _, i := range []int{3, 4, 5, 6} {
		w.must(w.hub.Archive("contacts", live[i].ID))
	}
	_, err := w.hub.Merge("contacts", live[7].ID, live[8].ID)
	w.must(err)
	kept := func(want ...int64) func() string {
		return func() string {
			got := fmt.Sprint(w.ids64(`select id from hubspot.contacts where archived_at is not null order by id`))
			slices.Sort(want)
			if got != fmt.Sprint(want) {
				return fmt.Sprintf("rows of deleted records are %s, want %v", got, want)
			}
			return ""
		}
	}
	eventually(t, 30*time.Second, kept(live[3].ID, live[4].ID, live[5].ID, live[6].ID, live[7].ID, live[8].ID))
	// What HubSpot drops out of its bin by age is no erasure.
	_, err = w.pool.Exec(t.Context(), `
select set_config('hubpg.applier', 'on', true);
update hubspot.contacts set archived_at = archived_at - interval '80 days' where id = `+fmt.Sprint(live[6].ID))
	w.must(err)
	w.must(w.hub.Erase("contacts", live[4].ID))
	w.must(w.hub.Erase("contacts", live[6].ID))
	w.must(w.hub.Restore("contacts", live[5].ID))
	eventually(t, 30*time.Second, kept(live[3].ID, live[6].ID, live[7].ID, live[8].ID))
	w.awaitEqual(10*time.Second, "contacts")
	changes := w.count(`select last from hubpg.change_counter`)
	passes := w.count(`select revision from hubpg.cursors where lane = 'ids'`)
	eventually(t, 30*time.Second, func() string { // more passes, which must find nothing
		if n := w.count(`select revision from hubpg.cursors where lane = 'ids'`); n < passes+12 {
			return "no more passes"
		}
		return kept(live[3].ID, live[6].ID, live[7].ID, live[8].ID)()
	})
	if n := w.count(`select last from hubpg.change_counter`); n != changes {
		t.Errorf("%d changes were logged when nothing happened", n-changes)
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

func (w *world) ids64(sql string) []int64 {
	w.t.Helper()
	rows, err := w.pool.Query(context.Background(), sql)
	w.must(err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	w.must(err)
	return ids
}

// A property is archived, a record is read meanwhile, and the property is back before any pass of the schema lane.
func TestAPropertyThatWasAwayUnseenIsReadAgain(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 30}, func(c *materialize.Config) {
		c.Pace = slowSweeps()
		c.Pace.Schema = 300 * time.Millisecond
	})
	def := sandbox.PropertyDef{Name: "shoe_size", Label: "Shoe size", Type: "string", FieldType: "text"}
	w.must(w.hub.AddProperty("contacts", def))
	record := w.live("contacts")[3].ID
	w.must(w.hub.Update("contacts", record, map[string]string{"shoe_size": "44"}))
	size := func(want string) {
		t.Helper()
		eventually(t, 60*time.Second, func() string {
			if n := w.count(`
select count(*)
from hubspot.contacts
where id = $1 and to_jsonb(contacts) ->> 'shoe_size' is not distinct from nullif($2, '')`, record, want); n != 1 {
				return "the record does not have shoe size " + want
			}
			return ""
		})
	}
	size("44")
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultInternal, Path: "/properties/"})
	time.Sleep(time.Second) // for a pass that is under way
	w.must(w.hub.ArchiveProperty("contacts", "shoe_size"))
	w.must(w.hub.Update("contacts", record, map[string]string{"firstname": "Away"}))
	size("")
	w.must(w.hub.AddProperty("contacts", def))
	w.hub.ClearFaults()
	size("44")
}
