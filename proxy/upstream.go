package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"time"

	"hubpg/internal/netloop"
	"hubpg/internal/pgwire"

	"github.com/jackc/pgx/v5/pgconn"
)

// errUpstreamTLS marks a failure to agree on TLS with Postgres, which waiting will not mend.
var errUpstreamTLS = errors.New("TLS with the server failed")

// upstream is a connection to Postgres, and how to reach the same server again for a cancel.
type upstream struct {
	conn             net.Conn
	network, address string
	tls              *tls.Config // nil if conn is plain
	direct           bool        // TLS starts without a request
	pid              uint32
	key              []byte
	began            time.Time     // to be made; zero where that does not matter
	loop             *netloop.Loop // whose conn is; nil if it is none's
}

// dial connects to the first server of the configuration that answers, with TLS as that says, and sends nothing.
func (s *Server) dial(ctx context.Context) (*upstream, error) {
	c := s.upstream
	timeout := s.config.Limits.ConnectTimeout
	if c.ConnectTimeout > 0 {
		timeout = min(timeout, c.ConnectTimeout)
	}
	hosts := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var first error
	for _, h := range hosts {
		u := &upstream{tls: h.TLSConfig, direct: c.SSLNegotiation == "direct"}
		u.network, u.address = pgconn.NetworkAddress(h.Host, h.Port)
		err := u.open(ctx, timeout)
		if err == nil {
			return u, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// open makes the connection that u describes.
func (u *upstream) open(ctx context.Context, timeout time.Duration) error {
	u.began = time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, u.network, u.address)
	if err != nil {
		return fmt.Errorf("dial Postgres: %w", err)
	}
	tune(conn)
	if u.tls == nil || u.network == "unix" {
		u.tls, u.conn = nil, conn
		return nil
	}
	secure, err := u.handshake(ctx, conn)
	if err != nil {
		conn.Close()
		return err
	}
	u.conn = secure
	return nil
}

func (u *upstream) handshake(ctx context.Context, conn net.Conn) (net.Conn, error) {
	config := u.tls
	if u.direct {
		config = config.Clone()
		config.NextProtos = []string{alpn}
	} else if err := requestTLS(ctx, conn); err != nil {
		return nil, err
	}
	secure := tls.Client(&socket{Conn: conn}, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial Postgres: %w", ctx.Err())
		}
		return nil, fmt.Errorf("%w: %w", errUpstreamTLS, err)
	}
	return secure, nil
}

func requestTLS(ctx context.Context, conn net.Conn) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("ask Postgres for TLS: %w", err)
	}
	if _, err := conn.Write(pgwire.AppendTLSRequest(nil)); err != nil {
		return fmt.Errorf("ask Postgres for TLS: %w", err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("ask Postgres for TLS: %w", err)
	}
	if answer[0] != 'S' {
		return fmt.Errorf("%w: the server does not offer it", errUpstreamTLS)
	}
	return conn.SetDeadline(time.Time{})
}

// loginResult is a session that was logged in on behalf of a client.
type loginResult struct {
	*upstream
	status  []pgwire.Parameter // the server's parameters, sorted by name
	notices []*pgwire.Error
	rest    []byte // said by Postgres after it was ready
	asked   bool   // Postgres has asked for a proof by SCRAM, and got it
}

// login connects as the client with its password and parameters. This is the one place that takes a connection out
// of pgconn: Hijack is not covered by that module's promise of compatibility.
func (s *Server) login(ctx context.Context, startup *pgwire.Startup, password string) (*loginResult, error) {
	out := &loginResult{}
	config := s.upstream.Copy()
	config.User, config.Password = startup.Parameter("user"), password
	if config.Database = startup.Parameter("database"); config.Database == "" {
		config.Database = config.User
	}
	config.ConnectTimeout = s.config.Limits.ConnectTimeout
	config.MaxProtocolMessageBodyLen = maxLogin
	config.RuntimeParams = map[string]string{}
	for _, p := range startup.Parameters {
		if p.Name != "user" && p.Name != "database" {
			config.RuntimeParams[p.Name] = p.Value
		}
	}
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		tune(conn)
		return &socket{Conn: conn}, nil
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		out.notices = append(out.notices, wireError((*pgconn.PgError)(n)))
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("log in to Postgres: %w", err)
	}
	// A write that took long during the login has made pgconn read in the background, and that read would swallow
	// what Postgres says next.
	if err := conn.SyncConn(ctx); err != nil {
		closeErr := conn.Close(ctx)
		return nil, errors.Join(fmt.Errorf("take over connection: %w", err), closeErr)
	}
	h, err := conn.Hijack()
	if err != nil {
		closeErr := conn.Close(ctx)
		return nil, errors.Join(fmt.Errorf("take over connection: %w", err), closeErr)
	}
	out.upstream = &upstream{
		conn: h.Conn, tls: h.TLSConfig, pid: h.PID, key: h.SecretKey,
		direct: config.SSLNegotiation == "direct",
	}
	if s, ok := out.conn.(*socket); ok { // there is no TLS
		out.conn = s.Conn
	}
	remote := h.Conn.RemoteAddr()
	out.network, out.address = remote.Network(), remote.String()
	for _, name := range slices.Sorted(maps.Keys(h.ParameterStatuses)) {
		out.status = append(out.status, pgwire.Parameter{Name: name, Value: h.ParameterStatuses[name]})
	}
	return out, nil
}

func wireError(e *pgconn.PgError) *pgwire.Error {
	return &pgwire.Error{Severity: e.Severity, Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint}
}

// closeWrite tells the peer that nothing more will come, leaving the other direction open.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
