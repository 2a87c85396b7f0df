package budget_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/sandbox"
)

// hostileAccount is an account of the hostile profile with HubSpot's limits.
func hostileAccount(t *testing.T, contacts int) *sandbox.Server {
	t.Helper()
	profile, ok := sandbox.ProfileNamed("hostile")
	if !ok {
		t.Fatal("there is no hostile profile")
	}
	return sandbox.New(profile.Apply(sandbox.Config{
		Seed: 1, Contacts: contacts, Quiet: true, Limits: true, Latency: 40 * time.Millisecond,
	}))
}

// hostileCalls is how many calls a hostile run makes. With HUBPG_HOSTILE_CALLS=10000, which is seven minutes of HubSpot's
// time, it takes seconds, or minutes with the race detector.
func hostileCalls(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("HUBPG_HOSTILE_CALLS")
	if text == "" {
		return 1500
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 500 {
		t.Fatalf("HUBPG_HOSTILE_CALLS is %q", text)
	}
	return n
}

// TestHostileAccountIsReadRightWithinItsLimits lets one, two and four processes make reads and writes of every kind on the sandbox's hostile profile: every result is right, nothing is lost or written twice unnoticed, no call exceeds a
// limit by HubSpot's own rolling windows, and at least 95 % of the rate that is allowed is used. Of several processes one
// dies half-way; within five seconds the others use its share. Time is simulated, so that the machine does not matter.
func TestHostileAccountIsReadRightWithinItsLimits(t *testing.T) {
	t.Parallel()
	calls := hostileCalls(t)
	for name, n := range map[string]int{"one process": 1, "two processes": 2, "four processes": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { hostile(t, n, calls) })
		})
	}
}

func hostile(t *testing.T, n int, calls int64) {
	t.Helper()
	account := hostileAccount(t, 2000)
	before := newTruth(account.Snapshot("contacts"), account.Edges("contacts", "companies"))
	_, ledger := budget.NewInMemory(hostileBudget)
	ledger.Delay = 2 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	mortal, kill := context.WithCancel(ctx)
	var g sync.WaitGroup
	var stop atomic.Bool
	var mu sync.Mutex // guards refused
	var refused []time.Time
	workers := make([]*worker, n)
	for i := range workers {
		w, err := newWorker(job{HubSpot: "http://hubspot.invalid", Index: i, Of: n, Callers: 24/n + 4, Search: 4/n + 1},
			before, ledger.Budget(hostileBudget), hubapi.WithTransport(direct{account}))
		if err != nil {
			t.Fatal(err)
		}
		w.refused = func() {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, time.Now())
		}
		life := ctx
		if workers[i] = w; n > 1 && i == n-1 {
			life = mortal
		}
		w.run(life, &g, &stop)
	}
	time.Sleep(time.Second)
	first, began := account.Stats(), time.Now()
	until := func(calls int64) sandbox.Stats {
		for account.Stats().Calls < first.Calls+calls {
			time.Sleep(20 * time.Millisecond)
		}
		return account.Stats()
	}
	half, halved := until(calls/2), time.Now()
	kill() // its reserved calls are never made
	time.Sleep(5 * time.Second)
	middle, recovered := account.Stats(), time.Now()
	last := until(calls)
	took, whole, rest := time.Since(began).Seconds(), halved.Sub(began).Seconds(), time.Since(recovered).Seconds()
	mu.Lock()
	refusals := slices.Clone(refused)
	mu.Unlock()
	searchable := searchesAllowed(refusals, began, time.Since(began))
	stop.Store(true)
	g.Wait()
	kill()

	after := newTruth(account.Snapshot("contacts"), nil)
	if len(after.records) != len(before.records) {
		t.Errorf("%d records, there were %d", len(after.records), len(before.records))
	}
	for _, w := range workers {
		w.settle(after)
		one := &w.tally
		t.Logf("process %d: %d calls, %d writes, %d ambiguous, %d slots unused", w.job.Index, one.Calls, one.Writes, one.Ambiguous, one.Unused)
		if one.Wrong > 0 || one.Lost > 0 || len(one.Errors) > 0 || one.Writes == 0 {
			t.Errorf("process %d: %d results are wrong, %d of %d writes that were reported done are not there, errors %q",
				w.job.Index, one.Wrong, one.Lost, one.Writes, one.Errors)
		}
	}
	end := account.Stats()
	bursts, searches := float64(burstCalls(last)-burstCalls(first)), float64(last.ByFamily["search"]-first.ByFamily["search"])
	t.Logf("%d calls in %.0f s: burst %.2f/s of 19 (%.1f %%), search %.2f/s of %.2f (%.1f %%); status %v; peaks %v; violations %v",
		last.Calls-first.Calls, took, bursts/took, bursts/took/0.19, searches/took, searchable/took, 100*searches/searchable,
		end.ByStatus, end.Peak, end.Violations)
	if len(end.Violations) > 0 {
		t.Errorf("calls over limits: %v", end.Violations)
	}
	for when, part := range map[string]struct {
		from, to sandbox.Stats
		took     float64
	}{"at first": {first, half, whole}, "from 5 s after a process died": {middle, last, rest}} {
		if got := float64(burstCalls(part.to) - burstCalls(part.from)); got < 0.95*19*part.took {
			t.Errorf("%s: %.2f calls a second, %.1f %% of what is allowed", when, got/part.took, got/part.took/0.19)
		}
	}
	if searches < 0.95*searchable {
		t.Errorf("%.2f searches a second, %.1f %% of what is allowed", searches/took, 100*searches/searchable)
	}
}

// direct is the way to a sandbox without a network: calls take up to 50 ms to arrive, one in a hundred up to 200 ms.
type direct struct{ account *sandbox.Server }

func (d direct) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close()
	way := rand.N(50 * time.Millisecond)
	if rand.IntN(100) == 0 {
		way = rand.N(200 * time.Millisecond)
	}
	if err := pause(req.Context(), way); err != nil {
		return nil, err
	}
	answer := httptest.NewRecorder()
	if d.cut(answer, in) && answer.Body.Len() == 0 {
		return nil, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	resp = answer.Result()
	if want := resp.Header.Get("Content-Length"); want != "" && want != fmt.Sprint(answer.Body.Len()) {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(answer.Body.Bytes()), broken{}))
	}
	return resp, nil
}

// cut serves a request and tells whether the server broke the connection.
func (d direct) cut(w http.ResponseWriter, req *http.Request) (cut bool) {
	defer func() {
		if why := recover(); why != nil {
			if why != http.ErrAbortHandler { //nolint:errorlint // a panic's value is what it is
				panic(why)
			}
			cut = true
		}
	}()
	d.account.ServeHTTP(w, req)
	return false
}

// broken is the rest of an answer whose connection broke.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// burstCalls are those that count against the burst limit.
func burstCalls(st sandbox.Stats) int64 {
	return st.Calls - st.ByFamily["search"] - st.ByFamily["associations"]
}

// searchesAllowed is how many searches the pace of four a second makes, halved for ten seconds after each refusal: the
// limit of search is shared with all other apps of the account.
func searchesAllowed(refused []time.Time, began time.Time, took time.Duration) float64 {
	slices.SortFunc(refused, time.Time.Compare)
	var slow time.Duration
	until, end := began, began.Add(took)
	for _, at := range refused {
		from, to := at, at.Add(10*time.Second)
		if from.Before(until) {
			from = until
		}
		if to.After(end) {
			to = end
		}
		if to.After(from) {
			slow += to.Sub(from)
			until = to
		}
	}
	return 4 * (took - slow/2).Seconds()
}
