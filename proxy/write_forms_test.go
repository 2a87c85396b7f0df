package proxy_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	osexec "os/exec"
	"slices"
	"strings"
	"testing"

	"hubpg/internal/sandbox"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// form is a statement, or several in one session. P stands for a word that is the runner's own, ONE and TWO for the ids
// of contacts of its own, P1@example.com and P2@example.com, COMPANY for a company.
type form struct {
	name string
	sql  []string
	says string            // the rows and tags of the last statement, in lines; "" is not looked at
	has  map[string]string // properties that HubSpot has afterwards, like "ONE.firstname"; "<none>" is no record
}

var forms = []form{
	{
		"insert … select returning",
		[]string{"insert into contacts (email, firstname) select 'P' || n || '@new.example.com', 'N' || n from generate_series(1, 3) n returning id > 0, email, firstname"},
		"t|P1@new.example.com|N1\nt|P2@new.example.com|N2\nt|P3@new.example.com|N3\nINSERT 0 3", nil,
	},
	{
		"insert … default values of HubSpot",
		[]string{"insert into deals (dealname, pipeline, dealstage) values ('P deal', 'default', 'contractsent') returning id > 0, hs_is_closed"},
		"t|f\nINSERT 0 1", nil,
	},
	{"update", []string{"update contacts set firstname = 'Plain', lastname = null where id = ONE returning id, firstname"}, "ONE|Plain\nUPDATE 1", map[string]string{"ONE.firstname": "Plain"}},
	{
		"update … from",
		[]string{"update contacts c set firstname = v.name from (values (ONE, 'From'), (TWO, 'From too')) v (id, name) where v.id = c.id"},
		"UPDATE 2",
		map[string]string{"ONE.firstname": "From", "TWO.firstname": "From too"},
	},
	{
		"update of a row",
		[]string{"update contacts set (firstname, lastname) = (select 'Row', email from contacts where id = TWO) where id = ONE"},
		"UPDATE 1",
		map[string]string{"ONE.firstname": "Row", "ONE.lastname": "P2@example.com"},
	},
	{
		"on conflict do update",
		[]string{"insert into contacts as c (email, firstname) values ('P1@example.com', 'Up'), ('P4@example.com', 'Fresh') on conflict (email) do update set firstname = excluded.firstname || 'serted' returning email, firstname"},
		"P1@example.com|Upserted\nP4@example.com|Fresh\nINSERT 0 2",
		map[string]string{"ONE.firstname": "Upserted"},
	},
	{
		"on conflict do nothing",
		[]string{"insert into contacts (email, firstname) values ('P1@example.com', 'Never') on conflict (email) do nothing returning id"},
		"INSERT 0 0",
		map[string]string{"ONE.firstname": "Upserted"},
	},
	{
		"merge", []string{`merge into contacts c
using (values ('P1@example.com', 'Merged'), ('P4@example.com', null), ('P5@example.com', 'Made')) v (email, name) on c.email = v.email
when matched and v.name is null then delete
when matched then update set firstname = v.name
when not matched then insert (email, firstname) values (v.email, v.name)`}, "MERGE 3", map[string]string{"ONE.firstname": "Merged"},
	},
	{
		"merge has deleted", []string{"select count(*) filter (where email = 'P4@example.com'), count(*) filter (where email = 'P5@example.com') from contacts"}, "0|1", nil,
	},
	{
		"data-modifying CTEs", []string{`with made as (
  insert into companies (name) values ('P Inc') returning id
), linked as (
  insert into contacts_companies (contact_id, company_id) select ONE, id from made returning company_id
), told as (
  update contacts set firstname = 'Linked' where id = ONE returning id
)
select made.id = linked.company_id, told.id from made, linked, told`}, "t|ONE", map[string]string{"ONE.firstname": "Linked"},
	},
	{
		"CTE that deletes",
		[]string{"with gone as (delete from contacts where email = 'P5@example.com' returning email) update contacts set lastname = gone.email from gone where id = ONE"},
		"UPDATE 1",
		map[string]string{"ONE.lastname": "P5@example.com"},
	},
	{"function", []string{"select app.rename(ONE, 'Called')"}, "renamed", map[string]string{"ONE.firstname": "Called"}},
	{"function in from", []string{"select * from app.rename(ONE, 'From a function') r"}, "renamed", map[string]string{"ONE.firstname": "From a function"}},
	{"function that calls", []string{"select app.twice(ONE)"}, "renamed", map[string]string{"ONE.firstname": "By two"}},
	{"function per row", []string{"select app.rename(id, 'Each') from contacts where id in (ONE, TWO) order by id"}, "renamed\nrenamed", map[string]string{"ONE.firstname": "Each", "TWO.firstname": "Each"}},
	{"procedure", []string{"call app.baptize(ONE, 'By a procedure')"}, "CALL", map[string]string{"ONE.firstname": "By a procedure"}},
	{"do", []string{"do $$ begin update hubspot.contacts set firstname = 'Done' where id = ONE; end $$"}, "DO", map[string]string{"ONE.firstname": "Done"}},
	{"prepare and execute", []string{"prepare P as update contacts set firstname = $1 where id = $2", "execute P('Executed', ONE)"}, "UPDATE 1", map[string]string{"ONE.firstname": "Executed"}},
	{"view", []string{"update app.people set firstname = 'Viewed' where id = ONE"}, "UPDATE 1", map[string]string{"ONE.firstname": "Viewed"}},
	{"every type", []string{"update contacts set annualrevenue = 12.5, hs_lead_status = 'NEW' where id = ONE returning id, annualrevenue, hs_lead_status, created_at < updated_at"}, "ONE|12.5|NEW|t\nUPDATE 1", nil},
	{"association", []string{"insert into contacts_companies (contact_id, company_id) values (TWO, COMPANY) returning contact_id, company_id, label is null"}, "TWO|COMPANY|t\nINSERT 0 1", nil},
	{"label", []string{"insert into contacts_companies (contact_id, company_id, label) values (TWO, COMPANY, 'Primary') returning label, type_id"}, "Primary|1\nINSERT 0 1", nil},
	{"label changed", []string{"update contacts_companies set label = 'P buyer' where contact_id = TWO and label = 'Primary' returning label"}, "P buyer\nUPDATE 1", nil},
	{"label deleted", []string{"delete from contacts_companies where contact_id = TWO and label = 'P buyer'"}, "DELETE 1", nil},
	{"association deleted", []string{"delete from contacts_companies where contact_id = TWO returning company_id"}, "COMPANY\nDELETE 1", nil},
	{"association is gone", []string{"select count(*) from contacts_companies where contact_id = TWO"}, "0", nil},
	{
		"savepoints", []string{
			"begin", "update contacts set firstname = 'Kept' where id = ONE", "savepoint a", "insert into contacts (email) values ('P6@example.com')", "release a",
			"savepoint b", "update contacts set lastname = 'Kept' where id = TWO", "savepoint c", "delete from contacts where email = 'P6@example.com'", "release c", "commit",
		}, "COMMIT", map[string]string{"ONE.firstname": "Kept", "TWO.lastname": "Kept"},
	},
	{"read committed", []string{"begin isolation level read committed", "update contacts set firstname = 'RC' where id = ONE", "commit", "select firstname from contacts where id = ONE"}, "RC", map[string]string{"ONE.firstname": "RC"}},
	{"repeatable read", []string{"begin isolation level repeatable read", "update contacts set firstname = 'RR' where id = ONE", "select firstname from contacts where id = ONE", "commit"}, "COMMIT", map[string]string{"ONE.firstname": "RR"}},
	{"serializable", []string{"begin isolation level serializable", "update contacts set firstname = 'S' where id = ONE returning firstname", "commit"}, "COMMIT", map[string]string{"ONE.firstname": "S"}},
	{"delete … using", []string{"delete from contacts c using contacts d where c.id = d.id and d.email = 'P2@example.com' returning c.id"}, "TWO\nDELETE 1", map[string]string{"TWO.email": "<none>"}},
	{"nobody", []string{"update contacts set firstname = 'Nobody' where id = -7 returning id"}, "UPDATE 0", nil},
}

// withoutMerge is what stands in for the form "merge" where Postgres has no MERGE.
var withoutMerge = form{
	"merge by hand", []string{`with gone as (
  delete from contacts where email = 'P4@example.com'
), named as (
  update contacts set firstname = 'Merged' where email = 'P1@example.com'
)
insert into contacts (email) values ('P5@example.com')`}, "INSERT 0 1", map[string]string{"ONE.firstname": "Merged"},
}

// merges says whether Postgres has MERGE.
func (c *crm) merges() bool {
	c.t.Helper()
	return value[int](c.t, c.session(nil), "select current_setting('server_version_num')::int") >= 150000
}

// TestEveryFormInEveryProtocol runs all forms with psql and with pgx in the simple protocol and the extended one, with
// answers in text and in binary: each says the same and leaves the same in HubSpot.
func TestEveryFormInEveryProtocol(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	c.unique()
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		`create function app.rename(who bigint, name text) returns text language plpgsql as $$
begin update hubspot.contacts set firstname = name where id = who; return 'renamed'; end $$`,
		`create function app.twice(who bigint) returns text language sql as $$ select app.rename(who, 'By two') $$`,
		`create procedure app.baptize(who bigint, name text) language sql as $$ update hubspot.contacts set firstname = name where id = who $$`,
		"create view app.people as select id, firstname from hubspot.contacts",
		"grant execute on all routines in schema app to app",
		"grant all on app.people to app",
	} {
		exec(t, admin, sql)
	}
	runners := map[string]func(list []string) string{"psql": c.psql, "simple": c.simple, "text": c.extended(pgx.TextFormatCode), "binary": c.extended(pgx.BinaryFormatCode)}
	forms := slices.Clone(forms)
	if !c.merges() {
		forms[slices.IndexFunc(forms, func(f form) bool { return f.name == "merge" })] = withoutMerge
	}
	for name := range runners {
		c.label("run" + name + " buyer")
	}
	for _, name := range slices.Sorted(maps.Keys(runners)) {
		run := runners[name]
		name := "run" + name
		ids := map[string]int64{"ONE": c.contact(name + "1@example.com"), "TWO": c.contact(name + "2@example.com")}
		company, err := c.hub.Create("companies", map[string]string{"name": name})
		if err != nil {
			t.Fatal(err)
		}
		c.poll("companies")
		words := strings.NewReplacer("ONE", fmt.Sprint(ids["ONE"]), "TWO", fmt.Sprint(ids["TWO"]), "COMPANY", fmt.Sprint(company), "P1@", name+"1@", "P2@", name+"2@",
			"P3@", name+"3@", "P4@", name+"4@", "P5@", name+"5@", "P6@", name+"6@", "'P'", "'"+name+"'", "'P ", "'"+name+" ", "prepare P ", "prepare "+name+" ", "execute P(", "execute "+name+"(",
			"P buyer\n", name+" buyer\n")
		for _, f := range forms {
			list := make([]string, len(f.sql))
			for i, sql := range f.sql {
				list[i] = words.Replace(sql)
			}
			got := run(list)
			if want := words.Replace(f.says); f.says != "" && got != want {
				t.Errorf("%s, %s: says\n%s\nwant\n%s", name, f.name, got, want)
			}
			for place, want := range f.has {
				who, property, _ := strings.Cut(place, ".")
				if got := c.hubspot("contacts", ids[who], property); got != words.Replace(want) {
					t.Errorf("%s, %s: HubSpot's %s is %q, want %q", name, f.name, place, got, words.Replace(want))
				}
			}
		}
		if n := c.edges(ids["TWO"]); n != 0 {
			t.Errorf("%s: HubSpot has %d associations of the deleted contact", name, n)
		}
	}
	c.agree("contacts", "email")
	c.agree("contacts", "firstname")
	c.agree("companies", "name")
	c.agree("deals", "dealname")
}

// label makes a label of associations between contacts and companies.
func (c *crm) label(label string) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), http.MethodPost, "/crm/v4/associations/contacts/companies/labels",
		strings.NewReader(fmt.Sprintf(`{"label":%q,"name":%q}`, label, strings.ReplaceAll(label, " ", "_"))))
	r.Header.Set("Authorization", "Bearer "+sandbox.DefaultToken)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	c.hub.ServeHTTP(w, r)
	if w.Code >= http.StatusBadRequest {
		c.t.Fatalf("make label %s: %d %s", label, w.Code, w.Body)
	}
}

func (c *crm) edges(contact int64) (n int) {
	for _, e := range c.hub.Edges("contacts", "companies") {
		if e.From == contact {
			n++
		}
	}
	return n
}

// psql runs statements in one session of psql, in the simple protocol, and returns what the last one said.
func (c *crm) psql(list []string) string {
	c.t.Helper()
	path, err := osexec.LookPath("psql")
	if err != nil {
		c.t.Fatalf("psql is needed: %v", err)
	}
	u, err := url.Parse(c.url())
	if err != nil {
		c.t.Fatal(err)
	}
	u.User = url.User("app")
	q := u.Query()
	q.Set("options", "-csearch_path=hubspot,app,public")
	u.RawQuery = q.Encode()
	args := []string{"-XAt", "-v", "ON_ERROR_STOP=1", u.String()}
	for _, sql := range list[:len(list)-1] {
		args = append(args, "-c", sql)
	}
	args = append(args, "-c", `\echo last`, "-c", list[len(list)-1])
	out, err := osexec.CommandContext(deadline(c.t), path, args...).CombinedOutput()
	if err != nil {
		c.t.Errorf("psql %q: %v: %s", list, err, out)
	}
	_, said, _ := strings.Cut(string(out), "last\n")
	return strings.TrimSuffix(said, "\n")
}

// simple runs statements in the simple protocol.
func (c *crm) simple(list []string) string {
	c.t.Helper()
	conn := c.session(nil)
	var said string
	for _, sql := range list {
		results, err := conn.PgConn().Exec(deadline(c.t), sql).ReadAll()
		if err != nil || len(results) != 1 {
			c.t.Errorf("%s: %v", sql, err)
			return ""
		}
		said = lines(results[0].Rows, results[0].CommandTag.String())
	}
	return said
}

// extended runs statements in the extended protocol and asks for answers in a format.
func (c *crm) extended(format int16) func(list []string) string {
	return func(list []string) string {
		c.t.Helper()
		conn := c.session(nil)
		var said string
		for _, sql := range list {
			result := conn.PgConn().ExecParams(deadline(c.t), sql, nil, nil, nil, []int16{format}).Read()
			if result.Err != nil {
				c.t.Errorf("%s: %v", sql, result.Err)
				return ""
			}
			if format == pgx.BinaryFormatCode {
				for _, row := range result.Rows {
					for i, field := range result.FieldDescriptions {
						row[i] = c.asText(conn.TypeMap(), field.DataTypeOID, row[i])
					}
				}
			}
			said = lines(result.Rows, result.CommandTag.String())
		}
		return said
	}
}

// asText turns a value in binary format into text.
func (c *crm) asText(m *pgtype.Map, oid uint32, raw []byte) []byte {
	c.t.Helper()
	if raw == nil {
		return nil
	}
	typ, ok := m.TypeForOID(oid)
	if !ok {
		c.t.Fatalf("unknown type %d", oid)
	}
	v, err := typ.Codec.DecodeValue(m, oid, pgx.BinaryFormatCode, raw)
	if err != nil {
		c.t.Fatalf("%d bytes are no %s: %v", len(raw), typ.Name, err)
	}
	text, err := m.Encode(oid, pgx.TextFormatCode, v, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// lines renders an answer as psql does.
func lines(rows [][][]byte, tag string) string {
	list := make([]string, 0, len(rows)+1)
	for _, row := range rows {
		fields := make([]string, len(row))
		for i, f := range row {
			fields[i] = string(f)
		}
		list = append(list, strings.Join(fields, "|"))
	}
	if !strings.HasPrefix(tag, "SELECT") {
		list = append(list, tag)
	}
	return strings.Join(list, "\n")
}

// TestCopyIsRefusedWhereItCannotBeKept holds that a COPY in the extended protocol, whose data the proxy cannot send
// twice, changes nothing and says what to do.
func TestCopyIsRefusedWhereItCannotBeKept(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	conn := c.session(nil)
	result := conn.PgConn().ExecParams(deadline(t), "copy contacts (email) from stdin", nil, nil, nil, nil).Read()
	if !isCode(result.Err, "0A000") {
		t.Errorf("got %v", result.Err)
	}
	if got := value[int64](t, conn, "select count(*) from contacts"); got != 0 || len(c.writer.requests()) != 0 {
		t.Errorf("%d contacts", got)
	}
}
