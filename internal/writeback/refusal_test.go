package writeback_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
)

func TestBadValuesAreRefusedBeforeAnyCall(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.do("update hubspot.contacts set firstname = 'warm'") // definitions are read
	for _, test := range []struct{ code, sql, want, column string }{
		{"428C9", "update hubspot.contacts set hs_object_id = 7", "read-only", "hs_object_id"},
		{"428C9", "update hubspot.contacts set _read_at = now()", "kept by hubpg", "_read_at"},
		{"22P02", "update hubspot.contacts set lifecyclestage = 'customre'", "customer", "lifecyclestage"},
		{"22P02", "insert into hubspot.contacts (email) values ('nobody')", "not an email", "email"},
		{"23502", "insert into hubspot.contacts (phone) values ('1')", "email or firstname or lastname", ""},
		{"23502", "insert into hubspot.deals (amount) values (1)", "dealname", "dealname"},
		{"428C9", "insert into hubspot.contacts (id, email) values (77, 'x@example.com')", "cannot be chosen", "id"},
	} {
		var before int64
		s.writer = a.newWriter()
		s.allow()
		before = a.hub.Stats().ByFamily["write"]
		e := s.refused(test.code, test.sql)
		if e == nil || !strings.Contains(e.Message, test.want) || e.Column != test.column {
			t.Errorf("%s: %+v", test.sql, e)
		}
		if calls := a.hub.Stats().ByFamily["write"] - before; calls != 0 {
			t.Errorf("%s: %d calls", test.sql, calls)
		}
	}
	s.refused("428C9", "update hubspot.contacts set id = 5")
	s.refused("22P02", "update hubspot.deals set amount = 'much'") // by Postgres itself
	s.refused("HS001", "delete from hubspot.owners")
	s.refused("HS001", "insert into hubspot.pipelines (object_table, id) values ('deals', 'x')")
	if got := a.text("select count(*) from hubpg.writes"); got != "1" {
		t.Errorf("%s writes recorded", got)
	}
	a.agree("contacts", "firstname", "lifecyclestage")
	_ = id
}

func TestACustomObjectMustHaveWhatItsSchemaRequires(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	typeID, err := a.hub.AddObjectType(sandbox.SchemaDef{
		Name: "robots", SingularLabel: "Robot", PluralLabel: "Robots", PrimaryDisplayProperty: "serial",
		RequiredProperties: []string{"serial", "model"},
		Properties: []sandbox.PropertyDef{
			{Name: "serial", Label: "Serial", Type: "string", FieldType: "text"},
			{Name: "model", Label: "Model", Type: "string", FieldType: "text"},
			{Name: "note", Label: "Note", Type: "string", FieldType: "text"},
		},
	})
	a.must(err)
	a.mirror(mirror.NewMapper(mirror.MapperConfig{PortalID: portal}), &mirror.ObjectDef{
		ObjectType: typeID, Name: "robots", Singular: "robot", Path: typeID, ModifiedProperty: "hs_lastmodifieddate", Custom: true,
	})
	s := a.session()
	before := a.hub.Stats().ByFamily["write"]
	e := s.refused("23502", "insert into hubspot.robots (serial, note) values ('S1', 'new')")
	if e == nil || e.Column != "model" || e.ID != 0 {
		t.Errorf("refused with %+v", e)
	}
	if calls := a.hub.Stats().ByFamily["write"] - before; calls != 0 {
		t.Errorf("%d calls", calls)
	}
	if res := s.do("insert into hubspot.robots (serial, model) values ('S1', 'M1') returning serial"); res.String() != "S1" {
		t.Errorf("returned %s", res)
	}
	s.do("update hubspot.robots set note = 'used'") // changes need only what they change
	a.agree("robots", "serial", "model", "note")
}

func TestHalfRefusedStatementsFailAndTheTableTellsTheTruth(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one, two := a.contact("one@example.com"), a.contact("two@example.com")
	_, err := a.hub.Create("contacts", map[string]string{"email": "taken@example.com"}) // the table does not know it
	a.must(err)
	stop := a.runWriter()
	defer stop()
	s := a.session()
	e := s.refused("23505", "insert into hubspot.contacts (email) values ('a@example.com'), ('taken@example.com'), ('b@example.com')")
	if !strings.Contains(e.Detail, "contacts row 2") || !strings.Contains(e.Detail, "correlation") || !strings.Contains(e.Detail, "accepted by HubSpot all the same, 2") || e.Hint == "" {
		t.Errorf("%+v", e)
	}
	a.eventually("the accepted rows are in the table", func() bool {
		return a.text("select count(*) from hubspot.contacts where email in ('a@example.com', 'b@example.com')") == "2"
	})
	a.must(a.hub.Archive("contacts", two)) // behind the table's back
	e = s.refused(writeback.CodeGone, "update hubspot.contacts set lastname = 'Moved' where id in ($1, $2)", one, two)
	if !strings.Contains(e.Detail, fmt.Sprintf("contacts %d:", two)) {
		t.Errorf("%+v", e)
	}
	a.eventually("the table follows HubSpot", func() bool {
		return a.text("select lastname from hubspot.contacts where id = $1", one) == "Moved" &&
			a.text("select count(*) from hubspot.contacts where id = $1", two) == "0"
	})
	a.eventually("no write is open", func() bool { return a.text("select count(*) from hubpg.writes where settled_at is null") == "0" })
	a.read("contacts", changes.Follow)
	a.agree("contacts", "email", "lastname")
}

func TestBadRowsCanBeSkipped(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	_, err := a.hub.Create("contacts", map[string]string{"email": "taken@example.com"})
	a.must(err)
	a.read("contacts", changes.Follow)
	s := a.session()
	s.skip = true
	res := s.do("insert into hubspot.contacts (email) values ('a@example.com'), ('taken@example.com'), ('nonsense'), ('b@example.com') returning email")
	if res.String() != "a@example.com\nb@example.com" || res.tag != "INSERT 0 2" {
		t.Errorf("%s: %s", res.tag, res)
	}
	if len(s.notes) != 2 || s.notes[0].Severity != "WARNING" || s.notes[0].Code != "23505" || s.notes[1].Code != "22P02" {
		t.Errorf("notices: %+v", s.notes)
	}
	a.agree("contacts", "email")
}

// TestAStatementFailsThatLeavesOutWhatHubSpotHasAccepted holds that no statement succeeds with fewer rows than HubSpot has
// taken, be it because of a row that was skipped or because of what others have committed meanwhile.
func TestAStatementFailsThatLeavesOutWhatHubSpotHasAccepted(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	_, err := a.hub.Create("contacts", map[string]string{"email": "taken@example.com"})
	a.must(err)
	one, two := a.contact("one@example.com"), a.contact("two@example.com")
	s := a.session()
	fails := func(id int64, sql string, args ...any) {
		t.Helper()
		_, err := s.run(sql, args...)
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || e.Code != "40001" {
			t.Fatalf("%s: %v, want 40001", sql, err)
		}
		if want := fmt.Sprintf("accepted by HubSpot all the same, 1: contacts %d.", id); !strings.HasPrefix(e.Detail, want) {
			t.Errorf("the detail is %q, want %q", e.Detail, want)
		}
		a.agree("contacts", "email", "firstname", "lastname")
	}
	s.skip = true
	const dependent = "with made as (insert into hubspot.contacts (email) values ('taken@example.com') returning id) update hubspot.contacts set lastname = 'Known' where id = $1 and exists (select from made)"
	fails(one, dependent, one)
	if got := a.value("contacts", one, "lastname") + a.text("select lastname from hubspot.contacts where id = $1", one); got != "KnownKnown" {
		t.Errorf("HubSpot and the table have %q", got)
	}
	if res := s.do(dependent, one); res.tag != "UPDATE 0" { // now nothing is to be sent for it
		t.Errorf("repeated, it says %s", res.tag)
	}
	s.skip = false
	rival := a.session()
	meanwhile := func(sql string, args ...any) {
		s.between = func() {
			s.between = nil
			rival.exec("begin")
			rival.do(sql, args...)
			rival.exec("commit")
		}
	}
	meanwhile("delete from hubspot.contacts where id = $1", two)
	fails(two, "update hubspot.contacts set lastname = 'Late' where id in ($1, $2)", one, two)
	rival.ended(true)
	meanwhile("update hubspot.contacts set firstname = 'Rival' where id = $1", one)
	fails(one, "update hubspot.contacts set lastname = 'Later' where firstname = 'Ada' and id = $1", one)
	rival.ended(true)
	if got := a.text("select count(*) from hubpg.writes where settled_at is null"); got != "0" {
		t.Errorf("%s writes are open", got)
	}
}

func TestWholeBatchRefusalsAreSplitUntilTheBadRowIsAlone(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.hub.InjectFault(sandbox.Fault{
		Method: "POST", Path: "batch/create", Kind: sandbox.FaultStatus, Status: 400, Count: 1,
		Body: `{"status":"error","message":"something in here is bad","correlationId":"c-1","category":"VALIDATION_ERROR"}`,
	})
	s := a.session()
	if res := s.do("insert into hubspot.contacts (email) select 'c' || i || '@example.com' from generate_series(1, 5) i returning id"); len(res.rows) != 5 {
		t.Errorf("%d rows", len(res.rows))
	}
	a.agree("contacts", "email")
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.dryRun = true
	writes := a.hub.Stats().ByFamily["write"]
	s.do("update hubspot.contacts set firstname = 'Dry', lifecyclestage = 'customer'")
	if a.hub.Stats().ByFamily["write"] != writes || a.value("contacts", id, "firstname") != "Ada" {
		t.Error("HubSpot was changed")
	}
	if len(s.notes) != 2 || !strings.Contains(s.notes[0].Detail, `firstname = "Dry"`) || !strings.Contains(s.notes[1].Message, "1 row would") {
		t.Errorf("notices: %+v", s.notes)
	}
	s.refused("22P02", "update hubspot.contacts set lifecyclestage = 'x'")
	if got := a.text("select firstname from hubspot.contacts"); got != "Ada" {
		t.Errorf("the row says %s", got)
	}
}

func TestLostAnswersAreFoundOutByReading(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.FaultKind{sandbox.FaultDropAfter, sandbox.FaultCut, sandbox.FaultDrop, sandbox.FaultGatewayTimeout} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			id := a.contact("one@example.com")
			s := a.session()
			fault := func(path string) {
				a.hub.ClearFaults()
				a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: path, Kind: kind, Count: 1})
			}
			fault("batch/create")
			s.do("insert into hubspot.contacts (email, firstname) values ('new@example.com', 'New')")
			fault("batch/update")
			s.do("update hubspot.contacts set firstname = 'Changed' where id = $1", id)
			fault("batch/archive")
			s.do("delete from hubspot.contacts where id = $1", id)
			live := 0
			for _, r := range a.hub.Snapshot("contacts") {
				if !r.Archived {
					live++
				}
			}
			if live != 1 {
				t.Errorf("%d contacts in HubSpot", live)
			}
			a.agree("contacts", "email", "firstname")
		})
	}
}

func TestARollbackLetsTheTableFollowHubSpot(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one, two := a.contact("one@example.com"), a.contact("two@example.com")
	s := a.session()
	s.exec("begin")
	s.do("update hubspot.contacts set firstname = 'Kept' where id = $1", one)
	s.do("delete from hubspot.contacts where id = $1", two)
	s.do("insert into hubspot.contacts (email) values ('three@example.com')")
	s.exec("rollback")
	before := a.newest()
	s.ended(false)
	if got := a.text("select string_agg(email || coalesce(firstname, ''), ',' order by id) from hubspot.contacts"); got != "one@example.comKept,three@example.com" {
		t.Errorf("the table says %s", got)
	}
	a.agree("contacts", "email", "firstname")
	if n := len(a.log(before)); n != 3 {
		t.Errorf("%d events", n)
	}
	if got := a.text("select string_agg(distinct status, ',') from hubpg.writes"); got != "rolled_back" {
		t.Errorf("writes are %s", got)
	}
}

// TestASettlementGivesWay has a client lock two records one after the other, either of them first: in one of the two orders the
// settlement has the second while it waits for the first.
func TestASettlementGivesWay(t *testing.T) {
	t.Parallel()
	for _, first := range []int{0, 1} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			ids := []int64{a.contact("one@example.com"), a.contact("two@example.com")}
			s := a.session()
			s.exec("begin")
			s.do("update hubspot.contacts set firstname = 'Kept' where id = any ($1)", ids)
			s.exec("rollback")
			client, err := a.db.AdminConn(t).Begin(t.Context())
			a.must(err)
			defer func() { _ = client.Rollback(t.Context()) }() // after a commit it does nothing
			const keep = "select from hubspot.contacts where id = $1 for update"
			_, err = client.Exec(t.Context(), keep, ids[first])
			a.must(err)
			settled := make(chan error, 1)
			go func() { settled <- a.writer.Settle(t.Context(), s.open[0], false) }()
			a.waiting("the settlement")
			_, err = client.Exec(t.Context(), keep, ids[1-first])
			a.must(err)
			a.must(client.Commit(t.Context()))
			a.must(<-settled)
			a.agree("contacts", "email", "firstname")
		})
	}
}

func TestACrashLeavesNoWriteUnresolved(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one := a.contact("one@example.com")

	// The proxy dies after HubSpot has accepted, before the client's commit.
	died := a.session()
	died.exec("begin")
	died.do("update hubspot.contacts set firstname = 'Lost' where id = $1", one)
	died.do("insert into hubspot.contacts (email) values ('lost@example.com')")
	// And once more after the commit, before it could settle.
	committed := a.session()
	committed.exec("begin")
	committed.do("insert into hubspot.contacts (email) values ('kept@example.com')")
	committed.exec("commit")
	// And between the intent and HubSpot's answer, which is what an intent without outcome looks like.
	if _, err := a.hub.Create("contacts", map[string]string{"email": "sent@example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.pool.Exec(t.Context(), `insert into hubpg.writes (portal_id, status, role, pid, xid, rows, intent, touched_at)
values ($1, 'intent', 'app', 1, (select xid from hubpg.writes where status = 'accepted' order by xid limit 1), 1,
  '[{"table": "contacts", "op": "insert", "id": -1, "unique": {"property": "email", "value": "sent@example.com"}}]', now())`, portal); err != nil {
		t.Fatal(err)
	}
	a.writer = a.newWriter() // another process
	stop := a.runWriter()
	defer stop()
	a.eventually("the committed write is settled", func() bool {
		return a.text("select count(*) from hubpg.writes where status = 'settled'") == "1"
	})
	if got := a.text("select count(*) from hubpg.writes where settled_at is null"); got != "3" {
		t.Errorf("%s writes are open while the client's transaction is", got)
	}
	a.must(died.conn.PgConn().Conn().Close())
	a.eventually("every write is resolved", func() bool {
		return a.text("select count(*) from hubpg.writes where settled_at is null") == "0"
	})
	a.agree("contacts", "email", "firstname")
	if got := a.text("select firstname from hubspot.contacts where id = $1", one); got != "Lost" {
		t.Errorf("the row says %s", got)
	}
	if got := a.text("select string_agg(status, ',' order by id) from hubpg.writes"); got != "repaired,repaired,settled,repaired" {
		t.Errorf("writes are %s", got)
	}
	events := map[string]int{}
	for _, c := range a.log(0) {
		events[string(c.Op)]++
	}
	if events["insert"] != 4 || events["update"] != 1 {
		t.Errorf("events: %v", events)
	}
}

func TestTheGuardCannotBeSwitchedOff(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	conn := a.connect()
	try := func(code string, sqls ...string) {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		a.must(err)
		defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
		for i, sql := range sqls {
			_, err = tx.Exec(t.Context(), sql)
			if i < len(sqls)-1 && err != nil {
				break
			}
		}
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.Code != code {
			t.Errorf("%v: %v, want %s", sqls, err, code)
		} else if code == "HS001" && !strings.Contains(pg.Hint, "proxy") && !strings.Contains(pg.Hint, "HubSpot") {
			t.Errorf("%v: hint %q", sqls, pg.Hint)
		}
	}
	update := fmt.Sprintf("update hubspot.contacts set firstname = 'x' where id = %d", id)
	try("HS001", update)
	try("HS001", "insert into hubspot.contacts (email) values ('x@example.com')")
	try("HS001", fmt.Sprintf("delete from hubspot.contacts where id = %d", id))
	try("HS001", "insert into hubspot.contacts_companies (contact_id, company_id) values (1, 2)")
	try("HS001", "update hubspot.owners set email = 'x'")
	try("HS001", "set local hubpg.applier = 'on'", update)
	try("HS001", "update hubspot.contacts set firstname = set_config('hubpg.applier', 'on', true)")
	try("HS001", "select set_config('hubpg.write_mode', 'perform', true), set_config('hubpg.write_row', '0', true)", update)
	try("42501", "truncate hubspot.contacts")
	try("42501", "alter table hubspot.contacts disable trigger all")
	try("42501", "set session_replication_role = replica")
	try("42501", "select hubpg.rehearse('"+strings.Repeat("0", 96)+"')")
	try("42501", "select hubpg.perform(null, '[]')")
	try("42501", "select hubpg.write_mode('x', 'perform')")
	try("42501", "insert into hubpg.write_sessions values (pg_backend_pid(), pg_current_xact_id(), 'perform')")
	try("42501", "select key from hubpg.write_secret")
	try("42501", "create table app.t (id bigint)", "create trigger x before insert on app.t for each row execute function hubpg.write_record('1')")
	permit, err := a.writer.Permit(t.Context(), conn.PgConn().PID()+1, "app")
	a.must(err)
	try("42501", "select hubpg.rehearse('"+permit+"')") // another backend's
	if got := a.text("select firstname from hubspot.contacts"); got != "Ada" {
		t.Errorf("the row says %s", got)
	}
}

func TestARehearsalThatIsNotTakenBackIsNotKept(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.contact("one@example.com")
	s := a.session()
	// After its statement a session has no right left, also within the transaction.
	s.exec("begin")
	s.do("update hubspot.contacts set firstname = 'Good'")
	_, err := s.conn.Exec(t.Context(), "update hubspot.contacts set firstname = 'Bad'")
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "HS001" {
		t.Errorf("a statement after the performance: %v", err)
	}
	s.exec("rollback")
	s.ended(false)
	a.agree("contacts", "firstname")
}

// runWriter runs the account's writer until the returned function is called.
func (a *account) runWriter() (stop func()) {
	ctx, cancel := context.WithCancel(a.t.Context())
	done := make(chan error, 1)
	w := a.writer
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Error(err)
		}
	}
}

// eventually polls until the condition holds.
func (a *account) eventually(what string, holds func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("never: %s", what)
		}
	}
}

func TestAMissingScopeIsToldWithItsRemedyAndRemembered(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.contact("one@example.com")
	a.hub.WithholdScopes("crm.objects.contacts.write")
	s := a.session()
	e := s.refused("42501", "update hubspot.contacts set firstname = 'x'")
	if !strings.Contains(e.Hint, "crm.objects.contacts.write") {
		t.Errorf("hint: %q", e.Hint)
	}
	before := a.hub.Stats().ByFamily["write"]
	if again := s.refused("42501", "delete from hubspot.contacts"); again.ID != 0 || a.hub.Stats().ByFamily["write"] != before {
		t.Errorf("%+v after %d calls", again, a.hub.Stats().ByFamily["write"]-before)
	}
	a.agree("contacts", "firstname")
}
