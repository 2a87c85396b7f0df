package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// aloneVariable, in the environment, names a database and makes the test binary a proxy in front of it and nothing
// else, so that its memory is a proxy's. It prints its address, for each line that it reads what it has come to, and
// ends with its input.
const (
	aloneVariable    = "HUBPG_TEST_PROXY"
	upstreamVariable = "HUBPG_TEST_UPSTREAM" // another server than the database's to relay to
	writesVariable   = "HUBPG_TEST_WRITES"   // unless empty, sessions may write to HubSpot, which none of them may do
	memoryVariable   = "HUBPG_TEST_MEMORY"   // its Limits.StatementMemory, if not the default
)

// report is what a proxy alone has come to.
type report struct {
	proxy.Stats
	Resident, Peak int64 // bytes
	Goroutines     int
}

// serveAlone is the life of a proxy alone; its result is the exit status.
func serveAlone(address string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		log.Error("parse address", "error", err)
		return 1
	}
	config.MaxConns = 3
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		log.Error("open pool", "error", err)
		return 1
	}
	defer pool.Close()
	upstream := address
	if other := os.Getenv(upstreamVariable); other != "" {
		upstream = other
	}
	var writer proxy.Writer
	if os.Getenv(writesVariable) != "" {
		writer = struct{ proxy.Writer }{}
	}
	memory, _ := strconv.ParseInt(os.Getenv(memoryVariable), 10, 64)
	server, err := proxy.New(proxy.Config{
		Listen: "127.0.0.1:0", Upstream: upstream, Changes: pool, Writer: writer, ListenerIdle: 40 * time.Millisecond,
		DrainTimeout: time.Second, Logger: log,
		Limits: proxy.Limits{Sessions: 20_000, SessionsPerAddress: 20_000, LoginTimeout: time.Minute, StatementMemory: memory},
	})
	if err != nil {
		log.Error("new proxy", "error", err)
		return 1
	}
	fmt.Println(server.Addr())
	go func() { // ends the process
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			r := report{Stats: server.Stats(), Resident: processStatus("VmRSS:"), Peak: processStatus("VmHWM:"), Goroutines: runtime.NumGoroutine()}
			_ = json.NewEncoder(os.Stdout).Encode(r) // to a parent that may have gone
		}
		cancel()
	}()
	if err := server.Run(ctx); err != nil {
		log.Error("run proxy", "error", err)
		return 1
	}
	return 0
}

// processStatus reads a number of bytes of this process.
func processStatus(field string) int64 {
	text, _ := os.ReadFile("/proc/self/status") // 0 on a system without it
	_, rest, _ := strings.Cut(string(text), field)
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, _ := strconv.ParseInt(number, 10, 64)
	return kib << 10
}

// lonely is a proxy in a process of its own.
type lonely struct {
	t       testing.TB
	address string
	pid     int
	in      io.WriteCloser
	out     *bufio.Scanner
}

func newLonely(t testing.TB, db *pgtest.DB, environment ...string) *lonely {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), aloneVariable+"="+db.URL), environment...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("proxy: %v", err)
		}
	})
	p := &lonely{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
	p.address = p.line()
	for p.report().HubPosition < 0 {
		time.Sleep(10 * time.Millisecond)
	}
	return p
}

func (p *lonely) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the proxy has ended: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *lonely) report() (r report) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.t.Fatalf("ask the proxy: %v", err)
	}
	if err := json.Unmarshal([]byte(p.line()), &r); err != nil {
		p.t.Fatalf("ask the proxy: %v", err)
	}
	return r
}

// parked waits until so many sessions hold no backend.
func (p *lonely) parked(n int64) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); p.report().Parked != n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not %d sessions are parked: %+v", n, p.report())
		}
	}
}

// listenersBackends is how many backends Postgres lets the listeners of BenchmarkListeners have at any one time; the proxy
// needs five more for itself.
const listenersBackends = 14

// BenchmarkListeners measures many clients that only listen to one channel, through a proxy in a process of its own
// that has at most 20 backends: the memory of each, a burst of changes that must reach all of them in order and once,
// the time from a commit to the last of them, and what the commit takes with them and without.
//
//	go test -run '^$' -bench Listeners -benchtime 1x -timeout 30m ./proxy
func BenchmarkListeners(b *testing.B) {
	for _, listeners := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("burst-%d", listeners), func(b *testing.B) {
			for b.Loop() {
				burstOf(b, listeners, 10_000)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	for rate, changes := range map[int]int{1: 15, 100: 500} {
		b.Run(fmt.Sprintf("latency-1000-at-%d", rate), func(b *testing.B) {
			for b.Loop() {
				latencyOf(b, 1000, rate, changes)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func burstOf(b *testing.B, listeners, changes int) {
	b.Helper()
	db := pgtest.Migrated(b, migrations.Up)
	p := newLonely(b, db)
	writer := db.Conn(b)
	empty := p.report()
	f := newFlock(b, db, p.address, listenersBackends)
	begun := time.Now()
	f.settle(listeners, listenersBackends, "listen hubspot_deals", 0)
	p.parked(int64(listeners))
	b.ReportMetric(time.Since(begun).Seconds(), "s-to-settle")
	time.Sleep(2 * time.Second)
	full := p.report()
	b.ReportMetric(float64(full.Resident-empty.Resident)/float64(listeners)/1024, "KiB/listener")
	begun = time.Now()
	last := burst(b, writer, changes)
	f.reach(last, 10*time.Minute)
	took := time.Since(begun).Seconds()
	end := p.report()
	if end.Parked != int64(listeners) || end.CutOff != 0 {
		b.Errorf("after the burst: %+v", end)
	}
	b.ReportMetric(took, "s-burst")
	b.ReportMetric(float64(listeners)*float64(changes)/took, "notifications/s")
	b.ReportMetric(float64(end.Peak)/(1<<20), "MiB-peak")
	f.leave()
}

func latencyOf(b *testing.B, listeners, rate, changes int) {
	b.Helper()
	db := pgtest.Migrated(b, migrations.Up)
	p := newLonely(b, db)
	writer := db.Conn(b)
	f := newFlock(b, db, p.address, listenersBackends)
	f.timed = true
	last, alone := paced(b, f, writer, 0, rate, max(changes/5, 10))
	f.settle(listeners, listenersBackends, "listen hubspot_deals", last)
	p.parked(int64(listeners))
	time.Sleep(time.Second)
	first := last + 1
	last, commits := paced(b, f, writer, last, rate, changes)
	f.reach(last, time.Minute)
	var delays []float64
	for seq := first; seq <= last; seq++ {
		at, _ := f.latest.Load(seq)
		delays = append(delays, float64(at.(*atomic.Int64).Load()-commits[seq-first].done.UnixNano())/1e6)
	}
	b.ReportMetric(median(delays), "last-p50-ms")
	b.ReportMetric(slices.Sorted(slices.Values(delays))[len(delays)*99/100], "last-p99-ms")
	b.ReportMetric(median(tooks(alone)), "commit-alone-p50-ms")
	b.ReportMetric(median(tooks(commits)), "commit-p50-ms")
	f.leave()
}

// commit is when a change was committed and how long that took.
type commit struct {
	done time.Time
	took time.Duration
}

func tooks(list []commit) (ms []float64) {
	for _, c := range list {
		ms = append(ms, c.took.Seconds()*1000)
	}
	return ms
}

// paced commits n changes after last, rate of them a second, and has f note when they arrive.
func paced(b *testing.B, f *flock, writer *pgx.Conn, last int64, rate, n int) (int64, []commit) {
	b.Helper()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	list := make([]commit, 0, n)
	for range n {
		<-tick.C
		f.latest.Store(last+1, new(atomic.Int64))
		begun := time.Now()
		last = burst(b, writer, 1)
		now := time.Now()
		list = append(list, commit{now, now.Sub(begun)})
	}
	return last, list
}
