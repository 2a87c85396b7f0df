package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgconn"
)

// crookedServer forwards connections to Postgres and bends what that says at one place of each.
type crookedServer struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	at       int                 // the byte of the next connection's answers at which to bend
	bend     func([]byte) []byte // nil: cut the connection
	forwards sync.WaitGroup
}

func newCrookedServer(t *testing.T, target string) *crookedServer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	s := &crookedServer{listener: l, target: target}
	s.forwards.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.forwards.Go(func() { s.forward(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.forwards.Wait()
	})
	return s
}

// bendAt says what to do with the connections to come.
func (s *crookedServer) bendAt(at int, bend func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.bend = at, bend
}

func (s *crookedServer) forward(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.target)
	if err != nil {
		return
	}
	defer server.Close()
	s.mu.Lock()
	out := &bent{Conn: client, at: s.at, bend: s.bend}
	s.mu.Unlock()
	s.forwards.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	_, _ = io.Copy(struct{ io.Writer }{out}, server)
}

func TestAServerBentAtAnyByteEndsThatSessionOnly(t *testing.T) {
	t.Parallel()
	db := newRig(t, nil, nil).db
	target, err := url.Parse(db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	crooked := newCrookedServer(t, target.Host)
	target.Host = crooked.listener.Addr().String()
	r := newRig(t, db, func(c *proxy.Config) { c.Upstream, c.Limits.LoginTimeout = target.String(), 2*time.Second })
	crooked.bendAt(1<<30, nil)
	witness := r.connect()
	slots := make(chan struct{}, 8)
	var sessions sync.WaitGroup
	for name, bend := range map[string]func([]byte) []byte{
		"cut": nil,
		"stuffed": func(p []byte) []byte {
			return append([]byte{'Z', 0xff, 0xff, 0xff, 0xff, 'C', 0, 0, 0, 2}, p...)
		},
	} {
		for at := 0; at < 700; at += 23 {
			slots <- struct{}{}
			conn, err := net.DialTimeout("tcp", r.server.Addr().String(), patience)
			if err != nil {
				t.Fatalf("%s at %d: %v", name, at, err)
			}
			if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatalf("set deadline: %v", err)
			}
			crooked.bendAt(at, bend)
			sessions.Go(func() {
				defer func() { <-slots }()
				defer conn.Close()
				chat(conn, db.Name)
			})
		}
	}
	sessions.Wait()
	if got := value[int32](t, witness, "select 3"); got != 3 {
		t.Errorf("witness: got %d", got)
	}
	eventually(t, "only the witness is left", func() bool { return r.server.Stats().Sessions == 1 })
	if n := r.server.Stats().Ended["panic"]; n != 0 {
		t.Errorf("panics: %d", n)
	}
}

func TestAVanishedServerIsSaidClearly(t *testing.T) {
	t.Parallel()
	db := newRig(t, nil, nil).db
	target, err := url.Parse(db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	crooked := newCrookedServer(t, target.Host)
	target.Host = crooked.listener.Addr().String()
	r := newRig(t, db, func(c *proxy.Config) { c.Upstream = target.String() })
	crooked.bendAt(700, nil) // behind the login
	conn := r.connect()
	for err == nil {
		_, err = conn.Exec(deadline(t), "select 1")
	}
	if !isCode(err, "08006") && !conn.IsClosed() {
		t.Errorf("got %v", err)
	}
	eventually(t, "the end is counted", func() bool { return r.server.Stats().Ended["server"] == 1 })
}

func TestPasswordModeAsksInsideTLSOnly(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	db := &pgtest.DB{Name: "postgres", URL: fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=disable", cluster.Port()), Cluster: cluster}
	r := newRig(t, db, func(c *proxy.Config) {
		c.Changes, c.Auth = nil, proxy.AuthPassword
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
	})
	address := "postgres://scram:s3cret@" + r.server.Addr().String() + "/postgres?application_name=shop&search_path=a,b&sslmode="
	if _, err := pgconn.Connect(deadline(t), address+"disable"); !isCode(err, "28000") {
		t.Errorf("plain text: %v", err)
	}
	conn := open(t, address+"require", nil)
	for sql, want := range map[string]string{
		"select current_user::text": "scram", "show application_name": "shop", "show search_path": "a,b",
	} {
		if got := value[string](t, conn, sql); got != want {
			t.Errorf("%s: got %q", sql, got)
		}
	}
	if conn.PgConn().ParameterStatus("server_version") == "" {
		t.Error("the server's parameters were not passed on")
	}
	if got, want := value[int32](t, conn, "select pg_backend_pid()"), int32(conn.PgConn().PID()); got != want {
		t.Errorf("process id: got %d, told %d", got, want)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]proxy.Config{
		"unknown auth":   {Auth: "magic"},
		"needs a TLS":    {Auth: proxy.AuthPassword},
		"both":           {TLS: proxy.TLS{CertFile: "x"}},
		"no certificate": {TLS: proxy.TLS{Required: true}},
		"nothing to":     {Listen: "none"},
		"load TLS":       {TLS: proxy.TLS{CertFile: "/does/not/exist", KeyFile: "/neither"}},
		"parse upstream": {Upstream: "postgres://localhost:port/x"},
		"listen for":     {Listen: "256.0.0.1:1"},
	} {
		if c.Listen == "" {
			c.Listen = "127.0.0.1:0"
		}
		server, err := proxy.New(c)
		if err == nil {
			server.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
