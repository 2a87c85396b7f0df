package proxy_test

import (
	"encoding/binary"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgproto3"
)

// request is a start-up packet that is not for a session.
func request(code uint32, body ...byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(out, code), body...)
}

const cancelRequest = 80877102

// first sends what a client may begin with and tells what becomes of it: the types of the answers, with the SQLSTATE of an
// error, and how the connection ended.
func first(t *testing.T, address string, packet []byte) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatalf("set deadline: %v", err)
	}
	if _, err := conn.Write(packet); err != nil {
		t.Fatalf("write: %v", err)
	}
	var answers strings.Builder
	f := pgproto3.NewFrontend(conn, conn)
	for {
		m, err := f.Receive()
		if isTimeout(err) {
			return answers.String() + " left open"
		}
		if err != nil {
			return answers.String() + " closed"
		}
		switch m := m.(type) {
		case *pgproto3.ParameterStatus: // what differs by version and role
		case *pgproto3.ErrorResponse:
			answers.WriteString("E" + m.Code)
		case *pgproto3.NegotiateProtocolVersion:
			answers.WriteString("v" + strings.Join(m.UnrecognizedOptions, ","))
		case *pgproto3.ReadyForQuery:
			return answers.String() + "Z"
		default:
			answers.WriteByte(messageType(t, m))
		}
	}
}

// The proxy answers the first bytes of a connection as Postgres does. It says more only where Postgres says nothing and
// somebody may have taken one port for another.
func TestStartupsEndAsOnPostgres(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.Limits.LoginTimeout = 2 * patience }) // what hangs is seen to hang
	direct, err := url.Parse(r.db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	user := []string{"user", "hubpg_owner", "database", r.db.Name}
	with := func(parameters ...string) []byte { return startup(append(user[:4:4], parameters...)...) }
	sized := func(n int) []byte {
		empty := len(with("application_name", ""))
		return with("application_name", strings.Repeat("x", n-empty))
	}
	const malformed = "E08P01 closed"
	for name, c := range map[string]struct {
		packet []byte
		louder string // what the proxy answers where Postgres closes without a word
	}{
		"no length":              {[]byte{0, 0, 0, 0}, malformed},
		"a length of itself":     {[]byte{0, 0, 0, 4}, malformed},
		"less than a code":       {[]byte{0, 0, 0, 7, 0, 3, 0}, malformed},
		"a negative length":      {[]byte{0xff, 0xff, 0xff, 0xff}, malformed},
		"a gigabyte":             {[]byte{0x40, 0, 0, 0}, malformed},
		"http":                   {[]byte("GET / HTTP/1.1\r\n\r\n"), malformed},
		"the largest":            {sized(10004), ""},
		"one byte more":          {sized(10005)[:4], malformed},
		"nothing but a version":  {request(3 << 16), ""},
		"protocol 4":             {startupVersion(4<<16, user...), ""},
		"an extension":           {with("_pq_.one", "1", "_pq_.two", "2"), ""},
		"an unnamed extension":   {with("_pq_.", "1"), ""},
		"no user":                {startup("database", r.db.Name), ""},
		"an empty user":          {startup("user", "", "database", r.db.Name), ""},
		"a name without value":   {request(3<<16, 'u', 's', 'e', 'r', 0), ""},
		"no terminator":          {request(3<<16, 'u', 0, 'v', 0), ""},
		"more after the end":     {request(3<<16, 'u', 0, 'v', 0, 0, 'x', 0), ""},
		"no such database":       {startup("user", "hubpg_owner", "database", "nowhere"), ""},
		"no such role":           {startup("user", "nobody at all", "database", r.db.Name), ""},
		"no such setting":        {with("nonsense", "1"), ""},
		"a setting of others":    {with("log_statement", "all"), ""},
		"a bad value":            {with("work_mem", "much"), ""},
		"a parameter twice":      {with("work_mem", "much", "work_mem", "4MB"), ""},
		"options":                {with("options", `-c work_mem=5MB -c application_name=a\ b`), ""},
		"bad options":            {with("options", "-c nonsense=1"), ""},
		"no replication":         {with("replication", "off"), ""},
		"no such encoding":       {with("client_encoding", "klingon"), ""},
		"cancel of nobody":       {request(cancelRequest, 0, 0, 0, 1, 1, 2, 3, 4), ""},
		"cancel without a key":   {request(cancelRequest, 0, 0, 0, 1), ""},
		"cancel of nothing":      {request(cancelRequest), ""},
		"cancel with a long key": {request(cancelRequest, make([]byte, 4+256)...), ""},
		"cancel with too much":   {request(cancelRequest, make([]byte, 4+257)...), ""},
		"a message of a session": {[]byte("Q\x00\x00\x00\x0dselect 1\x00"), malformed},
		"half a TLS handshake":   {[]byte{0x16, 3, 1, 0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := first(t, direct.Host, c.packet)
			if c.louder != "" {
				if want != " closed" {
					t.Errorf("Postgres: %q", want)
				}
				want = c.louder
			}
			if got := first(t, r.server.Addr().String(), c.packet); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
