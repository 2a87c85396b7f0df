package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"
)

// append5 appends five changes of deals to the log in one transaction.
func append5(t *testing.T, db *pgtest.DB) {
	t.Helper()
	const sql = `
with next as (update hubpg.change_counter set last = last + 5 returning last),
added as (insert into hubpg.changes (seq, schema_name, table_name, record_id, op, changed, before, after, source)
    select last - 5 + i, 'hubspot', 'deals', 40 + i, 'update', '{dealstage}', '{"dealstage":"a"}', '{"dealstage":"b"}', 'follow'
    from next, generate_series(1, 5) i)
select pg_notify('hubpg_wake', '') from next`
	if _, err := db.Conn(t).Exec(t.Context(), sql); err != nil {
		t.Fatalf("append changes: %v", err)
	}
}

// proxyAt serves a database on an address until the function it returns is called.
func proxyAt(t *testing.T, db *pgtest.DB, address string) (at string, stop func()) {
	t.Helper()
	server, err := proxy.New(proxy.Config{Listen: address, Upstream: db.URL, Changes: db.Pool(t), DrainTimeout: time.Second})
	if err != nil {
		t.Fatalf("new proxy: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }() // ended by stop, which every test reaches through Cleanup
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run proxy: %v", err)
		}
	}
	t.Cleanup(stop)
	for end := time.Now().Add(time.Minute); server.Stats().HubPosition < 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the hub has not found the log")
		}
	}
	return server.Addr().String(), stop
}

// lines waits until a command has printed n lines and returns them.
func (r *running) lines(t *testing.T, n int) []string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		text := r.stdout.String()
		if strings.Count(text, "\n") >= n {
			return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		}
		if time.Now().After(end) || len(r.done) > 0 {
			t.Fatalf("%d lines expected\n%s%s", n, text, r.stderr.String())
		}
	}
}

func TestListenPrintsEachChangeOnceThroughLostConnections(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	address, stop := proxyAt(t, db, "127.0.0.1:0")
	append5(t, db)
	env := map[string]string{"HUBPG_DATABASE_URL": db.URL, "HUBPG_PROXY_LISTEN": address}
	all := start(t, env, "listen", "--since", "0")
	one := start(t, nil, "listen", "--url", proxied(db.URL, address), "--json", "hubspot_deals.dealstage", "--since", "3")
	all.lines(t, 5)
	one.lines(t, 2)
	for range 3 {
		stop()
		append5(t, db) // while nobody listens
		_, stop = proxyAt(t, db, address)
		append5(t, db)
	}
	for i, line := range all.lines(t, 35) {
		if want := fmt.Sprintf(`%d update deals %d dealstage="b"`, i+1, 41+i%5); line != want {
			t.Errorf("line %d is %q, want %q", i, line, want)
		}
	}
	for i, line := range one.lines(t, 32) {
		var change struct{ Seq, ID int64 }
		if err := json.Unmarshal([]byte(line), &change); err != nil || change.Seq != int64(4+i) {
			t.Errorf("line %d is %s: %v", i, line, err)
		}
	}
	for _, r := range []*running{all, one} {
		r.interrupt()
		if got := r.wait(t, 10*time.Second); got.status != exitDone {
			t.Errorf("interrupted: status %d\n%s", got.status, got.stderr)
		}
	}
	if n := strings.Count(all.stdout.String(), "\n"); n != 35 {
		t.Errorf("%d lines in the end", n)
	}
}

func TestListenSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	address, _ := proxyAt(t, db, "127.0.0.1:0")
	through := proxied(db.URL, address)
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for name, test := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"direct":       {[]string{"--url", db.URL}, exitFailed, "Postgres's own"},
		"not ours":     {[]string{"--url", through, "jobs"}, exitFailed, "Postgres's own"},
		"the future":   {[]string{"--url", through, "--since", "7"}, exitFailed, "has not happened"},
		"nobody there": {[]string{"--url", proxied(db.URL, free.Addr().String())}, exitFailed, "connection refused"},
		"mark":         {[]string{"--url", through, "hubspot@7"}, exitUsage, "--since"},
		"negative":     {[]string{"--url", through, "--since", "-2"}, exitUsage, "--since"},
		"no settings":  {nil, exitFailed, "no database is given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, nil, append([]string{"listen"}, test.args...)...).wants(t, test.status, test.want)
		})
	}
}
