package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgconn"
)

// theToken is the one that a bearerServer knows, and proof what a client says that has it (RFC 7628, section 3.1).
const (
	theToken = "a-token-of-somebodys"
	proof    = "n,,\x01auth=Bearer " + theToken + "\x01\x01"
)

// bearerServer is a Postgres that lets those in who have a token, as one from version 18 on does with "oauth" in pg_hba.conf: the real
// one, which trusts everybody, behind one that asks for it.
type bearerServer struct {
	listener net.Listener
	target   string
	tls      *tls.Config // nil: it speaks plain text
	sessions sync.WaitGroup
}

func newBearerServer(t *testing.T, target string, config *tls.Config) *bearerServer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	s := &bearerServer{listener: l, target: target, tls: config}
	s.sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.sessions.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.sessions.Wait()
	})
	return s
}

// serve ends with the connection, which whoever has connected ends.
func (s *bearerServer) serve(client net.Conn) {
	defer func() { client.Close() }()
	if s.tls != nil {
		if _, err := io.ReadFull(client, make([]byte, 8)); err != nil {
			return
		}
		if _, err := client.Write([]byte{'S'}); err != nil {
			return
		}
		client = tls.Server(client, s.tls)
	}
	var size [4]byte
	if _, err := io.ReadFull(client, size[:]); err != nil {
		return
	}
	startup := append(size[:], make([]byte, binary.BigEndian.Uint32(size[:])-4)...)
	if _, err := io.ReadFull(client, startup[4:]); err != nil {
		return
	}
	if !s.convinced(client) {
		return
	}
	server, err := net.Dial("tcp", s.target)
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := server.Write(startup); err != nil {
		return
	}
	s.sessions.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	_, _ = io.Copy(client, server)
}

// convinced asks for a token as Postgres does, and says what is wrong with another one.
func (s *bearerServer) convinced(client net.Conn) bool {
	if _, err := client.Write(pgwire.AppendSASL(nil, []string{"OAUTHBEARER"})); err != nil {
		return false
	}
	reader := pgwire.NewReader(client, 1<<16)
	_, message, err := reader.Read()
	if err != nil {
		return false
	}
	mechanism, said, err := pgwire.ParseSASLInitial(message)
	if err == nil && mechanism == "OAUTHBEARER" && string(said) == proof {
		return true
	}
	const saslContinue = 11
	complaint := append(binary.BigEndian.AppendUint32(nil, saslContinue), `{"status":"invalid_token","scope":"openid"}`...)
	if _, err := client.Write(pgwire.AppendMessage(nil, 'R', complaint)); err != nil {
		return false
	}
	if _, message, err = reader.Read(); err != nil || !bytes.Equal(message[pgwire.HeaderLen:], []byte{1}) {
		return false
	}
	refusal := pgwire.Error{Severity: "FATAL", Code: "28000", Message: "OAuth bearer authentication failed"}
	_, _ = client.Write(refusal.Append(nil))
	return false
}

// A token is bound to no connection: it is relayed on every mix of TLS, never taken for a password to be asked for.
func TestTokensAreRelayedOnEveryMixOfTLS(t *testing.T) {
	t.Parallel()
	db := newRig(t, nil, nil).db
	postgres, err := url.Parse(db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	dir := pgtest.Dir(t)
	serverCert, serverKey := issue(t, dir, "postgres")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatalf("load certificate: %v", err)
	}
	cert, key := issue(t, dir, "proxy")
	for _, serverTLS := range []bool{false, true} {
		var config *tls.Config
		sslmode := "disable"
		if serverTLS {
			config = &tls.Config{Certificates: []tls.Certificate{pair}}
			sslmode = "verify-full&sslrootcert=" + url.QueryEscape(serverCert)
		}
		server := newBearerServer(t, postgres.Host, config)
		for _, clientTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("client TLS %v, server TLS %v", clientTLS, serverTLS), func(t *testing.T) {
				r := newRig(t, db, func(c *proxy.Config) {
					c.Upstream = fmt.Sprintf("postgres://%s/postgres?sslmode=%s", server.listener.Addr(), sslmode)
					if clientTLS {
						c.TLS.CertFile, c.TLS.KeyFile = cert, key
					}
				})
				mode := "disable"
				if clientTLS {
					mode = "verify-full&sslrootcert=" + url.QueryEscape(cert)
				}
				connect := func(token string) (*pgconn.PgConn, error) {
					config, err := pgconn.ParseConfig(fmt.Sprintf("postgres://postgres@%s/%s?require_auth=oauth&sslmode=%s", r.server.Addr(), db.Name, mode))
					if err != nil {
						t.Fatalf("parse: %v", err)
					}
					config.OAuthTokenProvider = func(context.Context) (string, error) { return token, nil }
					return pgconn.ConnectConfig(deadline(t), config)
				}
				conn, err := connect(theToken)
				if err != nil {
					t.Fatalf("connect with the token: %v", err)
				}
				defer conn.Close(deadline(t))
				result := conn.ExecParams(deadline(t), "select current_user", nil, nil, nil, nil).Read()
				if result.Err != nil || string(result.Rows[0][0]) != "postgres" {
					t.Errorf("it is %v, %v", result.Rows, result.Err)
				}
				if other, err := connect("of somebody else's"); err == nil {
					other.Close(deadline(t))
					t.Error("another token is let in")
				} else if !strings.Contains(err.Error(), "invalid_token") {
					t.Errorf("another token: %v", err)
				}
				if strings.Contains(r.log.String(), theToken) {
					t.Error("the token is in the log")
				}
			})
		}
	}
}
