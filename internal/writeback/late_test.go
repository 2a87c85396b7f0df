package writeback_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"

	"github.com/jackc/pgx/v5"
)

// linked is a contact with a company, to which it has the plain association and that of its primary company.
func linked(t *testing.T) (a *account, s *session, contact, company int64) {
	t.Helper()
	a = newAccount(t)
	contact = a.contact("one@example.com")
	company, err := a.hub.Create("companies", map[string]string{"name": "Acme"})
	a.must(err)
	a.read("companies", changes.Follow)
	s = a.session()
	s.do("insert into hubspot.contacts_companies (contact_id, company_id, label) values ($1, $2, 'Primary')", contact, company)
	return a, s, contact, company
}

// edges reads the associations of a contact as a poll would; keep stores them later.
func (a *account) edges(contact int64) *mirror.AssociationBatch {
	a.t.Helper()
	page, err := a.client.BatchReadAssociations(a.t.Context(), a.pair.A.Path, a.pair.B.Path, []hubapi.AssociationInput{{ID: contact}})
	a.must(err)
	b := &mirror.AssociationBatch{Pair: a.pair, From: []int64{contact}, ReadAt: page.ReadAt, Source: changes.Follow}
	for _, r := range page.Results {
		for _, to := range r.To {
			for _, t := range to.Types {
				b.Edges = append(b.Edges, mirror.Edge{A: r.FromID, B: to.ToID, TypeID: t.TypeID, Category: t.Category, Label: t.Label})
			}
		}
	}
	return b
}

func (a *account) keep(b *mirror.AssociationBatch) error {
	return pgx.BeginFunc(a.t.Context(), a.pool, func(tx pgx.Tx) error {
		_, err := a.applier.Associate(a.t.Context(), tx, b)
		return err
	})
}

const edgeTypes = "select string_agg(type_id::text, ',' order by type_id) from hubspot.contacts_companies"

// TestALateReadBringsNoAssociationBack holds that associations which were read before a client took one away do not
// bring it back when they are stored afterwards: neither a label nor all of it.
func TestALateReadBringsNoAssociationBack(t *testing.T) {
	t.Parallel()
	a, s, contact, _ := linked(t)
	s.exec("begin") // the writer looks after it when it ends: until then nobody puts right what a late read does
	late := a.edges(contact)
	s.do("delete from hubspot.contacts_companies where label = 'Primary'")
	s.exec("commit")
	a.must(a.keep(late))
	if got := a.text(edgeTypes); got != "279" {
		t.Errorf("after a label went, a late read left types %s", got)
	}
	s.ended(true)
	s.exec("begin")
	late = a.edges(contact)
	s.do("delete from hubspot.contacts_companies")
	s.exec("commit")
	a.must(a.keep(late))
	if got := a.text(edgeTypes); got != "<null>" {
		t.Errorf("after the association went, a late read left types %s", got)
	}
	s.ended(true)
	// What is read afterwards counts.
	s.do("insert into hubspot.contacts_companies (contact_id, company_id) select $1, id from hubspot.companies", contact)
	if got := a.text(edgeTypes); got != "279" {
		t.Errorf("associated again, types %s", got)
	}
}

// TestAReadWhileAnAssociationIsTakenAwayBringsNothingBack is the same for a read that HubSpot answered after the call had
// been sent and before it took effect.
func TestAReadWhileAnAssociationIsTakenAwayBringsNothingBack(t *testing.T) {
	t.Parallel()
	a, s, contact, _ := linked(t)
	var late *mirror.AssociationBatch
	meet := func(r *http.Request) {
		if late == nil && strings.Contains(r.URL.Path, "/labels/archive") {
			late = &mirror.AssociationBatch{} // the read arrives here too
			late = a.edges(contact)
		}
	}
	a.arrives.Store(&meet)
	s.exec("begin")
	s.do("delete from hubspot.contacts_companies where label = 'Primary'")
	s.exec("commit")
	if late == nil || len(late.Edges) != 2 {
		t.Fatalf("no read came between: %v", late)
	}
	a.must(a.keep(late))
	if got := a.text(edgeTypes); got != "279" {
		t.Errorf("a read under way left types %s", got)
	}
	s.ended(true)
}

// TestAReadWhileARecordIsArchivedDoesNotBringItBack is the same for records.
func TestAReadWhileARecordIsArchivedDoesNotBringItBack(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	var late *mirror.Batch
	meet := func(r *http.Request) {
		if late == nil && strings.Contains(r.URL.Path, "/contacts/batch/archive") {
			late = &mirror.Batch{}
			late = a.page("contacts", id)
		}
	}
	a.arrives.Store(&meet)
	s.do("delete from hubspot.contacts where id = $1", id)
	if late == nil || len(late.Rows) != 1 {
		t.Fatalf("no read came between: %v", late)
	}
	a.store("contacts", late)
	if got := a.text("select count(*) from hubspot.contacts"); got != "0" {
		t.Error("a read under way brought the record back")
	}
}

// TestALateReadWaitsForATransactionThatTookAnAssociationAway holds the same while the client has yet to commit.
func TestALateReadWaitsForATransactionThatTookAnAssociationAway(t *testing.T) {
	t.Parallel()
	a, s, contact, _ := linked(t)
	late := a.edges(contact)
	s.exec("begin")
	s.do("delete from hubspot.contacts_companies where label = 'Primary'")
	stored := make(chan error, 1)
	go func() { stored <- a.keep(late) }()
	a.waiting("the late read")
	s.exec("commit")
	if err := <-stored; err != nil {
		t.Log(err) // waiting too long, it comes again later
	}
	if got := a.text(edgeTypes); got != "279" {
		t.Errorf("a late read left types %s", got)
	}
	s.ended(true)
}

// waiting returns once a session waits for a lock.
func (a *account) waiting(what string) {
	a.t.Helper()
	const locks = "select count(*) from pg_locks join pg_stat_activity using (pid) where datname = current_database() and not granted"
	for end := time.Now().Add(30 * time.Second); a.text(locks) == "0"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			a.t.Fatalf("%s does not wait", what)
		}
	}
}

// TestWritersAndAppliersTakeTablesInOneOrder holds that a statement on several tables does not keep an association table
// while it waits for a table of records: whoever removes records has that one first.
func TestWritersAndAppliersTakeTablesInOneOrder(t *testing.T) {
	t.Parallel()
	a, s, contact, company := linked(t)
	tx, err := a.pool.Begin(t.Context())
	a.must(err)
	defer func() { _ = tx.Rollback(t.Context()) }() // after a commit it does nothing
	for _, table := range []string{"companies", "contacts"} {
		a.must(a.applier.Lock(t.Context(), tx, "hubspot", table))
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := s.run(`with c as (update hubspot.companies set name = 'Both' where id = $1), d as (delete from hubspot.contacts_companies where label = 'Primary')
update hubspot.contacts set firstname = 'Both' where id = $2`, company, contact)
		wrote <- err
	}()
	a.waiting("the statement")
	if got := a.text(`select count(*) from pg_locks l join hubpg.objects o on o.lock_key = (l.classid::bigint << 32 | l.objid::bigint)
where l.locktype = 'advisory' and l.granted and l.mode = 'ShareLock' and o.kind = 'association' and l.database = (select d.oid from pg_database d where d.datname = current_database())`); got != "0" {
		t.Errorf("it keeps %s association tables", got)
	}
	_, err = a.applier.Delete(t.Context(), tx, a.tables["contacts"], []int64{1}, time.Now(), changes.Delete, changes.Sweep)
	a.must(err)
	a.must(tx.Commit(t.Context()))
	a.must(<-wrote)
	if got := a.value("contacts", contact, "firstname"); got != "Both" {
		t.Errorf("HubSpot has %q", got)
	}
}

// TestATransactionIsNotLostToAnApplier holds that a transaction whose row an applier waits for goes on: the applier has
// the table, which the next statement waits for.
func TestATransactionIsNotLostToAnApplier(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one, two := a.contact("one@example.com"), a.contact("two@example.com")
	s := a.session()
	s.exec("begin")
	s.do("update hubspot.contacts set firstname = 'First' where id = $1", one)
	page := a.page("contacts", one)
	stored := make(chan error, 1)
	go func() {
		stored <- pgx.BeginFunc(t.Context(), a.pool, func(tx pgx.Tx) error {
			_, err := a.applier.Upsert(t.Context(), tx, page)
			return err
		})
	}()
	a.waiting("the applier")
	time.Sleep(1200 * time.Millisecond) // by now the applier has looked for a deadlock, and found none: the client would be the one to lose
	s.do("update hubspot.contacts set firstname = 'Second' where id = $1", two)
	s.exec("commit")
	s.ended(true)
	if err := <-stored; err == nil {
		t.Error("the applier got the row")
	}
	a.agree("contacts", "firstname")
}

// What a foreign key would say of an end that is not there, HubSpot says of an association.
func TestAnAssociationNeedsBothItsRecords(t *testing.T) {
	t.Parallel()
	a, s, contact, company := linked(t)
	s.do("delete from hubspot.contacts_companies")
	for _, insert := range []string{
		"insert into hubspot.contacts_companies (contact_id, company_id) values ($1, $2)",
		"insert into hubspot.contacts_companies (contact_id, company_id, label) values ($1, $2, 'Primary')",
	} {
		for _, ends := range [][2]int64{{contact, 424242}, {424242, company}} {
			e := s.refused("23503", insert, ends[0], ends[1])
			if e.Hint == "" || !strings.Contains(e.Message, "424242") {
				t.Errorf("%v: %s (%s)", ends, e.Message, e.Hint)
			}
			a.must(a.writer.Settle(t.Context(), e.ID, false))
		}
	}
	if n := len(a.hub.Edges("contacts", "companies")); n != 0 || a.text("select count(*) from hubspot.contacts_companies") != "0" {
		t.Errorf("%d associations are in HubSpot", n)
	}
	if got := a.text("select count(*) from hubpg.writes where settled_at is null"); got != "0" {
		t.Errorf("%s writes are not settled", got)
	}
}
