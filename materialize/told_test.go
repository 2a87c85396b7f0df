package materialize_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// tellingWorld is an account whose journal tells of four types, any two of which have associations. Nothing waits.
func tellingWorld(t *testing.T) (*world, *edgeReads) {
	t.Helper()
	reads := &edgeReads{of: map[string]int{}}
	w := hearing(t, sandbox.Config{Contacts: 60, Journal: sandbox.Journal{Every: time.Second}}, func(w *world, c *materialize.Config) {
		journaled(w, c)
		c.Objects = []string{"contacts", "companies", "deals", "tickets"}
		client, err := hubapi.New(w.url, hubapi.StaticToken("sandbox"), hubapi.WithRetry(hubapi.RetryPolicy{}), hubapi.WithObserver(reads.see))
		w.must(err)
		c.Client = client
	})
	w.awaitLive(2 * time.Minute)
	w.awaitJournal()
	eventually(t, soon, w.edgesSettled)
	reads.forget()
	return w, reads
}

// edgesSettled says what is left to do for associations.
func (w *world) edgesSettled() string {
	if w.count(pendingRecords) > 0 {
		return "associations are due"
	}
	return w.edgeDifference()
}

// edgeReads counts the calls that read associations, by the two types, in either direction.
type edgeReads struct {
	mu sync.Mutex // guards below
	of map[string]int
}

func (r *edgeReads) see(c hubapi.Call) {
	_, types, ok := strings.Cut(c.Path, "/associations/")
	types, read := strings.CutSuffix(types, "/batch/read")
	if !ok || !read {
		return
	}
	ends := strings.Split(types, "/")
	slices.Sort(ends)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[strings.Join(ends, " ")]++
}

func (r *edgeReads) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.of)
}

// pairs returns the pairs of types that were read, and with how many calls.
func (r *edgeReads) pairs() (pairs []string, calls int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pair, n := range r.of {
		pairs, calls = append(pairs, pair), calls+n
	}
	return slices.Sorted(slices.Values(pairs)), calls
}

// HubSpot says between which types an association has changed. Of the three pairs that each end has, one is read, from
// both ends.
func TestToldAssociationCostsOnePair(t *testing.T) {
	t.Parallel()
	w, reads := tellingWorld(t)
	w.must(w.hub.Associate("contacts", w.live("contacts")[5].ID, "companies", w.live("companies")[1].ID, 279))
	eventually(t, soon, w.edgesSettled)
	if pairs, calls := reads.pairs(); len(pairs) != 1 || calls > 3 {
		t.Errorf("%d calls of %q for one association", calls, pairs)
	}
}

// TestOneRecordToldOfWithTwoTypesCostsTwoPairs: what is told of the one pair stays apart from what is told of the other.
func TestOneRecordToldOfWithTwoTypesCostsTwoPairs(t *testing.T) {
	t.Parallel()
	w, reads := tellingWorld(t)
	contact := w.live("contacts")[5].ID
	w.must(w.hub.Associate("contacts", contact, "companies", w.live("companies")[1].ID, 279))
	w.must(w.hub.Associate("deals", w.live("deals")[2].ID, "contacts", contact, 3))
	eventually(t, soon, w.edgesSettled)
	if pairs, calls := reads.pairs(); len(pairs) != 2 || calls > 6 {
		t.Errorf("%d calls of %q for two associations", calls, pairs)
	}
}

// TestAToldAssociationLeavesTheWaitForOthersAlone: a record that has merely changed waits for others before it is read in all of
// its pairs. When HubSpot tells of an association of it meanwhile, that one pair is read at once, and the wait goes on.
func TestAToldAssociationLeavesTheWaitForOthersAlone(t *testing.T) {
	t.Parallel()
	w, reads := tellingWorld(t)
	w.exec(`
insert into hubpg.quota_buckets (portal_id, bucket, max_calls, share)
select portal_id, 'daily', 200000, 0.3333
from hubpg.accounts`)
	contact := w.live("contacts")[5].ID
	waits := func() int64 {
		return w.count(`
select count(*)
from hubpg.pending_associations
where table_name = 'contacts' and record_id = $1 and since > clock_timestamp()`, contact)
	}
	w.must(w.hub.Update("contacts", contact, map[string]string{"firstname": "plain"}))
	eventually(t, soon, func() string {
		if waits() == 0 {
			return "the record does not wait"
		}
		return ""
	})
	w.must(w.hub.Associate("contacts", contact, "companies", w.live("companies")[1].ID, 279))
	eventually(t, 20*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.pending_pairs`); n > 0 {
			return fmt.Sprint(n, " ends are due")
		}
		return w.pairDifference("contacts", "companies", "contacts_companies")
	})
	if waits() == 0 {
		t.Error("the record does not wait for others any more")
	}
	if pairs, calls := reads.pairs(); len(pairs) != 1 || calls > 3 {
		t.Errorf("%d calls of %q for one association", calls, pairs)
	}
}

// TestAToldAssociationDoesNotWaitForALongRead: changed records of its table are being read in all pairs, which takes long.
func TestAToldAssociationDoesNotWaitForALongRead(t *testing.T) {
	t.Parallel()
	w, _ := tellingWorld(t)
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultSlow, Method: "POST", Path: "/associations/.*(tickets|0-5).*/batch/read$", Delay: 8 * time.Second,
	})
	live, before := w.live("contacts"), w.hub.Stats().ByFamily["associations"]
	w.exec(`insert into hubpg.pending_associations (portal_id, table_name, record_id) select portal_id, 'contacts', $1 from hubpg.accounts`, live[9].ID)
	eventually(t, soon, func() string {
		if w.hub.Stats().ByFamily["associations"] == before {
			return "nothing is read"
		}
		return ""
	})
	w.must(w.hub.Associate("contacts", live[5].ID, "companies", w.live("companies")[1].ID, 279))
	eventually(t, soon, func() string { return w.pairDifference("contacts", "companies", "contacts_companies") })
	if w.count(`select count(*) from hubpg.pending_associations where record_id = $1`, live[9].ID) == 0 {
		t.Error("the association came only when all pairs of another record had been read")
	}
	w.hub.ClearFaults()
	eventually(t, soon, w.edgesSettled)
}
