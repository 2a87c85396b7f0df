package proxy_test

import (
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
)

// cancelOver sends a cancel request over a connection of its own, inside TLS if it is to be secure, and returns when that
// has ended, as it must without a word.
func (r *rig) cancelOver(secure bool, pid uint32, key []byte) {
	r.t.Helper()
	conn := r.dial()
	if secure {
		answer := make([]byte, 1)
		if err := send(conn, pgwire.AppendTLSRequest(nil)); err != nil {
			r.t.Fatalf("ask for TLS: %v", err)
		}
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
			r.t.Fatalf("ask for TLS: %q, %v", answer, err)
		}
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if err := send(conn, pgwire.AppendCancelRequest(nil, pid, key)); err != nil {
		r.t.Fatalf("send a cancel request: %v", err)
	}
	if said, err := io.ReadAll(conn); err != nil || len(said) > 0 {
		r.t.Errorf("a cancel request was answered %q, %v", said, err)
	}
}

func TestOnlyTheRightKeyCancelsInWhateverIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
	})
	watch := r.db.Conn(t)
	for _, version := range []string{"3.0", "3.2"} {
		conn, other := r.connect("max_protocol_version="+version, "sslmode=require"), r.connect("max_protocol_version="+version)
		exec(t, conn, "create temp table t (n int)")
		pid, key := conn.PgConn().PID(), conn.PgConn().SecretKey()
		active := func(text string) {
			t.Helper()
			eventually(t, "it is under way: "+text, func() bool {
				return value[bool](t, watch, "select exists (select from pg_stat_activity where pid = $1 and state = 'active' and query like $2)", int32(pid), text)
			})
		}
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(deadline(t), "select pg_sleep(100)")
			done <- err
		}()
		active("%pg_sleep%")
		wrong := slices.Clone(key)
		wrong[len(wrong)-1] ^= 1
		r.cancelOver(false, pid, wrong)
		r.cancelOver(true, pid, other.PgConn().SecretKey())
		r.cancelOver(false, other.PgConn().PID(), key)
		r.cancelOver(false, pid, append(slices.Clone(key), 0, 0, 0, 0))
		r.cancelOver(true, pid, make([]byte, len(key)))
		select {
		case err := <-done:
			t.Fatalf("%s: a wrong key has ended the query: %v", version, err)
		case <-time.After(300 * time.Millisecond):
		}
		r.cancelOver(true, pid, key)
		if err := <-done; !isCode(err, "57014") {
			t.Errorf("%s: query: %v", version, err)
		}

		// COPY in: Postgres looks at the request when the next data comes.
		data, feed := io.Pipe()
		go func() {
			_, err := conn.PgConn().CopyFrom(deadline(t), data, "copy t from stdin")
			data.CloseWithError(io.ErrClosedPipe)
			done <- err
		}()
		if _, err := io.WriteString(feed, "1\n"); err != nil {
			t.Fatalf("feed: %v", err)
		}
		active("copy t from%")
		r.cancelOver(false, pid, key)
		for err := error(nil); err == nil; {
			_, err = io.WriteString(feed, strings.Repeat("2\n", 10_000))
		}
		if err := <-done; !isCode(err, "57014") {
			t.Errorf("%s: copy in: %v", version, err)
		}

		// COPY out, to a client that has stopped to read.
		stalled, let := make(chan struct{}), make(chan struct{})
		go func() {
			_, err := conn.PgConn().CopyTo(deadline(t), &stalling{stalled: stalled, let: let}, "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout")
			done <- err
		}()
		<-stalled
		r.cancelOver(true, pid, key)
		close(let)
		if err := <-done; !isCode(err, "57014") {
			t.Errorf("%s: copy out: %v", version, err)
		}
		if got := value[int64](t, conn, "select count(*) from t"); got != 0 {
			t.Errorf("%s: %d rows of a copy that was cancelled", version, got)
		}
	}
}

// stalling is a reader's end that waits, once it has got something, until it is let go on.
type stalling struct {
	stalled, let chan struct{}
	told         bool
}

func (s *stalling) Write(p []byte) (int, error) {
	if !s.told {
		s.told = true
		close(s.stalled)
		<-s.let
	}
	return len(p), nil
}

func TestDrainLetsCopiesFinish(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.DrainTimeout, c.ListenerIdle = patience, -1 })
	in, out, listening := r.connect(), r.connect(), r.connect()
	exec(t, in, "create table t (n int)")
	exec(t, listening, "listen hubspot_deals")
	data, feed := io.Pipe()
	copied, read, stopped := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := in.PgConn().CopyFrom(deadline(t), data, "copy t from stdin")
		data.CloseWithError(io.ErrClosedPipe)
		copied <- err
	}()
	stalled, let := make(chan struct{}), make(chan struct{})
	go func() {
		_, err := out.PgConn().CopyTo(deadline(t), &stalling{stalled: stalled, let: let}, "copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout")
		read <- err
	}()
	if _, err := io.WriteString(feed, "1\n"); err != nil {
		t.Fatalf("feed: %v", err)
	}
	<-stalled
	go func() { stopped <- r.stop() }()
	if _, err := listening.WaitForNotification(deadline(t)); !isCode(err, "57P01") {
		t.Errorf("a listener: %v", err)
	}
	if _, err := io.WriteString(feed, "2\n"); err != nil {
		t.Errorf("feed: %v", err)
	}
	feed.Close()
	close(let)
	for name, c := range map[string]struct {
		err  error
		conn *pgx.Conn
	}{"copy in": {<-copied, in}, "copy out": {<-read, out}} {
		if c.err != nil {
			t.Errorf("%s: %v", name, c.err)
		}
		if _, err := c.conn.WaitForNotification(deadline(t)); !isCode(err, "57P01") {
			t.Errorf("after the %s: %v", name, err)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("run: %v", err)
	}
	if n := value[int64](t, r.db.Conn(t), "select count(*) from t"); n != 2 {
		t.Errorf("copied rows: %d", n)
	}
}
