package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/pgwire"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// long is a comment that makes a statement about n bytes long.
func long(n int) string { return "/*" + strings.Repeat("x", n) + "*/" }

// bare logs app in and returns the connection as it is.
func (c *crm) bare() net.Conn {
	c.t.Helper()
	conn := c.dial()
	if err := exchange(conn, startup("user", "app", "database", c.db.Name, "search_path", "hubspot, app, public")); err != nil {
		c.t.Fatal(err)
	}
	return conn
}

// occupy has a client send all of a statement of n bytes but the end.
func (c *crm) occupy(n int) net.Conn {
	c.t.Helper()
	before := c.server.Stats().Held
	conn := c.bare()
	message := pgwire.AppendQuery(nil, "select 1 "+long(n))
	if _, err := conn.Write(message[:len(message)-1]); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the statement is held", func() bool { return c.server.Stats().Held > before })
	return conn
}

// write has a statement wait for HubSpot until the function returned is called.
func (c *crm) write(sql string) (leave func()) {
	c.t.Helper()
	conn := c.session(nil)
	hold, entered, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	set := func(hold, entered chan struct{}) {
		c.writer.mu.Lock()
		defer c.writer.mu.Unlock()
		c.writer.hold, c.writer.entered = hold, entered
	}
	set(hold, entered)
	go func() {
		_, err := conn.PgConn().Exec(c.t.Context(), sql).ReadAll()
		done <- err
	}()
	<-entered
	set(nil, nil) // for others
	return func() {
		close(hold)
		if err := <-done; err != nil {
			c.t.Errorf("the statement that was held: %v", err)
		}
	}
}

func (c *crm) heldNothing() {
	c.t.Helper()
	eventually(c.t, "no session holds anything", func() bool {
		s := c.server.Stats()
		return s.Held == 0 && s.HeldBack == 0
	})
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

// TestLongStatementsShareOneBound holds that a statement which finds no room fails with an error that says to repeat it, in
// every place in which it can stand, and that whatever needs no room goes on.
func TestLongStatementsShareOneBound(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) {
		cfg.Limits.StatementMemory, cfg.Limits.StatementWait = 1<<20, 10*time.Millisecond
	})
	id := c.contact("bound@example.com")
	conn, busy := c.session(nil), c.session(nil)
	exec(t, busy, "create table app.blobs (b bytea)")
	leave := c.write(fmt.Sprintf("update contacts set firstname = 'A' where id = %d ", c.contact("held@example.com")) + long(200<<10))

	statement := "select 2 " + long(200<<10)
	simple := func(conn *pgx.Conn, sql string) error {
		_, err := conn.PgConn().Exec(deadline(t), sql).ReadAll()
		return err
	}
	if err := simple(conn, statement); codeOf(err) != "53200" {
		t.Fatalf("got %v, want 53200", err)
	}
	if n := value[int](t, conn, "select 3"); n != 3 {
		t.Errorf("afterwards: %d", n)
	}
	// In a transaction of the client's: it has failed, as after any error.
	exec(t, conn, "begin")
	if err := simple(conn, statement); codeOf(err) != "53200" || conn.PgConn().TxStatus() != 'E' {
		t.Errorf("in a transaction: %v, %c", err, conn.PgConn().TxStatus())
	}
	if err := simple(conn, "select 1"); codeOf(err) != "25P02" {
		t.Errorf("the transaction goes on: %v", err)
	}
	if err := simple(conn, statement); codeOf(err) != "53200" || conn.PgConn().TxStatus() != 'E' {
		t.Errorf("in a failed transaction: %v, %c", err, conn.PgConn().TxStatus())
	}
	exec(t, conn, "rollback")
	// In pipelines: what follows is void up to the Sync, and the round's implicit transaction is rolled back.
	for _, test := range []struct {
		send []string
		want string
	}{
		{[]string{statement, "select 1", "sync", "select 1", "sync"}, "[53200 I SELECT 1 I]"},
		{[]string{"insert into app.blobs values ('x')", statement, "select 1", "sync", "select 1", "sync"}, "[INSERT 0 1 53200 I SELECT 1 I]"},
		{[]string{"begin", statement, statement, "sync", "rollback", "sync"}, "[BEGIN 53200 E ROLLBACK I]"},
		{[]string{"select 1/0", statement, "sync", "select 1", "sync"}, "[22012 I SELECT 1 I]"},
		{
			[]string{fmt.Sprintf("update contacts set firstname = 'B' where id = %d", id), statement, "sync", "select 1", "sync"},
			"[UPDATE 1 53200 I SELECT 1 I]",
		},
	} {
		if got := fmt.Sprint(rounds(t, conn, test.send...)); got != test.want {
			t.Errorf("%.60v: got %s, want %s", test.send, got, test.want)
		}
	}
	if n := value[int](t, conn, "select count(*) from app.blobs"); n != 0 {
		t.Errorf("%d rows of a round that failed", n)
	}
	// What need not be held: large values, COPY data, texts that nobody could hold.
	exec(t, busy, "prepare w as update contacts set firstname = 'C' where id = 1")
	large := bytes.Repeat([]byte{1}, 2<<20)
	exec(t, busy, "insert into app.blobs values ($1)", large)
	var copied bytes.Buffer
	fmt.Fprintf(&copied, "\\\\x%x\n", large)
	if _, err := busy.PgConn().CopyFrom(deadline(t), &copied, "copy app.blobs from stdin"); err != nil {
		t.Errorf("copy: %v", err)
	}
	if err := simple(busy, "select 1 "+long(64<<20)); err != nil {
		t.Errorf("a text that is relayed unseen: %v", err)
	}
	if n := value[int64](t, busy, "select sum(length(b)) from app.blobs"); n != 2*int64(len(large)) {
		t.Errorf("%d bytes arrived, want %d", n, 2*len(large))
	}
	// One that will never have room is told so.
	if err := simple(conn, "select 1 "+long(300<<10)); codeOf(err) != "54000" {
		t.Errorf("a statement that is longer than the bound: %v", err)
	}

	leave()
	c.heldNothing()
	if err := simple(conn, statement); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	c.heldNothing()
	if s := c.server.Stats(); s.NotHeld == 0 || s.Ended["panic"]+s.Ended["server"] > 0 {
		t.Errorf("%+v", s)
	}
}

// TestALongStatementWaitsForRoom holds that the wait ends when another statement does, with a cancel, and with the session.
func TestALongStatementWaitsForRoom(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) {
		cfg.Limits.StatementMemory, cfg.Limits.StatementWait = 1<<20, time.Hour
		cfg.DrainTimeout = 100 * time.Millisecond
	})
	occupant := c.occupy(200 << 10)
	statement := "select 2 " + long(200<<10)
	wait := func(n int64) {
		t.Helper()
		eventually(t, "statements wait", func() bool { return c.server.Stats().HeldBack == n })
	}
	ask := func(conn *pgx.Conn) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
			done <- err
		}()
		return done
	}
	first, second, third := c.session(nil), c.session(nil), c.session(nil)
	answered := ask(first)
	wait(1)
	canceled := ask(second)
	wait(2)
	if err := second.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-canceled; codeOf(err) != "57014" {
		t.Errorf("canceled: %v", err)
	}
	wait(1)
	if n := value[int](t, second, "select 4"); n != 4 {
		t.Errorf("after the cancel: %d", n)
	}
	if _, err := occupant.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("once there is room: %v", err)
	}
	c.heldNothing()
	c.occupy(200 << 10)
	ended := ask(third)
	wait(1)
	if err := c.stop(); err != nil { // the drain timeout ends what waits
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("answered by a proxy that is gone")
	}
	c.heldNothing()
}

// TestASlowStatementGivesWay holds that a client which does not finish its statement cannot keep others from theirs, and can go
// on itself.
func TestASlowStatementGivesWay(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) {
		cfg.Limits.StatementMemory, cfg.Limits.StatementWait = 1<<20, 10*time.Second
	})
	slow, gone := c.occupy(120<<10), c.occupy(120<<10)
	statement := "select 2 " + long(200<<10)
	conn := c.session(nil)
	if _, err := conn.PgConn().Exec(deadline(t), statement).ReadAll(); err != nil {
		t.Errorf("beside those that are slow: %v", err)
	}
	gone.Close()
	c.heldNothing()
	// What is left of it is skipped.
	if _, err := slow.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	r := pgwire.NewReader(slow, 64<<10)
	if _, message, err := r.Read(); err != nil || message[0] != 'E' || pgwire.ParseError(message).Code != "53200" {
		t.Errorf("the slow one: %q, %v", message, err)
	}
	if _, message, err := r.Read(); err != nil || string(message) != "Z\x00\x00\x00\x05I" {
		t.Errorf("after its error: %q, %v", message, err)
	}
	if err := exchange(slow, pgwire.AppendQuery(nil, "select 1 "+long(150<<10))); err != nil {
		t.Errorf("its next: %v", err)
	}
	c.heldNothing()
}

// TestStatementsThatAreKeptCount holds that prepared statements which write are counted as long as they are there, and leave
// half of the room to others.
func TestStatementsThatAreKeptCount(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) {
		cfg.Limits.StatementMemory, cfg.Limits.StatementWait = 4<<20, 10*time.Millisecond
	})
	id := c.contact("kept@example.com")
	conn := c.session(nil)
	text := fmt.Sprintf("update contacts set firstname = 'K' where id = %d ", id) + long(500<<10)
	prepared := 0
	for ; ; prepared++ {
		if _, err := conn.Prepare(deadline(t), fmt.Sprintf("s%d", prepared), text); codeOf(err) == "53200" {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if held := c.server.Stats().Held; prepared < 2 || held > 2<<20 || held < int64(prepared)*500<<10 {
		t.Errorf("%d are prepared, %d bytes held", prepared, held)
	}
	exec(t, conn, "s0")
	if got := c.hubspot("contacts", id, "firstname"); got != "K" {
		t.Errorf("HubSpot has %q", got)
	}
	if _, err := c.session(nil).PgConn().Exec(deadline(t), "select 1 "+long(400<<10)).ReadAll(); err != nil {
		t.Errorf("another session's: %v", err)
	}
	if err := conn.Deallocate(deadline(t), "s0"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Prepare(deadline(t), "again", text); err != nil {
		t.Errorf("in the place of another: %v", err)
	}
	if err := conn.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	c.heldNothing()
}

// TestRowsOfAStatementCount holds that a short statement with many large rows fails before it holds too many, and before
// HubSpot hears of any.
func TestRowsOfAStatementCount(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) { cfg.Limits.StatementMemory = 1 << 20 })
	for n := range 5 {
		c.contact(fmt.Sprintf("row%d@example.com", n))
	}
	conn := c.session(nil)
	const sql = "update contacts set firstname = repeat('x', $1)"
	exec(t, conn, "set hubpg.writes = 'dry_run'")
	refused(t, conn, "53200", sql, 90_000)
	if n := len(c.writer.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
	c.heldNothing()
	if tag := exec(t, conn, sql, 10_000); tag.RowsAffected() != 5 {
		t.Errorf("smaller ones: %v", tag)
	}
	c.heldNothing()
}

// TestLongStatementsBrokenOffGiveTheirRoomBack has clients vanish after any number of bytes.
func TestLongStatementsBrokenOffGiveTheirRoomBack(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(cfg *proxy.Config) {
		cfg.Limits.StatementMemory, cfg.Limits.StatementWait = 3<<20, 20*time.Millisecond
	})
	id := c.contact("vanish@example.com")
	update := fmt.Sprintf("update contacts set firstname = 'V' where id = %d ", id)
	encode := func(messages ...pgproto3.FrontendMessage) (out []byte) {
		for _, m := range messages {
			var err error
			if out, err = m.Encode(out); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	value := bytes.Repeat([]byte{'v'}, 100<<10)
	conversations := map[string][]byte{
		"query":    pgwire.AppendQuery(pgwire.AppendQuery(nil, "begin"), update+long(150<<10)),
		"read":     pgwire.AppendQuery(nil, "select 1 "+long(200<<10)),
		"unseen":   pgwire.AppendQuery(nil, "select 1 "+long(3<<20)),
		"extended": encode(&pgproto3.Parse{Query: update + long(150<<10)}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}),
		"bound": encode(&pgproto3.Parse{Name: "b", Query: "update contacts set firstname = left($1, 3)"},
			&pgproto3.Bind{PreparedStatement: "b", Parameters: [][]byte{value}}, &pgproto3.Execute{}, &pgproto3.Sync{}),
		"copy": append(pgwire.AppendQuery(nil, "copy contacts (email, firstname) from stdin"),
			encode(&pgproto3.CopyData{Data: append(append([]byte("a@example.com\t"), value...), '\n')}, &pgproto3.CopyFail{})...),
	}
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	var clients sync.WaitGroup
	for range 10 {
		for name, bytes := range conversations {
			cut, most := random.IntN(len(bytes)+1), len(bytes)
			if random.IntN(3) == 0 {
				cut = most // and vanishes while it is answered
			}
			clients.Go(func() {
				conn, err := net.Dial("tcp", c.server.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				if err := exchange(conn, startup("user", "app", "database", c.db.Name, "search_path", "hubspot, app, public")); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				// The proxy may have ended the session already.
				_, _ = conn.Write(bytes[:cut])
			})
		}
		clients.Wait()
	}
	c.heldNothing()
	eventually(t, "all sessions have ended", func() bool { return c.server.Stats().Sessions <= 1 }) // the one that has warmed it
	if s := c.server.Stats(); s.Ended["panic"] > 0 {
		t.Errorf("%+v", s)
	}
}

// TestMemoryOfLongStatementsIsBounded counts the resident memory of a proxy in a process of its own.
func TestMemoryOfLongStatementsIsBounded(t *testing.T) {
	t.Parallel()
	const clients, length, bound = 40, 16 << 20, 128 << 20
	db := pgtest.Migrated(t, migrations.Up)
	p := newLonely(t, db, fmt.Sprintf("%s=%d", memoryVariable, bound))
	role := guest(t, db)
	message := pgwire.AppendQuery(nil, "select 1 "+long(length))
	var all sync.WaitGroup
	var mu sync.Mutex
	answered, refused := 0, 0
	for range clients {
		all.Go(func() {
			conn, err := net.Dial("tcp", p.address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if err := exchange(conn, startup("user", role, "database", db.Name)); err != nil {
				t.Error(err)
				return
			}
			err = exchange(conn, message)
			mu.Lock()
			defer mu.Unlock()
			switch e, ok := errors.AsType[*pgwire.Error](err); {
			case err == nil:
				answered++
			case ok && e.Code == "53200":
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	end := p.report()
	t.Logf("%d answered, %d refused; peak %d MiB", answered, refused, end.Peak>>20)
	if answered == 0 || end.Held != 0 {
		t.Errorf("%d answered, %d bytes held at the end", answered, end.Held)
	}
	// Twice the bound, which is what the garbage collector may leave, and what the process is without it.
	if most := int64(2*bound + 150<<20); end.Peak > most {
		t.Errorf("peak of %d bytes, more than %d; the statements are %d", end.Peak, most, clients*length)
	}
}
