package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// relaying starts a process that only serves clients, over a database of its own, and waits until it does.
func relaying(t *testing.T, change map[string]string) *served {
	t.Helper()
	env := map[string]string{
		"HUBPG_DATABASE_URL": pgtest.Migrated(t, migrations.Up).URL, "HUBPG_ROLE": "proxy", "HUBPG_LOG_LEVEL": "info",
		"HUBPG_PROXY_LISTEN": "127.0.0.1:0", "HUBPG_HTTP_LISTEN": "127.0.0.1:0",
	}
	maps.Copy(env, change)
	s := &served{running: start(t, env, "serve"), env: env}
	s.addresses(t)
	return s
}

// issue writes a self-signed certificate and its key, in place of those that are there.
func issue(t testing.TB, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "hubpg"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is the serial number of the certificate that a proxy shows.
func shown(t *testing.T, address string) int64 {
	t.Helper()
	plain, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	if answer := make([]byte, 1); true {
		if _, err := io.ReadFull(plain, answer); err != nil || answer[0] != 'S' {
			t.Fatalf("asked for TLS: %q, %v", answer, err)
		}
	}
	secure := tls.Client(plain, &tls.Config{InsecureSkipVerify: true})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// said waits until the log of a process holds text n times.
func (r *running) said(t *testing.T, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); strings.Count(r.stderr.String(), text) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not in the log:\n%s", text, r.stderr.String())
		}
	}
}

func TestAHangupReloadsTheCertificatesOfServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	issue(t, cert, key, 1)
	s := relaying(t, map[string]string{"HUBPG_PROXY_TLS_CERT": cert, "HUBPG_PROXY_TLS_KEY": key})
	address, _ := s.addresses(t)
	old := connect(t, strings.Replace(proxied(s.env["HUBPG_DATABASE_URL"], address), "=disable", "=require", 1))
	if got := shown(t, address); got != 1 {
		t.Fatalf("certificate %d", got)
	}
	issue(t, cert, key, 2)
	s.hangup <- struct{}{}
	s.said(t, "certificates reloaded", 1)
	if got := shown(t, address); got != 2 {
		t.Errorf("certificate %d after a reload", got)
	}
	if err := os.WriteFile(cert, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hangup <- struct{}{}
	s.said(t, "certificates not reloaded, the old ones stay", 1)
	if got := shown(t, address); got != 2 {
		t.Errorf("certificate %d after one that cannot be used", got)
	}
	var one int
	if err := old.QueryRow(t.Context(), "select 1").Scan(&one); err != nil {
		t.Errorf("a session from before: %v", err)
	}
	if len(s.done) > 0 {
		t.Errorf("serve has ended:\n%s", s.stderr.String())
	}
}

func TestAHangupEndsOtherCommands(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "sandbox", "--listen", "127.0.0.1:0")
	r.line(t, "ready", time.Minute)
	r.hangup <- struct{}{}
	r.wait(t, time.Minute)
}

func TestServeIsReplacedWithoutARefusedConnection(t *testing.T) {
	t.Parallel()
	first := relaying(t, nil)
	proxy, web := first.addresses(t)
	again := maps.Clone(first.env)
	again["HUBPG_PROXY_LISTEN"], again["HUBPG_HTTP_LISTEN"] = proxy, strings.TrimPrefix(web, "http://")
	run(t, again, "serve").wants(t, exitFailed, "the port is in use")

	ctx, stop := context.WithCancel(context.Background())
	url := proxied(first.env["HUBPG_DATABASE_URL"], proxy)
	var connected atomic.Int64
	var clients sync.WaitGroup
	defer func() { stop(); clients.Wait() }()
	clients.Go(func() {
		for ctx.Err() == nil {
			conn, err := pgx.Connect(context.Background(), url)
			if err == nil {
				_, err = conn.Exec(context.Background(), "select 1", pgx.QueryExecModeSimpleProtocol)
				_ = conn.Close(context.Background())
			}
			if err != nil {
				t.Errorf("connection %d: %v", connected.Load(), err)
				return
			}
			connected.Add(1)
		}
	})
	more := func() {
		t.Helper()
		from := connected.Load()
		for deadline := time.Now().Add(time.Minute); connected.Load() < from+10 && !t.Failed(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no connections")
			}
		}
	}
	more()
	second := &served{running: start(t, again, "serve", "--take-over"), env: again}
	if got, _ := second.addresses(t); got != proxy {
		t.Errorf("the second serves %s, the first %s", got, proxy)
	}
	more()
	first.interrupt()
	if r := first.wait(t, time.Minute); r.status != exitDone {
		t.Errorf("the first: %+v", r)
	}
	more()
	if code, body := get(t, web+"/healthz"); code != 200 {
		t.Errorf("healthz: %d %s", code, body)
	}
}

func TestVerifiersThatCannotBeReadAreSaidAtTheStart(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"HUBPG_DATABASE_URL": pgtest.Migrated(t, migrations.Up).URL, "HUBPG_ROLE": "proxy",
		"HUBPG_PROXY_LISTEN": "127.0.0.1:0", "HUBPG_HTTP_LISTEN": "127.0.0.1:0", "HUBPG_PROXY_AUTH": "scram",
	}
	run(t, env, "serve").wants(t, exitFailed, "cannot read verifiers: ERROR: permission denied for table pg_authid")
	env["HUBPG_PROXY_AUTH_URL"] = "postgres://localhost:port/x"
	run(t, env, "serve").wants(t, exitFailed, "proxy.auth_url is not a URL")
}
