package materialize_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// surfaceTables are the tables beside CRM records.
func surfaceTables() []string {
	return []string{"lists", "list_memberships", "forms", "form_submissions", "marketing_emails", "campaigns"}
}

// surfaced is a world in which contacts and the tables beside them are live, with lanes that come round soon.
func surfaced(t *testing.T, cfg sandbox.Config, tune func(*materialize.Config)) *world {
	t.Helper()
	w, _ := surfacedUntil(t, cfg, tune)
	return w
}

// surfacedUntil is surfaced, with a way to stop the engine.
func surfacedUntil(t *testing.T, cfg sandbox.Config, tune func(*materialize.Config)) (w *world, stop func()) {
	t.Helper()
	w = newWorld(t, cfg)
	c := w.config()
	c.Pace = slowSweeps()
	c.Pace.Lookups = 300 * time.Millisecond
	c.Objects = append(surfaceTables(), "contacts", "companies")
	tune(&c)
	return w, w.start(c)
}

// api calls HubSpot as an app of the account.
func (w *world) api(method, path, body string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	w.must(err)
	req.Header.Set("Authorization", "Bearer sandbox")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	w.must(err)
	w.must(res.Body.Close())
	if res.StatusCode >= 300 {
		w.t.Fatalf("%s %s: %s", method, path, res.Status)
	}
}

func (w *world) client() *hubapi.Client {
	w.t.Helper()
	client, err := hubapi.New(w.url, hubapi.StaticToken("sandbox"))
	w.must(err)
	return client
}

// memberDifference compares list_memberships with the account's truth.
func (w *world) memberDifference() string {
	w.t.Helper()
	lists, err := w.client().ListSegments(context.Background())
	if err != nil {
		return err.Error()
	}
	var want []string
	for i := range lists {
		for _, id := range w.hub.ListMembers(lists[i].ID) {
			want = append(want, fmt.Sprintf("%d/%d", lists[i].ID, id))
		}
	}
	return w.rowsDifference("list_memberships", "list_id || '/' || record_id", want)
}

// rowsDifference compares the rows of a lookup table, each as a text, with those that it should have.
func (w *world) rowsDifference(table, expression string, want []string) string {
	w.t.Helper()
	schema := cmp.Or(w.in, "hubspot")
	rows, err := w.pool.Query(context.Background(), `select `+expression+` from `+pgx.Identifier{schema, table}.Sanitize())
	if err != nil {
		return err.Error()
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err.Error()
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		return fmt.Sprintf("%s: %d rows stored, HubSpot has %d", table, len(have), len(want))
	}
	var n int
	if err := w.pool.QueryRow(context.Background(), `
select row_count
from hubpg.objects
join hubpg.accounts using (portal_id)
where schema_name = $1 and table_name = $2`, schema, table).Scan(&n); err != nil {
		return err.Error()
	}
	if n != len(have) {
		return fmt.Sprintf("%s: %d rows, counted %d", table, len(have), n)
	}
	return ""
}

// surfaceDifference compares lists, their members, forms and what was submitted to them with the account's truth.
func (w *world) surfaceDifference() string {
	w.t.Helper()
	ctx := context.Background()
	lists, err := w.client().ListSegments(ctx)
	if err != nil {
		return err.Error()
	}
	var listed, submitted, made []string
	for i := range lists {
		listed = append(listed, fmt.Sprintf("%d %s %d", lists[i].ID, lists[i].Name, lists[i].Size()))
	}
	forms, err := w.client().ListForms(ctx, false)
	if err != nil {
		return err.Error()
	}
	archived, err := w.client().ListForms(ctx, true)
	if err != nil {
		return err.Error()
	}
	forms = append(forms, archived...)
	for i := range forms {
		made = append(made, forms[i].ID+" "+forms[i].Name)
		for after := ""; forms[i].Type != "blog_comment"; {
			page, err := w.client().ListSubmissions(ctx, forms[i].ID, after)
			if err != nil {
				return err.Error()
			}
			for _, s := range page.Submissions {
				text := fmt.Sprintf("%s %d", forms[i].ID, s.SubmittedAt.UnixMilli())
				for _, v := range s.Values {
					text += fmt.Sprint(" ", v.Value)
				}
				submitted = append(submitted, text)
			}
			if after = page.After; after == "" {
				break
			}
		}
	}
	return cmp.Or(
		w.rowsDifference("lists", "id || ' ' || name || ' ' || size", listed),
		w.memberDifference(),
		w.rowsDifference("forms", "id || ' ' || name", made),
		w.rowsDifference("form_submissions", `form_id || ' ' || (extract(epoch from submitted_at) * 1000)::bigint || coalesce((
	select string_agg(' ' || (f.value ->> 'value'), '' order by f.ordinality) from jsonb_array_elements(fields) with ordinality f), '')`, submitted))
}

func TestListsFollowHubSpot(t *testing.T) {
	t.Parallel()
	w := surfaced(t, sandbox.Config{Contacts: 900}, func(*materialize.Config) {})
	w.awaitLive(120*time.Second, "contacts", "lists", "list_memberships")
	eventually(t, 120*time.Second, w.memberDifference)
	if n := w.count(`select count(*) from hubspot.lists where object_table in ('contacts', 'companies') and size is not null`); n != 4 {
		t.Fatalf("%d of the 4 lists that the account begins with", n)
	}
	contacts := w.live("contacts")
	// More members than one page shows, more leavers than are looked into at once.
	big, err := w.hub.AddList("contacts", "Everybody", "MANUAL", "", "")
	w.must(err)
	ids := make([]string, len(contacts))
	for i, r := range contacts {
		ids[i] = fmt.Sprintf("%q", fmt.Sprint(r.ID))
	}
	members := fmt.Sprintf("/crm/v3/lists/%d/memberships", big)
	w.api(http.MethodPut, members+"/add", "["+strings.Join(ids, ",")+"]")
	customers, err := w.hub.AddList("contacts", "New customers", "DYNAMIC", "lifecyclestage", "customer")
	w.must(err)
	eventually(t, 120*time.Second, w.memberDifference)
	if n := w.count(`select count(*) from hubspot.list_memberships where list_id = $1`, big); n != 900 {
		t.Fatalf("%d members in the list of everybody", n)
	}

	stage := map[string]string{"lifecyclestage": "customer"}
	if contacts[7].Properties["lifecyclestage"] == "customer" {
		stage["lifecyclestage"] = "lead"
	}
	w.must(w.hub.Update("contacts", contacts[7].ID, stage))
	w.must(w.hub.Archive("contacts", contacts[8].ID))
	w.api(http.MethodPut, members+"/remove", "["+strings.Join(ids[100:850], ",")+"]")
	eventually(t, 120*time.Second, w.memberDifference)
	if n := w.count(`select count(*) from hubspot.list_memberships where list_id = $1 and record_id = $2`, customers, contacts[7].ID); (n == 1) != (stage["lifecyclestage"] == "customer") {
		t.Fatal("a record that changed is not where the list's filter puts it")
	}

	w.api(http.MethodDelete, fmt.Sprintf("/crm/v3/lists/%d", big), "")
	eventually(t, 120*time.Second, func() string {
		if w.count(`select count(*) from hubspot.lists where id = $1`, big) > 0 || w.count(`select count(*) from hubspot.list_memberships where list_id = $1`, big) > 0 {
			return "the list that was deleted is still there"
		}
		return w.memberDifference()
	})
	if n := w.count(`select count(*) from hubpg.changes where table_name = 'list_memberships' and op = 'delete'`); n < 900 {
		t.Fatalf("%d events say that members have left", n)
	}
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
	if report := w.verify("lists", "list_memberships"); !report.Equal() {
		t.Fatalf("verify finds %+v", report.Tables)
	}
}

// A page of members that lies, or none at all, removes nobody: those whom it lacks are asked for.
func TestShortPageOfMembersRemovesNobody(t *testing.T) {
	t.Parallel()
	w := surfaced(t, sandbox.Config{Contacts: 300}, func(c *materialize.Config) { c.Pace.Pairs = time.Millisecond })
	w.awaitLive(120*time.Second, "contacts", "list_memberships")
	eventually(t, 120*time.Second, w.memberDifference)
	before := w.count(`select count(*) from hubspot.list_memberships`)
	w.hub.InjectFault(sandbox.Fault{
		Method: "GET", Path: "/memberships$", Kind: sandbox.FaultStatus, Status: 200, Body: `{"results":[],"total":0}`,
	})
	moved := `select revision from hubpg.cursors where table_name = 'list_memberships'`
	revision := w.count(moved)
	eventually(t, 120*time.Second, func() string {
		if w.count(moved) < revision+20 {
			return "the lists are not read again"
		}
		return ""
	})
	if n := w.count(`select count(*) from hubspot.list_memberships`); n != before {
		t.Fatalf("%d of %d memberships are left", n, before)
	}
	if n := w.count(`select count(*) from hubpg.changes where table_name = 'list_memberships' and op = 'delete'`); n != 0 {
		t.Fatalf("%d removals were logged", n)
	}
}

func TestFormsAndSubmissionsFollowHubSpot(t *testing.T) {
	t.Parallel()
	w := surfaced(t, sandbox.Config{Contacts: 1000}, func(c *materialize.Config) { c.Pace.Pairs = 2 * time.Second })
	w.awaitLive(120*time.Second, "forms", "form_submissions")
	if n := w.count(`select count(*) from hubspot.forms`); n != 6 {
		t.Fatalf("%d forms", n)
	}
	truth := func() (n int64) {
		forms, err := w.client().ListForms(t.Context(), false)
		w.must(err)
		for _, f := range forms {
			if f.Type == "blog_comment" {
				continue
			}
			for after := ""; ; {
				page, err := w.client().ListSubmissions(t.Context(), f.ID, after)
				w.must(err)
				n += int64(len(page.Submissions))
				if after = page.After; after == "" {
					break
				}
			}
		}
		return n
	}
	want := truth()
	if want < 100 {
		t.Fatalf("the account has %d submissions, too few for pages", want)
	}
	if n := w.count(`select count(*) from hubspot.form_submissions`); n != want {
		t.Fatalf("%d of %d submissions are stored", n, want)
	}
	var form string
	w.must(w.pool.QueryRow(t.Context(), `select id from hubspot.forms where name = 'Contact us'`).Scan(&form))
	for i := range 120 {
		w.must(w.hub.SubmitForm(form, map[string]string{"email": fmt.Sprintf("visitor%d@example.com", i)}))
	}
	eventually(t, 120*time.Second, func() string {
		if n := w.count(`select count(*) from hubspot.form_submissions where fields @> '[{"name": "email"}]'`); n < want+120 {
			return fmt.Sprintf("%d of %d submissions", n, want+120)
		}
		return ""
	})
	if n := w.count(`select count(*) from hubpg.changes where table_name = 'form_submissions' and op = 'insert' and after ->> 'form_id' = $1`, form); n < 120 {
		t.Fatalf("%d events for new submissions", n)
	}

	// One that HubSpot does not have goes after two complete passes, one that it has comes back.
	w.exec(`
insert into hubspot.form_submissions (form_id, submitted_at, digest, _read_at)
values ($1, now() - interval '3 days', 'invented', now() - interval '1 day')`, form)
	w.exec(`
delete from hubspot.form_submissions
where form_id = $1 and submitted_at = (select min(submitted_at) from hubspot.form_submissions where form_id = $1)`, form)
	eventually(t, 120*time.Second, func() string {
		if n := w.count(`select count(*) from hubspot.form_submissions where digest = 'invented'`); n != 0 {
			return "the submission that HubSpot does not have stays"
		}
		if n, want := w.count(`select count(*) from hubspot.form_submissions`), truth(); n != want {
			return fmt.Sprintf("%d of %d submissions", n, want)
		}
		return ""
	})
	if report := w.verify("forms", "form_submissions"); !report.Equal() {
		t.Fatalf("verify finds %+v", report.Tables)
	}
}

func TestMarketingObjectsAreMirrored(t *testing.T) {
	t.Parallel()
	w := surfaced(t, sandbox.Config{Contacts: 30}, func(*materialize.Config) {})
	w.awaitLive(120*time.Second, "marketing_emails", "campaigns")
	if n := w.count(`select count(*) from hubspot.marketing_emails`); n != 26 {
		t.Fatalf("%d emails", n)
	}
	if n := w.count(`select count(*) from hubspot.marketing_emails where archived`); n != 2 {
		t.Fatalf("%d archived emails", n)
	}
	if n := w.count(`select count(*) from hubspot.marketing_emails where (stats ->> 'sent')::int > 0`); n == 0 {
		t.Fatal("no email has counters")
	}
	if n := w.count(`select count(*) from hubspot.campaigns c join hubspot.marketing_emails e on e.campaign_id = c.id where c.name is not null and c.start_date is not null`); n == 0 {
		t.Fatal("campaigns and emails do not join")
	}
	// HubSpot leaves emails out when it is asked for counters: what was known of them stays.
	counters := `select count(*) from hubspot.marketing_emails where stats is not null`
	before := w.count(counters)
	revision := w.count(`select revision from hubpg.cursors where table_name = 'marketing_emails'`)
	w.hub.InjectFault(sandbox.Fault{
		Path: "/emails", Kind: sandbox.FaultStatus, Status: 200, Body: `{"results":[]}`, Count: 0, Skip: 0, Probability: 0.5,
	})
	eventually(t, 120*time.Second, func() string {
		if w.count(`select revision from hubpg.cursors where table_name = 'marketing_emails'`) < revision+6 {
			return "emails are not read again"
		}
		return ""
	})
	w.hub.ClearFaults()
	eventually(t, 120*time.Second, func() string {
		if n := w.count(counters); n != before {
			return fmt.Sprintf("%d emails have counters, %d had", n, before)
		}
		return ""
	})
	if report := w.verify("marketing_emails", "campaigns"); !report.Equal() {
		t.Fatalf("verify finds %+v", report.Tables)
	}
}

func TestSurfaceWithoutScopeDegradesAlone(t *testing.T) {
	t.Parallel()
	w := surfaced(t, sandbox.Config{Contacts: 40, WithheldScopes: []string{"crm.lists.read", "forms"}}, func(*materialize.Config) {})
	w.awaitLive(120*time.Second, "contacts", "marketing_emails", "campaigns", "owners")
	eventually(t, 120*time.Second, func() string {
		for table, scope := range map[string]string{
			"lists": "crm.lists.read", "list_memberships": "crm.lists.read", "forms": "forms", "form_submissions": "forms",
		} {
			if s := w.status(table); s.Phase != "degraded" || !strings.Contains(s.Hint, scope) || s.LastError == "" {
				return fmt.Sprintf("%s is %s: %s (%s)", table, s.Phase, s.LastError, s.Hint)
			}
		}
		return ""
	})
	w.hub.WithholdScopes()
	w.awaitLive(120*time.Second, surfaceTables()...)
	eventually(t, 120*time.Second, w.memberDifference)
	if s := w.status("lists"); s.LastError != "" {
		t.Fatalf("the error stays: %s", s.LastError)
	}
}

func TestExcludedSurfacesAreNotMirrored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "lists"}
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "lists", "owners")
	for _, table := range surfaceTables() {
		if made := w.status(table).Phase != ""; made != slices.Contains(cfg.Objects, table) {
			t.Errorf("table %s: made %v", table, made)
		}
	}
	if n := w.hub.Stats().ByFamily["forms"] + w.hub.Stats().ByFamily["submissions"]; n != 0 {
		t.Errorf("%d calls for forms that nobody wants", n)
	}
}

// Verify finds, and repairs, what differs in the tables beside CRM records. The engine has ended: where one is at work, its
// lanes are asked to look first, and mend what they find.
func TestVerifyRepairsSurfaces(t *testing.T) {
	t.Parallel()
	w, stop := surfacedUntil(t, sandbox.Config{Contacts: 400}, func(c *materialize.Config) { c.Pace.Lookups = time.Hour })
	w.awaitLive(120*time.Second, surfaceTables()...)
	stop()
	for _, sql := range []string{
		`delete from hubspot.list_memberships where record_id in (select record_id from hubspot.list_memberships order by 1 limit 3)`,
		`insert into hubspot.list_memberships (list_id, record_id) values (1, 42), (99, 43)`,
		`delete from hubspot.form_submissions where digest = (select min(digest) from hubspot.form_submissions)`,
		`update hubspot.lists set name = 'renamed' where id = 2`,
		`delete from hubspot.forms where name = 'Contact us'`,
		`update hubspot.marketing_emails set subject = null where id = (select min(id) from hubspot.marketing_emails)`,
		`insert into hubpg.lookup_reads (portal_id, table_name, scope, read_at) select portal_id, 'list_memberships', '99', 'epoch' from hubpg.accounts`,
	} {
		w.exec(sql)
	}
	cfg := w.verifyConfig()
	cfg.Tables = surfaceTables()
	report, err := materialize.Verify(t.Context(), cfg)
	w.must(err)
	for i := range report.Tables {
		r := &report.Tables[i]
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if n := r.Missing + r.Extra + r.Different; (n == 0) != (r.Table == "campaigns") {
			t.Errorf("%s: %d differences: %+v", r.Table, n, r.Differences)
		}
	}
	cfg.Repair = true
	_, err = materialize.Verify(t.Context(), cfg)
	w.must(err)
	if report := w.verify(surfaceTables()...); !report.Equal() {
		t.Fatalf("after the repair verify finds %+v", report.Tables)
	}
	var members int
	for id := int64(1); id <= 4; id++ {
		members += len(w.hub.ListMembers(id))
	}
	if n := w.count(`select count(*) from hubspot.list_memberships`); n != int64(members) {
		t.Fatalf("%d of %d memberships after the repair", n, members)
	}
}
