package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestAnUpdateReachesHubSpotInEveryProtocol(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("ada@example.com")
	c.each(func(name string, conn *pgx.Conn) {
		for _, suffix := range []string{" one", " two"} { // the second time from the statement cache
			tag := exec(t, conn, "update hubspot.contacts set firstname = $1 where id = $2", name+suffix, id)
			if tag.String() != "UPDATE 1" {
				t.Errorf("%s: tag %q", name, tag)
			}
			if status := conn.PgConn().TxStatus(); status != 'I' {
				t.Errorf("%s: transaction status %c", name, status)
			}
			if got := c.hubspot("contacts", id, "firstname"); got != name+suffix {
				t.Errorf("%s: HubSpot has %q", name, got)
			}
			if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != name+suffix {
				t.Errorf("%s: the table has %q", name, got)
			}
		}
	})
	c.agree("contacts", "firstname")
	for id, committed := range c.writer.settlements() {
		if !committed {
			t.Errorf("write %d settled as rolled back", id)
		}
	}
}

func TestEveryStatementFormIsPerformed(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	admin := c.db.AdminConn(t)
	exec(t, admin, `create function app.rename(who bigint, name text) returns text language plpgsql as $$
begin update hubspot.contacts set firstname = name where id = who; return 'renamed'; end $$`)
	exec(t, admin, `create function app.twice(who bigint) returns text language sql as $$ select app.rename(who, 'By two') $$`)
	exec(t, admin, `grant execute on all functions in schema app to app`)
	c.each(func(name string, conn *pgx.Conn) {
		email := func(n int) string { return fmt.Sprintf("%s%d@example.com", name, n) }

		rows, err := conn.Query(deadline(t), "insert into contacts (email, firstname) values ($1, 'A'), ($2, 'B'), ($3, 'C') returning id, email, lower(firstname)",
			email(1), email(2), email(3))
		if err != nil {
			t.Fatalf("%s: insert: %v", name, err)
		}
		type made struct {
			ID           int64
			Email, Lower string
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[made])
		if err != nil || len(list) != 3 {
			t.Fatalf("%s: insert: %v %v", name, list, err)
		}
		for i, m := range list {
			if m.ID <= 0 || m.Email != email(i+1) || c.hubspot("contacts", m.ID, "email") != m.Email {
				t.Errorf("%s: returned %+v, HubSpot has %q", name, m, c.hubspot("contacts", m.ID, "email"))
			}
		}
		one := list[0].ID
		first := func(want string) {
			t.Helper()
			if got := c.hubspot("contacts", one, "firstname"); got != want {
				t.Errorf("%s: HubSpot has %q, want %q", name, got, want)
			}
		}
		tag := func(sql, want string, args ...any) {
			t.Helper()
			if got := exec(t, conn, sql, args...); got.String() != want {
				t.Errorf("%s: %s: tag %q, want %q", name, sql, got, want)
			}
		}
		tag("update contacts c set firstname = v.name from (values ($1::bigint, $2)) v (id, name) where v.id = c.id", "UPDATE 1", one, "From")
		first("From")
		tag("with w as (update hubspot.contacts set firstname = 'CTE' where id = $1 returning id) select * from w", "SELECT 1", one)
		first("CTE")
		tag("insert into contacts (email, firstname) values ($1, 'Upserted') on conflict (email) do update set firstname = excluded.firstname", "INSERT 0 1", email(1))
		first("Upserted")
		tag("insert into contacts (email, firstname) values ($1, 'Never') on conflict do nothing", "INSERT 0 0", email(1))
		first("Upserted")
		if c.merges() {
			tag("merge into contacts c using (values ($1)) v (email) on c.email = v.email when matched then update set firstname = 'Merged' when not matched then insert (email) values (v.email)",
				"MERGE 1", email(1))
			first("Merged")
		}
		if got := value[string](t, conn, "select app.rename($1, 'Called')", one); got != "renamed" {
			t.Errorf("%s: function returned %q", name, got)
		}
		first("Called")
		if got := value[string](t, conn, "select app.twice($1)", one); got != "renamed" {
			t.Errorf("%s: function returned %q", name, got)
		}
		first("By two")
		tag("do $$ begin update contacts set firstname = 'Done' where email = '"+email(1)+"'; end $$", "DO")
		first("Done")
		tag("explain (analyze, costs off) update contacts set firstname = 'Explained' where id = $1", "EXPLAIN", one)
		first("Explained")
		tag("prepare p"+name+" as update contacts set firstname = $1 where id = $2", "PREPARE")
		tag(fmt.Sprintf("execute p%s('Executed', %d)", name, one), "UPDATE 1")
		first("Executed")
		tag("delete from contacts c using contacts d where c.id = d.id and d.email = $1", "DELETE 1", email(2))
		if got := c.hubspot("contacts", list[1].ID, "email"); got != "<none>" {
			t.Errorf("%s: HubSpot still has %q", name, got)
		}
		tag("update contacts set firstname = 'Nobody' where id = -7", "UPDATE 0")
	})
	c.agree("contacts", "firstname")
}

func TestCopyReachesHubSpot(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	conn := c.session(nil)
	var rows [][]any
	for n := range 250 {
		rows = append(rows, []any{fmt.Sprintf("copy%d@example.com", n), "Copied"})
	}
	n, err := conn.CopyFrom(deadline(t), pgx.Identifier{"hubspot", "contacts"}, []string{"email", "firstname"}, pgx.CopyFromRows(rows))
	if err != nil || n != 250 {
		t.Fatalf("copy: %d %v", n, err)
	}
	if got := value[int64](t, conn, "select count(*) from contacts where firstname = 'Copied' and id > 0"); got != 250 {
		t.Errorf("the table has %d", got)
	}
	c.agree("contacts", "email")
	if got := len(c.writer.requests()); got != 1 {
		t.Errorf("%d requests", got)
	}
	// In a transaction, and one that goes wrong.
	exec(t, conn, "begin")
	if _, err := conn.CopyFrom(deadline(t), pgx.Identifier{"contacts"}, []string{"email"}, pgx.CopyFromRows([][]any{{"again@example.com"}})); err != nil {
		t.Fatalf("copy in a transaction: %v", err)
	}
	exec(t, conn, "commit")
	_, err = conn.CopyFrom(deadline(t), pgx.Identifier{"contacts"}, []string{"email"}, pgx.CopyFromRows([][]any{{"not an address"}}))
	if err == nil {
		t.Error("a bad address was accepted")
	}
	if got := value[int32](t, conn, "select 1"); got != 1 {
		t.Error("the session is lost")
	}
	c.agree("contacts", "email")
}

func TestTransactionsKeepTheirShape(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("tx@example.com")
	c.each(func(name string, _ *pgx.Conn) {
		for _, level := range []string{"read committed", "repeatable read", "serializable"} {
			var notices []string
			conn := c.session(func(cfg *pgx.ConnConfig) {
				cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Code) }
			})
			settled := func() (kept, lost int) {
				for _, ok := range c.writer.settlements() {
					if ok {
						kept++
					} else {
						lost++
					}
				}
				return kept, lost
			}
			kept, lost := settled()
			want := func(k, l int) {
				t.Helper()
				eventually(t, "the writes are settled", func() bool { a, b := settled(); return a == kept+k && b == lost+l })
			}
			set := "update contacts set firstname = $1 where id = $2"

			exec(t, conn, "begin isolation level "+level)
			exec(t, conn, set, name+" 1", id)
			if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != name+" 1" {
				t.Errorf("%s: inside the transaction: %q", level, got)
			}
			if conn.PgConn().TxStatus() != 'T' {
				t.Errorf("%s: status %c", level, conn.PgConn().TxStatus())
			}
			exec(t, conn, "commit")
			want(1, 0)

			exec(t, conn, "begin isolation level "+level)
			exec(t, conn, set, name+" 2", id)
			exec(t, conn, "savepoint a")
			exec(t, conn, set, name+" 3", id)
			exec(t, conn, "savepoint b")
			exec(t, conn, set, name+" 4", id)
			notices = nil
			exec(t, conn, "rollback to a")
			if len(notices) != 1 || notices[0] != "HS011" {
				t.Errorf("%s: notices %v", level, notices)
			}
			exec(t, conn, "commit")
			want(2, 2)

			exec(t, conn, "begin isolation level "+level)
			exec(t, conn, set, name+" 5", id)
			notices = nil
			exec(t, conn, "rollback")
			if len(notices) != 1 || notices[0] != "HS011" {
				t.Errorf("%s: notices %v", level, notices)
			}
			want(2, 3)

			exec(t, conn, "begin")
			refused(t, conn, "22P02", "update contacts set hs_lead_status = 'no such option' where id = $1", id)
			if conn.PgConn().TxStatus() != 'E' {
				t.Errorf("%s: status %c after an error", level, conn.PgConn().TxStatus())
			}
			refused(t, conn, "25P02", set, name, id)
			exec(t, conn, "rollback")
			c.agree("contacts", "firstname")
		}
	})
}

// TestTheIDOfANewRecordIsNoValue holds that what a statement makes of the id of a record which it inserts is refused where it would be a
// value in HubSpot, because HubSpot gives the id only afterwards, and is right everywhere else.
func TestTheIDOfANewRecordIsNoValue(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("old@example.com")
	company, err := c.hub.Create("companies", map[string]string{"name": "Acme"})
	if err != nil {
		t.Fatal(err)
	}
	c.poll("companies")
	admin := c.db.AdminConn(t)
	exec(t, admin, "create table app.made (who bigint)")
	exec(t, admin, "grant all on app.made to app")
	c.each(func(name string, conn *pgx.Conn) {
		for _, value := range []string{"made.id::text", "'of ' || made.id || '!'"} {
			e := refused(t, conn, "0A000", "with made as (insert into contacts (email) values ($1) returning id) update contacts set jobtitle = "+value+
				" from made where contacts.id = $2", name+"@example.com", id)
			if e.ColumnName != "jobtitle" {
				t.Errorf("%s: %+v", name, e)
			}
		}
		exec(t, conn, `with made as (insert into contacts (email, jobtitle) values ($1, '-1'), ($2, 'x-2') returning id), linked as (
  insert into contacts_companies (contact_id, company_id) select id, $3 from made)
insert into app.made select id from made`, name+"1@example.com", name+"2@example.com", company)
	})
	if got := value[int64](t, admin, "select count(*) from app.made join hubspot.contacts on id = who join hubspot.contacts_companies on contact_id = who"); got != 8 {
		t.Errorf("%d new records are known by their ids", got)
	}
	c.agree("contacts", "jobtitle")
}

// TestWhatWasRolledBackCanBeSetBack holds that a transaction which learns that HubSpot keeps what it has rolled back to a savepoint can
// set it back, although its own rows say so already.
func TestWhatWasRolledBackCanBeSetBack(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("back@example.com")
	c.each(func(name string, conn *pgx.Conn) {
		exec(t, conn, "begin")
		exec(t, conn, "savepoint a")
		exec(t, conn, "update contacts set firstname = $1 where id = $2", name, id)
		exec(t, conn, "rollback to a")
		exec(t, conn, "update contacts set firstname = 'Ada' where id = $1", id)
		exec(t, conn, "savepoint b")
		exec(t, conn, "update contacts set lastname = $1 where id = $2", name, id)
		exec(t, conn, "rollback to b")
		exec(t, conn, "update contacts set jobtitle = $1 where id = $2", name, id) // the row is the transaction's own: it is not waited for again and again
		exec(t, conn, "commit")
		if got := c.hubspot("contacts", id, "firstname"); got != "Ada" {
			t.Errorf("%s: HubSpot has %q", name, got)
		}
		eventually(t, "the table has what HubSpot has", func() bool {
			return value[string](t, conn, "select lastname || ' ' || jobtitle from contacts where id = $1", id) == name+" "+name
		})
		c.agree("contacts", "firstname")
	})
	c.settledAll()
}

func TestSeveralStatementsInOneQueryShareATransaction(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("multi@example.com")
	conn := c.session(nil)
	exec(t, conn, "create table app.notes (note text unique deferrable initially deferred)")
	run := func(sql string) ([]string, error) {
		results, err := conn.PgConn().Exec(deadline(t), sql).ReadAll()
		var tags []string
		for _, r := range results {
			tags = append(tags, r.CommandTag.String())
		}
		return tags, err
	}
	tags, err := run(fmt.Sprintf("insert into app.notes values ('a'); update contacts set firstname = 'M1' where id = %d; select 1; select note from app.notes", id))
	if err != nil || fmt.Sprint(tags) != "[INSERT 0 1 UPDATE 1 SELECT 1 SELECT 1]" {
		t.Errorf("%v %v", tags, err)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "M1" {
		t.Errorf("HubSpot has %q", got)
	}
	_, err = run(fmt.Sprintf("insert into app.notes values ('b'); update contacts set firstname = 'M2' where id = %d; select 1/0", id))
	if !isCode(err, "22012") {
		t.Errorf("got %v", err)
	}
	if got := value[int64](t, conn, "select count(*) from app.notes"); got != 1 {
		t.Errorf("%d notes: the transaction was not one", got)
	}
	eventually(t, "the table follows HubSpot", func() bool {
		return value[string](t, conn, "select firstname from contacts where id = $1", id) == "M2"
	})
	tags, err = run(fmt.Sprintf("begin; update contacts set firstname = 'M3' where id = %d; commit; insert into app.notes values ('c')", id))
	if err != nil || fmt.Sprint(tags) != "[BEGIN UPDATE 1 COMMIT INSERT 0 1]" || conn.PgConn().TxStatus() != 'I' {
		t.Errorf("%v %v %c", tags, err, conn.PgConn().TxStatus())
	}
	tags, err = run(fmt.Sprintf("update contacts set firstname = 'M4' where id = %d; begin; select 1", id))
	if err != nil || fmt.Sprint(tags) != "[UPDATE 1 BEGIN SELECT 1]" || conn.PgConn().TxStatus() != 'T' {
		t.Errorf("%v %v %c", tags, err, conn.PgConn().TxStatus())
	}
	exec(t, conn, "commit")
	// A commit that fails takes the success back.
	_, err = run(fmt.Sprintf("insert into app.notes values ('a'); update contacts set firstname = 'M5' where id = %d", id))
	if !isCode(err, "23505") || conn.PgConn().TxStatus() != 'I' {
		t.Errorf("%v %c", err, conn.PgConn().TxStatus())
	}
	eventually(t, "the table follows HubSpot", func() bool {
		return value[string](t, conn, "select firstname from contacts where id = $1", id) == "M5"
	})
	_, err = run(fmt.Sprintf("select 1;\nupdate contacts set firstname = 'M6', nope = 1 where id = %d", id))
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42703" || e.Position != 49 {
		t.Errorf("position of an error: %d %v", e.Position, e)
	}
}

func TestPipelinesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("pipe@example.com")
	conn := c.session(nil)
	batch := &pgx.Batch{}
	for n := range 5 {
		batch.Queue("select $1::int", n)
		batch.Queue("update contacts set firstname = $1 where id = $2 returning firstname", fmt.Sprintf("P%d", n), id)
	}
	results := conn.SendBatch(deadline(t), batch)
	for n := range 5 {
		var number int
		var name string
		if err := results.QueryRow().Scan(&number); err != nil || number != n {
			t.Fatalf("%d: %v", number, err)
		}
		if err := results.QueryRow().Scan(&name); err != nil || name != fmt.Sprintf("P%d", n) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := results.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "P4" {
		t.Errorf("HubSpot has %q", got)
	}
	// What fails takes the rest of its round with it, and what came before.
	batch = &pgx.Batch{}
	batch.Queue("update contacts set firstname = 'Q1' where id = $1", id)
	batch.Queue("update contacts set hs_lead_status = 'no such option' where id = $1", id)
	batch.Queue("update contacts set firstname = 'Q2' where id = $1", id)
	err := conn.SendBatch(deadline(t), batch).Close()
	if !isCode(err, "22P02") {
		t.Errorf("got %v", err)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "Q1" {
		t.Errorf("HubSpot has %q", got)
	}
	eventually(t, "the table follows HubSpot", func() bool {
		return value[string](t, conn, "select firstname from contacts where id = $1", id) == "Q1"
	})
	// libpq's pipeline mode: several rounds under way at once.
	pipe := conn.PgConn().StartPipeline(deadline(t))
	for n := range 3 {
		pipe.SendQueryParams("select 'x'", nil, nil, nil, nil)
		pipe.SendQueryParams("update contacts set firstname = $1 where id = $2", [][]byte{fmt.Appendf(nil, "R%d", n), fmt.Append(nil, id)}, nil, nil, nil)
		if err := pipe.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	var tags []string
	for {
		r, err := pipe.GetResults()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		switch r := r.(type) {
		case *pgconn.ResultReader:
			tag, err := r.Close()
			if err != nil {
				t.Fatal(err)
			}
			tags = append(tags, tag.String())
		case *pgconn.PipelineSync:
			tags = append(tags, "sync")
		}
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(tags), "[SELECT 1 UPDATE 1 sync SELECT 1 UPDATE 1 sync SELECT 1 UPDATE 1 sync]"; got != want {
		t.Errorf("got %s", got)
	}
	c.agree("contacts", "firstname")
}

func TestRefusalsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("no@example.com")
	c.each(func(name string, conn *pgx.Conn) {
		e := refused(t, conn, "22P02", "update contacts set hs_lead_status = 'nonsense' where id = $1", id)
		if e.ColumnName != "hs_lead_status" || e.TableName != "contacts" || e.Severity != "ERROR" {
			t.Errorf("%s: %+v", name, e)
		}
		if conn.PgConn().TxStatus() != 'I' {
			t.Errorf("%s: status %c", name, conn.PgConn().TxStatus())
		}
		refused(t, conn, "42703", "update contacts set nope = 1 where id = $1", id)
		refused(t, conn, "23505", "insert into contacts (email) values ('no@example.com')")
		exec(t, conn, "set hubpg.on_row_error = 'ignore'")
		refused(t, conn, "22023", "update contacts set firstname = 'ignored' where id = $1", id)
		exec(t, conn, "set hubpg.on_row_error = 'fail'")
		exec(t, conn, "set hubpg.writes = 'perhaps'")
		refused(t, conn, "22023", "update contacts set firstname = 'perhaps' where id = $1", id)
		exec(t, conn, "set hubpg.writes = 'off'")
		refused(t, conn, "HS010", "update contacts set firstname = 'off' where id = $1", id)
		exec(t, conn, "set hubpg.writes = 'dry_run'")
		if tag := exec(t, conn, "update contacts set firstname = 'dry' where id = $1", id); tag.String() != "UPDATE 1" {
			t.Errorf("%s: dry run: %s", name, tag)
		}
		if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != "Ada" {
			t.Errorf("%s: dry run changed the table to %q", name, got)
		}
		exec(t, conn, "set hubpg.writes = 'on'")
		if got := value[int32](t, conn, "select 1::int4"); got != 1 {
			t.Errorf("%s: the session is lost", name)
		}
	})
	if got := c.hubspot("contacts", id, "firstname"); got != "Ada" {
		t.Errorf("HubSpot has %q", got)
	}
	c.agree("contacts", "firstname")
}

func TestACancelEndsTheWaitForHubSpot(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("slow@example.com")
	conn := c.session(nil)
	c.writer.mu.Lock()
	c.writer.hold, c.writer.entered = make(chan struct{}), make(chan struct{}, 1)
	c.writer.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "update contacts set firstname = 'slow' where id = $1", id)
		done <- err
	}()
	<-c.writer.entered
	if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !isCode(err, "57014") {
		t.Errorf("got %v", err)
	}
	exec(t, conn, "set statement_timeout = '200ms'")
	refused(t, conn, "57014", "update contacts set firstname = 'slow' where id = $1", id)
	c.writer.mu.Lock()
	close(c.writer.hold)
	c.writer.hold, c.writer.entered = nil, nil
	c.writer.mu.Unlock()
	exec(t, conn, "set statement_timeout = 0")
	exec(t, conn, "update contacts set firstname = 'fast' where id = $1", id)
	c.agree("contacts", "firstname")
}

func TestAClientThatVanishesLeavesNothingUnsettled(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("gone@example.com")
	conn := c.session(nil)
	exec(t, conn, "begin")
	exec(t, conn, "update contacts set firstname = 'Left' where id = $1", id)
	if err := conn.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the write is settled", func() bool {
		for _, committed := range c.writer.settlements() {
			return !committed
		}
		return false
	})
	eventually(t, "the table follows HubSpot", func() bool {
		var name string
		err := c.pool.QueryRow(deadline(t), "select firstname from hubspot.contacts where id = $1", id).Scan(&name)
		return err == nil && name == "Left"
	})
}

func TestTablesOfOneselfAreNeverTakenOver(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	conn := c.session(func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["search_path"] = "app" })
	exec(t, conn, "create table app.contacts (id serial, email text)")
	exec(t, conn, "create table app.orders (id serial, email text)")
	for range 3 {
		exec(t, conn, "insert into contacts (email) values ('mine')")
		exec(t, conn, "insert into orders (email) values ($1)", "mine")
	}
	if got := len(c.writer.requests()); got != 0 {
		t.Errorf("%d requests", got)
	}
	if got := value[int64](t, conn, "select max(id) from contacts"); got > 4 {
		t.Errorf("its sequence stands at %d: statements were rehearsed", got)
	}
	if got := value[int64](t, conn, "select max(id) from orders"); got != 3 {
		t.Errorf("its sequence stands at %d: statements were rehearsed", got)
	}
}

func TestWithoutAWriterTheGuardSpeaks(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	r := newRig(t, c.db, nil)
	conn := open(t, r.url(), func(cfg *pgx.ConnConfig) { cfg.User = "app" })
	e := refused(t, conn, "HS001", "insert into hubspot.contacts (email) values ('direct@example.com')")
	if e.Hint == "" {
		t.Error("no hint")
	}
}

func TestLargeStatementsAreWrites(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.each(func(name string, conn *pgx.Conn) {
		var sql strings.Builder
		sql.WriteString("insert into hubspot.contacts (email, firstname) values ")
		for n := range 90 {
			if n > 0 {
				sql.WriteString(", ")
			}
			fmt.Fprintf(&sql, "('%s%d@example.com', '%s')", name, n, strings.Repeat("x", 1000))
		}
		if tag := exec(t, conn, sql.String()); tag.String() != "INSERT 0 90" {
			t.Errorf("%s: %s", name, tag)
		}
		long := strings.Repeat("y", 30000)
		exec(t, conn, "create table app.big (a text, b text, c text)")
		exec(t, conn, "insert into app.big values ($1, $2, $3)", long, long, long)
		exec(t, conn, "insert into app.big values ('"+long+"', '"+long+"', '"+long+"')")
		if got := value[int64](t, conn, "select count(*) from app.big where a = c"); got != 2 {
			t.Errorf("%s: %d large rows", name, got)
		}
		exec(t, conn, "drop table app.big")
	})
	c.agree("contacts", "email")
}
