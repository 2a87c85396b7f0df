package budget_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

var _ hubapi.Limiter = (*budget.Budget)(nil)

func TestMain(m *testing.M) {
	if text := os.Getenv(processVariable); text != "" {
		if err := runProcess(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

const portal = 4242

// quick is a budget with a short window, so that tests need few seconds: the search limit, 100 calls a second.
var quick = budget.Config{PortalID: portal, Search: 100, Share: 0.5, Guard: 50 * time.Millisecond}

const (
	quickPace   = 50 / 1.05 // calls a second that it lets pass
	quickWindow = time.Second + 49*time.Millisecond
)

// busiest returns the largest number of calls in any window of length w.
func busiest(at []time.Time, w time.Duration) int {
	slices.SortFunc(at, time.Time.Compare)
	most, from := 0, 0
	for i := range at {
		for at[i].Sub(at[from]) >= w {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func TestReadsOfOneProcessKeepTheirShareInEveryWindow(t *testing.T) {
	t.Parallel()
	b := budget.New(pgtest.Migrated(t, migrations.Up).Pool(t), quick)
	var wg sync.WaitGroup
	var out calls
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	stalled := watch(ctx, &wg)
	load(ctx, &wg, b, 10, "search", "fresh", &out)
	wg.Wait()
	if most, want := busiest(out.at["fresh"], time.Second), stalled.most(t, quickWindow, quickPace); most > want {
		t.Errorf("%d calls in one second, the share is %d", most, want)
	}
	if n, want := out.count("fresh"), stalled.least(4*time.Second, 0.9*50); n < want {
		t.Errorf("%d calls in 4 s, want at least %d, 90%% of the share", n, want)
	}
}

// A third of five searches a second is 1.67: never more than two in a window, guard included, and 1.6 a second.
func TestReadsUseTheirShareOfFewCalls(t *testing.T) {
	t.Parallel()
	pool := pgtest.Migrated(t, migrations.Up).Pool(t)
	for i, c := range []struct {
		cfg    budget.Config
		family string
		want   time.Duration // between two reads
	}{
		{budget.Config{Search: 5, Share: 1.0 / 3}, "search", 1250 * time.Millisecond / 2},
		{budget.Config{Search: 5, Share: 0.4}, "search", 1250 * time.Millisecond / 2},
		{budget.Config{Search: 5, Share: 0.21}, "search", time.Second * 20 / 21}, // two in a window would be more than the share
		{budget.Config{Search: 5, Share: 1}, "search", 1250 * time.Millisecond / 5},
		{budget.Config{Burst: 190, Share: 1.0 / 3}, "object", 10400 * time.Millisecond / 64},
	} {
		c.cfg.PortalID = portal + int64(i)
		stored := budget.New(pool, c.cfg)
		simulated, _ := budget.NewInMemory(c.cfg)
		for _, b := range []*budget.Budget{stored, simulated} {
			if step, err := b.Step(t.Context(), c.family); err != nil || (step-c.want).Abs() > time.Microsecond {
				t.Errorf("%+v: a read each %s, want %s (%v)", c.cfg, step, c.want, err)
			}
		}
	}
}

func TestManyProcessesKeepTheShareTogether(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	var wg sync.WaitGroup
	var all calls
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	each := make([]calls, 4)
	killed, kill := context.WithCancel(ctx)
	for i := range each {
		b := budget.New(db.Pool(t), quick)
		life := ctx
		if i < 2 {
			life = killed // half of them die without a word
		}
		for range 6 {
			wg.Go(func() {
				for b.Wait(life, "search", "backfill") == nil {
					all.add("backfill")
					each[i].add("backfill")
				}
			})
		}
	}
	stalled := watch(ctx, &wg)
	time.AfterFunc(3*time.Second, kill)
	start := time.Now()
	wg.Wait()
	if most, want := busiest(all.at["backfill"], time.Second), stalled.most(t, quickWindow, quickPace); most > want {
		t.Errorf("%d calls of all processes in one second, the share is %d", most, want)
	}
	var first, last int
	for _, at := range all.at["backfill"] {
		switch since := at.Sub(start); {
		case since < 3*time.Second:
			first++
		case since > 4*time.Second && since < 6*time.Second:
			last++
		}
	}
	if want := stalled.least(2500*time.Millisecond, 0.9*50); first < want {
		t.Errorf("%d calls in 3 s by four processes, want %d of 150", first, want)
	}
	if want := stalled.least(2*time.Second, 0.85*50); last < want {
		t.Errorf("%d calls in 2 s, one second after two of four processes died, want %d of 100", last, want)
	}
	for i := range each {
		if n := each[i].count("backfill"); n < 5 {
			t.Errorf("process %d got %d calls: the share is not divided", i, n)
		}
	}
}

func TestFreshReadsOfAnotherProcessGoFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	cfg := quick
	cfg.Search = 20 // steps of about 100 ms, so that horizons matter
	filling, following := budget.New(db.Pool(t), cfg), budget.New(db.Pool(t), cfg)
	var wg sync.WaitGroup
	var out calls
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	load(ctx, &wg, filling, 8, "search", "backfill", &out)
	load(ctx, &wg, following, 8, "search", "fresh", &out)
	wg.Wait()
	fresh, backfill := out.count("fresh"), out.count("backfill")
	if fresh < 3*backfill || backfill == 0 {
		t.Errorf("%d fresh reads, %d of the backfill in another process", fresh, backfill)
	}
}

func TestRefusalReachesEveryProcess(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	refused, other := budget.New(db.Pool(t), quick), budget.New(db.Pool(t), quick)
	refused.Observe("object", http.StatusTooManyRequests, nil, "TEN_SECONDLY_ROLLING")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = refused.Run(ctx) })
	pool := db.Pool(t)
	eventually(t, pool, `select paused_until > now() + interval '2 s' from hubpg.quota where bucket = 'burst'`)
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := other.Wait(short, "object", "fresh"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another process sent a call into the pause: %v", err)
	}
	if err := other.Wait(t.Context(), "search", "fresh"); err != nil {
		t.Errorf("the search limit was paused too: %v", err)
	}
	refused.Observe("search", http.StatusTooManyRequests, nil, "SECONDLY")
	eventually(t, pool, `select slow_until > now() from hubpg.quota where bucket = 'search'`)
	stop()
	wg.Wait()
}

func TestLimitsAreLearnedFromHeaders(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	b := budget.New(db.Pool(t), budget.Config{PortalID: portal})
	h := http.Header{}
	h.Set("X-HubSpot-RateLimit-Max", "190")
	h.Set("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")
	h.Set("X-HubSpot-RateLimit-Daily", "625000")
	h.Set("X-HubSpot-RateLimit-Daily-Remaining", "600000")
	b.Observe("object", 200, h, "")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	defer wg.Wait()
	defer stop()
	for _, family := range []string{"object", "association"} {
		if err := b.Wait(ctx, family, "fresh"); err != nil {
			t.Fatal(err)
		}
	}
	pool := db.Pool(t)
	eventually(t, pool, `select (select max_calls from hubpg.quota where bucket = 'burst') = 190
		and (select max_calls from hubpg.quota where bucket = 'association') = 150
		and (select max_calls from hubpg.quota where bucket = 'search') = 5
		and (select max_calls = 625000 and remaining = 600000 and used = 2 and reads = 2 and resets_at > now()
		     from hubpg.quota where bucket = 'daily')
		and (select used from hubpg.quota where bucket = 'burst') = 1`)
	if s := b.Snapshot(); s.Daily.Limit != 625000 || s.Buckets[1].Limit != 190 {
		t.Errorf("snapshot %+v", s)
	}
	h.Set("X-HubSpot-RateLimit-Max", "-1")
	b.Observe("object", 200, h, "")
	if err := b.Wait(ctx, "object", "fresh"); err != nil {
		t.Errorf("after a header that makes no sense: %v", err)
	}
}

func TestLostRowsComeBack(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	b := budget.New(db.Pool(t), quick)
	for range 2 {
		if err := b.Wait(t.Context(), "search", "fresh"); err != nil {
			t.Fatal(err)
		}
		// What a crash of the server does to an unlogged table.
		if _, err := db.Conn(t).Exec(t.Context(), "truncate hubpg.quota_buckets"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Wait(t.Context(), "search", "fresh"); err != nil {
		t.Error(err)
	}
}

func TestMissingTableIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	b := budget.New(pgtest.New(t).Pool(t), quick)
	start := time.Now()
	err := b.Wait(t.Context(), "object", "fresh")
	if err == nil || !strings.Contains(err.Error(), "quota_buckets") || time.Since(start) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestAccountsDoNotShareQuota(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	cfg := quick
	cfg.Search = 2
	one := budget.New(db.Pool(t), cfg)
	cfg.PortalID = portal + 1
	two := budget.New(db.Pool(t), cfg)
	start := time.Now()
	for _, b := range []*budget.Budget{one, two} {
		if err := b.Wait(t.Context(), "search", "fresh"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("two accounts waited %v for each other", took)
	}
}

// eventually polls until sql is true.
func eventually(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		var ok *bool
		if err := pool.QueryRow(t.Context(), sql).Scan(&ok); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		if ok != nil && *ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	rows, err := pool.Query(t.Context(), "select row_to_json(q)::text from hubpg.quota q")
	if err != nil {
		t.Fatal(err)
	}
	state, err := pgx.CollectRows(rows, pgx.RowTo[string])
	t.Fatalf("never true: %s\n%v %v", sql, fmt.Sprint(strings.Join(state, "\n")), err)
}

func BenchmarkReserve(b *testing.B) {
	pool := pgtest.Migrated(b, migrations.Up).Pool(b)
	l := budget.New(pool, budget.Config{PortalID: portal, Search: 1_000_000, Share: 1})
	for b.Loop() {
		if err := l.Wait(b.Context(), "search", "writes"); err != nil {
			b.Fatal(err)
		}
	}
}
