package materialize_test

import (
	"context"
	"testing"
	"time"

	"hubpg/internal/pgtest"
)

// Histories of a fleet happen in rounds: each account is filled once, and in each round something happens to all of
// them at once, after which all must be right. More of either share the cost of filling and of each kill.
const (
	perFleet = 10
	rounds   = 20
)

// TestHistoriesOfKilledProcessesConverge: whatever happens to an account, to the processes that keep it and to Postgres,
// in the end the tables are what HubSpot has, the change log replayed from empty gives the tables, and nobody who reads
// the log meanwhile sees it go back or a gap in it filled. It tries 200 histories, or any number when asked:
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

// live plays the histories: a third of the first while the tables are filled, all others when they are live, with
// Postgres restarted or crashed in the middle of every other round. It returns how many there were.
func (f *fleet) live() (histories int) {
	t := f.t
	t.Helper()
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	watched := make(chan error, 1)
	go func() { watched <- f.watch(watching) }()
	defer f.finish()
	begun := time.Now()
	f.begin()
	f.play(0, func(events []event) []event { return events[:len(events)/3] })
	f.filled()
	full := time.Since(begun)
	var settling time.Duration
	for round := range f.rounds {
		start := time.Now()
		done := f.disturb(round)
		f.play(round, func(events []event) []event {
			if round == 0 {
				return events[len(events)/3:]
			}
			return events
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		quiet := time.Now()
		f.settle(round)
		f.replay(round)
		histories += len(f.histories)
		settling += time.Since(quiet)
		t.Logf("seed %d: round %d played in %s, right after %s", f.first, round, quiet.Sub(start).Round(time.Millisecond),
			time.Since(quiet).Round(time.Millisecond))
	}
	stop()
	if err := <-watched; err != nil {
		t.Fatal(err)
	}
	f.sameLog()
	f.finish()
	if f.kills == 0 && len(f.histories) == perFleet {
		t.Error("no process was killed")
	}
	t.Logf("seed %d: %d histories of %d accounts, %d kills, %d changes: filled after %s, settled for %s of %s, workers took %s", f.first, histories,
		len(f.histories), f.kills, len(f.log), full.Round(time.Millisecond), settling.Round(time.Millisecond),
		time.Since(begun).Round(time.Millisecond), f.spent.Round(time.Millisecond))
	return histories
}

// disturb restarts or crashes Postgres in the course of every other round.
func (f *fleet) disturb(round int) <-chan error {
	done := make(chan error, 1)
	if round%2 == 1 {
		done <- nil
		return done
	}
	mode := pgtest.Fast
	if (f.first+round/2)%2 == 0 {
		mode = pgtest.Immediate
	}
	wait := time.Duration(200+f.random.IntN(600)) * time.Millisecond
	go func() { // ends before the round does
		time.Sleep(wait)
		done <- f.cluster.Restart(f.t.Context(), mode)
	}()
	return done
}
