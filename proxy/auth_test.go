package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgconn"
)

// issue writes a self-signed certificate for localhost into dir and gives it to the owner of dir, as Postgres wants.
func issue(t testing.TB, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("generate key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatalf("create certificate: %v", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatalf("encode key: %v", err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatalf("write %s: %v", path, err)
		}
		if os.Geteuid() == 0 {
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatalf("stat %s: %v", dir, err)
			}
			owner := info.Sys().(*syscall.Stat_t)
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatalf("give %s to the server: %v", path, err)
			}
		}
	}
	return cert, key
}

// guarded is a cluster that asks everybody for a password: scram, the user of that name by SCRAM, and md5 by MD5.
func guarded(t testing.TB, secure bool) (*pgtest.Cluster, string) {
	t.Helper()
	settings := map[string]string{}
	dir := pgtest.Dir(t)
	cert, key := issue(t, dir, "postgres")
	if secure {
		settings = map[string]string{"ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key}
	}
	starting, cancel := context.WithTimeout(t.Context(), patience) // the machine may be busy with other tests
	defer cancel()
	cluster, err := pgtest.Start(starting, pgtest.ClusterConfig{
		Dir: filepath.Join(dir, "data"), Settings: settings,
		HBA: "host all plain 127.0.0.1/32 password\nhost all md5 127.0.0.1/32 md5\nhost all open 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256",
	})
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() { _ = cluster.Kill() })
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, "create role scram login password 's3cret'")
	exec(t, admin, "create role plain login password 's3cret'")
	exec(t, admin, "create role open login")
	exec(t, admin, "set password_encryption = 'md5'")
	exec(t, admin, "create role md5 login password 's3cret'")
	return cluster, cert
}

func TestAuthenticationIsPostgressOnEveryMixOfTLS(t *testing.T) {
	t.Parallel()
	for _, serverTLS := range []bool{false, true} {
		cluster, ca := guarded(t, serverTLS)
		sslmode := "disable"
		if serverTLS {
			sslmode = "verify-full&sslrootcert=" + url.QueryEscape(ca)
		}
		upstream := fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=%s", cluster.Port(), sslmode)
		db := &pgtest.DB{Name: "postgres", URL: upstream, Cluster: cluster}
		for _, clientTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("client TLS %v, server TLS %v", clientTLS, serverTLS), func(t *testing.T) {
				dir := t.TempDir()
				var cert string
				r := newRig(t, db, func(c *proxy.Config) {
					c.Changes = nil
					if clientTLS {
						c.TLS.CertFile, c.TLS.KeyFile = issue(t, dir, "proxy")
						cert = c.TLS.CertFile
					}
				})
				mode := "disable"
				if clientTLS {
					mode = "verify-full"
				}
				address := func(user, password string) string {
					return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=%s&sslrootcert=%s", user, password, r.server.Addr(), mode, url.QueryEscape(cert))
				}
				for _, user := range []string{"scram", "md5", "plain", "open"} {
					conn := open(t, address(user, "s3cret"), nil)
					if got := value[string](t, conn, "select current_user::text"); got != user {
						t.Errorf("%s logged in as %s", user, got)
					}
					if got := value[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); got != serverTLS {
						t.Errorf("%s: TLS to Postgres %v", user, got)
					}
					if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
						t.Errorf("%s: cancel: %v", user, err)
					}
					psql(t, address(user, "s3cret"), "select 'in'", "in")
					if user == "open" {
						continue
					}
					if _, err := pgconn.Connect(deadline(t), address(user, "wrong")); !isCode(err, "28P01") {
						t.Errorf("%s with a wrong password: %v", user, err)
					}
				}
				if strings.Contains(r.log.String(), "s3cret") {
					t.Error("a password is in the log")
				}
			})
		}
	}
}

// psql runs a script with the libpq client and checks what it prints.
func psql(t *testing.T, address, script, want string) string {
	t.Helper()
	path, err := osexec.LookPath("psql")
	if err != nil {
		t.Logf("no psql in PATH; checked with pgx only")
		return want
	}
	cmd := osexec.CommandContext(deadline(t), path, "-XAtq", "-v", "ON_ERROR_STOP=1", address)
	cmd.Stdin = strings.NewReader(script)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Errorf("psql: %v\n%s", err, complaints.String())
	}
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("psql printed %q, want %q (%s)", got, want, complaints.String())
	}
	return complaints.String()
}

func TestDirectTLSAndPlainTextSideBySide(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
	})
	for _, how := range [][]string{
		{"sslmode=disable"}, {"sslmode=prefer"}, {"sslmode=require"}, {"sslmode=require", "sslnegotiation=direct"},
	} {
		conn := r.connect(how...)
		if got := value[int32](t, conn, "select 1"); got != 1 {
			t.Errorf("%v: got %d", how, got)
		}
	}
	for name, protos := range map[string][]string{"another protocol": {"h2"}, "no protocol": nil} {
		conn, err := tls.Dial("tcp", r.server.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err != nil {
			continue // refused in the handshake
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("direct TLS with %s was accepted", name)
		}
		conn.Close()
	}
}

func TestTLSCanBeRequired(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
		c.TLS.Required = true
	})
	if _, err := pgconn.Connect(deadline(t), r.url("sslmode=disable")); !isCode(err, "28000") {
		t.Errorf("plain text: %v", err)
	}
	r.connect("sslmode=require")
	if err := r.server.ReloadTLS(); err != nil {
		t.Errorf("reload: %v", err)
	}
}

func TestCertificatesOfClientsAreAskedForWhereConfigured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	known, knownKey := issue(t, dir, "known")
	stranger, strangerKey := issue(t, dir, "stranger")
	socket := t.TempDir()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, dir, "proxy")
		c.TLS.ClientCAFile, c.Socket = known, socket
	})
	with := func(cert, key string) string {
		return r.url("sslmode=require", "sslcert="+cert, "sslkey="+key)
	}
	if got := value[int32](t, open(t, with(known, knownKey), nil), "select 1"); got != 1 {
		t.Errorf("got %d", got)
	}
	psql(t, with(known, knownKey), "select 2", "2")
	if _, err := pgconn.Connect(deadline(t), r.url("sslmode=require")); !isCode(err, "28000") || !strings.Contains(err.Error(), "valid client certificate") {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := pgconn.Connect(deadline(t), r.url("sslmode=disable")); !isCode(err, "28000") {
		t.Errorf("no TLS: %v", err)
	}
	if _, err := pgconn.Connect(deadline(t), with(stranger, strangerKey)); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
	// A cancel request shows none and needs none: its key is the proof.
	conn := open(t, with(known, knownKey), nil)
	if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Errorf("cancel: %v", err)
	}
	local := fmt.Sprintf("host=%s port=%d user=hubpg_owner dbname=%s", socket, r.server.Addr().(*net.TCPAddr).Port, r.db.Name)
	if got := value[int32](t, open(t, local, nil), "select 3"); got != 3 {
		t.Errorf("through the socket: got %d", got)
	}
}

func TestEverySSLModeOfLibpqWorks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, _ := issue(t, dir, "other")
	var ca string
	secure := newRig(t, nil, func(c *proxy.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, dir, "proxy")
		ca = c.TLS.CertFile
	})
	plain := newRig(t, secure.db, nil)
	path, err := osexec.LookPath("psql")
	if err != nil {
		t.Skip("no psql in PATH")
	}
	for _, c := range []struct {
		r        *rig
		mode, ca string
		tls, ok  bool
	}{
		{secure, "disable", ca, false, true},
		{secure, "allow", ca, false, true},
		{secure, "prefer", ca, true, true},
		{secure, "require", ca, true, true},
		{secure, "verify-ca", ca, true, true},
		{secure, "verify-full", ca, true, true},
		{secure, "verify-ca", other, true, false},
		{plain, "disable", "", false, true},
		{plain, "prefer", "", false, true},
		{plain, "require", "", false, false},
	} {
		params := []string{"sslmode=" + c.mode}
		if c.ca != "" {
			params = append(params, "sslrootcert="+c.ca)
		}
		cmd := osexec.CommandContext(deadline(t), path, "-X", c.r.url(params...))
		cmd.Stdin = strings.NewReader("\\conninfo\n")
		out, err := cmd.CombinedOutput()
		if (err == nil) != c.ok || c.ok && strings.Contains(string(out), "SSL connection") != c.tls {
			t.Errorf("sslmode=%s: %v: %s", c.mode, err, out)
		}
	}
}

func TestALongCancelKeyCancels(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := r.connect("max_protocol_version=3.2")
	if n := len(conn.PgConn().SecretKey()); n != 32 {
		t.Fatalf("a key of %d bytes", n)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
		failed <- err
	}()
	watch := r.db.Conn(t)
	eventually(t, "the query runs", func() bool {
		return value[bool](t, watch, "select exists (select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep')", int32(conn.PgConn().PID()))
	})
	if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := <-failed; !isCode(err, "57014") {
		t.Errorf("the query ended with %v", err)
	}
}

func TestGSSEncryptionIsRefusedAsByPostgresWithoutIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := r.dial()
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 48}); err != nil {
		t.Fatalf("write: %v", err)
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
		t.Fatalf("answered %q, %v", answer, err)
	}
	// The same connection goes on without.
	if _, err := conn.Write(startup("user", "hubpg_owner", "database", r.db.Name)); err != nil {
		t.Fatalf("write: %v", err)
	}
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'R' {
		t.Errorf("then %q, %v", answer, err)
	}
}

func TestPlainTextAfterATLSRequestIsNotTakenForTheSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
	})
	conn := r.dial()
	early := append([]byte{0, 0, 0, 8, 4, 210, 22, 47}, startup("user", "hubpg_owner", "database", r.db.Name)...)
	if _, err := conn.Write(early); err != nil {
		t.Fatalf("write: %v", err)
	}
	got, _ := io.ReadAll(conn)
	if len(got) == 0 || got[0] != 'S' || bytes.Contains(got, []byte("server_version")) {
		t.Errorf("early plain text was answered with %q", got)
	}
}

func TestAServerOfAnUnknownAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, true)
	db := &pgtest.DB{Name: "postgres", URL: fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=verify-full", cluster.Port()), Cluster: cluster}
	r := newRig(t, db, func(c *proxy.Config) { c.Changes, c.Limits.ConnectTimeout = nil, patience }) // a handshake on a busy machine
	_, err := pgconn.Connect(deadline(t), "postgres://scram:s3cret@"+r.server.Addr().String()+"/postgres?sslmode=disable")
	if !isCode(err, "08006") || !strings.Contains(err.Error(), "TLS with the server failed") {
		t.Errorf("unknown authority: %v", err)
	}
}

func TestPsqlDoesItsWork(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	psql(t, r.url(), `
create table t (id int primary key, name text);
\copy t from stdin
1	one
2	two
\.
select * from t order by id;
\copy t to stdout
\d t
select 'a' \; select 'b';
listen hubspot_deals;
begin; declare c cursor for select generate_series(1,5); fetch 2 from c; commit;
prepare p as select $1::int * 2; execute p(21);
\lo_import /dev/null
`, "1|one\n2|two\n1\tone\n2\ttwo\n"+"id|integer||not null|\nname|text|||\na\nb\n1\n2\n42")
}

func TestUnixSocketServesLikeTCP(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, nil, func(c *proxy.Config) { c.Socket = dir })
	port := r.server.Addr().(*net.TCPAddr).Port
	address := fmt.Sprintf("host=%s port=%d user=hubpg_owner dbname=%s", dir, port, r.db.Name)
	if got := value[int32](t, open(t, address, nil), "select 5"); got != 5 {
		t.Errorf("got %d", got)
	}
	psql(t, address, "select 6", "6")
}

func TestAStaleSocketFileIsTakenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stale, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	server, err := proxy.New(proxy.Config{Listen: "none", Socket: dir, Upstream: "postgres://localhost/x"})
	if err != nil {
		t.Fatalf("new proxy on a stale socket: %v", err)
	}
	if _, err := proxy.New(proxy.Config{Listen: "none", Socket: dir, Upstream: "postgres://localhost/x"}); err == nil {
		t.Error("a socket in use was taken over")
	}
	server.Close()
}
