package proxy_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// held is how much more memory a proxy may have come to while something passed through it that is many times as large. The race
// detector keeps four bytes beside each that a program has touched, and the memory is measured from outside.
const held = 8 << 20 * shadow

// A value is passed on as it comes, in both directions, and waits where its reader does not read. Only statements of up to
// 64 MiB are looked at whole.
func TestLargeValuesAreNeverHeld(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	p := newLonely(t, db)
	if p.report().Resident == 0 {
		t.Skip("the system does not tell the memory of a process")
	}
	const size = 100 << 20 // more than a statement that is looked at whole
	session := func() net.Conn { return enter(t, p.address, db.Name) }
	conn := session()
	say := func(conn net.Conn, text string) {
		if err := send(conn, said('Q', text+"\x00")); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	say(conn, "listen hubspot_deals; select 1; create temp table t (v text)")
	skim(t, conn)
	before := p.report().Peak

	say(conn, "select repeat('x', 100 << 20)")
	if n := skim(t, conn); n < size {
		t.Errorf("a value of %d bytes came as %d", size, n)
	}
	// A statement, a parameter and COPY data of that size.
	const wrap = "insert into t values ('')\x00"
	head := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(wrap)+size))
	insert := func() error { return send(conn, []byte(wrap[:len(wrap)-3])) }
	if err := errors.Join(send(conn, head), insert(), flood(conn, size), send(conn, []byte("')\x00"))); err != nil {
		t.Fatalf("send a statement: %v", err)
	}
	skim(t, conn)
	parameter := append(said('P', "\x00insert into t values ($1)\x00\x00\x00"), 'B')
	parameter = binary.BigEndian.AppendUint32(parameter, 4+2+2+2+4+size+2)
	parameter = binary.BigEndian.AppendUint32(append(parameter, 0, 0, 0, 0, 0, 1), size)
	after := append([]byte{0, 0}, append(said('E', "\x00\x00\x00\x00\x00"), said('S', "")...)...)
	if err := errors.Join(send(conn, parameter), flood(conn, size), send(conn, after)); err != nil {
		t.Fatalf("send a parameter: %v", err)
	}
	skim(t, conn)
	say(conn, "copy t from stdin")
	skim(t, conn)
	if err := errors.Join(send(conn, binary.BigEndian.AppendUint32([]byte{'d'}, 4+size)), flood(conn, size), send(conn, said('c', ""))); err != nil {
		t.Fatalf("send COPY data: %v", err)
	}
	skim(t, conn)
	say(conn, "select count(*) || ' of ' || min(length(v)) from t")
	if _, got := answerOf(t, conn); !strings.Contains(got, "3 of 104857600") {
		t.Errorf("sent three values, there are %q", got)
	}
	if grown := p.report().Peak - before; grown > held {
		t.Errorf("the proxy has grown by %d KiB while values of %d MiB passed", grown>>10, size>>20)
	}

	// Clients that do not read make Postgres wait, and nobody else.
	for range 5 {
		say(session(), "select repeat('x', 10 << 20) from generate_series(1, 20)")
	}
	through, err := url.Parse(db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	through.Host = p.address
	witness := open(t, through.String(), nil)
	watch := db.Conn(t)
	eventually(t, "Postgres waits for clients that do not read", func() bool {
		return value[int](t, watch, "select count(*) from pg_stat_activity where wait_event = 'ClientWrite' and datname = current_database()") == 5
	})
	if got := value[int32](t, witness, "select 7"); got != 7 {
		t.Errorf("beside them: %d", got)
	}
	if grown := p.report().Peak - before; grown > 2*held {
		t.Errorf("the proxy has grown by %d KiB for clients that do not read", grown>>10)
	}
}

// Between two programs on one machine a stream waits where it comes from, not in the kernel's buffers.
func TestLittleWaitsForAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	r := newRig(t, db, nil)
	conn := enter(t, r.server.Addr().String(), db.Name)
	if err := send(conn, said('Q', "select repeat('x', 1000) from generate_series(1, 50000)\x00")); err != nil {
		t.Fatalf("ask: %v", err)
	}
	var sent int64
	eventually(t, "no more is sent", func() bool {
		before := sent
		sent = r.server.Stats().BytesOut
		time.Sleep(200 * time.Millisecond)
		return sent > 100_000 && sent == before
	})
	if sent > 1<<20 {
		t.Errorf("%d bytes wait for a client that does not read", sent)
	}
	if n, err := io.CopyN(io.Discard, conn, 50_000_000); err != nil {
		t.Errorf("%d bytes came in the end; %v", n, err)
	}
}

// enter logs in with a bare connection.
func enter(t *testing.T, address, database string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := errors.Join(conn.SetDeadline(time.Now().Add(2*patience)), send(conn, startup("user", "hubpg_owner", "database", database))); err != nil {
		t.Fatalf("log in: %v", err)
	}
	skim(t, conn)
	return conn
}

// skim reads to the end of an answer and returns the size of its largest message.
func skim(t *testing.T, conn net.Conn) (largest int) {
	t.Helper()
	largest, _ = answerOf(t, conn)
	return largest
}

// answerOf reads to the end of an answer and returns its messages of up to 1 KiB and the size of the largest.
func answerOf(t *testing.T, conn net.Conn) (largest int, small string) {
	t.Helper()
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatalf("read: %v", err)
		}
		size := int64(binary.BigEndian.Uint32(head[1:])) - 4
		largest = max(largest, int(size))
		into := io.Discard
		var body strings.Builder
		if size <= 1<<10 {
			into = &body
		}
		if _, err := io.CopyN(into, conn, size); err != nil {
			t.Fatalf("read: %v", err)
		}
		small += body.String()
		switch head[0] {
		case 'E':
			t.Fatalf("answered %q", body.String())
		case 'Z', 'G':
			return largest, small
		}
	}
}

func send(conn net.Conn, wire []byte) error {
	_, err := conn.Write(wire)
	return err
}

// flood sends so many letters.
func flood(conn net.Conn, size int) error {
	_, err := io.CopyN(conn, letters{}, int64(size))
	return err
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
