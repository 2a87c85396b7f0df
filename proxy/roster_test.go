package proxy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// listed is one row of hubpg.sessions.
type listed struct {
	Proxy, Address, Role, Database, Application, State string
	Port, PID, Process                                 int32
	TLS                                                bool
	Since                                              time.Time
}

// sessions reads hubpg.sessions.
func sessions(t *testing.T, conn *pgx.Conn) []listed {
	t.Helper()
	rows, err := conn.Query(deadline(t), `
select proxy, coalesce(host(client_addr), 'socket'), role, database, application_name, coalesce(state, ''), coalesce(client_port, 0),
       coalesce(backend_pid, 0), proxy_process, tls, since
from hubpg.sessions order by since`)
	if err != nil {
		t.Fatalf("read sessions: %v", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s listed, err error) {
		err = row.Scan(&s.Proxy, &s.Address, &s.Role, &s.Database, &s.Application, &s.State, &s.Port, &s.PID, &s.Process, &s.TLS, &s.Since)
		return s, err
	})
	if err != nil {
		t.Fatalf("read sessions: %v", err)
	}
	return list
}

func TestSessionsAreListedWhileTheyLast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.Socket = dir
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
	})
	direct := r.db.Conn(t)
	conn := r.connect("sslmode=require", "application_name=sh\u00f6p")
	var got []listed
	eventually(t, "the session is listed", func() bool { got = sessions(t, direct); return len(got) == 1 })
	local := conn.PgConn().Conn().LocalAddr().(*net.TCPAddr)
	s := got[0]
	if s.Address != "127.0.0.1" || int(s.Port) != local.Port || s.Role != "hubpg_owner" || s.Database != r.db.Name || !s.TLS ||
		s.PID != int32(conn.PgConn().PID()) || int(s.Process) != os.Getpid() || !strings.HasSuffix(s.Proxy, r.server.Addr().String()) ||
		s.State != "idle" || time.Since(s.Since) > patience {
		t.Errorf("listed as %+v", s)
	}
	if !strings.HasPrefix(s.Application, "sh") {
		t.Errorf("application %q", s.Application)
	}
	local2 := open(t, fmt.Sprintf("host=%s port=%d user=hubpg_owner dbname=%s", dir, r.server.Addr().(*net.TCPAddr).Port, r.db.Name), nil)
	eventually(t, "the session of a Unix socket is listed", func() bool {
		got = sessions(t, direct)
		return len(got) == 2 && got[1].Address == "socket" && !got[1].TLS
	})
	conn.Close(deadline(t))
	local2.Close(deadline(t))
	eventually(t, "sessions that have ended are not", func() bool { return len(sessions(t, direct)) == 0 })
	if n := value[int64](t, direct, "select count(*) from hubpg.proxy_sessions"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	r.connect()
	if err := r.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if n := value[int64](t, direct, "select count(*) from hubpg.proxies"); n != 0 {
		t.Errorf("%d proxies are left after the end", n)
	}
}

func TestAListenerWithoutABackendIsListedAsSuch(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.ListenerIdle = 50 * time.Millisecond })
	direct := r.db.Conn(t)
	eventually(t, "the hub has read the log", func() bool { return r.server.Stats().HubPosition >= 0 })
	conn := r.connect()
	first := conn.PgConn().PID()
	exec(t, conn, "listen hubspot_deals")
	eventually(t, "the session is listed as listening", func() bool {
		got := sessions(t, direct)
		return len(got) == 1 && got[0].PID == 0 && got[0].State == "listening"
	})
	exec(t, conn, "begin") // which keeps the backend
	pid := value[int32](t, conn, "select pg_backend_pid()")
	if pid == int32(first) {
		t.Error("the session has kept its backend")
	}
	eventually(t, "the session is listed with its new backend", func() bool {
		got := sessions(t, direct)
		return len(got) == 1 && got[0].PID == pid && got[0].State == "idle in transaction"
	})
}

func TestTheListNeverHoldsALoginUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	direct := r.db.Conn(t)
	eventually(t, "the proxy is registered", func() bool { return value[int64](t, direct, "select count(*) from hubpg.proxies") == 1 })
	locker := r.db.Conn(t)
	exec(t, locker, "begin; lock table hubpg.proxy_sessions in access exclusive mode")
	for i := range 20 {
		if got := value[int](t, r.connect(), "select $1::int", i); got != i {
			t.Errorf("got %d", got)
		}
	}
	exec(t, locker, "rollback")
	eventually(t, "all are listed in the end", func() bool { return len(sessions(t, direct)) == 20 })
}

func TestTheListSurvivesItsConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	direct := r.db.Conn(t)
	r.connect()
	eventually(t, "the session is listed", func() bool { return len(sessions(t, direct)) == 1 })
	admin := r.db.AdminConn(t)
	id := value[int32](t, direct, "select id from hubpg.proxies")
	exec(t, admin, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'hubpg sessions' and datname = current_database()")
	r.connect()
	eventually(t, "both are listed again", func() bool { return len(sessions(t, direct)) == 2 })
	if again := value[int32](t, direct, "select id from hubpg.proxies"); again == id {
		t.Error("the old registration is still there")
	}
}

// childVariable tells this test's own binary to be a proxy that will be killed; it holds the database's address.
const childVariable = "HUBPG_TEST_PROXY_OF"

func TestTheSessionsOfAKilledProxyAreGoneAtOnce(t *testing.T) {
	if address := os.Getenv(childVariable); address != "" {
		beProxy(t, address)
		return
	}
	t.Parallel()
	r := newRig(t, nil, nil)
	direct := r.db.Conn(t)
	child := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheSessionsOfAKilledProxyAreGoneAtOnce$")
	child.Env = append(os.Environ(), childVariable+"="+r.db.URL)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatalf("pipe: %v", err)
	}
	if err := child.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	var address string
	if _, err := fmt.Fscanf(out, "proxy on %s\n", &address); err != nil {
		t.Fatalf("read the address of the other proxy: %v", err)
	}
	open(t, strings.Replace(r.url(), r.server.Addr().String(), address, 1), nil)
	r.connect()
	eventually(t, "the sessions of both proxies are listed", func() bool { return len(sessions(t, direct)) == 2 })
	if err := child.Process.Kill(); err != nil {
		t.Fatalf("kill: %v", err)
	}
	eventually(t, "only the living proxy's is listed", func() bool {
		got := sessions(t, direct)
		return len(got) == 1 && int(got[0].Process) == os.Getpid()
	})
	if n := value[int64](t, direct, "select count(*) from hubpg.proxies"); n != 2 {
		t.Errorf("%d proxies; the dead one should be there until somebody looks", n)
	}
	newRig(t, r.db, nil) // looks when it begins
	eventually(t, "what the dead one has left is removed", func() bool {
		return value[int64](t, direct, "select count(*) from hubpg.proxies p where exists (select from hubpg.proxy_sessions)"+
			" and p.process <> $1", os.Getpid()) == 0
	})
}

// beProxy serves until it is killed.
func beProxy(t *testing.T, address string) {
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatalf("open pool: %v", err)
	}
	defer pool.Close()
	server, err := proxy.New(proxy.Config{Listen: "127.0.0.1:0", Upstream: address, Changes: pool})
	if err != nil {
		t.Fatalf("new proxy: %v", err)
	}
	fmt.Printf("proxy on %s\n", server.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // should nobody kill it
	defer cancel()
	if err := server.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
}
