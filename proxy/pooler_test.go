package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubpg/internal/pgtest"

	"github.com/jackc/pgx/v5/pgconn"
)

// pooler is pgbouncer in session mode in front of a test's database: what the proxy is measured against.
type pooler struct {
	url string
	pid int
}

// pgbouncerProgram is where Debian puts it.
const pgbouncerProgram = "/usr/sbin/pgbouncer"

// newPooler starts pgbouncer, with more lines of configuration if any, or returns nil where it is not installed.
func newPooler(b *testing.B, db *pgtest.DB, settings ...string) *pooler {
	b.Helper()
	return newPoolerAt(b, db, db.Cluster.Port(), settings...)
}

// newPoolerAt is newPooler in front of another server, which is called as the database's.
func newPoolerAt(b *testing.B, db *pgtest.DB, server int, settings ...string) *pooler {
	b.Helper()
	if _, err := os.Stat(pgbouncerProgram); err != nil {
		b.Logf("pgbouncer is not measured: %v", err)
		return nil
	}
	address, err := url.Parse(db.URL)
	if err != nil {
		b.Fatalf("parse %s: %v", db.URL, err)
	}
	forced := " user=" + address.User.Username()
	if _, secret := address.User.Password(); secret {
		forced = "" // the pooler logs in with what the client has proved
	}
	port := freePort(b)
	address.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dir := pgtest.Dir(b)
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = 1000
default_pool_size = 150
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
%s
`, server, forced, port, strings.Join(settings, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		b.Fatalf("write configuration: %v", err)
	}
	var log bytes.Buffer
	cmd := apart(pgbouncerProgram, config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if os.Geteuid() == 0 { // which it refuses to run as
		info, err := os.Stat(dir)
		if err != nil {
			b.Fatalf("stat %s: %v", dir, err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	ended, err := pgtest.Launch(cmd)
	if err != nil {
		b.Fatalf("start pgbouncer: %v", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended // how is of no interest
	})
	p := &pooler{url: address.String(), pid: cmd.Process.Pid}
	end := time.Now().Add(patience)
	for {
		conn, err := pgconn.Connect(deadline(b), p.url)
		if err == nil {
			if err := conn.Close(deadline(b)); err != nil {
				b.Fatalf("close connection to pgbouncer: %v", err)
			}
			return p
		}
		if time.Now().After(end) {
			b.Fatalf("connect to pgbouncer: %v\n%s", err, log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func freePort(b *testing.B) int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// cpuOf is the processor time, in seconds, that a process has used; this one's, the proxy in it, for 0.
func cpuOf(b *testing.B, pid int) float64 {
	b.Helper()
	if pid == 0 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatalf("measure processor time: %v", err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatalf("measure processor time: %v", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks float64
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			b.Fatalf("measure processor time: %v", err)
		}
		ticks += n
	}
	return ticks / 100
}

// leg is one way to the database, measured in every round.
type leg struct {
	name string
	url  string
	pid  int // whose processor time counts; 0 is this process, -1 nobody
	tps  []float64
	cpu  []float64 // seconds per 10,000 transactions
}

// progress is what pgbench says of each second.
var progress = regexp.MustCompile(`^progress: [0-9.]+ s, ([0-9.]+) tps`)

// measure is one round: how many transactions a second were made, once the first seconds are over, and in what processor time.
func (l *leg) measure(b *testing.B, path, protocol string, clients int) {
	b.Helper()
	cmd := apart(path, "-n", "-S", "-P", "1", "-T", strconv.Itoa(warmSeconds+roundSeconds+1), "-M", protocol,
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), l.url)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatalf("pgbench: %v", err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("pgbench: %v", err)
	}
	var said strings.Builder
	var made, before, after float64
	second := 0
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		found := progress.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		second++
		if second > warmSeconds && second <= warmSeconds+roundSeconds {
			v, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				b.Fatalf("pgbench said %s", lines.Text())
			}
			made += v
		}
		switch {
		case l.pid < 0:
		case second == warmSeconds:
			before = cpuOf(b, l.pid)
		case second == warmSeconds+roundSeconds:
			after = cpuOf(b, l.pid)
		}
	}
	if err := cmd.Wait(); err != nil || second < warmSeconds+roundSeconds {
		b.Fatalf("pgbench: %v\n%s", err, said.String())
	}
	l.tps = append(l.tps, made/roundSeconds)
	if l.pid >= 0 {
		l.cpu = append(l.cpu, (after-before)/made*10_000)
	}
}

func (l *leg) report(b *testing.B, direct *leg) {
	b.Helper()
	b.ReportMetric(median(l.tps), l.name+"-tps")
	if l.pid >= 0 {
		b.ReportMetric(median(l.tps)/median(direct.tps), l.name+"-to-direct")
		b.ReportMetric(median(l.cpu), l.name+"-cpu-s/10k")
	}
}
