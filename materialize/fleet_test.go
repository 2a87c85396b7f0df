package materialize_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"hubpg/internal/changes"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
	"hubpg/migrations"
)

// fleet is a number of accounts in one database, each with a history, and the processes that keep them, which are
// killed all the time. A history that kills, kills for all.
type fleet struct {
	t         *testing.T
	cluster   *pgtest.Cluster
	url       string // of the database
	pool      *pgxpool.Pool
	first     int // seed of the first account; of the others in order
	rounds    int
	histories []*history
	accounts  []byte // as the processes are told
	random    *rand.Rand

	restarts errgroup.Group // of Postgres

	mu      sync.Mutex // guards below
	begun   int        // histories
	workers []*fleetWorker
	kills   int
	spent   time.Duration    // processor time of workers that have ended
	killed  time.Time        // when the last was killed
	lost    error            // why a worker ended by itself
	settled []time.Duration  // how long after the last event of a history its account was right
	log     []changes.Change // as a reader has seen it in the course of time; change n is at n-1
}

// history is one account of a fleet and what happens to it in each round.
type history struct {
	*world
	seed   int
	player *player
	events [][]event

	surfaces bool // lists, forms and the like are kept too

	replayed replay // what the change log makes of empty tables
	upTo     int64  // the last change in it
}

// fleetWorker is a process of a fleet.
type fleetWorker struct {
	cmd   *exec.Cmd
	life  io.Closer     // standard input: the process ends with it
	ended chan struct{} // closed when it has
}

const (
	fleetWorkers  = 2
	sharedConns   = 16                     // of a worker, beside those on which its engines listen
	killPause     = 250 * time.Millisecond // between two kills at least
	killsEach     = 4                      // kills that a history lives through, about: each is one for all accounts
	settleAtLeast = 3 * time.Second        // suspects of being gone wait for two
	settleWithin  = 8 * time.Minute        // after the last event; only a machine that is busy with other work needs more than seconds
	slowly        = 15 * time.Second       // after so long it is told where an account stands, and after twice as long again
	look          = 200 * time.Millisecond // between two comparisons
)

// fleetCluster starts a server of its own, because it is going to be crashed.
func fleetCluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	cluster, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{
		Dir: pgtest.Dir(t), Settings: map[string]string{"max_connections": "400"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Kill() })
	return cluster
}

// newFleet makes a database with accounts for so many histories.
func newFleet(t *testing.T, cluster *pgtest.Cluster, first, histories int) *fleet {
	t.Helper()
	name := fmt.Sprint("fleet_", first)
	f := &fleet{
		t: t, cluster: cluster, url: cluster.URL(name), random: rand.New(rand.NewPCG(uint64(first), 7)),
		first: first, rounds: (histories + perFleet - 1) / perFleet,
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: HUBPG_SEED=%d HUBPG_HISTORIES=%d go test -race ./materialize -run '^TestHistoriesOfKilledProcessesConverge$'",
				first, histories)
		}
	})
	admin, err := pgx.Connect(t.Context(), cluster.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.Exec(t.Context(), "create database "+pgx.Identifier{name}.Sanitize())
	_ = admin.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	err = migrations.Up(t.Context(), conn)
	_ = conn.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.pool, err = pgxpool.New(t.Context(), sized(f.url, 16)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.Close)
	var accounts []childAccount
	for i := range min(perFleet, histories) {
		h, account := f.history(int64(i+1), first+i)
		f.histories = append(f.histories, h)
		accounts = append(accounts, account)
	}
	if f.accounts, err = json.Marshal(accounts); err != nil {
		t.Fatal(err)
	}
	return f
}

// history makes an account. Each fifth has lists, forms and the like too. Each fourth is kept by the follow and archived lanes alone, so that no sweep can rescue
// what they lose; each third is an app's whose token expires; each fifth keeps deleted records.
func (f *fleet) history(portal int64, seed int) (*history, childAccount) {
	hub := sandbox.New(sandbox.Config{
		Seed: int64(seed), PortalID: portal, Contacts: 20, Quiet: true,
		IndexLag: time.Duration(seed%4) * 300 * time.Millisecond, Disorder: seed%2 == 0,
	})
	api := httptest.NewServer(hub)
	f.t.Cleanup(api.Close)
	schema := fmt.Sprint("hubspot_", portal)
	h := &history{
		world: &world{t: f.t, hub: hub, url: api.URL, in: schema, pool: f.pool},
		seed:  seed, player: newPlayer(hub, api.URL), replayed: replay{},
	}
	account := childAccount{
		URL: api.URL, Schema: schema, Objects: []string{"contacts", "companies", "boats"}, Soft: seed%5 == 4,
		Pace: materialize.Pace{
			Busy: 100 * time.Millisecond, Idle: time.Second, Overlap: 3 * time.Second, Trailing: 3 * time.Second,
			Schema: 4 * time.Second, Archived: 2 * time.Second, IDs: 4 * time.Second, Pairs: 4 * time.Second,
			Pending: time.Second, Retry: time.Second, Step: 3 * time.Second,
		},
	}
	if seed%5 == 2 {
		account.Objects = append(account.Objects, surfaceTables()...)
		account.Pace.Lookups = 2 * time.Second
		h.surfaces = true
	}
	kinds := anything
	if seed%4 == 3 {
		kinds = followed
		account.Pace.Trailing, account.Pace.IDs, account.Pace.Pairs = time.Hour, time.Hour, time.Hour
	}
	if seed%3 == 1 {
		var err error
		if account.Refresh, err = hub.Install(sandbox.DefaultClientID); err != nil {
			f.t.Fatal(err)
		}
	}
	for round := range f.rounds {
		h.events = append(h.events, histories(slices.Concat(kinds, disasters), 10, 30).Example(seed+round*1_000_003))
	}
	return h, account
}

// launch starts a worker. The caller holds the lock.
func (f *fleet) launch() (*fleetWorker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &fleetWorker{cmd: exec.Command(self), ended: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), childDatabase+"="+sized(f.url, sharedConns+len(f.histories)), childFleet+"="+string(f.accounts))
	w.cmd.Stderr = os.Stderr
	if w.life, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		defer close(w.ended)
		_ = w.cmd.Wait()
	}()
	return w, nil
}

// end kills a worker and notes when it had ended already. The caller holds the lock.
func (f *fleet) end(w *fleetWorker) {
	select {
	case <-w.ended:
		f.lost = fmt.Errorf("a worker ended by itself: %s", w.cmd.ProcessState)
	default:
	}
	_ = w.cmd.Process.Kill()
	<-w.ended
	_ = w.life.Close()
	f.spent += w.cmd.ProcessState.UserTime() + w.cmd.ProcessState.SystemTime()
}

// begin starts the workers.
func (f *fleet) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range fleetWorkers {
		w, err := f.launch()
		if err != nil {
			f.t.Fatal(err)
		}
		f.workers = append(f.workers, w)
	}
}

// strike kills a worker and starts another, unless it has just done so, or often enough.
func (f *fleet) strike() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.killed) < killPause || f.kills*len(f.histories) >= killsEach*f.begun {
		return nil
	}
	i := f.random.IntN(len(f.workers))
	f.end(f.workers[i])
	w, err := f.launch()
	if err != nil {
		return err
	}
	f.workers[i] = w
	f.kills++
	f.killed = time.Now()
	return nil
}

// finish ends the workers for good.
func (f *fleet) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.workers {
		f.end(w)
	}
	f.workers = nil
	if f.lost != nil {
		f.t.Error(f.lost)
	}
}

// play lets events happen to an account.
func (f *fleet) play(ctx context.Context, h *history, what string, events []event) error {
	for i, e := range events {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		if slices.Contains(disasters, e.kind) {
			err = f.strike()
		} else {
			err = h.player.do(e)
		}
		if err != nil {
			return fmt.Errorf("seed %d, %s, event %d, %s: %w", h.seed, what, i, e.kind, err)
		}
		time.Sleep(time.Duration(e.value%100) * time.Millisecond)
	}
	h.player.peace()
	return nil
}

// watch reads the change log until ctx ends, as an application would. It never sees a number twice, or smaller than one
// before, and no number is missing that comes later.
func (f *fleet) watch(ctx context.Context) error {
	seq := int64(0)
	for ctx.Err() == nil {
		list, err := changes.Read(ctx, f.pool, seq, 500)
		for i := range list {
			if list[i].Seq != seq+1 {
				return fmt.Errorf("a reader that has seen change %d was given %d next", seq, list[i].Seq)
			}
			seq = list[i].Seq
		}
		f.mu.Lock()
		f.log = append(f.log, list...)
		f.mu.Unlock()
		if err != nil || len(list) == 0 {
			time.Sleep(10 * time.Millisecond) // nothing new, or Postgres is away
		}
	}
	return nil
}

// within repeats check until it says "", or a while has passed.
func (f *fleet) within(ctx context.Context, h *history, what string, check func(context.Context) string) error {
	slow, start := slowly, time.Now()
	for deadline := time.Now().Add(settleWithin); ; {
		problem := check(ctx)
		if problem == "" {
			return nil
		}
		if time.Since(start) > slow {
			f.t.Logf("seed %d: %s after %s: %s; %s", h.seed, slow, what, problem, h.account())
			slow *= 2
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("seed %d: %s after %s: %s; %s", h.seed, settleWithin, what, problem, h.account())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
}

// filled waits until an account has been read once.
func (f *fleet) filled(ctx context.Context, h *history) error {
	return f.within(ctx, h, "the first events", func(ctx context.Context) string {
		var n int
		if err := f.pool.QueryRow(ctx, `
select count(*)
from hubpg.objects
join hubpg.accounts using (portal_id)
where schema_name = $1 and table_name in ('contacts', 'companies') and phase = 'live'`, h.in).Scan(&n); err != nil {
			return err.Error()
		}
		if n < 2 {
			return fmt.Sprintf("%d of 2 tables are live", n)
		}
		return ""
	})
}

// settle waits until an account is as its history has left it, and compares it with the change log then.
func (f *fleet) settle(ctx context.Context, h *history, what string) error {
	quiet := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settleAtLeast):
	}
	if err := f.within(ctx, h, what, func(context.Context) string { return h.problem() }); err != nil {
		return err
	}
	f.mu.Lock()
	f.settled = append(f.settled, time.Since(quiet))
	f.mu.Unlock()
	var wrong error
	err := f.within(ctx, h, what, func(ctx context.Context) string {
		problem, away := f.replay(ctx, h)
		if problem != "" && !away {
			wrong = fmt.Errorf("seed %d, %s: %s", h.seed, what, problem)
			return ""
		}
		return problem
	})
	return errors.Join(err, wrong)
}

// problem says in what the tables are not as HubSpot has it.
func (h *history) problem() string {
	tables := []string{"contacts", "companies", "contacts_companies"}
	if h.player.boats != "" {
		tables = append(tables, "boats")
	}
	var live int
	if err := h.pool.QueryRow(context.Background(), `
select count(*)
from hubpg.objects
join hubpg.accounts using (portal_id)
where schema_name = $1 and phase = 'live' and table_name = any ($2)`, h.in, tables).Scan(&live); err != nil {
		return err.Error()
	}
	if live < len(tables) {
		return fmt.Sprintf("%d of the tables %v are live", live, tables)
	}
	for _, table := range []string{"contacts", "companies"} { // which costs less than to compare them
		var n int
		if err := h.pool.QueryRow(context.Background(), `
select row_count
from hubpg.objects
join hubpg.accounts using (portal_id)
where schema_name = $1 and table_name = $2`, h.in, table).Scan(&n); err != nil {
			return err.Error()
		}
		if want := h.hub.Count(table); n != want {
			return fmt.Sprintf("%s has %d rows of %d", table, n, want)
		}
	}
	if d := h.difference(); d != "" {
		return d
	}
	if d := h.edgeDifference(); d != "" || !h.surfaces {
		return d
	}
	return h.surfaceDifference()
}

// account tells what hubpg shows of the account's tables that are not well, and where its lanes stand.
func (h *history) account() (text string) {
	err := h.pool.QueryRow(context.Background(), `
with a as (select portal_id, last_error from hubpg.accounts where schema_name = $1)
select concat_ws(E'\n\t',
	(select format('account %s: %s', portal_id, last_error) from a),
	(select string_agg(format('%s is %s: %s (%s, %s)', table_name, phase, o.last_error, error_lane, o.error_at), E'\n\t')
	from hubpg.objects o join a using (portal_id) where phase <> 'live' or o.last_error is not null),
	(select string_agg(format('absent %s: %s', table_name, b.last_error), E'\n\t') from hubpg.absent b join a using (portal_id)),
	(select string_agg(format('%s %s is %s, attempt %s at %s, due %s, by %s', j.args ->> 'lane', j.args ->> 'table', state, attempt,
		attempted_at, scheduled_at, attempted_by[cardinality(attempted_by)]), E'\n\t')
	from hubpg.river_job j join a on (j.args ->> 'portal')::bigint = portal_id
	where state not in ('completed', 'cancelled')),
	format('now it is %s', now()))`, h.in).Scan(&text)
	if err != nil {
		return err.Error()
	}
	return text
}

// replay compares the tables of an account with what the change log makes of empty ones. away says that Postgres did not
// answer to the end.
func (f *fleet) replay(ctx context.Context, h *history) (problem string, away bool) {
	tx, err := f.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err.Error(), true
	}
	defer func() { _ = tx.Rollback(ctx) }()
	cat, err := h.loadCatalog(ctx, tx)
	if err != nil {
		return err.Error(), true
	}
	var last int64
	if err := tx.QueryRow(ctx, "select last from hubpg.change_counter").Scan(&last); err != nil {
		return err.Error(), true
	}
	news, err := f.seen(ctx, h.upTo, last)
	if err != nil {
		return err.Error(), true
	}
	if h.upTo = last; len(news) > 0 {
		if problem := h.replayed.add(cat, h.in, news); problem != "" {
			return problem, false
		}
	}
	if problem = h.replayedDifference(ctx, tx, cat, h.replayed, nil); problem == "" {
		return "", false
	}
	_, err = tx.Exec(ctx, "select 1")
	return problem, err != nil
}

// seen returns the changes from behind one up to another, when the reader of the log has come so far.
func (f *fleet) seen(ctx context.Context, after, upTo int64) ([]changes.Change, error) {
	for {
		f.mu.Lock()
		log := f.log
		f.mu.Unlock()
		if int64(len(log)) >= upTo {
			return log[after:upTo], nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the reader of the log has come to %d of %d: %w", len(log), upTo, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sameLog compares the log with what its reader has seen in the course of time.
func (f *fleet) sameLog() {
	f.t.Helper()
	whole, err := logAfter(f.t.Context(), f.pool, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	for i, c := range f.log {
		if w := whole[i]; w.RecordID != c.RecordID || w.Op != c.Op || w.Schema != c.Schema || w.Table != c.Table {
			f.t.Fatalf("a reader was given %+v as change %d, which is %+v", c, i+1, w)
		}
	}
}
