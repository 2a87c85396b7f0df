package writeback_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
)

func TestAnInsertReturnsWhatHubSpotMadeOfIt(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	s := a.session()
	res := s.do("insert into hubspot.contacts (email, firstname) values ('Ada@Example.com', 'Ada'), ($1, null) returning id, email, lifecyclestage, created_at is not null", "bob@example.com")
	if len(res.rows) != 2 || res.tag != "INSERT 0 2" {
		t.Fatalf("%s: %v", res.tag, res.rows)
	}
	for i, email := range []string{"ada@example.com", "bob@example.com"} {
		row := res.rows[i]
		id, ok := row[0].(int64)
		if !ok || id <= 0 || row[3] != true {
			t.Errorf("row %v", row)
		}
		if got := a.value("contacts", id, "email"); !strings.EqualFold(got, email) || row[1] != got {
			t.Errorf("HubSpot has %q, the client saw %v", got, row[1])
		}
		if row[2] != a.value("contacts", id, "lifecyclestage") {
			t.Errorf("lifecycle stage is %v, HubSpot has %q", row[2], a.value("contacts", id, "lifecyclestage"))
		}
	}
	a.agree("contacts", "email", "firstname", "lifecyclestage")
	log := a.log(0)
	if len(log) != 2 || log[0].Op != changes.Insert || log[0].Source != changes.Write || !strings.Contains(string(log[0].After), "firstname") {
		t.Errorf("log: %+v", log)
	}
	if got := a.text("select status || calls from hubpg.writes"); got != "settled2" {
		t.Errorf("the write is %s", got)
	}
}

func TestAnUpdateChangesHubSpotAndTheRow(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one, two := a.contact("one@example.com"), a.contact("two@example.com")
	before := a.newest()
	s := a.session()
	res := s.do("update hubspot.contacts set firstname = upper(firstname), lastname = 'Lovelace' where email like '%@example.com' returning id, firstname, updated_at, lastmodifieddate")
	if len(res.rows) != 2 || res.rows[0][1] != "ADA" || res.rows[0][2] != res.rows[0][3] {
		t.Errorf("returned %s", res)
	}
	for _, id := range []int64{one, two} {
		if got := a.value("contacts", id, "firstname") + " " + a.value("contacts", id, "lastname"); got != "ADA Lovelace" {
			t.Errorf("HubSpot has %q", got)
		}
	}
	a.agree("contacts", "firstname", "lastname")
	log := a.log(before)
	if len(log) != 2 || log[0].Source != changes.Write || log[0].Op != changes.Update ||
		!cmp.Equal(log[0].Changed[:1], []string{"firstname"}) && !cmp.Equal(log[0].Changed[:1], []string{"lastname"}) {
		t.Errorf("log: %+v", log)
	}
	// The echo: a poll that sees the write makes no second event.
	echo := a.read("contacts", changes.Follow)
	if echo.Events != 0 {
		t.Errorf("the echo made %d events: %+v", echo.Events, a.log(before)[2:])
	}
}

func TestADeletionTakesAssociationsAlong(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	company, err := a.hub.Create("companies", map[string]string{"name": "Acme"})
	a.must(err)
	a.read("companies", changes.Follow)
	s := a.session()
	s.do("insert into hubspot.contacts_companies (contact_id, company_id) values ($1, $2)", id, company)
	if n := len(a.hub.Edges("contacts", "companies")); n != 1 {
		t.Fatalf("%d associations in HubSpot", n)
	}
	before := a.newest()
	if res := s.do("delete from hubspot.contacts where id = $1 returning email", id); res.String() != "one@example.com" {
		t.Errorf("returned %s", res)
	}
	if got := a.value("contacts", id, "email"); got != "<none>" {
		t.Error("HubSpot still has it")
	}
	if got := a.text("select count(*) from hubspot.contacts_companies"); got != "0" {
		t.Errorf("%s associations stay", got)
	}
	a.agree("contacts")
	var ops []string
	for _, c := range a.log(before) {
		ops = append(ops, string(c.Op)+" "+string(c.Source))
	}
	if diff := cmp.Diff([]string{"delete write", "dissociate write"}, ops); diff != "" {
		t.Error(diff)
	}
	if got := a.text("select count(*) from hubpg.tombstones where table_name = 'contacts'"); got != "1" {
		t.Errorf("%s tombstones", got)
	}
}

func TestStatementFormsAreNotRewritten(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one := a.contact("one@example.com")
	s := a.session()
	s.exec("create table app.orders (contact_id bigint, amount numeric)")
	s.exec("insert into app.orders values ($1, 12.5)", one)
	s.exec(`create function app.sign_up(address text) returns bigint language plpgsql as $$
declare made bigint;
begin
  insert into hubspot.contacts (email) values (address) returning id into made;
  update hubspot.contacts set lastname = 'Signed' where id = made;
  return made;
end $$`)

	s.do("update hubspot.contacts c set annualrevenue = o.amount from app.orders o where o.contact_id = c.id")
	if got := a.value("contacts", one, "annualrevenue"); got != "12.5" {
		t.Errorf("update from: HubSpot has %q", got)
	}
	res := s.do(`with made as (insert into hubspot.companies (name) values ('Acme') returning id),
linked as (insert into hubspot.contacts_companies (contact_id, company_id) select $1, id from made returning company_id, type_id)
select made.id, linked.company_id, linked.type_id from made, linked`, one)
	if len(res.rows) != 1 || res.rows[0][0] != res.rows[0][1] || res.rows[0][2] != int32(279) {
		t.Errorf("cte: %s", res)
	}
	if edges := a.hub.Edges("contacts", "companies"); len(edges) != 1 || edges[0].From != one || edges[0].To != res.rows[0][0] {
		t.Errorf("cte: HubSpot has %+v", edges)
	}
	res = s.do("insert into hubspot.contacts (id, email, firstname) values ($1, 'x@example.com', 'Upserted') on conflict (id) do update set firstname = excluded.firstname returning id, email, firstname", one)
	if res.String() != fmt.Sprintf("%d one@example.com Upserted", one) {
		t.Errorf("on conflict: %s", res)
	}
	res = s.do("select app.sign_up('two@example.com')")
	id, _ := res.rows[0][0].(int64)
	if got := a.value("contacts", id, "email") + " " + a.value("contacts", id, "lastname"); got != "two@example.com Signed" {
		t.Errorf("function: HubSpot has %q", got)
	}
	// Changes that change nothing, between and after others of their record.
	s.exec(`create function app.again(address text) returns text language plpgsql as $$
declare made bigint; seen text;
begin
  insert into hubspot.contacts (email, firstname) values (address, 'One') returning id into made;
  update hubspot.contacts set firstname = 'One' where id = made;
  update hubspot.contacts set firstname = 'Two' where id = made;
  update hubspot.contacts set firstname = 'Two' where id = made returning firstname || (id > 0) into seen;
  return seen;
end $$`)
	s.exec("begin")
	if res = s.do("select app.again('again@example.com')"); res.String() != "Twotrue" {
		t.Errorf("changes of one record: %s", res)
	}
	if res, err := s.plain(t.Context(), "select firstname from hubspot.contacts where email = 'again@example.com'", nil); err != nil || res.String() != "Two" {
		t.Errorf("changes of one record: %v %v", res, err)
	}
	s.exec("commit")
	s.ended(true)
	if a.text("select current_setting('server_version_num')::int >= 150000") == "true" { // older ones have no MERGE
		res = s.do(`merge into hubspot.contacts c using (values ('one@example.com', 'Merged'), ('three@example.com', 'Fresh')) v(email, name) on v.email = c.email
when matched then update set lastname = v.name when not matched then insert (email, lastname) values (v.email, v.name)`)
		if res.tag != "MERGE 2" || a.value("contacts", one, "lastname") != "Merged" {
			t.Errorf("merge: %s, %q", res.tag, a.value("contacts", one, "lastname"))
		}
	}
	a.agree("contacts", "email", "firstname", "lastname")
	a.agree("companies", "name")
	if got := a.text("select count(*) from hubpg.writes where status <> 'settled'"); got != "0" {
		t.Errorf("%s writes are open", got)
	}
	before := a.hub.Stats().Calls
	s.do("update hubspot.contacts set firstname = 'x' where id = 1")
	s.do("select 1")
	s.do("insert into app.orders values (1, 2)")
	s.do("update hubspot.contacts set firstname = firstname")
	if calls := a.hub.Stats().Calls - before; calls != 0 {
		t.Errorf("%d calls for nothing", calls)
	}
}

func TestEveryKindOfValueGoesThere(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	columns := a.tables["contacts"]
	pick := func(kind string) string {
		t.Helper()
		properties, err := a.client.ListProperties(t.Context(), "contacts", false)
		a.must(err)
		for _, p := range properties {
			if c, ok := columns.Column(p.Name); ok && p.Writable() && !p.HasUniqueValue && c.Kind.SQL() == kind && len(p.Options) == 0 {
				return c.Name
			}
		}
		return ""
	}
	for kind, test := range map[string]struct{ sql, want string }{
		"numeric":     {"1234567890123.25", "1234567890123.25"},
		"date":        {"'2026-02-28'", "2026-02-28"},
		"timestamptz": {"'2026-02-28 12:00:00.5+02'", "2026-02-28T10:00:00.500Z"},
		"boolean":     {"true", "true"},
		"text":        {"'ünïcode; \"quoted\"'", "ünïcode; \"quoted\""},
	} {
		column := pick(kind)
		if column == "" {
			continue
		}
		s.do("update hubspot.contacts set " + column + " = " + test.sql)
		if got := a.value("contacts", id, column); got != test.want {
			t.Errorf("%s %s: HubSpot has %q, want %q", kind, column, got, test.want)
		}
		s.do("update hubspot.contacts set " + column + " = null")
		if got := a.value("contacts", id, column); got != "" {
			t.Errorf("%s %s: HubSpot still has %q", kind, column, got)
		}
	}
}

func TestIsolationLevelsAllSeeTheirWrite(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one := a.contact("one@example.com")
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		s := a.session()
		s.exec("begin isolation level " + level)
		s.do("select count(*) from hubspot.contacts") // takes the snapshot
		other, err := a.hub.Create("contacts", map[string]string{"email": "other-" + strings.ReplaceAll(level, " ", "-") + "@example.com"})
		a.must(err)
		a.store("contacts", a.page("contacts", other)) // moves the log's counter on
		res := s.do("insert into hubspot.contacts (email) values ($1) returning id", strings.ReplaceAll(level, " ", "-")+"@example.com")
		s.do("update hubspot.contacts set firstname = $2 where id = $1", one, level)
		if got := s.do("select firstname, (select count(*) from hubspot.contacts where id = $2) from hubspot.contacts where id = $1", one, res.rows[0][0]); got.String() != level+" 1" {
			t.Errorf("%s: the session sees %s", level, got)
		}
		s.exec("commit")
		s.ended(true)
		a.agree("contacts", "email", "firstname")
	}
}

func TestALateReadNeverOverwritesAWrite(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	// A poll reads the old state, then the write happens, then the poll stores what it read.
	late := a.page("contacts", id)
	s.do("update hubspot.contacts set firstname = 'Newer' where id = $1", id)
	a.store("contacts", late)
	if got := a.text("select firstname from hubspot.contacts"); got != "Newer" {
		t.Errorf("the row says %s", got)
	}
	late = a.page("contacts", id)
	s.do("delete from hubspot.contacts where id = $1", id)
	a.store("contacts", late)
	if got := a.text("select count(*) from hubspot.contacts"); got != "0" {
		t.Error("a late page brought the record back")
	}
}

func TestAssociationsAreWrittenInBothDirectionsOfTime(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one := a.contact("one@example.com")
	company, err := a.hub.Create("companies", map[string]string{"name": "Acme"})
	a.must(err)
	s := a.session()
	s.do("insert into hubspot.contacts_companies (contact_id, company_id, label) values ($1, $2, 'Primary')", one, company)
	want := []string{"1", "279"}
	types := func(sql string) []string { return strings.Split(a.text(sql), ",") }
	const stored = "select string_agg(type_id::text, ',' order by type_id) from hubspot.contacts_companies"
	if diff := cmp.Diff(want, types(stored)); diff != "" {
		t.Errorf("after a labelled insert: %s", diff)
	}
	if n := len(a.hub.Edges("contacts", "companies")); n != 2 {
		t.Errorf("HubSpot has %d types", n)
	}
	s.refused("23505", "insert into hubspot.contacts_companies (contact_id, company_id) values ($1, $2)", one, company)
	s.do("insert into hubspot.contacts_companies (contact_id, company_id) values ($1, $2) on conflict do nothing", one, company)
	s.do("delete from hubspot.contacts_companies where label = 'Primary'")
	if diff := cmp.Diff([]string{"279"}, types(stored)); diff != "" {
		t.Errorf("after a label went: %s", diff)
	}
	if e := s.refused("22P02", "insert into hubspot.contacts_companies (contact_id, company_id, label) values ($1, $2, 'Enemy')", one, company); !strings.Contains(e.Message, "Enemy") {
		t.Error(e)
	}
	s.do("delete from hubspot.contacts_companies")
	if n := len(a.hub.Edges("contacts", "companies")); n != 0 || a.text("select count(*) from hubspot.contacts_companies") != "0" {
		t.Errorf("HubSpot has %d types", n)
	}
	if got := a.text("select row_count from hubpg.objects where table_name = 'contacts_companies'"); got != "0" {
		t.Errorf("row_count is %s", got)
	}
}

// TestLabelsOfOneAssociationAreGivenInTurn holds that of two sessions, or proxies, which give one association a label each at the same
// time, none takes the other's away again.
func TestLabelsOfOneAssociationAreGivenInTurn(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	contact := a.contact("one@example.com")
	company, err := a.hub.Create("companies", map[string]string{"name": "Acme"})
	a.must(err)
	a.read("companies", changes.Follow)
	sessions := []*session{a.session(), a.session()}
	sessions[1].writer = a.newWriter()
	sessions[1].allow()
	writing := func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/companies/batch/create") {
			time.Sleep(500 * time.Millisecond) // meanwhile the other one reads
		}
	}
	a.arrives.Store(&writing)
	var both sync.WaitGroup
	for i, label := range []string{"Primary", "Decision maker"} {
		both.Go(func() {
			if _, err := sessions[i].run("insert into hubspot.contacts_companies (contact_id, company_id, label) values ($1, $2, $3)", contact, company, label); err != nil {
				t.Errorf("%s: %v", label, err)
			}
		})
	}
	both.Wait()
	if got := a.hub.Edges("contacts", "companies"); len(got) != 3 {
		t.Errorf("HubSpot has %+v", got)
	}
	if got := a.text("select string_agg(label, ',' order by label) from hubspot.contacts_companies"); got != "Decision maker,Primary" {
		t.Errorf("the table has %s", got)
	}
}

// TestAnAssociationCannotHaveALabelTwice holds that an update which would give all rows of an association one label is refused before
// HubSpot loses the labels that it replaces.
func TestAnAssociationCannotHaveALabelTwice(t *testing.T) {
	t.Parallel()
	a, s, contact, _ := linked(t)
	for _, label := range []string{"Decision maker", "Primary"} {
		if e := s.refused("23505", "update hubspot.contacts_companies set label = $1 where contact_id = $2", label, contact); e == nil || e.ID != 0 {
			t.Errorf("%s: refused with %v", label, e)
		}
	}
	if got := a.hub.Edges("contacts", "companies"); len(got) != 2 || got[0].TypeID+got[1].TypeID != 280 {
		t.Errorf("HubSpot has %+v", got)
	}
	if e := s.refused("23505", "update hubspot.contacts_companies set label = null where label = 'Primary'"); e == nil || e.ID != 0 || e.Hint == "" {
		t.Errorf("no label: refused with %v", e)
	}
	if got := a.text(edgeTypes); got != "1,279" || len(a.hub.Edges("contacts", "companies")) != 2 {
		t.Errorf("the table has types %s, HubSpot %+v", got, a.hub.Edges("contacts", "companies"))
	}
	s.do("update hubspot.contacts_companies set label = 'Decision maker' where label = 'Primary'")
	if got := a.hub.Edges("contacts", "companies"); len(got) != 2 || got[0].Label+got[1].Label != "Decision maker" {
		t.Errorf("HubSpot has %+v", got)
	}
}

// TestAThousandNewRecordsAreReadBack holds that what HubSpot gives new records is in the rows at once, also where they take several
// calls, and nothing is left to be news later.
func TestAThousandNewRecordsAreReadBack(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	s := a.session()
	before := a.hub.Stats().Calls
	s.do("insert into hubspot.contacts (email) select 'c' || n || '@example.com' from generate_series(1, 1000) n")
	if calls := a.hub.Stats().Calls - before; calls > 25 { // ten to create, ten to read, and definitions
		t.Errorf("%d calls", calls)
	}
	if got := a.text("select count(*) || ' ' || count(hs_createdate) || ' ' || count(hs_object_id) from hubspot.contacts"); got != "1000 1000 1000" {
		t.Errorf("of so many rows so many have what HubSpot gives: %s", got)
	}
	a.agree("contacts", "email")
	news := a.newest()
	a.read("contacts", changes.Follow)
	if got := a.newest(); got != news {
		t.Errorf("reading the records again is news: %d, %d before", got, news)
	}
}

func TestTenThousandRowsTakeAHundredCalls(t *testing.T) {
	t.Parallel()
	a := newAccountOf(t, mirror.MapperConfig{PortalID: portal}, sandbox.Config{Limits: true})
	n := 10_000
	if testing.Short() {
		n = 2_000
	}
	for i := range n {
		_, err := a.hub.Create("contacts", map[string]string{"email": fmt.Sprintf("c%d@example.com", i)})
		a.must(err)
	}
	a.read("contacts", changes.Backfill)
	s := a.session()
	before := a.hub.Stats().Calls

	// Another session watches.
	type view struct {
		status              string
		sending, sent, went int
	}
	done := make(chan struct{})
	var seen []view
	look := func() {
		var v view
		err := a.pool.QueryRow(t.Context(), `
select w.status, coalesce(s.rows_sending, 0), coalesce(s.rows_sent, 0), (w.progress -> 'contacts' ->> 0)::int
from hubpg.writes w
cross join hubpg.status s
where s.table_name = 'contacts'`).Scan(&v.status, &v.sending, &v.sent, &v.went)
		if err == nil && (len(seen) == 0 || seen[len(seen)-1] != v) {
			seen = append(seen, v)
		}
	}
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			look()
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	res := s.do("update hubspot.contacts set firstname = 'N' || (id % 7)")
	if calls := a.hub.Stats().Calls - before; calls > int64(n/100+1) {
		t.Errorf("%d calls", calls)
	}
	close(done)
	watcher.Wait()
	look()
	if res.tag != fmt.Sprintf("UPDATE %d", n) {
		t.Error(res.tag)
	}
	a.agree("contacts", "firstname")

	between := 0
	for i, v := range seen {
		if v.status != "sent" {
			continue
		}
		if v.sending != n || v.sent != v.went || v.sent <= 0 || i > 0 && v.went < seen[i-1].went {
			t.Errorf("after %+v another session saw %+v", seen[:i], v)
		}
		if v.sent < n {
			between++
		}
	}
	if want := n / 2_500; between < max(want, 1) {
		t.Errorf("another session saw the write under way %d times: %+v", between, seen)
	}
	if last := seen[len(seen)-1]; last.sending != 0 || last.went != n {
		t.Errorf("in the end another session saw %+v", last)
	}
	stats := a.hub.Stats()
	if len(stats.RateLimited) != 0 || stats.Violations["burst"] != 0 {
		t.Errorf("over the quota: %v, %v", stats.RateLimited, stats.Violations)
	}
}

func TestSoftDeletesKeepTheRow(t *testing.T) {
	t.Parallel()
	a := newAccountWith(t, mirror.MapperConfig{PortalID: portal, SoftDeletes: true})
	id := a.contact("one@example.com")
	s := a.session()
	before := a.newest()
	for _, want := range []string{"DELETE 1", "DELETE 0"} { // the second time it is gone already
		if res := s.do("delete from hubspot.contacts where id = $1", id); res.tag != want {
			t.Errorf("%s, want %s", res.tag, want)
		}
	}
	if got := a.text("select email || (archived_at is not null) from hubspot.contacts"); got != "one@example.comtrue" {
		t.Errorf("the row says %s", got)
	}
	if got := a.value("contacts", id, "email"); got != "<none>" {
		t.Error("HubSpot still has it")
	}
	if got := a.text("select row_count from hubpg.objects where table_name = 'contacts'"); got != "0" {
		t.Errorf("row_count is %s", got)
	}
	if log := a.log(before); len(log) != 1 || log[0].Op != changes.Delete {
		t.Errorf("log: %+v", log)
	}
	s.refused(writeback.CodeGone, "update hubspot.contacts set firstname = 'Ghost'")
}

func TestOnConflictWorksOnUniqueProperties(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	one := a.contact("one@example.com")
	two := a.contact("two@example.com")
	if _, err := a.pool.Exec(t.Context(), "update hubpg.objects set phase = 'live'"); err != nil {
		t.Fatal(err)
	}
	stop := a.runWriter()
	a.eventually("email has an index", func() bool {
		return a.text("select count(*) from pg_indexes where schemaname = 'hubspot' and indexdef like 'CREATE UNIQUE INDEX % (email)'") == "1"
	})
	stop()
	cat, err := mirror.Load(t.Context(), a.pool, portal)
	a.must(err)
	a.tables["contacts"] = cat.Named("contacts")
	s := a.session()
	const upsert = "insert into hubspot.contacts (email, firstname) values ($1, $2) on conflict (email) do update set firstname = excluded.firstname returning id, firstname"
	if res := s.do(upsert, "one@example.com", "Upserted"); res.String() != fmt.Sprintf("%d Upserted", one) {
		t.Errorf("returned %s", res)
	}
	made := s.do(upsert, "three@example.com", "Made")
	if len(made.rows) != 1 || made.rows[0][1] != "Made" {
		t.Errorf("returned %s", made)
	}
	if res := s.do("insert into hubspot.contacts (email) values ('none@example.com'), ('none@example.com'), ('one@example.com') on conflict (email) do nothing returning email"); res.String() != "none@example.com" {
		t.Errorf("returned %s", res)
	}
	a.agree("contacts", "email", "firstname")

	// A value moves from one record to another; the table learns of the new holder first.
	a.must(a.hub.Update("contacts", one, map[string]string{"email": "else@example.com"}))
	a.must(a.hub.Update("contacts", two, map[string]string{"email": "one@example.com"}))
	before := a.newest()
	a.store("contacts", a.page("contacts", two))
	if got := a.text("select record_id from hubpg.suspects"); got != fmt.Sprint(one) {
		t.Errorf("suspects: %s", got)
	}
	a.store("contacts", a.page("contacts", one))
	a.agree("contacts", "email")
	if log := a.log(before); len(log) != 3 {
		t.Errorf("log: %+v", log)
	}
	// A page read before the holder lost the value comes late.
	late := a.page("contacts", one)
	a.must(a.hub.Update("contacts", one, map[string]string{"email": "moved@example.com"}))
	a.must(a.hub.Update("contacts", two, map[string]string{"email": "else@example.com"}))
	a.store("contacts", a.page("contacts", two))
	a.store("contacts", late)
	a.store("contacts", a.page("contacts", one))
	a.agree("contacts", "email")
	// Both in one page, in both orders.
	for _, emails := range [][2]string{{"else@example.com", "moved@example.com"}, {"moved@example.com", "else@example.com"}} {
		a.must(a.hub.Update("contacts", one, map[string]string{"email": "between@example.com"}))
		a.must(a.hub.Update("contacts", two, map[string]string{"email": emails[1]}))
		a.must(a.hub.Update("contacts", one, map[string]string{"email": emails[0]}))
		a.read("contacts", changes.Follow)
		a.agree("contacts", "email")
	}
}
