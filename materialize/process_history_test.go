package materialize_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hubpg/internal/pgtest"
)

// The accounts of a fleet live side by side: each is filled once and then lives one history after the other, without
// waiting for the others. More accounts or more histories of each share the cost of filling and of each kill.
const (
	perFleet = 20
	rounds   = 10
)

// TestHistoriesOfKilledProcessesConverge: whatever happens to an account, to the processes that keep it and to Postgres,
// in the end the tables are what HubSpot has, the change log replayed from empty gives the tables, and nobody who reads
// the log meanwhile sees it go back or a gap in it filled. It tries 200 histories, or any number when asked; those come
// faster without the race detector:
//
//	HUBPG_HISTORIES=10000 go test ./materialize -run TestHistoriesOfKilledProcesses -timeout 5h
//
// It does not run beside other tests, because it takes the whole machine.
func TestHistoriesOfKilledProcessesConverge(t *testing.T) { //nolint:paralleltest // see above
	const enough = perFleet * rounds
	count, first := asked(t, enough)
	cluster := fleetCluster(t)
	start, tried, kills := time.Now(), 0, 0
	for n := 0; n < count; n += enough {
		f := newFleet(t, cluster, first+n, min(enough, count-n))
		tried += f.live()
		kills += f.kills
	}
	if tried < count {
		t.Errorf("%d histories were tried of %d", tried, count)
	}
	t.Logf("%d histories, %d processes killed, %s", tried, kills, time.Since(start).Round(time.Second))
}

// live plays the histories of all accounts and returns how many there were. When the last has ended, everything is
// compared once more.
func (f *fleet) live() (tried int) {
	t := f.t
	t.Helper()
	begun := time.Now()
	watching, stop := context.WithCancelCause(t.Context())
	watched := make(chan struct{})
	go func() { // ends with watching
		defer close(watched)
		stop(f.watch(watching))
	}()
	defer f.finish()
	f.begin()
	g, ctx := errgroup.WithContext(watching)
	for _, h := range f.histories {
		tried += len(h.events)
		g.Go(func() error { return f.endure(ctx, h) })
	}
	err := errors.Join(g.Wait(), f.restarts.Wait())
	if err == nil {
		err = f.settleAll(watching)
	}
	stop(err)
	if <-watched; !errors.Is(context.Cause(watching), context.Canceled) {
		t.Fatal(context.Cause(watching))
	}
	f.sameLog()
	f.finish()
	if f.kills == 0 && len(f.histories) == perFleet {
		t.Error("no process was killed")
	}
	slices.Sort(f.settled)
	t.Logf("seed %d: %d histories of %d accounts in %s, %d kills, %d changes; right after %s, half of them after %s; workers took %s", f.first,
		tried, len(f.histories), time.Since(begun).Round(time.Millisecond), f.kills, len(f.log), f.settled[len(f.settled)-1].Round(time.Millisecond),
		f.settled[len(f.settled)/2].Round(time.Millisecond), f.spent.Round(time.Millisecond))
	return tried
}

// endure plays the histories of one account, the first third of the first while its tables are filled. After each, the
// account must come right while those of the others go on.
func (f *fleet) endure(ctx context.Context, h *history) error {
	for round, events := range h.events {
		f.begins()
		what := fmt.Sprintf("round %d", round)
		if round == 0 {
			if err := f.play(ctx, h, what, events[:len(events)/3]); err != nil {
				return err
			}
			if err := f.filled(ctx, h); err != nil {
				return err
			}
			events = events[len(events)/3:]
		}
		if err := f.play(ctx, h, what, events); err != nil {
			return err
		}
		if err := f.settle(ctx, h, what); err != nil {
			return err
		}
	}
	return nil
}

// settleAll compares everything at the end.
func (f *fleet) settleAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range f.histories {
		g.Go(func() error { return f.settle(ctx, h, "its last history") })
	}
	return g.Wait()
}

// begins counts a history. Postgres is restarted or crashed, in turn, as often as every account has begun two.
func (f *fleet) begins() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun++
	twice := 2 * len(f.histories)
	if f.begun%twice != len(f.histories) {
		return
	}
	mode := pgtest.Fast
	if (f.first+f.begun/twice)%2 == 0 {
		mode = pgtest.Immediate
	}
	wait := time.Duration(200+f.random.IntN(600)) * time.Millisecond
	f.restarts.Go(func() error { // one after the other
		time.Sleep(wait)
		return f.cluster.Restart(f.t.Context(), mode)
	})
}
