package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"hubpg/internal/scram"
)

// alpn is the protocol name that direct TLS connections must offer.
const alpn = "postgresql"

// certificate is the one shown to clients; it can be read again while sessions go on.
type certificate struct {
	files   TLS
	current atomic.Pointer[identity]
}

// identity is what was in the files when they were read.
type identity struct {
	pair    tls.Certificate
	clients *x509.CertPool // who signs the certificates of clients; nil where they need none
}

func loadCertificate(files TLS) (*certificate, error) {
	c := &certificate{files: files}
	return c, c.load()
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return fmt.Errorf("load TLS certificate: %w", err)
	}
	next := &identity{pair: pair}
	if c.files.ClientCAFile != "" {
		text, err := os.ReadFile(c.files.ClientCAFile)
		if err != nil {
			return fmt.Errorf("load the authority of clients: %w", err)
		}
		next.clients = x509.NewCertPool()
		if !next.clients.AppendCertsFromPEM(text) {
			return fmt.Errorf("load the authority of clients: %s holds no certificate", c.files.ClientCAFile)
		}
	}
	c.current.Store(next)
	return nil
}

// config is for one connection. It shows the certificate that is returned beside it, whatever is loaded meanwhile:
// channel binding is to this one.
func (c *certificate) config() (*tls.Config, *tls.Certificate) {
	own := c.current.Load()
	config := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{own.pair},
		SessionTicketsDisabled: true, // as in Postgres; a configuration that lives for one connection could not read them
	}
	if own.clients != nil {
		// Who shows none is told after the start-up packet, in words.
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, own.clients
	}
	return config, &own.pair
}

// sameCertificate reports whether a server showed the very certificate that the client was shown: then channel binding
// holds on both legs alike.
func sameCertificate(own *tls.Certificate, state tls.ConnectionState) bool {
	return own != nil && len(state.PeerCertificates) > 0 && len(own.Certificate) > 0 &&
		bytes.Equal(state.PeerCertificates[0].Raw, own.Certificate[0])
}

// endPoint is what channel binding binds the client's leg to, nil where it cannot.
func endPoint(own *tls.Certificate) []byte {
	if own == nil || own.Leaf == nil {
		return nil
	}
	return scram.EndPoint(own.Leaf)
}

// peerEndPoint is what channel binding binds a connection to Postgres to, nil where it cannot.
func peerEndPoint(conn net.Conn) []byte {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	shown := secure.ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return nil
	}
	return scram.EndPoint(shown[0])
}

// hasCertificate reports whether the client has shown a certificate, which was verified when it did.
func hasCertificate(conn net.Conn) bool {
	secure, ok := conn.(*tls.Conn)
	return ok && len(secure.ConnectionState().VerifiedChains) > 0
}

// prefixed is a connection of which a few bytes were read already.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		p.prefix = p.prefix[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
