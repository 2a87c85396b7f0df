package budget_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/migrations"
)

// hostileCalls is how many calls the hostile run makes; HUBPG_HOSTILE_CALLS=10000 takes six minutes.
func hostileCalls(t *testing.T) int64 {
	text := os.Getenv("HUBPG_HOSTILE_CALLS")
	if text == "" {
		return 500
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("HUBPG_HOSTILE_CALLS is %q", text)
	}
	return n
}

// hostile is an account on which everything goes wrong that is known to, with its real limits. What it does not do is lie
// about its limits: a refusal by a limit that is not used up would rightly slow everyone down.
func hostile(t *testing.T) *sandbox.Server {
	t.Helper()
	cfg := sandbox.Config{Seed: 1, Contacts: 1000, Quiet: true, Limits: true, Latency: 40 * time.Millisecond}
	s := sandbox.New(cfg)
	const crm = `^/crm/`
	for _, f := range []sandbox.Fault{
		{Kind: sandbox.FaultInternal, Path: crm, Probability: 0.02},
		{Kind: sandbox.FaultBadGateway, Path: crm, Probability: 0.01},
		{Kind: sandbox.FaultGatewayTimeout, Path: crm, Probability: 0.005},
		{Kind: sandbox.FaultDrop, Path: crm, Probability: 0.01},
		{Kind: sandbox.FaultDropAfter, Path: crm, Probability: 0.01},
		{Kind: sandbox.FaultCut, Path: crm, Probability: 0.01},
		{Kind: sandbox.FaultSlow, Path: crm, Delay: 2 * time.Second, Probability: 0.01},
		{Kind: sandbox.FaultLocked, Path: `batch/update`, Probability: 0.02},
		{Kind: sandbox.FaultEmptyPage, Path: `/search$`, Probability: 0.03},
	} {
		s.InjectFault(f)
	}
	return s
}

// TestHostileAccountIsReadRightWithinItsLimits makes reads and writes of every kind on a hostile account: all answers are
// right, nothing is written twice or lost unnoticed, no limit is exceeded, and the rate that is allowed is used.
func TestHostileAccountIsReadRightWithinItsLimits(t *testing.T) {
	t.Parallel()
	calls := hostileCalls(t)
	s := hostile(t)
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := budget.New(pgtest.Migrated(t, migrations.Up).Pool(t), budget.Config{PortalID: sandbox.DefaultPortalID, Share: 1, Burst: 190, Association: 150})
	c, err := hubapi.New(srv.URL, hubapi.StaticToken(sandbox.DefaultToken), hubapi.WithLimiter(b), hubapi.WithRetry(hubapi.RetryPolicy{Tries: 10}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching sync.WaitGroup
	stalled := watch(ctx, &watching)

	truth := slices.DeleteFunc(s.Snapshot("contacts"), func(r sandbox.Record) bool { return r.Archived })
	p := hubapi.NewProjection([]string{"email", "lastname"}) // nothing here is written
	var wrong, ambiguous, writes atomic.Int64
	check := func(recs []hubapi.Record) {
		for _, r := range recs {
			i, ok := slices.BinarySearchFunc(truth, r.ID, func(t sandbox.Record, id int64) int { return int(t.ID - id) })
			if !ok || !bytes.Equal(r.Values[0], []byte(truth[i].Properties["email"])) || !bytes.Equal(r.Values[1], []byte(truth[i].Properties["lastname"])) {
				wrong.Add(1)
			}
		}
	}
	some := func() []int64 {
		at := rand.IntN(len(truth) - 50)
		ids := make([]int64, 50)
		for i := range ids {
			ids[i] = truth[at+i].ID
		}
		return ids
	}
	work := []func() error{
		func() error { // a page
			at := rand.IntN(len(truth) - 100)
			page, err := c.As(hubapi.Backfill).ListObjects(ctx, "contacts", hubapi.ListOptions{Projection: p, After: strconv.FormatInt(truth[at].ID, 10)})
			if err == nil {
				check(page.Records)
				if len(page.Records) != 100 || page.Records[0].ID != truth[at].ID {
					wrong.Add(1)
				}
			}
			return err
		},
		func() error { // records by id
			ids := some()
			res, err := c.BatchRead(ctx, "contacts", ids, p)
			if err == nil {
				check(res.Records)
				if len(res.Records) != len(ids) {
					wrong.Add(1)
				}
			}
			return err
		},
	}
	var next atomic.Int64
	written := make([]atomic.Int64, len(truth)) // what each record's phone is, 0 when not known
	update := func() error {
		n := next.Add(1)
		i := int(n) % len(truth)
		writes.Add(1)
		res, err := c.As(hubapi.Writes).BatchUpdate(ctx, "contacts", []hubapi.UpdateInput{
			{ID: truth[i].ID, Properties: map[string]string{"phone": "+49" + strconv.FormatInt(n, 10)}},
		}, nil)
		if _, ok := errors.AsType[*hubapi.AmbiguousError](err); ok {
			ambiguous.Add(1)
			written[i].Store(0)
			return nil
		}
		if err == nil {
			if res.Results[0].Err != nil || res.Results[0].Record.ID != truth[i].ID {
				wrong.Add(1)
			}
			written[i].Store(n)
		}
		return err
	}
	work = append(work, update)
	search := func() error {
		res, err := c.Search(ctx, "contacts", hubapi.SearchRequest{Projection: p, Limit: 20})
		if err == nil {
			check(res.Records)
			empty := len(res.Records) == 0 && res.After != "" // HubSpot does this; it is no end
			if !empty && (res.Total != len(truth) || len(res.Records) != 20) {
				wrong.Add(1)
			}
		}
		return err
	}
	edges := map[int64]int{}
	for _, e := range s.Edges("contacts", "companies") {
		edges[e.From]++
	}
	associations := func() error {
		ids := some()
		in := make([]hubapi.AssociationInput, len(ids))
		for i, id := range ids {
			in[i].ID = id
		}
		res, err := c.BatchReadAssociations(ctx, "contacts", "companies", in)
		if err != nil {
			return err
		}
		for _, r := range res.Results {
			n := 0
			for _, to := range r.To {
				n += len(to.Types)
			}
			if n != edges[r.FromID] {
				wrong.Add(1)
			}
		}
		return nil
	}
	began := time.Now()
	var g sync.WaitGroup
	loop := func(n int, pick func() func() error) {
		for range n {
			g.Go(func() {
				for s.Stats().Calls < calls {
					if err := pick()(); err != nil {
						t.Errorf("call: %v", err)
						return
					}
				}
			})
		}
	}
	loop(20, func() func() error { return work[rand.IntN(len(work))] })
	loop(6, func() func() error { return search })
	loop(1, func() func() error { return associations })
	g.Wait()
	took := time.Since(began)
	cancel()
	watching.Wait()

	st := s.Stats()
	reads := float64(st.Calls-st.ByFamily["search"]-st.ByFamily["associations"]) / took.Seconds()
	searches := float64(st.ByFamily["search"]) / took.Seconds()
	t.Logf("%d calls in %s: burst %.2f/s of 19 (%.1f %%), search %.2f/s of the pace of 4 (%.1f %%); status %v; peaks %v; violations %v; refused %v; %d writes, %d ambiguous",
		st.Calls, took.Round(time.Millisecond), reads, reads/0.19, searches, searches/0.04, st.ByStatus, st.Peak, st.Violations, st.RateLimited, writes.Load(), ambiguous.Load())
	if wrong.Load() != 0 {
		t.Errorf("%d results are wrong", wrong.Load())
	}
	if n := s.Count("contacts"); n != len(truth) {
		t.Errorf("%d records, there were %d", n, len(truth))
	}
	after := map[int64]string{}
	for _, r := range s.Snapshot("contacts") {
		after[r.ID] = r.Properties["phone"]
	}
	lost := 0
	for i := range written {
		if n := written[i].Load(); n != 0 && after[truth[i].ID] != "+49"+strconv.FormatInt(n, 10) {
			lost++
		}
	}
	// Two updates of one record may cross; a record comes round after as many updates as there are records.
	if lost > 0 && writes.Load() < int64(len(truth)) {
		t.Errorf("%d writes that were reported done are not there", lost)
	}
	if stalled.worst < 100*time.Millisecond {
		if len(st.Violations) > 0 {
			t.Errorf("calls over limits: %v", st.Violations)
		}
	} else {
		if want := max(190, stalled.most(t, 10250*time.Millisecond, 190/10.25)); st.Peak["burst"] > want {
			t.Errorf("%d calls in 10 s", st.Peak["burst"])
		}
		if want := max(5, stalled.most(t, 1249*time.Millisecond, 4)); st.Peak["search"] > want {
			t.Errorf("%d searches in a second", st.Peak["search"])
		}
	}
	// A short run is mostly its beginning and its end, when not all workers are at it.
	part := 0.95
	if calls < 5000 {
		part = 0.85
	}
	if want := float64(stalled.least(took, part*19)) / took.Seconds(); reads < want {
		t.Errorf("%.2f calls a second, want %.2f, %.0f %% of what is allowed", reads, want, 100*part)
	}
}
