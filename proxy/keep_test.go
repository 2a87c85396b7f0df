package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// newKeepRig is a rig that keeps up to four backends.
func newKeepRig(t testing.TB, db *pgtest.DB, change func(*proxy.Config)) *rig {
	t.Helper()
	return newRig(t, db, func(c *proxy.Config) {
		c.Limits.KeptBackends, c.ListenerIdle = 4, parkAfter
		if change != nil {
			change(c)
		}
	})
}

// leave says Terminate and waits until the session is over and, where n is not negative, so many backends are kept.
func (r *rig) leave(conn *pgx.Conn, n int64) {
	r.t.Helper()
	before := r.server.Stats()
	if err := conn.Close(deadline(r.t)); err != nil {
		r.t.Errorf("leave: %v", err)
	}
	eventually(r.t, fmt.Sprintf("a session less than %d, and %d backends kept", before.Sessions, n), func() bool {
		s := r.server.Stats()
		return s.Sessions < before.Sessions && (n < 0 || s.Kept == n)
	})
}

func superuser(t *testing.T, r *rig) *pgx.Conn {
	t.Helper()
	return open(t, r.db.Cluster.SocketURL(r.db.Name), nil)
}

// text is the one value that a query in the simple protocol returns.
func text(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	results, err := conn.PgConn().Exec(deadline(t), sql).ReadAll()
	if err != nil || len(results) != 1 || len(results[0].Rows) != 1 {
		t.Fatalf("%s: %v", sql, err)
	}
	return string(results[0].Rows[0][0])
}

// state is all that a session can ask about itself, but for what is of its process.
const state = `
select string_agg(line, e'\n' order by line) from (
	select concat_ws(' ', 'setting', name, setting, source, reset_val) from pg_settings where name <> 'application_name'
	union all select 'statement ' || statement from pg_prepared_statements
	union all select 'cursor ' || name from pg_cursors
	union all select concat_ws(' ', 'lock', locktype, classid, objid) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
	union all select 'listens ' || c from pg_listening_channels() c
	union all select 'temporary ' || relname from pg_class where relpersistence = 't' and pg_table_is_visible(oid)
	union all select concat_ws(' ', 'who', current_user, session_user, current_setting('is_superuser'), current_setting('role'))
	union all select concat_ws(' ', 'path', current_schemas(true), pg_my_temp_schema())
	union all select 'custom ' || coalesce(quote_literal(current_setting('my.own', true)), 'null')
) as lines (line)`

// dirt is what a client may leave behind, in statements that do not fail.
var dirt = []string{
	"set timezone = 'Asia/Tokyo'", "set search_path = pg_catalog", "set datestyle = 'German'", "set statement_timeout = '1h'",
	"set client_encoding = 'LATIN1'", "select set_config('application_name', 'another', false)", "set role keep_other",
	"create temp table mine (n int)", "create temp sequence seq", "prepare p as select 1",
	"declare c cursor with hold for select 1", "select pg_advisory_lock(7)", "listen mine", "listen hubspot_deals", "reset all",
	"set session characteristics as transaction read only", "select 1", "begin", "rollback", "create temp view seen as select 1",
	"set hubpg.writes = 'off'", "set constraints all deferred", "discard plans",
}

// TestAKeptBackendIsAsNew has clients leave all kinds of things behind and compares what the next one finds with what Postgres shows
// to a client of its own.
func TestAKeptBackendIsAsNew(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *proxy.Config){
		"loop":       func(*testing.T, *proxy.Config) {},
		"goroutines": func(_ *testing.T, c *proxy.Config) { c.ExpressAfter = -1 },
		"no hub":     func(_ *testing.T, c *proxy.Config) { c.AuthPool, c.Changes = c.Changes, nil },
		"TLS":        func(t *testing.T, c *proxy.Config) { c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newKeepRig(t, nil, func(c *proxy.Config) { change(t, c) })
			exec(t, superuser(t, r), `do $$ begin create role keep_other; exception when duplicate_object or unique_violation then null; end $$;
grant keep_other to `+pgtest.Owner)
			mode := "sslmode=disable"
			if name == "TLS" {
				mode = "sslmode=require"
			}
			want := text(t, open(t, r.db.URL, nil), state)
			conn := r.connect(mode)
			pid := backend(t, conn)
			told := conn.PgConn().ParameterStatus("TimeZone")
			var reused int64
			for _, left := range append(slices.Clone(dirt), "") {
				if left != "" {
					if _, err := conn.PgConn().Exec(deadline(t), left).ReadAll(); err != nil {
						t.Fatalf("%s: %v", left, err)
					}
				}
				if left == "begin" {
					exec(t, conn, "rollback")
				}
				custom := strings.Contains(left, "hubpg.writes") || strings.Contains(left, "set_config") || strings.Contains(left, " temp ") // the first has an empty value in another session, where a new one has none
				r.leave(conn, map[bool]int64{false: 1, true: 0}[custom])
				conn = r.connect(mode)
				if diff := cmp.Diff(want, text(t, conn, state)); diff != "" {
					t.Errorf("after %q (-new +kept):\n%s", left, diff)
				}
				now := backend(t, conn)
				if !custom {
					reused++
				}
				if (now == pid) == custom {
					t.Errorf("after %q: backend %d after %d", left, now, pid)
				}
				if pid = now; conn.PgConn().PID() != now {
					t.Errorf("after %q: told process %d, which is %d", left, conn.PgConn().PID(), now)
				}
				if got := conn.PgConn().ParameterStatus("TimeZone"); got != told {
					t.Errorf("after %q: told time zone %q, not %q", left, got, told)
				}
			}
			if s := r.server.Stats(); s.Reused != reused || s.Ended["clean"] != s.SessionsTotal-s.Sessions {
				t.Errorf("%d backends reused; ended %v of %d", s.Reused, s.Ended, s.SessionsTotal)
			}
		})
	}
}

// TestABackendEndsWithItsClient where it could not be given to another.
func TestABackendEndsWithItsClient(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*proxy.Config){
		"hub":    func(*proxy.Config) {},
		"no hub": func(c *proxy.Config) { c.AuthPool, c.Changes = c.Changes, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endBackends(t, newKeepRig(t, nil, func(c *proxy.Config) {
				c.Limits.KeptFor = time.Hour
				change(c)
			}))
		})
	}
}

func endBackends(t *testing.T, r *rig) {
	admin := r.db.Conn(t)
	for name, how := range map[string]func(*pgx.Conn){
		"within a transaction":         func(c *pgx.Conn) { exec(t, c, "begin") },
		"within a failed one":          func(c *pgx.Conn) { exec(t, c, "begin"); _, _ = c.Exec(deadline(t), "select 1/0") },
		"without Terminate":            func(c *pgx.Conn) { c.PgConn().Conn().Close() },
		"with a setting of my own":     func(c *pgx.Conn) { exec(t, c, "set my.own = 'x'") },
		"with one that was taken back": func(c *pgx.Conn) { exec(t, c, "reset my.own") },
		"with one that was made with a parameter": func(c *pgx.Conn) {
			exec(t, c, "select set_config($1, 'x', false)", "my.own")
		},
		"amid a pipeline": func(c *pgx.Conn) {
			f := c.PgConn().Frontend()
			f.Send(&pgproto3.Parse{Query: "select 1"})
			f.Send(&pgproto3.Bind{})
			f.Send(&pgproto3.Execute{})
			if err := f.Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
		},
		"after it was parked": func(c *pgx.Conn) {
			if r.server.Stats().HubPosition < 0 {
				exec(t, c, "begin") // no hub, no parking
				return
			}
			exec(t, c, "listen hubspot_deals")
			r.parked(1)
			exec(t, c, "select 1")
		},
		"with a DO block": func(c *pgx.Conn) { exec(t, c, "do $$ begin perform set_config('my.own', 'x', false); end $$") },
		"with a text that is not seen": func(c *pgx.Conn) {
			exec(t, c, "select '"+strings.Repeat("x", 100_000)+"', set_config('my.own', 'x', false)")
		},
		"with a question": func(c *pgx.Conn) { c.PgConn().Frontend().Send(&pgproto3.Query{String: "select 2"}) },
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.connect("application_name=leaver")
			how(conn)
			_ = conn.Close(deadline(t)) // some are closed already
			settled(t, r)
			eventually(t, "the backend has ended", func() bool {
				return !value[bool](t, admin, "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'leaver')")
			})
			if got := r.server.Stats(); got.Kept != 0 || got.Reused != 0 {
				t.Errorf("%d are kept, %d reused", got.Kept, got.Reused)
			}
		})
	}
	if _, err := pgconn.Connect(deadline(t), r.url("replication=database")); !isCode(err, "0A000") {
		t.Errorf("replication: %v", err)
	}
}

// TestAKeptBackendIsForTheSameLoginOnly changes what a login depends on between two clients.
func TestAKeptBackendIsForTheSameLoginOnly(t *testing.T) {
	t.Parallel()
	r := newKeepRig(t, nil, nil)
	admin := superuser(t, r)
	const role = "keep_login"
	exec(t, admin, fmt.Sprintf("drop role if exists %s", role))
	exec(t, admin, fmt.Sprintf("create role %s login", role))
	t.Cleanup(func() {
		exec(t, superuser(t, r), "drop role "+role)
	})
	as := func(params ...string) string {
		u, err := url.Parse(r.url(params...))
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		u.User = url.User(role)
		return u.String()
	}
	for _, c := range []struct {
		name, change, back string
		params             []string
		refused            string // with this SQLSTATE
		same               bool
	}{
		{name: "nothing", same: true},
		{name: "another application", params: []string{"application_name=other"}},
		{name: "another setting", params: []string{"work_mem=1MB"}},
		{name: "a setting of the role", change: "alter role keep_login set work_mem = '2MB'", back: "alter role keep_login reset all"},
		{name: "of the role in this database", change: "alter role keep_login in database %s set work_mem = '2MB'", back: "alter role keep_login in database %s reset all"},
		{name: "of the database", change: "alter database %s set work_mem = '3MB'", back: "alter database %s reset all"},
		{name: "superuser", change: "alter role keep_login superuser", back: "alter role keep_login nosuperuser"},
		{name: "no login", change: "alter role keep_login nologin", back: "alter role keep_login login", refused: "28000"},
		{name: "expired", change: "alter role keep_login valid until '2001-01-01'", back: "alter role keep_login valid until 'infinity'"},
		{name: "no right", change: "revoke connect on database %s from public", back: "grant connect on database %s to public", refused: "42501"},
		{name: "no connections", change: "alter role keep_login connection limit 0", back: "alter role keep_login connection limit -1", refused: "53300"},
		{name: "a role that is set", change: "alter role keep_login set role = 'keep_login'", back: "alter role keep_login reset all"},
		{name: "nothing again", same: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := open(t, as(), nil)
			pid := backend(t, conn)
			r.leave(conn, -1)
			eventually(t, "the backend is kept", func() bool { return r.server.Stats().Kept > 0 })
			do := func(sql string) {
				if sql != "" {
					exec(t, admin, strings.ReplaceAll(sql, "%s", r.db.Name))
				}
			}
			do(c.change)
			defer do(c.back)
			next, err := pgx.Connect(deadline(t), as(c.params...))
			if c.refused != "" {
				if !isCode(err, c.refused) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("connect: %v", err)
			}
			defer next.Close(context.Background())
			if same := backend(t, next) == pid; same != c.same {
				t.Errorf("the same backend: %v", same)
			}
		})
	}
}

// TestAKeptBackendOfSCRAM is for who knows the password of now.
func TestAKeptBackendOfSCRAM(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			cluster, ca := guarded(t, secure)
			if !secure {
				ca = ""
			}
			r := newVerifying(t, cluster, ca, secure, func(c *proxy.Config) { c.Limits.KeptBackends = 4 })
			admin := open(t, cluster.SocketURL("postgres"), nil)
			conn := open(t, r.as("scram", "s3cret"), nil)
			pid := backend(t, conn)
			for range 3 {
				r.leave(conn, 1)
				if _, err := pgconn.Connect(deadline(t), r.as("scram", "wrong")); !isCode(err, "28P01") {
					t.Errorf("wrong password: %v", err)
				}
				conn = open(t, r.as("scram", "s3cret"), nil)
				if now := backend(t, conn); now != pid {
					t.Errorf("backend %d after %d", now, pid)
				}
				if got := value[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); got != secure {
					t.Errorf("TLS to Postgres %v", got)
				}
			}
			r.leave(conn, 1)
			exec(t, admin, "alter role scram password 'other'")
			if _, err := pgconn.Connect(deadline(t), r.as("scram", "s3cret")); !isCode(err, "28P01") {
				t.Errorf("old password: %v", err)
			}
			if now := backend(t, open(t, r.as("scram", "other"), nil)); now == pid {
				t.Error("a new password was given the backend of the old one")
			}
		})
	}
}

// slow is a client's connection that does something before its third message, the one that ends a SCRAM exchange.
type slow struct {
	net.Conn
	writes int
	before func()
}

func (s *slow) Write(p []byte) (int, error) {
	if s.writes++; s.writes == 3 {
		s.before()
	}
	return s.Conn.Write(p)
}

// TestASlowProofIsJudgedByTheRoleOfNow: whoever keeps a login waiting is not let in by what was so before.
func TestASlowProofIsJudgedByTheRoleOfNow(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	r := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.Limits.KeptBackends, c.Limits.KeptFor = 4, time.Hour })
	admin := open(t, cluster.SocketURL("postgres"), nil)
	for change, back := range map[string]string{
		"alter role scram nologin":          "alter role scram login",
		"alter role scram password 'other'": "alter role scram password 's3cret'",
	} {
		r.leave(open(t, r.as("scram", "s3cret"), nil), 1)
		config, err := pgx.ParseConfig(r.as("scram", "s3cret"))
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		changed := false
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &slow{Conn: conn, before: func() {
				exec(t, admin, change)
				changed = true
				time.Sleep(1200 * time.Millisecond)
			}}, err
		}
		if _, err := pgx.ConnectConfig(deadline(t), config); !isCode(err, "28000") || !changed {
			t.Errorf("%s: role changed %v: %v", change, changed, err)
		}
		exec(t, admin, back)
		exec(t, admin, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'scram'")
		eventually(t, "none is kept", func() bool { return r.server.Stats().Kept == 0 })
	}
}

// TestAuthenticationByPostgresNeedsABackendOfItsOwn: where the proxy only relays what a client has to show, Postgres must see it.
func TestAuthenticationByPostgresNeedsABackendOfItsOwn(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	r := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.Auth, c.Limits.KeptBackends, c.Limits.KeptFor = proxy.AuthAuto, 4, time.Hour })
	admin := open(t, cluster.SocketURL("postgres"), nil)
	for _, role := range []string{"scram", "plain", "md5"} {
		conn := open(t, r.as(role, "s3cret"), nil)
		pid := backend(t, conn)
		r.leave(conn, 0)
		ended(t, admin, pid)
	}
	conn := open(t, r.as("open", ""), nil)
	r.leave(conn, 1)
	if got := r.server.Stats().Reused; got != 0 {
		t.Errorf("%d reused", got)
	}
}

// TestAPasswordIsNeverTakenUnseen: once Postgres asks for one, the backend of a client that it has let in without is no answer to it.
func TestAPasswordIsNeverTakenUnseen(t *testing.T) {
	t.Parallel()
	cluster, ca := guarded(t, true)
	r := newVerifying(t, cluster, ca, true, func(c *proxy.Config) { c.Auth, c.Limits.KeptBackends, c.Limits.KeptFor = proxy.AuthAuto, 4, time.Hour })
	admin := open(t, cluster.SocketURL("postgres"), nil)
	trusted, err := pgconn.Connect(deadline(t), r.as("open", ""))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	exec(t, admin, "alter role open password 's3cret'")
	file := value[string](t, admin, "show hba_file")
	hba, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.ReplaceAll(hba, []byte("open 127.0.0.1/32 trust"), []byte("open 127.0.0.1/32 scram-sha-256")), 0o600)
	}
	if err != nil {
		t.Fatalf("change pg_hba.conf: %v", err)
	}
	exec(t, admin, "select pg_reload_conf()")
	eventually(t, "Postgres asks for a password", func() bool {
		_, err := pgconn.Connect(deadline(t), r.as("open", "wrong"))
		return isCode(err, "28P01")
	})
	config, err := pgconn.ParseConfig(r.as("open", "wrong"))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	tcp, err := net.Dial("tcp", r.server.Addr().String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer tcp.Close()
	if _, err := tcp.Write(pgwire.AppendTLSRequest(nil)); err != nil {
		t.Fatalf("ask for TLS: %v", err)
	}
	if _, err := tcp.Read(make([]byte, 1)); err != nil {
		t.Fatalf("ask for TLS: %v", err)
	}
	conn := tls.Client(tcp, config.TLSConfig)
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "open", "database": "postgres"}})
	say := func() pgproto3.BackendMessage {
		t.Helper()
		if err := f.Flush(); err != nil {
			t.Fatalf("log in: %v", err)
		}
		m, err := f.Receive()
		if err != nil {
			t.Fatalf("log in: %v", err)
		}
		return m
	}
	if m, ok := say().(*pgproto3.AuthenticationCleartextPassword); !ok {
		t.Fatalf("no question for a password: %T", m)
	}
	if err := trusted.Close(deadline(t)); err != nil {
		t.Fatalf("leave: %v", err)
	}
	eventually(t, "its backend is kept", func() bool { return r.server.Stats().Kept == 1 })
	f.Send(&pgproto3.PasswordMessage{Password: "wrong"})
	if m, ok := say().(*pgproto3.ErrorResponse); !ok || m.Code != "28P01" {
		t.Errorf("with a wrong password: %T %+v", m, m)
	}
}

func TestKeptBackendsComeToAnEnd(t *testing.T) {
	t.Parallel()
	t.Run("after their time", func(t *testing.T) {
		t.Parallel()
		r := newKeepRig(t, nil, func(c *proxy.Config) { c.Limits.KeptFor = 2 * time.Second })
		conn := r.connect()
		pid := backend(t, conn)
		began := time.Now()
		for range 2 { // which use does not prolong
			r.leave(conn, -1)
			conn = r.connect()
		}
		r.leave(conn, -1)
		ended(t, r.db.Conn(t), pid)
		if lasted := time.Since(began); lasted < time.Second {
			t.Errorf("it ended after %v", lasted)
		}
	})
	t.Run("when somebody ends them", func(t *testing.T) {
		t.Parallel()
		r := newKeepRig(t, nil, nil)
		admin := r.db.Conn(t)
		conn := r.connect()
		pid := backend(t, conn)
		r.leave(conn, 1)
		exec(t, admin, "select pg_terminate_backend($1)", pid)
		eventually(t, "it is not kept any more", func() bool { return r.server.Stats().Kept == 0 })
		if now := backend(t, r.connect()); now == pid {
			t.Error("a client was given a backend that had ended")
		}
	})
	t.Run("when there are more", func(t *testing.T) {
		t.Parallel()
		r := newKeepRig(t, nil, nil)
		witness := r.db.Conn(t)
		var conns []*pgx.Conn
		for i := range 7 {
			conns = append(conns, r.connect(fmt.Sprintf("application_name=a%d", i)))
		}
		for _, conn := range conns {
			r.leave(conn, -1)
		}
		eventually(t, "four are kept, and no other is there", func() bool {
			return r.server.Stats().Kept == 4 && value[int](t, witness, `
select count(*)::int from pg_stat_activity where application_name ~ '^a\d$' and datname = current_database()`) == 4
		})
	})
	t.Run("with the server", func(t *testing.T) {
		t.Parallel()
		r := newKeepRig(t, nil, nil)
		conn := r.connect()
		pid := backend(t, conn)
		r.leave(conn, 1)
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		ended(t, r.db.Conn(t), pid)
	})
	t.Run("with Postgres", func(t *testing.T) {
		t.Parallel()
		cluster, _ := guarded(t, false)
		r := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.Limits.KeptBackends = 4 })
		conn := open(t, r.as("scram", "s3cret"), nil)
		r.leave(conn, 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := cluster.Restart(ctx, pgtest.Fast); err != nil {
			t.Fatalf("restart: %v", err)
		}
		eventually(t, "none is kept", func() bool { return r.server.Stats().Kept == 0 })
		eventually(t, "clients are let in again", func() bool {
			conn, err := pgx.Connect(deadline(t), r.as("scram", "s3cret"))
			return err == nil && conn.Close(deadline(t)) == nil
		})
	})
}

// TestKeptBackendsMakeRoom for a client that needs another one, where Postgres has no connection left.
func TestKeptBackendsMakeRoom(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, "alter role scram connection limit 2")
	exec(t, admin, "alter role open connection limit 2")
	for role, auth := range map[string]proxy.Auth{"scram": proxy.AuthSCRAM, "open": proxy.AuthAuto} {
		t.Run(role, func(t *testing.T) {
			r := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.Auth, c.Limits.KeptBackends = auth, 4 })
			first, second := open(t, r.as(role, "s3cret"), nil), open(t, r.as(role, "s3cret"), nil)
			r.leave(first, 1)
			conn := open(t, r.as(role, "s3cret", "application_name=other"), nil)
			if got := value[string](t, conn, "show application_name"); got != "other" {
				t.Errorf("it is of %q", got)
			}
			if got := r.server.Stats(); got.Kept != 0 || got.Reused != 0 {
				t.Errorf("%d are kept, %d reused", got.Kept, got.Reused)
			}
			if _, err := pgconn.Connect(deadline(t), r.as(role, "s3cret")); !isCode(err, "53300") {
				t.Errorf("where there is no room: %v", err)
			}
			if err := errors.Join(conn.Ping(deadline(t)), second.Ping(deadline(t))); err != nil {
				t.Errorf("the others: %v", err)
			}
			if got := r.server.Stats().Ended["panic"]; got != 0 {
				t.Errorf("%d panics", got)
			}
		})
	}
}

// TestKeptBackendsMakeRoomForAParkedListener that needs a backend again.
func TestKeptBackendsMakeRoomForAParkedListener(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	r := newKeepRig(t, db, func(c *proxy.Config) { c.Limits.KeptFor = time.Hour })
	eventually(t, "the hub has read the log", func() bool { return r.server.Stats().HubPosition >= 0 })
	role := guest(t, db)
	exec(t, db.AdminConn(t), "alter role "+role+" connection limit 1")
	as := func(c *pgx.ConnConfig) { c.User = role }
	listener := open(t, r.url(), as)
	exec(t, listener, "listen hubspot_deals")
	r.parked(1)
	r.leave(open(t, r.url("application_name=kept"), as), 1)
	if _, err := listener.Exec(deadline(t), "select 1"); err != nil {
		t.Errorf("the listener was not let in again: %v", err)
	}
	if got := r.server.Stats().Kept; got != 0 {
		t.Errorf("%d are kept", got)
	}
}

// TestKeptBackendsDoNotHelpARoleOverItsLimit: the limit is the proxy's own, and whoever is over it has proved who he is already.
func TestKeptBackendsDoNotHelpARoleOverItsLimit(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	for _, role := range []string{"open", "scram"} {
		r := newVerifying(t, cluster, "", false, func(c *proxy.Config) {
			c.Auth, c.Limits.KeptBackends, c.Limits.SessionsPerRole, c.Limits.KeptFor = proxy.AuthAuto, 4, 1, time.Hour
		})
		r.leave(open(t, r.as("open", "", "application_name=kept"), nil), 1)
		first := open(t, r.as(role, "s3cret"), nil)
		if _, err := pgconn.Connect(deadline(t), r.as(role, "s3cret")); !isCode(err, "53300") {
			t.Errorf("%s over its limit: %v", role, err)
		}
		if got := r.server.Stats().Kept; got != 1 {
			t.Errorf("%s: %d are kept", role, got)
		}
		if err := first.Ping(deadline(t)); err != nil {
			t.Errorf("%s: the session within the limit: %v", role, err)
		}
	}
}

// TestKeptBackendsLeaveADatabaseAlone that is to be dropped, renamed, moved or copied, within the seconds that Postgres waits for others
// to go, whoever says so; those of other databases stay.
func TestKeptBackendsLeaveADatabaseAlone(t *testing.T) {
	t.Parallel()
	long := func(c *proxy.Config) { c.Limits.KeptFor = time.Hour }
	r := newKeepRig(t, nil, long)
	other := newKeepRig(t, r.db, long) // another proxy
	admin := superuser(t, r)
	exec(t, admin, "alter role "+pgtest.Owner+" createdb")
	exec(t, admin, "create database keep_a owner "+pgtest.Owner)
	exec(t, admin, "set allow_in_place_tablespaces = on")
	exec(t, admin, "create tablespace keep_space owner "+pgtest.Owner+" location ''")
	t.Cleanup(func() {
		admin := superuser(t, r)
		for _, name := range []string{"keep_a", "keep_b", "keep_c"} {
			exec(t, admin, "drop database if exists "+name+" with (force)")
		}
		exec(t, admin, "drop tablespace keep_space")
		exec(t, admin, "alter role "+pgtest.Owner+" nocreatedb")
	})
	staying := r.connect()
	pid := backend(t, staying)
	r.leave(staying, 1)
	direct, through, elsewhere := r.db.Conn(t), r.connect("application_name=through"), other.connect()
	for i, sql := range []string{
		"create database keep_b template keep_a", "alter database keep_a rename to keep_c", "alter database keep_c rename to keep_a",
		"drop database keep_b", "alter database keep_a set tablespace keep_space", "drop database keep_a",
	} {
		u, err := url.Parse(r.url())
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		if u.Path = strings.Fields(sql)[2]; i == 0 {
			u.Path = "keep_a"
		}
		for _, conn := range []*pgx.Conn{open(t, u.String(), nil), open(t, u.String(), nil)} {
			r.leave(conn, -1)
		}
		eventually(t, "the backends are kept", func() bool { return r.server.Stats().Kept == 3 })
		exec(t, []*pgx.Conn{direct, through, elsewhere}[i%3], sql)
		eventually(t, "the other database's is still kept", func() bool { return r.server.Stats().Kept == 1 })
	}
	if got := backend(t, r.connect()); got != pid {
		t.Error("a backend of another database has ended")
	}
}

// TestACancelReachesNobodyElse: the key of a client that has left opens nothing, though its backend serves another one.
func TestACancelReachesNobodyElse(t *testing.T) {
	t.Parallel()
	r := newKeepRig(t, nil, nil)
	for range 30 {
		conn := r.connect()
		old := conn.PgConn()
		pid := backend(t, conn)
		cancelled := make(chan error, 1)
		leave := make(chan struct{})
		go func() {
			<-leave
			cancelled <- old.CancelRequest(context.Background())
		}()
		close(leave)
		if err := conn.Close(deadline(t)); err != nil {
			t.Errorf("leave: %v", err)
		}
		next := r.connect()
		if _, err := next.Exec(deadline(t), "select pg_sleep(0.02)"); err != nil {
			t.Errorf("the next client, on backend %d after %d: %v", backend(t, next), pid, err)
		}
		if err := <-cancelled; err != nil {
			t.Errorf("cancel: %v", err)
		}
		if err := next.Close(deadline(t)); err != nil {
			t.Errorf("leave: %v", err)
		}
	}
	if r.server.Stats().Reused == 0 {
		t.Error("no backend was used again")
	}
}
