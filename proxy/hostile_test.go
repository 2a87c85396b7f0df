package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// startup is a start-up packet of protocol 3.0 with the given names and values.
func startup(parameters ...string) []byte {
	return startupVersion(3<<16, parameters...)
}

func startupVersion(version uint32, parameters ...string) []byte {
	body := binary.BigEndian.AppendUint32(nil, version)
	for _, p := range parameters {
		body = append(append(body, p...), 0)
	}
	body = append(body, 0)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

func TestMalformedStartupsAreRefusedWithoutHarm(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.Limits.LoginTimeout = 2 * patience }) // what hangs is seen to hang
	witness := r.connect()
	ssl := []byte{0, 0, 0, 8, 4, 210, 22, 47}
	gss := []byte{0, 0, 0, 8, 4, 210, 22, 48}
	for name, packet := range map[string][]byte{
		"protocol 2": {0, 0, 0, 8, 0, 2, 0, 0},
		"ssl twice":  append(append([]byte{}, ssl...), ssl...),
		"gss twice":  append(append([]byte{}, gss...), gss...),
		"long ssl":   {0, 0, 0, 9, 4, 210, 22, 47, 0},
		"long gss":   {0, 0, 0, 9, 4, 210, 22, 48, 0},
	} {
		conn := r.dial()
		if _, err := conn.Write(packet); err != nil {
			t.Errorf("%s: write: %v", name, err)
		}
		got, err := io.ReadAll(conn)
		if isTimeout(err) {
			t.Errorf("%s: the connection was left open", name)
		}
		if !bytes.Contains(got, []byte("SFATAL")) {
			t.Errorf("%s: no error was given: %q, %v", name, got, err)
		}
	}
	if got := value[int32](t, witness, "select 1"); got != 1 {
		t.Errorf("witness: got %d", got)
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func TestNewerProtocolsAreNegotiated(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	for name, c := range map[string]struct {
		version   uint32
		extension string
		want      uint32 // version negotiated; 0: nothing to negotiate
		keyLen    int
	}{
		"3.0": {3 << 16, "", 0, 4}, "3.2": {3<<16 | 2, "", 0, 32},
		"grease":                {3<<16 | 9999, "_pq_.test_protocol_negotiation", 3<<16 | 2, 32},
		"3.0 with an extension": {3 << 16, "_pq_.other", 3 << 16, 4},
	} {
		conn := r.dial()
		parameters := []string{"user", "hubpg_owner", "database", r.db.Name}
		if c.extension != "" {
			parameters = append(parameters, c.extension, "1")
		}
		if _, err := conn.Write(startupVersion(c.version, parameters...)); err != nil {
			t.Fatalf("%s: write: %v", name, err)
		}
		f := pgproto3.NewFrontend(conn, conn)
		var got uint32
		ready := false
		for !ready {
			m, err := f.Receive()
			if err != nil {
				t.Fatalf("%s: receive: %v", name, err)
			}
			switch m := m.(type) {
			case *pgproto3.NegotiateProtocolVersion:
				got = m.NewestMinorProtocol
				if len(m.UnrecognizedOptions) != 1 || m.UnrecognizedOptions[0] != c.extension {
					t.Errorf("%s: unrecognized options %q", name, m.UnrecognizedOptions)
				}
			case *pgproto3.BackendKeyData:
				if len(m.SecretKey) != c.keyLen {
					t.Errorf("%s: cancel key of %d bytes", name, len(m.SecretKey))
				}
			case *pgproto3.ReadyForQuery:
				ready = true
			}
		}
		if got != c.want {
			t.Errorf("%s: negotiated %x, want %x", name, got, c.want)
		}
	}
}

func TestASilentClientIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.Limits.LoginTimeout = 150 * time.Millisecond })
	for name, first := range map[string][]byte{"nothing": nil, "half a packet": {0, 0, 0, 50, 0, 3}} {
		conn := r.dial()
		if _, err := conn.Write(first); err != nil {
			t.Fatalf("write: %v", err)
		}
		if _, err := io.ReadAll(conn); isTimeout(err) {
			t.Errorf("%s: still connected", name)
		}
	}
	// Logged in, the deadline is off.
	conn := r.connect()
	exec(t, conn, "select pg_sleep(0.4)")
}

func TestTooMuchBeforeAuthenticationIsRefused(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	upstream := fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=disable", cluster.Port())
	r := newRig(t, newRig(t, nil, nil).db, func(c *proxy.Config) { c.Changes, c.Upstream = nil, upstream })
	for name, message := range map[string][]byte{
		"huge password": {'p', 0x10, 0, 0, 0}, "negative password": {'p', 0xff, 0xff, 0xff, 0xf0},
		"a query": {'Q', 0, 0, 0, 6, 'x', 0}, "short length": {'p', 0, 0, 0, 3},
	} {
		conn := r.dial()
		if _, err := conn.Write(append(startup("user", "plain", "database", "postgres"), message...)); err != nil {
			t.Fatalf("write: %v", err)
		}
		got, err := io.ReadAll(conn)
		if isTimeout(err) || !bytes.Contains(got, []byte("08P01")) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// bent is a connection that changes what its client sends at one place.
type bent struct {
	net.Conn
	mu   sync.Mutex
	at   int                 // bytes still to pass unchanged
	bend func([]byte) []byte // what to send instead of the rest of that write; nil: cut the connection
}

func (b *bent) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at > len(p) {
		b.at -= len(p)
		return b.Conn.Write(p)
	}
	if b.at < 0 {
		return b.Conn.Write(p)
	}
	out := append([]byte(nil), p[:b.at]...)
	if b.bend != nil {
		out = append(out, b.bend(append([]byte(nil), p[b.at:]...))...)
	}
	b.at = -1
	n, err := b.Conn.Write(out)
	if b.bend == nil {
		b.Close()
		return n, net.ErrClosed
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// chat is a session with something of everything.
func chat(conn net.Conn, database string) {
	f := pgproto3.NewFrontend(conn, conn)
	f.SetMaxBodyLen(1 << 20)
	if _, err := conn.Write(startup("user", "hubpg_owner", "database", database, "application_name", "chat")); err != nil {
		return
	}
	until := func(stop byte) bool {
		for {
			m, err := f.Receive()
			if err != nil {
				return false
			}
			if wire, err := m.Encode(nil); err != nil || wire[0] == stop || wire[0] == 'E' {
				return err == nil
			}
		}
	}
	if !until('Z') {
		return
	}
	f.Send(&pgproto3.Query{String: "begin; listen hubspot_deals; create temp table if not exists t (n int); commit"})
	if f.Flush() != nil || !until('Z') {
		return
	}
	f.Send(&pgproto3.Parse{Name: "l", Query: "listen hubspot"})
	f.Send(&pgproto3.Bind{PreparedStatement: "l"})
	f.Send(&pgproto3.Execute{})
	f.Send(&pgproto3.Parse{Query: "copy t from stdin"})
	f.Send(&pgproto3.Bind{})
	f.Send(&pgproto3.Execute{})
	if f.Flush() != nil || !until('G') {
		return
	}
	f.Send(&pgproto3.CopyData{Data: []byte("1\n2\n")})
	f.Send(&pgproto3.CopyDone{})
	f.Send(&pgproto3.Sync{})
	if f.Flush() != nil || !until('Z') {
		return
	}
	f.Send(&pgproto3.Terminate{})
	_ = f.Flush()
}

func TestASessionBentAtAnyByteHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.ListenerIdle = -1 }) // the witness keeps its backend
	witness, writer := r.connect(), r.db.Conn(t)
	exec(t, witness, "listen hubspot_deals")
	const length = 442 // of what chat sends
	bends := map[string]func(at int) func([]byte) []byte{
		"cut": func(int) func([]byte) []byte { return nil },
		"dropped": func(int) func([]byte) []byte {
			return func(p []byte) []byte { return p[min(1, len(p)):] }
		},
		"flipped": func(at int) func([]byte) []byte {
			return func(p []byte) []byte {
				if len(p) > 0 {
					p[0] ^= byte(1 << (at % 8))
				}
				return p
			}
		},
		"stuffed": func(int) func([]byte) []byte {
			return func(p []byte) []byte { return append([]byte{0xff, 0xff, 0xff, 0xff, 0xff}, p...) }
		},
	}
	slots := make(chan struct{}, 8)
	var sessions sync.WaitGroup
	for name, bend := range bends {
		for at := 0; at < length; at += 11 {
			slots <- struct{}{}
			plain, err := net.DialTimeout("tcp", r.server.Addr().String(), patience)
			if err != nil {
				t.Fatalf("%s at %d: %v", name, at, err)
			}
			// A bent length may leave both sides waiting for bytes that never come.
			if err := plain.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
				t.Fatalf("set deadline: %v", err)
			}
			sessions.Go(func() {
				defer func() { <-slots }()
				defer plain.Close()
				chat(&bent{Conn: plain, at: at, bend: bend(at)}, r.db.Name)
			})
		}
	}
	sessions.Wait()
	hears(t, witness, "hubspot_deals", r.change(writer, 1))
	eventually(t, "only the witness is left", func() bool { return r.server.Stats().Sessions == 1 })
	s := r.server.Stats()
	if s.Ended["panic"] != 0 || s.Listeners != 1 {
		t.Errorf("panics %d, listeners %d", s.Ended["panic"], s.Listeners)
	}
	watch := r.db.Conn(t)
	const others = 9 // the witness, the writer, this one, the hub, the list of sessions and the pool of four that all use
	eventually(t, "no backend is left behind", func() bool {
		return value[int64](t, watch, `
select count(*) filter (where application_name not in ('', 'hubpg listen hub', 'hubpg sessions')) + greatest(count(*) - $2, 0)
+ count(*) filter (where pid = $1) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'`,
			int32(witness.PgConn().PID()), others) == 1
	})
}

func TestMalformedMessagesAfterLoginEndTheirSessionWithAReason(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	for name, message := range map[string][]byte{
		"length 3": {'Q', 0, 0, 0, 3}, "two gigabytes": {'d', 0x7f, 0xff, 0xff, 0xff}, "negative": {'P', 0xff, 0xff, 0xff, 0xff},
	} {
		conn := r.connect()
		hijacked, err := conn.PgConn().Hijack()
		if err != nil {
			t.Fatalf("hijack: %v", err)
		}
		if err := hijacked.Conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatalf("set deadline: %v", err)
		}
		if _, err := hijacked.Conn.Write(message); err != nil {
			t.Fatalf("write: %v", err)
		}
		got, err := io.ReadAll(hijacked.Conn)
		if isTimeout(err) || !bytes.Contains(got, []byte("08P01")) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		hijacked.Conn.Close()
	}
}

// tripwire is a log handler that panics once, in the middle of the session that logs.
type tripwire struct {
	slog.Handler
	sprung sync.Once
}

func (h *tripwire) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "log in to Postgres") {
		h.sprung.Do(func() { panic("tripped") })
	}
	return h.Handler.Handle(ctx, r)
}

func TestAPanicEndsItsOwnSessionAndIsCounted(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	r := newRig(t, nil, func(c *proxy.Config) {
		c.Changes, c.Upstream = nil, "postgres://nobody@127.0.0.1:1/x?sslmode=disable"
		c.Logger = slog.New(&tripwire{Handler: slog.NewTextHandler(book, nil)})
	})
	for range 2 {
		if _, err := pgconn.Connect(deadline(t), r.url()); !isCode(err, "08006") {
			t.Errorf("got %v", err)
		}
	}
	eventually(t, "both ends are counted", func() bool {
		s := r.server.Stats()
		return s.Ended["panic"] == 1 && s.Ended["unreachable"] == 1 && s.Sessions == 0
	})
	if text := book.String(); !strings.Contains(text, "tripped") || !strings.Contains(text, "hostile_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", text)
	}
}
