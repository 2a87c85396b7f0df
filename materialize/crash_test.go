package materialize_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// process runs an engine in a process of its own.
func (w *world) process(env ...string) *exec.Cmd {
	w.t.Helper()
	self, err := os.Executable()
	w.must(err)
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), childDatabase+"="+w.dbURL, childHubSpot+"="+w.url), env...)
	cmd.Stderr = os.Stderr
	w.must(cmd.Start())
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// TestKilledProcessesLoseAndDoubleNothing kills the materializer again and again while it fills and follows, and while
// the account changes.
func TestKilledProcessesLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 1500, Latency: 5 * time.Millisecond})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	changed := 0
	for range 8 {
		cmd := w.process()
		until := time.Now().Add(time.Duration(300+random.IntN(1500)) * time.Millisecond)
		for time.Now().Before(until) {
			w.scramble("contacts", changed)
			changed++
			time.Sleep(20 * time.Millisecond)
		}
		kill(cmd)
	}
	cmd := w.process()
	defer kill(cmd)
	start := time.Now()
	w.awaitLive(120 * time.Second)
	t.Logf("complete %s after the last kill", time.Since(start))
	w.awaitEqual(60 * time.Second)
	t.Logf("rows equal after %s", time.Since(start))
	eventually(t, 180*time.Second, w.edgeDifference) // a killed lane is first taken over, then its sweep begins anew
	t.Logf("associations equal after %s", time.Since(start))
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

// TestLanesOfAKilledProcessAreTakenOver holds the bound too: seconds, not River's minutes.
func TestLanesOfAKilledProcessAreTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 200})
	first := w.process()
	w.awaitLive(90*time.Second, "contacts")
	// The first process hangs in the middle of its next poll, and is killed there.
	w.hub.InjectFault(sandbox.Fault{Path: "/contacts/search$", Kind: sandbox.FaultSlow, Delay: time.Minute})
	eventually(t, 30*time.Second, func() string {
		var since time.Time
		err := w.pool.QueryRow(t.Context(), `
select attempted_at
from hubpg.river_job
where state = 'running' and args ->> 'lane' = 'follow' and args ->> 'table' = 'contacts'`).Scan(&since)
		if err != nil || time.Since(since) < 2*time.Second {
			return "the poll does not hang"
		}
		return ""
	})
	w.hub.ClearFaults()
	second := w.process()
	defer kill(second)
	eventually(t, 20*time.Second, func() string { // the second process has shown that it lives
		if n := w.count(`
select count(*)
from pg_locks
where locktype = 'advisory' and classid = $1::bigint::oid and database = (select oid from pg_database where datname = current_database())`,
			0x68756270); n < 2 {
			return fmt.Sprintf("%d processes live", n)
		}
		return ""
	})
	kill(first)
	id := w.live("contacts")[0].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "orphan"}))
	start := time.Now()
	w.awaitEqual(15*time.Second, "contacts")
	t.Logf("taken over after %s", time.Since(start))
}
