package budget_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/migrations"
)

// TestProcessesShareAHostileAccount is the real thing to TestHostileAccountIsReadRightWithinItsLimits: processes of the
// system that meet in Postgres, one of which is killed half-way. How much of the rate they use is judged only when this
// machine gives them the time to.
func TestProcessesShareAHostileAccount(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"two": 2, "four": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			account := hostileAccount(t, 500)
			server := httptest.NewServer(account)
			t.Cleanup(server.Close)
			db := pgtest.Migrated(t, migrations.Up)
			r := &hostileRun{account: account, pool: db.Pool(t)}
			for i := range n {
				r.processes = append(r.processes, startProcess(t, job{
					HubSpot: server.URL, Database: db.URL, Index: i, Of: n, Callers: 24/n + 4, Search: 4/n + 1,
				}))
			}
			for _, p := range r.processes {
				p.ready(t)
			}
			r.judge(t, 300)
		})
	}
}

// hostileRun is a hostile account and the processes that share it.
type hostileRun struct {
	account   *sandbox.Server
	pool      *pgxpool.Pool
	processes []*child
}

// judge kills a process half-way through some calls, and compares the results of all with what is right and allowed.
func (r *hostileRun) judge(t *testing.T, calls int64) {
	t.Helper()
	ctx, unwatch := context.WithCancel(t.Context())
	defer unwatch()
	var watching sync.WaitGroup
	stalled := watch(ctx, &watching)
	time.Sleep(time.Second) // the last one has just begun
	until := func(calls int64) (sandbox.Stats, time.Time) {
		for r.account.Stats().Calls < calls {
			time.Sleep(5 * time.Millisecond)
		}
		return r.account.Stats(), time.Now()
	}
	first, began := r.account.Stats(), time.Now()
	half, halved := until(first.Calls + calls/2)
	victim := r.processes[len(r.processes)-1]
	victim.kill(t)
	var ahead float64 // all that is left of the dead
	if err := r.pool.QueryRow(ctx, `
select coalesce(extract(epoch from max(greatest(free_at, read_free_at)) - clock_timestamp()), 0)::float8
from hubpg.quota_buckets`).Scan(&ahead); err != nil || ahead > 5 {
		t.Errorf("calls are given away for the next %.1f s, %v", ahead, err)
	}
	time.Sleep(5 * time.Second)
	middle, recovered := r.account.Stats(), time.Now()
	last, ended := until(middle.Calls + calls/2)
	unwatch()
	watching.Wait()

	var sum tally
	sum.Busy = 1
	for _, p := range r.processes {
		if p == victim {
			continue
		}
		one := p.finish(t)
		t.Logf("process %d: %d calls, %d writes, %d ambiguous, %d slots unused, somebody waited for %.1f %% of the time",
			p.job.Index, one.Calls, one.Writes, one.Ambiguous, one.Unused, 100*one.Busy)
		if one.Wrong > 0 || one.Lost > 0 || len(one.Errors) > 0 || one.Calls == 0 {
			t.Errorf("process %d: %d results are wrong, %d of %d writes that were reported done are not there, errors %q",
				p.job.Index, one.Wrong, one.Lost, one.Writes, one.Errors)
		}
		sum.Busy = min(sum.Busy, one.Busy)
		stalled.join(one.Worst, one.Stalled)
	}
	end := r.account.Stats()
	// Of a short time, the calls at both ends count.
	before := float64(burstCalls(half)-burstCalls(first)+1) / halved.Sub(began).Seconds()
	after := float64(burstCalls(last)-burstCalls(middle)+1) / ended.Sub(recovered).Seconds()
	t.Logf("%.2f calls a second of 19 (%.1f %%), %.2f (%.1f %%) once one was killed; status %v; peaks %v; violations %v; worst stall %v of %v",
		before, before/0.19, after, after/0.19, end.ByStatus, end.Peak, end.Violations, stalled.worst, stalled.total)
	overLimits(t, end, stalled)
	if quiet := sum.Busy > 0.99 && stalled.worst < 50*time.Millisecond && stalled.total < ended.Sub(began)/100; quiet {
		if before < 0.95*19 || after < 0.95*19 {
			t.Errorf("less than 95 %% of what is allowed is used")
		}
	}
}

// overLimits says which limits were exceeded. When this machine kept calls waiting for longer than the guard is, a window
// may hold what was meant for a longer one.
func overLimits(t *testing.T, st sandbox.Stats, stalled *stalls) {
	t.Helper()
	if stalled.worst < 100*time.Millisecond {
		if len(st.Violations) > 0 {
			t.Errorf("calls over limits: %v", st.Violations)
		}
		return
	}
	if want := max(190, stalled.most(t, 10400*time.Millisecond, 190/10.4)); st.Peak["burst"] > want {
		t.Errorf("%d calls in 10 s", st.Peak["burst"])
	}
	if want := max(5, stalled.most(t, 1249*time.Millisecond, 4)); st.Peak["search"] > want {
		t.Errorf("%d searches in a second", st.Peak["search"])
	}
}

// child is a process under way.
type child struct {
	job   job
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // of its output, until it ends
	over  chan struct{}

	last string // line; the reader's until over is closed
}

func startProcess(t *testing.T, j job) *child {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{job: j, cmd: exec.CommandContext(t.Context(), self), lines: make(chan string, 1), over: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), processVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read(stdout) // ends with the process, which t.Context ends
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.over
		_ = c.cmd.Wait()
	})
	return c
}

func (c *child) read(stdout io.Reader) {
	defer close(c.over)
	scan := bufio.NewScanner(stdout)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if c.last = scan.Text(); c.last == "ready" {
			c.lines <- c.last
		}
	}
}

// ready waits until the process works.
func (c *child) ready(t *testing.T) {
	t.Helper()
	select {
	case <-c.lines:
	case <-c.over:
		t.Fatalf("process %d ended at once", c.job.Index)
	case <-time.After(5 * time.Minute):
		t.Fatalf("process %d is not ready", c.job.Index)
	}
}

// kill ends the process without a word, as the system would.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.over
}

// finish lets the process end and returns its tally.
func (c *child) finish(t *testing.T) tally {
	t.Helper()
	_ = c.stdin.Close()
	select {
	case <-c.over:
	case <-time.After(5 * time.Minute):
		t.Fatalf("process %d does not end", c.job.Index)
	}
	var one tally
	if err := json.Unmarshal([]byte(c.last), &one); err != nil {
		t.Fatalf("process %d said %q: %v", c.job.Index, c.last, err)
	}
	return one
}
