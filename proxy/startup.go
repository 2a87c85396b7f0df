package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"hubpg/internal/pgwire"
)

// greeting is what the first packets of a connection came to.
type greeting struct {
	conn    net.Conn // the client's, inside TLS if it asked for that
	secure  bool
	shown   *tls.Certificate // to the client, in its TLS
	startup *pgwire.Startup
}

// greet answers TLS and GSS requests until the client asks for a session or a cancel. A *pgwire.Error is for the
// client to see; conn is set as far as it is known how to tell.
func (s *Server) greet(ctx context.Context, conn net.Conn) (greeting, error) {
	g := greeting{conn: conn}
	if err := s.directTLS(ctx, &g); err != nil {
		return g, err
	}
	asked := map[pgwire.StartupKind]bool{}
	for {
		packet, err := pgwire.ReadStartup(g.conn)
		if err != nil {
			return g, startupError(err)
		}
		if p, ok := g.conn.(*prefixed); ok {
			g.conn = p.Conn // the prefix was part of the packet
		}
		if packet.Kind == pgwire.StartSession || packet.Kind == pgwire.StartCancel {
			g.startup = packet
			return g, nil
		}
		if asked[packet.Kind] || g.secure {
			return g, errProtocol(fmt.Errorf("%w: encryption requested twice", pgwire.ErrFraming))
		}
		asked[packet.Kind] = true
		if packet.Kind == pgwire.StartGSS || s.tls == nil || isUnix(conn) {
			if _, err := g.conn.Write([]byte{'N'}); err != nil {
				return g, err
			}
			continue
		}
		if _, err := g.conn.Write([]byte{'S'}); err != nil {
			return g, err
		}
		if err := s.secure(ctx, &g); err != nil {
			return g, err
		}
	}
}

// directTLS starts TLS at once if the client's first byte is that of a TLS handshake, as with sslnegotiation=direct.
func (s *Server) directTLS(ctx context.Context, g *greeting) error {
	var first [1]byte
	if _, err := io.ReadFull(g.conn, first[:]); err != nil {
		return err
	}
	plain := g.conn
	g.conn = &prefixed{Conn: plain, prefix: first[:]}
	const handshakeRecord = 0x16
	if first[0] != handshakeRecord || isUnix(plain) {
		return nil
	}
	if s.tls == nil {
		return errors.New("direct TLS asked for, but there is no certificate")
	}
	if err := s.secure(ctx, g); err != nil {
		return err
	}
	if g.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != alpn {
		return errors.New("direct TLS without ALPN \"postgresql\"")
	}
	return nil
}

func (s *Server) secure(ctx context.Context, g *greeting) error {
	config, shown := s.tls.config()
	conn := tls.Server(&socket{Conn: g.conn}, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	g.conn, g.secure, g.shown = conn, true, shown
	return nil
}

// startupError tells malformed packets, which are answered, from connections that just went away.
func startupError(err error) error {
	if errors.Is(err, pgwire.ErrFraming) {
		return errProtocol(err)
	}
	if _, ok := errors.AsType[*pgwire.VersionError](err); ok {
		return errProtocol(err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errLoginTimeout()
	}
	return err
}

// negotiated is the protocol version that a session runs with: what the client asked for, up to 3.2.
func negotiated(asked uint32) uint32 { return min(asked, pgwire.Protocol32) }

// appendNegotiation appends the answer to a client that asked for more than the proxy knows, if it did.
func appendNegotiation(dst []byte, s *pgwire.Startup) []byte {
	if s.Version <= pgwire.Protocol32 && len(s.Extensions) == 0 {
		return dst
	}
	return pgwire.AppendNegotiate(dst, negotiated(s.Version), s.Extensions)
}

// wantsReplication reads the replication parameter as Postgres does: a boolean or "database".
func wantsReplication(s *pgwire.Startup) bool {
	switch strings.ToLower(s.Parameter("replication")) {
	case "", "false", "fals", "fal", "fa", "f", "no", "n", "off", "of", "0":
		return false
	}
	return true
}

func isUnix(conn net.Conn) bool {
	_, ok := conn.RemoteAddr().(*net.UnixAddr)
	return ok
}
