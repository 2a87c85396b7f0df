package budget_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/sandbox"
)

// processVariable makes the test binary a process that calls HubSpot as a job says, instead of running tests.
const processVariable = "HUBPG_BUDGET_PROCESS"

// job is what one of several processes does that share an account's quota.
type job struct {
	HubSpot  string
	Database string
	Index    int // of Of processes
	Of       int
	Callers  int // of objects
	Search   int // callers of search
}

// tally is what a process has to say at its end.
type tally struct {
	Calls     int64
	Wrong     int64 // results that are not the truth
	Writes    int64
	Ambiguous int64 // writes whose answers were lost
	Lost      int64 // writes that were reported done and are not there
	Unused    int64 // slots of the burst limit that went by
	Errors    []string

	Busy    float64       // part of the time in which somebody waited for the burst limit
	Stalled time.Duration // for how much longer than asked the machine let the process sleep, in all
	Worst   time.Duration // at once
}

// runProcess is main of a process: it says ready, works until its standard input ends, and prints its tally.
func runProcess(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	pool, err := pgxpool.New(ctx, j.Database)
	if err != nil {
		return fmt.Errorf("open pool: %w", err)
	}
	defer pool.Close()
	t, err := fetchTruth(ctx, j.HubSpot)
	if err != nil {
		return err
	}
	w, err := newWorker(j, t, budget.New(pool, hostileBudget))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	measure, done := context.WithCancel(ctx)
	var watching sync.WaitGroup
	stalled := watch(measure, &watching)
	watching.Go(func() { w.attend(measure) })
	var g sync.WaitGroup
	var stop atomic.Bool
	w.run(ctx, &g, &stop)
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop.Store(true)
	done()
	watching.Wait()
	g.Wait()
	after, err := fetchTruth(ctx, j.HubSpot)
	if err != nil {
		return err
	}
	w.settle(after)
	w.tally.Stalled, w.tally.Worst = stalled.total, stalled.worst
	return json.NewEncoder(os.Stdout).Encode(w.tally)
}

// truth is what the sandbox knows.
type truth struct {
	records []sandbox.Record // live contacts, by id
	edges   map[int64]int    // companies that each contact is associated with, counted by type
}

func newTruth(records []sandbox.Record, edges []sandbox.Edge) *truth {
	t := &truth{slices.DeleteFunc(records, func(r sandbox.Record) bool { return r.Archived }), map[int64]int{}}
	for _, e := range edges {
		t.edges[e.From]++
	}
	return t
}

func fetchTruth(ctx context.Context, hubspot string) (*truth, error) {
	records, err := fetch[[]sandbox.Record](ctx, hubspot+"/_sandbox/snapshot?type=contacts")
	if err != nil {
		return nil, err
	}
	edges, err := fetch[[]sandbox.Edge](ctx, hubspot+"/_sandbox/edges?type=contacts&toType=companies")
	if err != nil {
		return nil, err
	}
	return newTruth(records, edges), nil
}

// hostileBudget leaves nothing to other apps: there are none.
var hostileBudget = budget.Config{PortalID: sandbox.DefaultPortalID, Share: 1, Burst: 190, Association: 150}

// worker makes calls of every kind and compares their results with the truth.
type worker struct {
	job     job
	client  *hubapi.Client
	budget  *budget.Budget
	names   *hubapi.Projection // of properties that nobody writes
	truth   *truth
	mine    []int          // indexes of the records that this process writes
	next    atomic.Int64   // into mine
	wrote   []atomic.Int64 // by index in mine, 1 when a write of it was reported done
	refused func()         // is told of each search that was refused, one at a time

	mu    sync.Mutex // guards tally
	tally tally
}

func newWorker(j job, t *truth, b *budget.Budget, opts ...hubapi.Option) (*worker, error) {
	w := &worker{job: j, truth: t, budget: b, names: hubapi.NewProjection([]string{"email", "lastname"}), refused: func() {}}
	var err error
	w.client, err = hubapi.New(j.HubSpot, hubapi.StaticToken(sandbox.DefaultToken), append(opts, hubapi.WithLimiter(w.budget),
		hubapi.WithRetry(hubapi.RetryPolicy{Tries: 10}), hubapi.WithObserver(w.observe))...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	for i := j.Index; i < len(t.records); i += j.Of {
		w.mine = append(w.mine, i)
	}
	w.wrote = make([]atomic.Int64, len(w.mine))
	return w, nil
}

// run starts callers that go on until they are to stop.
func (w *worker) run(ctx context.Context, g *sync.WaitGroup, stop *atomic.Bool) {
	for range w.job.Callers {
		g.Go(func() { w.repeat(ctx, stop, w.any) })
	}
	for range w.job.Search {
		g.Go(func() { w.repeat(ctx, stop, w.search) })
	}
	if w.job.Index == 0 {
		g.Go(func() { w.repeat(ctx, stop, w.associations) })
	}
}

// attend looks for how much of the time somebody waits: only then a slot that goes by is lost.
func (w *worker) attend(ctx context.Context) {
	looks, busy := 0, 0
	for ; pause(ctx, 5*time.Millisecond) == nil; looks++ {
		for _, b := range w.budget.Snapshot().Buckets {
			if b.Bucket == "burst" && b.Waiting["writes"]+b.Waiting["fresh"]+b.Waiting["backfill"] > 0 {
				busy++
			}
		}
	}
	w.tally.Busy = float64(busy) / float64(max(looks, 1))
}

// pause returns after d, or with ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetch reads what the sandbox itself knows.
func fetch[T any](ctx context.Context, url string) (T, error) {
	var v T
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return v, fmt.Errorf("ask the sandbox: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, fmt.Errorf("ask the sandbox: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("read %s: %w", url, err)
	}
	return v, nil
}

func (w *worker) observe(c hubapi.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.Calls++
	if c.Family == hubapi.FamilySearch && c.Status == http.StatusTooManyRequests {
		w.refused()
	}
}

// repeat makes calls until it is to stop. A call that comes back with when to return is made again then; every other
// error is one too many.
func (w *worker) repeat(ctx context.Context, stop *atomic.Bool, call func(context.Context) error) {
	for !stop.Load() {
		err := call(ctx)
		if refused, ok := errors.AsType[*hubapi.RateError](err); ok && refused.RetryAfter <= 5*time.Second {
			time.Sleep(refused.RetryAfter)
			continue
		}
		if ctx.Err() != nil {
			return // killed
		}
		if err != nil {
			w.mu.Lock()
			w.tally.Errors = append(w.tally.Errors, err.Error())
			w.mu.Unlock()
			return
		}
	}
}

func (w *worker) wrong(is bool) {
	if is {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tally.Wrong++
	}
}

// check compares records with the truth.
func (w *worker) check(recs []hubapi.Record) {
	for _, r := range recs {
		i, ok := slices.BinarySearchFunc(w.truth.records, r.ID, func(t sandbox.Record, id int64) int { return int(t.ID - id) })
		w.wrong(!ok || !bytes.Equal(r.Values[0], []byte(w.truth.records[i].Properties["email"])) ||
			!bytes.Equal(r.Values[1], []byte(w.truth.records[i].Properties["lastname"])))
	}
}

// some returns the ids of fifty records.
func (w *worker) some() []int64 {
	at := rand.IntN(len(w.truth.records) - 50)
	ids := make([]int64, 50)
	for i := range ids {
		ids[i] = w.truth.records[at+i].ID
	}
	return ids
}

func (w *worker) any(ctx context.Context) error {
	return [...]func(context.Context) error{w.page, w.read, w.update}[rand.IntN(3)](ctx)
}

func (w *worker) page(ctx context.Context) error {
	at := rand.IntN(len(w.truth.records) - hubapi.MaxPage)
	page, err := w.client.As(hubapi.Backfill).ListObjects(ctx, "contacts", hubapi.ListOptions{
		Projection: w.names, After: strconv.FormatInt(w.truth.records[at].ID, 10),
	})
	if err != nil {
		return err
	}
	w.check(page.Records)
	w.wrong(len(page.Records) != hubapi.MaxPage || page.Records[0].ID != w.truth.records[at].ID)
	return nil
}

func (w *worker) read(ctx context.Context) error {
	ids := w.some()
	res, err := w.client.BatchRead(ctx, "contacts", ids, w.names)
	if err != nil {
		return err
	}
	w.check(res.Records)
	w.wrong(len(res.Records) != len(ids) || len(res.Missing)+len(res.Unanswered) > 0)
	return nil
}

// phone is what a record is given, once.
func phone(id int64) string { return "+49" + strconv.FormatInt(id, 10) }

func (w *worker) update(ctx context.Context) error {
	n := int(w.next.Add(1)) - 1
	if n >= len(w.mine) {
		return w.read(ctx)
	}
	id := w.truth.records[w.mine[n]].ID
	res, err := w.client.As(hubapi.Writes).BatchUpdate(ctx, "contacts", []hubapi.UpdateInput{
		{ID: id, Properties: map[string]string{"phone": phone(id)}},
	}, nil)
	if _, ok := errors.AsType[*hubapi.AmbiguousError](err); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tally.Writes++
		w.tally.Ambiguous++
		return nil
	}
	if err != nil {
		return err
	}
	w.wrong(res.Results[0].Err != nil || res.Results[0].Record.ID != id)
	w.wrote[n].Store(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.Writes++
	return nil
}

func (w *worker) search(ctx context.Context) error {
	res, err := w.client.Search(ctx, "contacts", hubapi.SearchRequest{Projection: w.names, Limit: 20})
	if err != nil {
		return err
	}
	w.check(res.Records)
	if len(res.Records) == 0 && res.After != "" {
		return nil // HubSpot does this; it is no end
	}
	w.wrong(res.Total != len(w.truth.records) || len(res.Records) != 20)
	return nil
}

func (w *worker) associations(ctx context.Context) error {
	ids := w.some()
	in := make([]hubapi.AssociationInput, len(ids))
	for i, id := range ids {
		in[i].ID = id
	}
	res, err := w.client.BatchReadAssociations(ctx, "contacts", "companies", in)
	if err != nil {
		return err
	}
	w.wrong(len(res.Results) != len(ids))
	for _, r := range res.Results {
		n := 0
		for _, to := range r.To {
			n += len(to.Types)
		}
		w.wrong(n != w.truth.edges[r.FromID])
	}
	return nil
}

// settle looks whether everything that was reported done is there.
func (w *worker) settle(after *truth) {
	phones := make(map[int64]string, len(after.records))
	for _, r := range after.records {
		phones[r.ID] = r.Properties["phone"]
	}
	for n := range w.wrote {
		if id := w.truth.records[w.mine[n]].ID; w.wrote[n].Load() == 1 && phones[id] != phone(id) {
			w.tally.Lost++
		}
	}
	for _, b := range w.budget.Snapshot().Buckets {
		if b.Bucket == "burst" {
			w.tally.Unused = b.Lost
		}
	}
}
