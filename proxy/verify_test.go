package proxy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// verifying is a proxy with auth scram in front of a cluster that guards its roles.
type verifying struct {
	*rig
	ca string // of the proxy; empty where the client's leg is plain
}

// newVerifying starts one. ca is of the cluster, empty without TLS there.
func newVerifying(t *testing.T, cluster *pgtest.Cluster, ca string, clientTLS bool, change func(*proxy.Config)) *verifying {
	t.Helper()
	sslmode := "disable"
	if ca != "" {
		sslmode = "verify-full&sslrootcert=" + url.QueryEscape(ca)
	}
	pool, err := pgxpool.New(t.Context(), cluster.SocketURL("postgres"))
	if err != nil {
		t.Fatalf("open pool: %v", err)
	}
	t.Cleanup(pool.Close)
	v := &verifying{}
	db := &pgtest.DB{
		Name: "postgres", Cluster: cluster,
		URL: fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=%s", cluster.Port(), sslmode),
	}
	v.rig = newRig(t, db, func(c *proxy.Config) {
		c.Auth, c.AuthPool, c.Changes = proxy.AuthSCRAM, pool, nil
		if clientTLS {
			c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
			v.ca = c.TLS.CertFile
		}
		if change != nil {
			change(c)
		}
	})
	return v
}

// as is the address for a user, with parameters.
func (v *verifying) as(user, password string, params ...string) string {
	mode := "disable"
	if v.ca != "" {
		mode = "verify-full&sslrootcert=" + url.QueryEscape(v.ca)
	}
	address := fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=%s", user, url.PathEscape(password), v.server.Addr(), mode)
	return strings.Join(append([]string{address}, params...), "&")
}

// TestSCRAMIsVerifiedByTheProxy goes over two clusters, one with TLS: to start one takes longer than all of this.
func TestSCRAMIsVerifiedByTheProxy(t *testing.T) {
	t.Parallel()
	plain, _ := guarded(t, false)
	secure, ca := guarded(t, true)
	furnish(t, plain)
	for _, clientTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("client TLS %v, server TLS false", clientTLS), func(t *testing.T) {
			logInByKeys(t, newVerifying(t, plain, "", clientTLS, nil), false)
		})
		t.Run(fmt.Sprintf("client TLS %v, server TLS true", clientTLS), func(t *testing.T) {
			logInByKeys(t, newVerifying(t, secure, ca, clientTLS, nil), true)
		})
	}
	t.Run("who cannot be verified is told the same", func(t *testing.T) { tellAllTheSame(t, plain) })
	t.Run("a password that was changed is the new one at once", func(t *testing.T) { changePassword(t, secure, ca) })
	t.Run("a server that wants something else is explained", func(t *testing.T) { wantSomethingElse(t, plain, secure) })
	t.Run("an auth query of one's own is asked", func(t *testing.T) { askOwnQuery(t, plain) })
	t.Run("a listener logs in again by itself", func(t *testing.T) { parkAndReturn(t, plain) })
	t.Run("sessions of a role are counted", func(t *testing.T) { countRoles(t, secure, ca) })
}

// logInByKeys holds what must be so on every mix of TLS.
func logInByKeys(t *testing.T, v *verifying, serverTLS bool) {
	conn := open(t, v.as("scram", "s3cret", "application_name=shop"), nil)
	for sql, want := range map[string]string{"select current_user::text": "scram", "show application_name": "shop"} {
		if got := value[string](t, conn, sql); got != want {
			t.Errorf("%s: got %q", sql, got)
		}
	}
	if got := value[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); got != serverTLS {
		t.Errorf("TLS to Postgres %v", got)
	}
	if got, want := value[int32](t, conn, "select pg_backend_pid()"), int32(conn.PgConn().PID()); got != want {
		t.Errorf("process id: got %d, told %d", got, want)
	}
	if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if _, err := pgconn.Connect(deadline(t), v.as("scram", "wrong")); !isCode(err, "28P01") {
		t.Errorf("wrong password: %v", err)
	}
	v.libpq(t)
	v.node(t)
	for _, secret := range append(secrets(t, v.db.Cluster), "s3cret") {
		if strings.Contains(v.log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// libpq goes through what libpq does about channel binding.
func (v *verifying) libpq(t *testing.T) {
	t.Helper()
	path, err := osexec.LookPath("psql")
	if err != nil {
		t.Log("no psql in PATH; checked with pgx only")
		return
	}
	for _, mode := range []string{"prefer", "require", "disable"} {
		cmd := osexec.CommandContext(deadline(t), path, "-XAtc", "select 'in'", v.as("scram", "s3cret", "channel_binding="+mode))
		out, err := cmd.CombinedOutput()
		switch refuses := mode == "require" && v.ca == ""; {
		case refuses && err == nil:
			t.Error("a client that requires channel binding went without")
		case !refuses && (err != nil || strings.TrimSpace(string(out)) != "in"):
			t.Errorf("channel_binding=%s: %v: %s", mode, err, out)
		}
	}
	cmd := osexec.CommandContext(deadline(t), path, "-XAtc", "select 'in'", v.as("scram", "wrong", "channel_binding=prefer"))
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `password authentication failed for user "scram"`) {
		t.Errorf("psql with a wrong password: %v: %s", err, out)
	}
}

// node logs in with node-postgres, bound to the channel where there is one.
func (v *verifying) node(t *testing.T) {
	t.Helper()
	home := driversHome(t)
	if _, err := os.Stat(filepath.Join(home, "node", ".installed")); err != nil {
		if os.Getenv("HUBPG_DRIVERS_REQUIRED") != "" {
			t.Errorf("the drivers are not installed: %v", err)
		}
		t.Log("no node-postgres; run .ci/drivers")
		return
	}
	const script = `
const { Client } = require('pg');
const fs = require('fs');
const ssl = process.env.HUBPG_CA ? { ca: fs.readFileSync(process.env.HUBPG_CA) } : false;
(async () => {
  for (const [password, wanted] of [['s3cret', 'scram'], ['wrong', '28P01']]) {
    const client = new Client({ user: 'scram', database: 'postgres', password, ssl, enableChannelBinding: true });
    let got;
    try {
      await client.connect();
      got = (await client.query('select current_user as who')).rows[0].who;
      await client.end();
    } catch (e) { got = e.code || String(e); }
    if (got !== wanted) { console.error(password === 's3cret' ? 'right' : 'wrong', 'password:', got); process.exit(1); }
  }
})();`
	cmd := osexec.CommandContext(deadline(t), "node", "-e", script)
	addr := v.server.Addr().(*net.TCPAddr)
	cmd.Env = append(os.Environ(), "HUBPG_CA="+v.ca, "NODE_PATH="+filepath.Join(home, "node", "node_modules"),
		"PGHOST="+addr.IP.String(), fmt.Sprintf("PGPORT=%d", addr.Port))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("node-postgres: %v: %s", err, out)
	}
}

// secrets are the parts of the stored passwords that nobody may see.
func secrets(t *testing.T, cluster *pgtest.Cluster) (parts []string) {
	t.Helper()
	admin := open(t, cluster.SocketURL("postgres"), nil)
	rows, err := admin.Query(deadline(t), "select rolpassword from pg_authid where rolpassword is not null")
	if err != nil {
		t.Fatalf("read stored passwords: %v", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatalf("read stored passwords: %v", err)
		}
		parts = append(parts, text[max(0, len(text)-32):])
	}
	return parts
}

func tellAllTheSame(t *testing.T, cluster *pgtest.Cluster) {
	withLog := func(c *proxy.Config) { c.Changes = c.AuthPool }
	first, second := newVerifying(t, cluster, "", false, withLog), newVerifying(t, cluster, "", false, withLog)
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, "create role expired login password 's3cret' valid until '2001-01-01'")

	for user, reason := range map[string]string{
		"scram": "wrong password", "nobody": "no such role", "expired": "has expired", "open": "has no password", "md5": "not stored as SCRAM-SHA-256",
	} {
		password := "s3cret"
		if user == "scram" {
			password = "wrong"
		}
		_, err := pgconn.Connect(deadline(t), first.as(user, password))
		if !isCode(err, "28P01") || !strings.Contains(err.Error(), fmt.Sprintf("password authentication failed for user %q", user)) {
			t.Errorf("%s: %v", user, err)
		}
		if !strings.Contains(first.log.String(), fmt.Sprintf("user=%s", user)) || !strings.Contains(first.log.String(), reason) {
			t.Errorf("%s: the log does not say %q", user, reason)
		}
	}

	// A salt that changed from one time or proxy to the next would tell who does not exist.
	for _, user := range []string{"nobody", "md5", "scram"} {
		salt := challenge(t, first, user)
		if again, other := challenge(t, first, user), challenge(t, second, user); salt != again || salt != other {
			t.Errorf("%s: challenged with %s, %s and %s", user, salt, again, other)
		}
	}
	if a, b := challenge(t, first, "nobody"), challenge(t, first, "nobody2"); a == b || len(a) != len(challenge(t, first, "scram")) {
		t.Errorf("unknown users: %s, %s", a, b)
	}
}

// challenge begins a login and returns salt and iterations.
func challenge(t *testing.T, v *verifying, user string) string {
	t.Helper()
	conn := v.dial()
	first := []byte("n,,n=,r=abcdefgh")
	initial := append([]byte("SCRAM-SHA-256\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(first)))...)
	initial = append(initial, first...)
	if _, err := conn.Write(append(startup("user", user, "database", "postgres"), pgwire.AppendMessage(nil, 'p', initial)...)); err != nil {
		t.Fatalf("write: %v", err)
	}
	read := func() []byte {
		head := make([]byte, 5)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatalf("read: %v", err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			t.Fatalf("read: %v", err)
		}
		return body
	}
	if offered := read(); !bytes.Contains(offered, []byte("SCRAM-SHA-256\x00\x00")) || bytes.Contains(offered, []byte("PLUS")) {
		t.Errorf("offered %q without TLS", offered)
	}
	_, rest, _ := strings.Cut(string(read()[4:]), ",")
	return rest
}

func changePassword(t *testing.T, cluster *pgtest.Cluster, ca string) {
	v := newVerifying(t, cluster, ca, true, nil)
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, "create role changing login password 's3cret'")
	for _, password := range []string{"first", "second", "sécond €"} {
		exec(t, admin, "set password_encryption = 'scram-sha-256'")
		exec(t, admin, fmt.Sprintf("alter role changing password '%s'", password))
		conn := open(t, v.as("changing", password), nil)
		if got := value[string](t, conn, "select current_user::text"); got != "changing" {
			t.Errorf("logged in as %s", got)
		}
		if _, err := pgconn.Connect(deadline(t), v.as("changing", "s3cret")); !isCode(err, "28P01") {
			t.Errorf("old password: %v", err)
		}
	}
}

func wantSomethingElse(t *testing.T, cluster, other *pgtest.Cluster) {
	v := newVerifying(t, cluster, "", false, nil)
	_, err := pgconn.Connect(deadline(t), v.as("plain", "s3cret")) // pg_hba.conf says password
	if !isCode(err, "28000") || !strings.Contains(err.Error(), "asks for the password itself") {
		t.Errorf("cleartext: %v", err)
	}
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, "alter role open password 's3cret'") // and trust, for this one
	if got := value[string](t, open(t, v.as("open", "s3cret"), nil), "select current_user::text"); got != "open" {
		t.Errorf("logged in as %s", got)
	}
	if _, err := pgconn.Connect(deadline(t), v.as("open", "wrong")); !isCode(err, "28P01") {
		t.Errorf("wrong password for a role that Postgres trusts: %v", err)
	}
	if _, err := pgconn.Connect(deadline(t), strings.Replace(v.as("scram", "s3cret"), "/postgres?", "/nowhere?", 1)); !isCode(err, "3D000") {
		t.Errorf("no such database: %v", err)
	}

	// Verifiers of another server, with the same role and password.
	foreign, err := pgxpool.New(t.Context(), other.SocketURL("postgres"))
	if err != nil {
		t.Fatalf("open pool: %v", err)
	}
	t.Cleanup(foreign.Close)
	mixed := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.AuthPool = foreign })
	if _, err := pgconn.Connect(deadline(t), mixed.as("scram", "s3cret")); !isCode(err, "28000") || !strings.Contains(err.Error(), "its verifier is not the one") {
		t.Errorf("verifiers of another server: %v", err)
	}
}

func askOwnQuery(t *testing.T, cluster *pgtest.Cluster) {
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, `
create function keep(name text, out who name, out stored text) language sql security definer set search_path = pg_catalog as $$
    select rolname, rolpassword from pg_catalog.pg_authid where rolname = lower(name)
$$;
revoke all on function keep from public`)
	const query = "select who, stored from keep($1)"
	pool, err := pgxpool.New(t.Context(), fmt.Sprintf("postgres://open@127.0.0.1:%d/postgres?sslmode=disable", cluster.Port()))
	if err != nil {
		t.Fatalf("open pool: %v", err)
	}
	t.Cleanup(pool.Close)
	if err := proxy.ProbeAuth(deadline(t), pool, query); !isCode(err, "42501") {
		t.Errorf("a role that may not run the query: %v", err)
	}
	if err := proxy.ProbeAuth(deadline(t), pool, ""); !isCode(err, "42501") {
		t.Errorf("a role that may not read pg_authid: %v", err)
	}
	exec(t, admin, "grant execute on function keep to open")
	if err := proxy.ProbeAuth(deadline(t), pool, query); err != nil {
		t.Errorf("a role that may: %v", err)
	}
	v := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.AuthPool, c.AuthQuery = pool, query })
	open(t, v.as("scram", "s3cret"), nil)
	if _, err := pgconn.Connect(deadline(t), v.as("SCRAM", "s3cret")); !isCode(err, "28P01") {
		t.Errorf("a name that the query folds: %v", err)
	}

	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatalf("read README: %v", err)
	}
	_, recipe, ok := strings.Cut(string(readme), "create function hubpg_verifier")
	recipe, _, okEnd := strings.Cut(recipe, "```")
	if !ok || !okEnd || !strings.Contains(recipe, "to hubpg;") || !strings.Contains(recipe, "select * from hubpg_verifier($1)") {
		t.Fatalf("the README has no such function")
	}
	exec(t, admin, strings.Replace("create function hubpg_verifier"+recipe, "to hubpg;", "to open;", 1))
	shown := newVerifying(t, cluster, "", false, func(c *proxy.Config) {
		c.AuthPool, c.AuthQuery = pool, "select * from hubpg_verifier($1)"
	})
	open(t, shown.as("scram", "s3cret"), nil)

	out := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.AuthPool = pool })
	if _, err := pgconn.Connect(deadline(t), out.as("scram", "s3cret")); !isCode(err, "08006") || !strings.Contains(err.Error(), "cannot read what to verify") {
		t.Errorf("verifiers that cannot be read: %v", err)
	}
	eventually(t, "the log has the cause", func() bool { return strings.Contains(out.log.String(), "permission denied") })
}

func parkAndReturn(t *testing.T, cluster *pgtest.Cluster) {
	v := newVerifying(t, cluster, "", false, func(c *proxy.Config) { c.Changes, c.ListenerIdle = c.AuthPool, 50*time.Millisecond })
	eventually(t, "the hub has read the log", func() bool { return v.server.Stats().HubPosition >= 0 })
	conn := open(t, v.as("scram", "s3cret"), nil)
	exec(t, conn, "listen hubspot_deals")
	eventually(t, "the backend is given back", func() bool { return v.server.Stats().Parked == 1 })
	if got := value[string](t, conn, "select current_user::text"); got != "scram" || v.server.Stats().Attached == 0 {
		t.Errorf("logged in again as %s, %d times", got, v.server.Stats().Attached)
	}
}

func countRoles(t *testing.T, cluster *pgtest.Cluster, ca string) {
	exec(t, open(t, cluster.SocketURL("postgres"), nil), "create role other login password 's3cret'")
	for _, auth := range []proxy.Auth{proxy.AuthSCRAM, proxy.AuthPassword, proxy.AuthAuto, proxy.AuthRelay} {
		t.Run(string(auth), func(t *testing.T) {
			v := newVerifying(t, cluster, ca, auth != proxy.AuthRelay, func(c *proxy.Config) { c.Auth, c.Limits.SessionsPerRole = auth, 2 })
			first := open(t, v.as("scram", "s3cret"), nil)
			open(t, v.as("scram", "s3cret"), nil)
			_, err := pgconn.Connect(deadline(t), v.as("scram", "s3cret"))
			if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "53300" || !strings.Contains(refused.Message, `role "scram"`) || refused.Hint == "" {
				t.Errorf("third session: %v", err)
			}
			if _, err := pgconn.Connect(deadline(t), v.as("scram", "wrong")); !isCode(err, "28P01") {
				t.Errorf("who has not proved to be the role learns of its sessions: %v", err)
			}
			if got := v.server.Stats().Refused["role"]; got != 1 {
				t.Errorf("refused for their role: %d", got)
			}
			open(t, v.as("other", "s3cret"), nil)
			first.Close(deadline(t))
			eventually(t, "the place of a closed session is free", func() bool {
				conn, err := pgconn.Connect(deadline(t), v.as("scram", "s3cret"))
				return err == nil && conn.Close(deadline(t)) == nil
			})
		})
	}
}
