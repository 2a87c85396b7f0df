package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// BenchmarkThousandSessions reports the resident memory of a proxy, as a process of its own, with nobody connected and with
// a thousand sessions that have asked something and wait, in plain text and in TLS.
//
//	go test -run '^$' -bench ThousandSessions -benchtime 1x ./cmd/hubpg
func BenchmarkThousandSessions(b *testing.B) {
	const sessions = 1000
	binary := filepath.Join(b.TempDir(), "hubpg")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	cluster, err := pgtest.Start(b.Context(), pgtest.ClusterConfig{
		Dir: pgtest.Dir(b), Settings: map[string]string{"max_connections": strconv.Itoa(sessions + 50)},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cluster.Kill() })
	database := cluster.URL("postgres")
	conn, err := pgx.Connect(b.Context(), database)
	if err != nil {
		b.Fatal(err)
	}
	err = migrations.Up(b.Context(), conn)
	_ = conn.Close(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, mode := range []string{"disable", "require"} {
		b.Run("sslmode="+mode, func(b *testing.B) {
			for b.Loop() {
				empty, full := resident(b, binary, database, mode, sessions)
				b.ReportMetric(empty, "empty-MiB")
				b.ReportMetric(full, "full-MiB")
				b.ReportMetric((full-empty)*1024/sessions, "KiB/session")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// resident starts a proxy and measures it before and after so many clients have connected.
func resident(b *testing.B, binary, database, mode string, sessions int) (empty, full float64) {
	b.Helper()
	cert, key := filepath.Join(b.TempDir(), "cert.pem"), filepath.Join(b.TempDir(), "key.pem")
	issue(b, cert, key, 1)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "--role", "proxy", "--proxy-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "HUBPG_DATABASE_URL="+database, "HUBPG_LOG_LEVEL=info",
		"HUBPG_PROXY_TLS_CERT="+cert, "HUBPG_PROXY_TLS_KEY="+key)
	log, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // ended by cancel
	}()
	address := ""
	lines := bufio.NewScanner(log)
	for seen := ""; address == ""; {
		if !lines.Scan() {
			b.Fatalf("the proxy ended: %s", seen)
		}
		seen += lines.Text() + "\n"
		if line := servingLine.FindString(lines.Text()); line != "" {
			address = attribute(line, "proxy")
		}
	}
	go func() { // ends with the process
		for lines.Scan() {
		}
	}()
	time.Sleep(time.Second)
	empty = residentMiB(b, cmd.Process.Pid)
	url := fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=%s", address, mode)
	for range sessions {
		conn, err := pgconn.Connect(b.Context(), url)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		if _, err := conn.Exec(b.Context(), "select 1").ReadAll(); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(5 * time.Second) // for a collection or two
	return empty, residentMiB(b, cmd.Process.Pid)
}

func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("no way to see the memory of a process: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
