package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// rounds sends statements as libpq's pipeline mode does and returns what came back.
func rounds(t *testing.T, conn *pgx.Conn, statements ...string) (got []string) {
	t.Helper()
	pipe := conn.PgConn().StartPipeline(deadline(t))
	for _, sql := range statements {
		var err error
		switch sql {
		case "sync":
			err = pipe.Sync()
		case "flush":
			pipe.SendFlushRequest()
			err = pipe.Flush()
		case "pause": // long enough for the answers so far to pass through the relay
			time.Sleep(100 * time.Millisecond)
		default:
			pipe.SendQueryParams(sql, nil, nil, nil, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for {
		r, err := pipe.GetResults()
		if err != nil {
			e, ok := errors.AsType[*pgconn.PgError](err)
			if !ok {
				t.Fatalf("after %v: %v", got, err)
			}
			got = append(got, e.Code)
			continue
		}
		switch r := r.(type) {
		case nil:
			if err := pipe.Close(); err != nil {
				t.Fatalf("after %v: %v", got, err)
			}
			return got
		case *pgconn.ResultReader:
			tag, err := r.Close()
			if e, ok := errors.AsType[*pgconn.PgError](err); ok {
				got = append(got, e.Code)
			} else if err != nil {
				t.Fatalf("after %v: %v", got, err)
			} else {
				got = append(got, tag.String())
			}
		case *pgconn.PipelineSync:
			got = append(got, string(conn.PgConn().TxStatus()))
		}
	}
}

func TestBlocksAreRecognizedWhereverTheyBegin(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("rounds@example.com")
	conn := c.session(nil)
	set := func(name string) string {
		return fmt.Sprintf("update contacts set firstname = '%s' where id = %d", name, id)
	}
	bad := fmt.Sprintf("update contacts set hs_lead_status = 'nonsense' where id = %d", id)
	for _, test := range []struct {
		send []string
		want string
		name string // in HubSpot and in the table afterwards
	}{
		{[]string{"begin", set("A"), "sync"}, "[BEGIN UPDATE 1 T]", ""},
		{[]string{set("B"), "commit", "select 1", "sync"}, "[UPDATE 1 COMMIT SELECT 1 I]", "B"},
		{[]string{"begin", set("C"), "commit", set("D"), "sync"}, "[BEGIN UPDATE 1 COMMIT UPDATE 1 I]", "D"},
		{[]string{"begin", set("E"), "rollback", "sync"}, "[BEGIN UPDATE 1 ROLLBACK I]", "E"},
		{[]string{set("F"), "begin", set("G"), "sync", "commit", "sync"}, "[UPDATE 1 BEGIN UPDATE 1 T COMMIT I]", "G"},
		{[]string{set("H"), "select 1", "flush", "select 2", "sync"}, "[UPDATE 1 SELECT 1 SELECT 1 I]", "H"},
		{[]string{"select 1", bad, "select 2", "sync", "select 3", "sync"}, "[SELECT 1 22P02 I SELECT 1 I]", "H"},
		{[]string{"select 1/0", set("Z"), "sync"}, "[22012 I]", "H"},
		{[]string{"select 1/0", "flush", "pause", set("Z"), "sync", "select 1", "sync"}, "[22012 I SELECT 1 I]", "H"},
		{
			[]string{"begin", "select 1/0", "flush", "pause", "rollback", set("Z"), "sync", "rollback", "sync"},
			"[BEGIN 22012 E ROLLBACK I]", "H",
		},
		{[]string{set("J"), "select 1/0", set("Z"), "sync", "select 1", "sync"}, "[UPDATE 1 22012 I SELECT 1 I]", "J"},
		{[]string{"begin", bad, set("Z"), "sync", "rollback", "sync"}, "[BEGIN 22P02 E ROLLBACK I]", "J"},
		{[]string{"begin", set("K"), "select 1/0", "sync", "rollback", "sync"}, "[BEGIN UPDATE 1 22012 E ROLLBACK I]", "K"},
		{
			[]string{"begin", set("L"), "savepoint a", set("M"), "rollback to a", "release a", "commit", "sync"},
			"[BEGIN UPDATE 1 SAVEPOINT UPDATE 1 ROLLBACK RELEASE COMMIT I]", "M",
		},
		{[]string{"begin", set("N"), "prepare transaction 'x'", "sync", "rollback", "sync"}, "[BEGIN UPDATE 1 0A000 E ROLLBACK I]", "N"},
	} {
		got := fmt.Sprint(rounds(t, conn, test.send...))
		if got != test.want {
			t.Errorf("%v:\ngot  %s\nwant %s", test.send, got, test.want)
		}
		if test.name == "" {
			continue
		}
		if name := c.hubspot("contacts", id, "firstname"); name != test.name {
			t.Errorf("%v: HubSpot has %q, want %q", test.send, name, test.name)
		}
		eventually(t, fmt.Sprintf("the table has %q after %v", test.name, test.send), func() bool {
			return value[string](t, conn, "select firstname from contacts where id = $1", id) == test.name
		})
	}
}

func TestAPortalMayBeReadInPieces(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	for n := range 5 {
		c.contact(fmt.Sprintf("piece%d@example.com", n))
	}
	conn := c.session(nil)
	exec(t, conn, "begin")
	front := conn.PgConn().Frontend()
	front.Send(&pgproto3.Parse{Name: "s", Query: "update contacts set firstname = 'piece' returning id"})
	front.Send(&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s"})
	front.Send(&pgproto3.Execute{Portal: "p", MaxRows: 2})
	front.Send(&pgproto3.Execute{Portal: "p", MaxRows: 2})
	front.Send(&pgproto3.Execute{Portal: "p", MaxRows: 2})
	front.Send(&pgproto3.Close{ObjectType: 'P', Name: "p"})
	front.Send(&pgproto3.Sync{})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	var got string
	for {
		m, err := front.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			got += "D"
		case *pgproto3.PortalSuspended:
			got += "s"
		case *pgproto3.CommandComplete:
			got += " " + string(m.CommandTag) + " "
		case *pgproto3.CloseComplete:
			got += "3"
		case *pgproto3.ErrorResponse:
			t.Fatal(m.Message)
		}
		if _, ready := m.(*pgproto3.ReadyForQuery); ready {
			break
		}
	}
	if want := "DDsDDsD UPDATE 1 3"; got != want && got != "DDsDDsD UPDATE 5 3" {
		t.Errorf("got %q, want %q", got, want)
	}
	exec(t, conn, "commit")
	c.agree("contacts", "firstname")
}

func TestViewsAndTriggersOfTheUserWriteToo(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("view@example.com")
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create view app.people as select id, email, firstname from hubspot.contacts",
		"create table app.purchases (contact bigint, what text)",
		`create function app.flag() returns trigger language plpgsql as $$
begin update hubspot.contacts set firstname = new.what where id = new.contact; return new; end $$`,
		"create trigger flag after insert on app.purchases for each row execute function app.flag()",
		"grant all on app.people, app.purchases to app",
	} {
		exec(t, admin, sql)
	}
	conn := c.session(nil)
	eventually(t, "the proxy knows the view", func() bool {
		_, err := conn.Exec(deadline(t), "update app.people set firstname = 'Viewed' where id = $1", id)
		return err == nil
	})
	if got := c.hubspot("contacts", id, "firstname"); got != "Viewed" {
		t.Errorf("HubSpot has %q", got)
	}
	eventually(t, "the proxy knows the trigger", func() bool {
		_, err := conn.Exec(deadline(t), "insert into app.purchases values ($1, 'Bought')", id)
		return err == nil
	})
	if got := c.hubspot("contacts", id, "firstname"); got != "Bought" {
		t.Errorf("HubSpot has %q", got)
	}
	if got := value[int64](t, conn, "select count(*) from app.purchases"); got != 1 {
		t.Errorf("%d purchases", got)
	}
	c.agree("contacts", "firstname")
}

func TestTheSearchPathDecidesAndMayChange(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("path@example.com")
	conn := c.session(func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["search_path"] = "app" })
	exec(t, conn, "create table app.contacts (id bigint, firstname text)")
	exec(t, conn, "update contacts set firstname = 'mine'")
	exec(t, conn, "set search_path = hubspot")
	if tag := exec(t, conn, "update contacts set firstname = 'theirs' where id = $1", id); tag.String() != "UPDATE 1" {
		t.Errorf("tag %s", tag)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "theirs" {
		t.Errorf("HubSpot has %q", got)
	}
}

func TestABackendThatDiesTakesItsSessionAlong(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("dies@example.com")
	conn := c.session(nil)
	c.writer.mu.Lock()
	hold := make(chan struct{})
	c.writer.hold, c.writer.entered = hold, make(chan struct{}, 1)
	c.writer.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "update contacts set firstname = 'Dead' where id = $1", id)
		done <- err
	}()
	<-c.writer.entered
	admin := c.db.AdminConn(t)
	exec(t, admin, "select pg_terminate_backend($1, 5000)", int32(conn.PgConn().PID()))
	close(hold)
	if err := <-done; err == nil {
		t.Error("the statement succeeded")
	}
	eventually(t, "the write is settled as lost", func() bool {
		for _, committed := range c.writer.settlements() {
			return !committed
		}
		return false
	})
	eventually(t, "the table follows HubSpot", func() bool {
		var name string
		err := c.pool.QueryRow(deadline(t), "select firstname from hubspot.contacts where id = $1", id).Scan(&name)
		return err == nil && name == "Dead"
	})
	c.writer.mu.Lock()
	c.writer.hold, c.writer.entered = nil, nil
	c.writer.mu.Unlock()
}

func TestDrainLetsAWriteFinishAndForceEndsIt(t *testing.T) {
	t.Parallel()
	for _, finishes := range []bool{true, false} {
		c := newCRM(t, func(cfg *proxy.Config) { cfg.DrainTimeout = 500 * time.Millisecond })
		id := c.contact("drain@example.com")
		conn := c.session(nil)
		c.writer.mu.Lock()
		hold := make(chan struct{})
		c.writer.hold, c.writer.entered = hold, make(chan struct{}, 1)
		c.writer.mu.Unlock()
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "update contacts set firstname = 'Drained' where id = $1", id)
			done <- err
		}()
		<-c.writer.entered
		stopped := make(chan error, 1)
		go func() { stopped <- c.stop() }()
		if finishes {
			close(hold)
		}
		if err := <-done; (err == nil) != finishes {
			t.Errorf("finishes %v: %v", finishes, err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

func TestHalfRefusedStatementsTellTheTruth(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.runWriter()
	var warnings []string
	conn := c.session(func(cfg *pgx.ConnConfig) {
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			row, _, _ := strings.Cut(n.Message, ",")
			warnings = append(warnings, n.Severity+" "+n.Code+" "+row)
		}
	})
	taken := func(email string) {
		t.Helper()
		if _, err := c.hub.Create("contacts", map[string]string{"email": email}); err != nil { // not in the table yet
			t.Fatal(err)
		}
	}
	taken("taken1@example.com")
	e := refused(t, conn, "23505", "insert into contacts (email) values ('good1@example.com'), ('taken1@example.com')")
	if e.Detail == "" {
		t.Error("no detail")
	}
	accepted := int64(0) // HubSpot may refuse the whole batch for one of its rows
	for _, r := range c.hub.Snapshot("contacts") {
		if r.Properties["email"] == "good1@example.com" {
			accepted++
		}
	}
	eventually(t, "what HubSpot took is in the table, and no more", func() bool {
		return value[int64](t, conn, "select count(*) from contacts where email = 'good1@example.com' and id > 0") == accepted
	})
	taken("taken2@example.com")
	taken("taken3@example.com")
	exec(t, conn, "set hubpg.on_row_error = 'skip'")
	const half = "insert into contacts (email) values ('taken2@example.com'), ('good2@example.com'), ('nonsense'), ('taken3@example.com')"
	if tag := exec(t, conn, half); tag.String() != "INSERT 0 1" {
		t.Errorf("tag %s", tag)
	}
	for i, w := range warnings { // after the column there is HubSpot's own text
		warnings[i], _, _ = strings.Cut(w, ": Contact already exists")
	}
	if got, want := strings.Join(warnings, "; "), "WARNING 23505 row skipped: contacts row 1; WARNING 22P02 row skipped: contacts row 3; WARNING 23505 row skipped: contacts row 4"; got != want {
		t.Errorf("told  %s\nwant %s", got, want)
	}
	c.poll("contacts")
	c.agree("contacts", "email")
}

// TestNoTagIsToldForWhatWasLeftOut holds that a statement of which HubSpot has taken more than it performs, since a row
// that the rest depends on was skipped, fails without a tag: alone and in a transaction, with psql and with pgx.
func TestNoTagIsToldForWhatWasLeftOut(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	if _, err := c.hub.Create("contacts", map[string]string{"email": "taken@example.com"}); err != nil {
		t.Fatal(err)
	}
	id := c.contact("one@example.com")
	n := 0
	statement := func() (sql, word string) {
		n++
		word = fmt.Sprintf("Known%d", n)
		return fmt.Sprintf(`with made as (insert into hubspot.contacts (email) values ('taken@example.com') returning id)
update hubspot.contacts set lastname = '%s' where id = %d and exists (select from made)`, word, id), word
	}
	follows := func(name, word string) {
		t.Helper()
		if got := c.hubspot("contacts", id, "lastname"); got != word {
			t.Errorf("%s: HubSpot has %q, want %q", name, got, word)
		}
		c.agree("contacts", "lastname")
	}
	c.each(func(name string, conn *pgx.Conn) {
		exec(t, conn, "set hubpg.on_row_error = 'skip'")
		for _, block := range []bool{false, true} {
			if block {
				exec(t, conn, "begin")
			}
			sql, word := statement()
			tag, err := conn.Exec(deadline(t), sql)
			if !isCode(err, "40001") || tag.String() != "" {
				t.Errorf("%s, block %t: tag %q, %v", name, block, tag, err)
			}
			if e, ok := errors.AsType[*pgconn.PgError](err); ok && !strings.Contains(e.Detail, fmt.Sprintf("contacts %d", id)) {
				t.Errorf("%s: detail %q", name, e.Detail)
			}
			if block {
				exec(t, conn, "rollback")
			}
			if got := value[string](t, conn, "select lastname from hubspot.contacts where id = $1", id); got != word {
				t.Errorf("%s: the session sees %q, want %q", name, got, word)
			}
			follows(name, word)
		}
	})
	psql, err := osexec.LookPath("psql")
	if err != nil {
		t.Fatalf("psql is needed: %v", err)
	}
	u, err := url.Parse(c.url())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("app")
	for _, around := range [][2]string{{"", ""}, {"begin;", "rollback;"}} {
		sql, word := statement()
		cmd := osexec.CommandContext(deadline(t), psql, "-XAt", u.String())
		cmd.Stdin = strings.NewReader("set hubpg.on_row_error = 'skip';\n" + around[0] + sql + ";\n" + around[1] + "select 'end';\n")
		out, _ := cmd.CombinedOutput() // its status is that of the last statement
		if got := string(out); strings.Contains(got, "UPDATE") || !strings.Contains(got, "ERROR:  HubSpot has accepted rows") || !strings.HasSuffix(got, "end\n") {
			t.Errorf("psql says %s", got)
		}
		follows("psql", word)
	}
}

func TestPsqlWrites(t *testing.T) {
	t.Parallel()
	psql, err := osexec.LookPath("psql")
	if err != nil {
		t.Fatalf("psql is needed: %v", err)
	}
	c := newCRM(t, nil)
	id := c.contact("psql@example.com")
	u, err := url.Parse(c.url())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("app")
	run := func(input string, args ...string) string {
		t.Helper()
		cmd := osexec.CommandContext(deadline(t), psql, append([]string{"-XAt", u.String()}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("psql %v: %v", args, err)
		}
		return string(out)
	}
	got := run("", "-c", fmt.Sprintf("update hubspot.contacts set firstname = 'Psql' where id = %d returning firstname", id))
	if got != "Psql\nUPDATE 1\n" {
		t.Errorf("got %q", got)
	}
	got = run("email,firstname\np1@example.com,P\np2@example.com,P\n", "-c", "copy hubspot.contacts (email, firstname) from stdin csv header")
	if got != "COPY 2\n" {
		t.Errorf("got %q", got)
	}
	got = run(`begin;
update hubspot.contacts set firstname = 'Q' where firstname = 'P';
savepoint s;
delete from hubspot.contacts where firstname = 'Psql';
rollback;
select 'end';
`)
	if !strings.Contains(got, "UPDATE 2\nSAVEPOINT\nDELETE 1\n") || !strings.Contains(got, "NOTICE:") || !strings.HasSuffix(got, "ROLLBACK\nend\n") {
		t.Errorf("got %q", got)
	}
	eventually(t, "the table follows HubSpot", func() bool {
		var n int
		err := c.pool.QueryRow(deadline(t), "select count(*) from hubspot.contacts where firstname = 'Q'").Scan(&n)
		return err == nil && n == 2
	})
	c.agree("contacts", "firstname")
}

// TestAnErrorIsToldBeforeTheRoundEnds holds that a client that has asked for answers without ending its round hears that
// a write has failed, as Postgres would tell it.
func TestAnErrorIsToldBeforeTheRoundEnds(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("early@example.com")
	conn := c.session(nil)
	exec(t, conn, "update contacts set firstname = 'Once' where id = $1", id) // later ones are begun ahead
	for _, send := range [][]string{
		{fmt.Sprintf("update contacts set hs_lead_status = 'nonsense' where id = %d", id)},
		{"select 1/0", fmt.Sprintf("update contacts set firstname = 'Never' where id = %d", id)},
	} {
		pipe := conn.PgConn().StartPipeline(deadline(t))
		for _, sql := range send {
			pipe.SendQueryParams(sql, nil, nil, nil, nil)
		}
		pipe.SendFlushRequest()
		if err := pipe.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := pipe.GetResults()
		if reader, ok := r.(*pgconn.ResultReader); ok && err == nil {
			_, err = reader.Close()
		}
		if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
			t.Errorf("%v: got %v", send, err)
		}
		if err := pipe.Sync(); err != nil {
			t.Fatal(err)
		}
		_ = pipe.Close() // it tells of the error again
		if status := conn.PgConn().TxStatus(); status != 'I' {
			t.Errorf("%v: status %c", send, status)
		}
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "Once" {
		t.Errorf("HubSpot has %q", got)
	}
}
