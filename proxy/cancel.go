package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hubpg/internal/pgwire"
)

// Lengths of the keys that the proxy gives out, by protocol.
const (
	keyLen30 = 4
	keyLen32 = 32
)

// cancelKey is what a client must show to cancel a session: the process id that it was told and a key of the
// proxy's own making. Postgres's key never leaves the proxy.
type cancelKey struct {
	pid uint32
	key string
}

// cancelKeys knows the session of each key.
type cancelKeys struct {
	mu       sync.Mutex // guards below
	sessions map[cancelKey]*session
}

// add gives v a key of its own that no other session has.
func (c *cancelKeys) add(v *session, pid uint32, version uint32) []byte {
	size := keyLen30
	if version >= pgwire.Protocol32 {
		size = keyLen32
	}
	key := make([]byte, size)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		_, _ = rand.Read(key) // never fails: it ends the process instead
		v.cancelKey = cancelKey{pid, string(key)}
		if _, taken := c.sessions[v.cancelKey]; !taken {
			c.sessions[v.cancelKey] = v
			return key
		}
	}
}

func (c *cancelKeys) remove(v *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[v.cancelKey] == v {
		delete(c.sessions, v.cancelKey)
	}
}

func (c *cancelKeys) find(pid uint32, key []byte) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[cancelKey{pid, string(key)}]
}

// cancel forwards a cancel request to the backend of the session that the key belongs to and returns when Postgres
// has taken it, so that a client which waits for the connection to close knows that its next query is safe. A key
// that belongs to nobody, here or at another proxy of the address, is ignored, as in Postgres.
func (s *Server) cancel(ctx context.Context, request *pgwire.Startup) error {
	if known, err := s.cancelOwn(ctx, request); known || err != nil {
		return err
	}
	return s.askOthers(ctx, request)
}

// cancelOwn is cancel for the sessions of this proxy, and reports whether the key is one's.
func (s *Server) cancelOwn(ctx context.Context, request *pgwire.Startup) (known bool, err error) {
	v := s.keys.find(request.PID, request.Key)
	if v == nil {
		return false, nil
	}
	// The session cannot end, and its backend's process id cannot be given to another, while this is held.
	if !v.hold() {
		return true, nil
	}
	defer v.letGo()
	s.counters.cancels.Add(1)
	if v.interrupt(errCanceled) {
		return true, nil // the backend itself does nothing; Postgres would take the request for the next statement
	}
	if v.dozing {
		return true, nil // no backend, nothing to cancel
	}
	return true, v.upstream.cancel(ctx, s.config.Limits.ConnectTimeout)
}

func (u *upstream) cancel(ctx context.Context, timeout time.Duration) error {
	c := &upstream{network: u.network, address: u.address, tls: u.tls, direct: u.direct}
	if err := c.open(ctx, timeout); err != nil {
		return fmt.Errorf("forward cancel: %w", err)
	}
	defer c.conn.Close()
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("forward cancel: %w", err)
	}
	if _, err := c.conn.Write(pgwire.AppendCancelRequest(nil, u.pid, u.key)); err != nil {
		return fmt.Errorf("forward cancel: %w", err)
	}
	// Postgres answers nothing and closes once it has signalled the backend.
	if _, err := c.conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("await cancel: %w", err)
	}
	return nil
}
