package materialize_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
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

// cursors counts how often each page of the first filling of contacts is asked for.
type cursors struct {
	mu    sync.Mutex // guards below
	asked map[string]int
}

func (c *cursors) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/contacts") && strings.Contains(r.URL.Path, "/objects/") && q.Get("archived") != "true" {
			c.mu.Lock()
			c.asked[q.Get("after")]++
			c.mu.Unlock()
		}
		next.ServeHTTP(rw, r)
	})
}

// TestAKillRepeatsAtMostAPageOfEachRange: the position of every range is stored with its pages, so what a killed process had
// under way is all that is read again.
func TestAKillRepeatsAtMostAPageOfEachRange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 12_000, Latency: 20 * time.Millisecond})
	c := &cursors{asked: map[string]int{}}
	api := httptest.NewServer(c.count(w.hub))
	t.Cleanup(api.Close)
	w.url = api.URL
	kills, stored := 0, int64(0)
	for stored < 9_000 {
		cmd := w.process()
		from := stored
		eventually(t, 60*time.Second, func() string { // so that every process gets on
			if w.count(`select count(*) from pg_class where oid = to_regclass('hubspot.contacts')`) > 0 {
				stored = w.count(`select count(*) from hubspot.contacts`)
			}
			if stored < from+700 {
				return fmt.Sprint(stored, " rows are stored")
			}
			return ""
		})
		kill(cmd)
		kills++
	}
	cmd := w.process()
	defer kill(cmd)
	w.awaitLive(120*time.Second, "contacts")
	w.awaitEqual(60*time.Second, "contacts")
	const fetchers = 4 // of the child
	repeated, asked := 0, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.asked {
		repeated, asked = repeated+n-1, asked+n
	}
	t.Logf("%d kills: %d pages, %d of them again", kills, asked, repeated)
	if kills < 3 || repeated > kills*fetchers {
		t.Errorf("%d pages were read again after %d kills of a process with %d ranges under way", repeated, kills, fetchers)
	}
}
