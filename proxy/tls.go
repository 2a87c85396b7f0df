package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
)

// alpn is the protocol name that direct TLS connections must offer.
const alpn = "postgresql"

// certificate is the one shown to clients; it can be read again while sessions go on.
type certificate struct {
	files   TLS
	current atomic.Pointer[tls.Certificate]
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
	c.current.Store(&pair)
	return nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{alpn},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// sameAs reports whether a server showed this very certificate: then channel binding holds on both legs alike.
func (c *certificate) sameAs(state tls.ConnectionState) bool {
	own := c.current.Load()
	return len(state.PeerCertificates) > 0 && len(own.Certificate) > 0 &&
		string(state.PeerCertificates[0].Raw) == string(own.Certificate[0])
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
