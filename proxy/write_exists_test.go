package proxy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// unseen makes a contact in HubSpot that the table does not know.
func (c *crm) unseen(email string) int64 {
	c.t.Helper()
	id, err := c.hub.Create("contacts", map[string]string{"email": email, "firstname": "Ada"})
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// upsert is the statement of a first log-in.
const upsert = "insert into contacts (email, firstname) values ($1, $2) on conflict (email) do update set firstname = excluded.firstname returning id, firstname"

func TestOnConflictFindsWhatOnlyHubSpotHas(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	c.each(func(name string, conn *pgx.Conn) {
		email := name + "@example.com"
		id := c.unseen(email)
		var got int64
		var first string
		if err := conn.QueryRow(deadline(t), upsert, email, name).Scan(&got, &first); err != nil || got != id || first != name {
			t.Errorf("%s: do update returned %d %q, want %d: %v", name, got, first, id, err)
		}
		if got := c.hubspot("contacts", id, "firstname"); got != name {
			t.Errorf("%s: HubSpot has %q", name, got)
		}

		id = c.unseen("nothing-" + email)
		if tag := exec(t, conn, "insert into contacts (email, firstname) values ($1, 'Never') on conflict do nothing", "nothing-"+email); tag.String() != "INSERT 0 0" {
			t.Errorf("%s: do nothing: tag %q", name, tag)
		}
		if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != "Ada" {
			t.Errorf("%s: the table has %q", name, got)
		}

		if c.merges() {
			id = c.unseen("merge-" + email)
			tag := exec(t, conn, `merge into contacts c using (values ($1)) v (email) on c.email = v.email
when matched then update set firstname = 'Merged' when not matched then insert (email) values (v.email)`, "merge-"+email)
			if got := c.hubspot("contacts", id, "firstname"); tag.String() != "MERGE 1" || got != "Merged" {
				t.Errorf("%s: merge: tag %q, HubSpot has %q", name, tag, got)
			}
		}

		c.unseen("plain-" + email)
		e := refused(t, conn, "23505", "insert into contacts (email) values ($1)", "plain-"+email)
		if e.ConstraintName == "" || conn.PgConn().TxStatus() != 'I' {
			t.Errorf("%s: not by the table's index: %+v", name, e)
		}

		// In a transaction, after a statement that has written.
		id = c.unseen("tx-" + email)
		exec(t, conn, "begin")
		exec(t, conn, "insert into contacts (email) values ($1)", "other-"+email)
		if err := conn.QueryRow(deadline(t), upsert, "tx-"+email, "Tx").Scan(&got, &first); err != nil || got != id || first != "Tx" {
			t.Errorf("%s: in a transaction: %d %q, want %d: %v", name, got, first, id, err)
		}
		exec(t, conn, "commit")
		if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != "Tx" {
			t.Errorf("%s: after the commit the table has %q", name, got)
		}
	})
	c.agree("contacts", "firstname")
	// Of both attempts hubpg.writes has the refusal with the record that was met, and what came of it.
	var attempts string
	eventually(t, "every second attempt is settled", func() bool {
		err := c.pool.QueryRow(deadline(t), `
select string_agg(distinct concat_ws(' ', f.status, s.status, f.error like 'Contact already exists%', s.pid = f.pid and s.statement = f.statement), '; ')
from hubpg.writes f
left join hubpg.writes s on s.outcome -> 0 ->> 'id' = f.outcome -> 0 ->> 'exists'
where f.intent -> 0 ->> 'op' = 'insert' and f.statement like '%do update%' and f.outcome -> 0 ? 'exists'`).Scan(&attempts)
		return err == nil && attempts == "repaired settled t t"
	})
}

func TestCopyFindsWhatOnlyHubSpotHas(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	conn := c.session(nil)
	c.unseen("copied@example.com")
	_, err := conn.CopyFrom(deadline(t), pgx.Identifier{"contacts"}, []string{"email"}, pgx.CopyFromRows([][]any{{"copied@example.com"}}))
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23505" || e.ConstraintName == "" {
		t.Errorf("got %v", err)
	}
	if got := value[int32](t, conn, "select 1"); got != 1 {
		t.Error("the session is lost")
	}
	c.agree("contacts", "email")
}

func TestOneSnapshotCannotShowWhatOnlyHubSpotHad(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	c.each(func(name string, conn *pgx.Conn) {
		for _, level := range []string{"repeatable read", "serializable"} {
			email := name + level[:1] + "@example.com"
			id := c.unseen(email)
			exec(t, conn, "begin isolation level "+level)
			refused(t, conn, "40001", upsert, email, "Late")
			if conn.PgConn().TxStatus() != 'E' {
				t.Errorf("%s: status %c", level, conn.PgConn().TxStatus())
			}
			exec(t, conn, "rollback")
			exec(t, conn, "begin isolation level "+level) // the repetition that 40001 asks for
			exec(t, conn, upsert, email, "Seen")
			exec(t, conn, "commit")
			if got := c.hubspot("contacts", id, "firstname"); got != "Seen" {
				t.Errorf("%s: HubSpot has %q", level, got)
			}
		}
	})
	c.agree("contacts", "firstname")
}

// TestWhatIsInTheWayOfSomeRowsIsStored holds that a statement of which HubSpot has taken some rows is not attempted again
// by itself, and that its repetition succeeds.
func TestWhatIsInTheWayOfSomeRowsIsStored(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	c.runWriter()
	conn := c.session(nil)
	const several = `insert into contacts (email, firstname) values ('a@example.com', 'New'), ('there@example.com', 'New'), ('b@example.com', 'New')
on conflict (email) do update set firstname = excluded.firstname`
	id := c.unseen("there@example.com")
	before := len(c.writer.requests())
	refused(t, conn, "23505", several)
	if got := len(c.writer.requests()) - before; got != 1 {
		t.Errorf("%d attempts", got)
	}
	inTable := func(want int64) {
		t.Helper()
		eventually(t, "the table follows HubSpot", func() bool { return value[int64](t, conn, "select count(*) from contacts") == want })
	}
	inTable(3)
	if tag := exec(t, conn, several); tag.String() != "INSERT 0 3" {
		t.Errorf("tag %q", tag)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "New" {
		t.Errorf("HubSpot has %q", got)
	}

	// All of several rows, of which some are in the table.
	id = c.unseen("other@example.com")
	if tag := exec(t, conn, `insert into contacts (email, firstname) values ('other@example.com', 'All'), ('a@example.com', 'New')
on conflict (email) do update set firstname = excluded.firstname`); tag.String() != "INSERT 0 2" || c.hubspot("contacts", id, "firstname") != "All" {
		t.Errorf("tag %q, HubSpot has %q", tag, c.hubspot("contacts", id, "firstname"))
	}

	// Skipped rows stay skipped, and the records in their way come.
	id = c.unseen("skip@example.com")
	exec(t, conn, "set hubpg.on_row_error = 'skip'")
	if tag := exec(t, conn, "insert into contacts (email, firstname) values ('skip@example.com', 'Skip'), ('c@example.com', 'Skip') on conflict (email) do update set firstname = excluded.firstname"); tag.String() != "INSERT 0 1" {
		t.Errorf("tag %q", tag)
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "Ada" {
		t.Errorf("HubSpot has %q", got)
	}
	inTable(6)
	c.agree("contacts", "firstname")
}

// TestWhatIsInTheWayMayVanish holds that a statement is attempted twice and no more, whatever has become of the record.
func TestWhatIsInTheWayMayVanish(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	conn := c.session(nil)
	id := c.unseen("archived@example.com")
	c.writer.settling(func() {
		if err := c.hub.Archive("contacts", id); err != nil {
			t.Error(err)
		}
	})
	var made int64
	var first string
	if err := conn.QueryRow(deadline(t), upsert, "archived@example.com", "Again").Scan(&made, &first); err != nil || made == id || first != "Again" {
		t.Errorf("returned %d %q: %v", made, first, err)
	}
	c.writer.settling(nil)
	c.agree("contacts", "email")

	// The address lives on as the second one of another record, which the table has no index for.
	into, other := c.unseen("winner@example.com"), c.unseen("loser@example.com")
	if _, err := c.hub.Merge("contacts", into, other); err != nil {
		t.Fatal(err)
	}
	before := len(c.writer.requests())
	e := refused(t, conn, "23505", upsert, "loser@example.com", "Never")
	if got := len(c.writer.requests()) - before; got != 2 || e.ConstraintName != "" || e.Hint == "" {
		t.Errorf("%d attempts: %+v", got, e)
	}

	c.agree("contacts", "email")
	c.settledAll()
}

// TestOnConflictTakesAnyLetterCase holds that an address conflicts with itself in another letter case, as in HubSpot, whether
// the table knows its contact or HubSpot alone does, and that this costs the calls of any other upsert.
func TestOnConflictTakesAnyLetterCase(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	known := func(email string) int64 { return c.contact(email) }
	c.each(func(name string, conn *pgx.Conn) {
		for place, test := range map[string]struct {
			make     func(string) int64
			attempts int
		}{"table": {known, 1}, "hubspot": {c.unseen, 2}} {
			email := func(kind string) string { return kind + "-" + name + "-" + place + "@example.com" }
			other := func(kind string) string { return strings.ToUpper(kind) + "-" + name + "-" + place + "@Example.COM" }
			id := test.make(email("update"))
			before := len(c.writer.requests())
			var got int64
			var first string
			if err := conn.QueryRow(deadline(t), upsert, other("update"), name).Scan(&got, &first); err != nil || got != id || first != name {
				t.Errorf("%s, %s: do update returned %d %q, want %d: %v", name, place, got, first, id, err)
			}
			if n := len(c.writer.requests()) - before; n != test.attempts {
				t.Errorf("%s, %s: %d attempts", name, place, n)
			}
			if got := c.hubspot("contacts", id, "email"); got != email("update") {
				t.Errorf("%s, %s: HubSpot has the address %q", name, place, got)
			}
			id = test.make(email("nothing"))
			if tag := exec(t, conn, "insert into contacts (email, firstname) values ($1, 'Never') on conflict (email) do nothing", other("nothing")); tag.String() != "INSERT 0 0" {
				t.Errorf("%s, %s: do nothing: tag %q", name, place, tag)
			}
			if got := c.hubspot("contacts", id, "firstname"); got != "Ada" {
				t.Errorf("%s, %s: do nothing changed %q", name, place, got)
			}
			test.make(email("plain"))
			if e := refused(t, conn, "23505", "insert into contacts (email) values ($1)", other("plain")); e.ConstraintName == "" {
				t.Errorf("%s, %s: not by the table's index: %+v", name, place, e)
			}
		}
		if got := value[string](t, conn, "insert into contacts (email) values ($1) returning email", "New-"+name+"@Example.com"); got != "new-"+name+"@example.com" {
			t.Errorf("%s: a new address became %q", name, got)
		}
	})
	// The column may have another name.
	c.exec("alter table hubspot.contacts rename column email to mail_address")
	c.exec("update hubpg.columns set column_name = 'mail_address' where table_name = 'contacts' and property = 'email'")
	c.exec("update hubpg.objects set catalog_version = catalog_version + 1 where table_name = 'contacts'")
	id := c.unseen("renamed@example.com")
	conn := c.session(nil)
	if got := value[int64](t, conn, "insert into contacts (mail_address, firstname) values ('Renamed@example.com', 'New') on conflict (mail_address) do update set firstname = excluded.firstname returning id"); got != id {
		t.Errorf("renamed: %d, want %d", got, id)
	}
	c.settledAll()
}

// TestAnUpsertCostsFewCallsAndMakesNothingTwice holds what an INSERT … ON CONFLICT asks of HubSpot. A record that HubSpot alone
// has costs two calls more than one that the table knows: the refused creation, and reading the record. SET works with what
// the record has, which only then is known.
func TestAnUpsertCostsFewCallsAndMakesNothingTwice(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	conn := c.session(nil)
	const (
		add     = "insert into contacts (email, firstname) values ($1, 'New') on conflict (email) do update set firstname = contacts.firstname || '+' returning firstname"
		nothing = "insert into contacts (email, firstname) values ($1, 'New') on conflict (email) do nothing returning firstname"
	)
	nowhere := func(string) int64 { return 0 }
	exec(t, conn, "insert into contacts (email) values ('first@example.com')") // reads the definitions
	for _, test := range []struct {
		name, sql, want string
		make            func(string) int64
		calls           int64
	}{
		{"new", add, "New", nowhere, 2},             // create, read back
		{"known", add, "Ada+", c.contact, 2},        // update, read back
		{"unseen", add, "Ada+", c.unseen, 4},        // create in vain, read, update, read back
		{"new-0", nothing, "New", nowhere, 2},       // create, read back
		{"known-0", nothing, "", c.contact, 0},      //
		{"unseen-0", nothing, "", c.unseen, 2},      // create in vain, read
		{"Unseen-Case", add, "Ada+", c.unseen, 4},   // as any other
		{"Known-Case-0", nothing, "", c.contact, 0}, //
	} {
		email := test.name + "@example.com"
		test.make(strings.ToLower(email))
		before := c.wire.calls.Load()
		var got string
		if err := conn.QueryRow(deadline(t), test.sql, email).Scan(&got); err != nil && !errors.Is(err, pgx.ErrNoRows) || got != test.want {
			t.Errorf("%s: returned %q, want %q: %v", test.name, got, test.want, err)
		}
		if n := c.wire.calls.Load() - before; n != test.calls {
			t.Errorf("%s: %d calls, want %d", test.name, n, test.calls)
		}
		holders := 0
		for _, r := range c.hub.Snapshot("contacts") {
			if r.Properties["email"] == strings.ToLower(email) {
				holders++
			}
		}
		if holders != 1 {
			t.Errorf("%s: %d records have the address", test.name, holders)
		}
	}
	c.agree("contacts", "firstname")
	c.settledAll()
}

// exec runs a statement as the owner of the tables.
func (c *crm) exec(sql string) {
	c.t.Helper()
	if _, err := c.pool.Exec(c.t.Context(), sql); err != nil {
		c.t.Fatal(err)
	}
}

// settledAll waits until no write is open.
func (c *crm) settledAll() {
	c.t.Helper()
	eventually(c.t, "no write is open", func() bool {
		var open int
		return c.pool.QueryRow(deadline(c.t), "select count(*) from hubpg.writes where settled_at is null").Scan(&open) == nil && open == 0
	})
}

// TestOnConflictFindsAnOlderVersion holds that a row which has not its new address yet is brought up to date, unless the
// client's own transaction keeps it from that.
func TestOnConflictFindsAnOlderVersion(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	conn := c.session(nil)
	id := c.contact("one@example.com")
	moves := func(email string) {
		t.Helper()
		if err := c.hub.Update("contacts", id, map[string]string{"email": email}); err != nil {
			t.Fatal(err)
		}
	}
	moves("two@example.com")
	exec(t, conn, upsert, "two@example.com", "Two")
	if got := c.hubspot("contacts", id, "firstname"); got != "Two" {
		t.Errorf("HubSpot has %q", got)
	}
	moves("three@example.com")
	exec(t, conn, "begin")
	exec(t, conn, "select from contacts where id = $1 for update", id)
	e := refused(t, conn, "23505", upsert, "three@example.com", "Three")
	if e.ConstraintName != "" || conn.PgConn().TxStatus() != 'E' {
		t.Errorf("%+v", e)
	}
	exec(t, conn, "rollback")
	exec(t, conn, upsert, "three@example.com", "Three")
	if got := c.hubspot("contacts", id, "firstname"); got != "Three" {
		t.Errorf("HubSpot has %q", got)
	}
	c.agree("contacts", "email")
	c.settledAll()
}

// TestTheWaitBetweenAttemptsEnds holds that a cancel, a timeout and a client that vanishes end a statement between its
// attempts, which then has no second one.
func TestTheWaitBetweenAttemptsEnds(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	entered, hold := make(chan struct{}, 2), make(chan struct{})
	c.writer.settling(func() {
		entered <- struct{}{}
		<-hold
	})
	conn := c.session(nil)
	c.unseen("cancel@example.com")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), upsert, "cancel@example.com", "Never")
		done <- err
	}()
	<-entered
	if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if err := <-done; !isCode(err, "57014") {
		t.Errorf("after a cancel: %v", err)
	}
	if got := len(c.writer.requests()); got != 1 {
		t.Errorf("%d attempts", got)
	}
	c.writer.settling(func() { time.Sleep(3500 * time.Millisecond) }) // the first attempt is over within the timeout, on a busy machine too
	c.unseen("timeout@example.com")
	exec(t, conn, "set statement_timeout = '3s'")
	refused(t, conn, "57014", upsert, "timeout@example.com", "Never")
	exec(t, conn, "set statement_timeout = 0")
	c.writer.settling(nil)
	exec(t, conn, upsert, "timeout@example.com", "Now")
	exec(t, conn, upsert, "cancel@example.com", "Now")

	c.settledAll() // else it is one of the writes before that arrives
	id := c.unseen("gone@example.com")
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	c.writer.settling(func() { arrived <- struct{}{}; <-release })
	go func() {
		_, err := conn.Exec(context.Background(), upsert, "gone@example.com", "Left")
		done <- err
	}()
	<-arrived
	if err := conn.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	c.writer.settling(nil)
	close(release)
	if err := <-done; err == nil {
		t.Error("a client that has gone was answered")
	}
	eventually(t, "the record is in the table", func() bool {
		var n int
		return c.pool.QueryRow(deadline(t), "select count(*) from hubspot.contacts where id = $1", id).Scan(&n) == nil && n == 1
	})
	c.settledAll()
	c.agree("contacts", "firstname")
}
