package hubapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

func TestUsersAndTeamsAreListed(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Contacts: 20})
	users, err := c.ListUsers(t.Context())
	if err != nil || len(users) == 0 || users[0].ID == 0 || users[0].Email == "" || len(users[0].RoleIDs) == 0 {
		t.Fatalf("users %+v, %v", users, err)
	}
	teams, err := c.ListTeams(t.Context())
	if err != nil || len(teams) == 0 || len(teams[0].UserIDs) == 0 {
		t.Fatalf("teams %+v, %v", teams, err)
	}
	if !slices.ContainsFunc(users, func(u hubapi.User) bool { return u.ID == teams[0].UserIDs[0] }) {
		t.Errorf("the team's first member %d is no user", teams[0].UserIDs[0])
	}
	if !slices.ContainsFunc(users, func(u hubapi.User) bool { return u.PrimaryTeamID == teams[0].ID }) {
		t.Errorf("team %d is nobody's", teams[0].ID)
	}
}

func TestSegmentsAndTheirMembersAreListedWhole(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Contacts: 2500})
	segments, err := c.ListSegments(t.Context())
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %+v, %v", segments, err)
	}
	var most hubapi.Segment
	for _, s := range segments {
		if s.Name == "" || s.ObjectTypeID == "" || s.Size() < 0 {
			t.Errorf("segment %+v", s)
		}
		if s.Size() > most.Size() {
			most = s
		}
	}
	var members []hubapi.Member
	for after := ""; ; {
		page, err := c.ListMembers(t.Context(), most.ID, after)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, page.Members...)
		if after = page.After; after == "" {
			break
		}
	}
	if int64(len(members)) != most.Size() || len(members) <= hubapi.MaxMembershipPage {
		t.Errorf("%d members of %d; more than a page are wanted", len(members), most.Size())
	}
	if !slices.IsSortedFunc(members, func(a, b hubapi.Member) int { return int(a.RecordID - b.RecordID) }) || members[0].Since.IsZero() {
		t.Error("members are not in order, or have no time")
	}
}

func TestFormsOfEveryTypeAndTheirSubmissions(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Contacts: 600})
	forms, err := c.ListForms(t.Context(), false)
	if err != nil || len(forms) == 0 {
		t.Fatalf("forms %+v, %v", forms, err)
	}
	if !slices.ContainsFunc(forms, func(f hubapi.Form) bool { return f.Type == "captured" && len(f.FieldGroups) > 0 }) {
		t.Error("only HubSpot's own forms are listed, or without fields")
	}
	archived, err := c.ListForms(t.Context(), true)
	if err != nil || len(archived) == 0 || !archived[0].Archived {
		t.Errorf("archived forms %+v, %v", archived, err)
	}
	var got []hubapi.Submission
	for after := ""; ; {
		page, err := c.ListSubmissions(t.Context(), forms[0].ID, after)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.Submissions...)
		if after = page.After; after == "" {
			break
		}
	}
	if len(got) < 51 || len(got[0].Values) == 0 || got[0].SubmittedAt.Year() < 2000 {
		t.Fatalf("%d submissions", len(got))
	}
	if !slices.IsSortedFunc(got, func(a, b hubapi.Submission) int { return b.SubmittedAt.Compare(a.SubmittedAt) }) {
		t.Error("submissions are not newest first")
	}
	for _, f := range forms {
		if f.Type == "blog_comment" {
			_, err := c.ListSubmissions(t.Context(), f.ID, "")
			rowIs[*hubapi.ValidationError](t, "blog comments", err)
		}
	}
}

func TestMarketingEmailsAndCampaignsAreListed(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Contacts: 20})
	ctx := t.Context()
	emails, err := c.ListEmails(ctx, hubapi.EmailOptions{})
	if err != nil || len(emails) < 20 || emails[0].ID == 0 || emails[0].Subject == "" {
		t.Fatalf("%d emails, %v", len(emails), err)
	}
	stats, err := c.ListEmails(ctx, hubapi.EmailOptions{Stats: true})
	if err != nil || len(stats) >= len(emails) || !slices.ContainsFunc(stats, func(e hubapi.MarketingEmail) bool { return e.Stats.Counters["sent"] > 0 }) {
		t.Errorf("%d of %d emails with counts, %v", len(stats), len(emails), err)
	}
	archived, err := c.ListEmails(ctx, hubapi.EmailOptions{Archived: true})
	if err != nil || len(archived) == 0 || !archived[0].Archived {
		t.Errorf("archived emails %+v, %v", archived, err)
	}
	newest := slices.MaxFunc(emails, func(a, b hubapi.MarketingEmail) int { return a.UpdatedAt.Compare(b.UpdatedAt) })
	late, err := c.ListEmails(ctx, hubapi.EmailOptions{UpdatedAfter: newest.UpdatedAt.Add(-time.Millisecond)})
	if err != nil || len(late) != 1 || late[0].ID != newest.ID {
		t.Errorf("updated last: %+v, %v", late, err)
	}
	campaigns, err := c.ListCampaigns(ctx, []string{"hs_name"})
	if err != nil || len(campaigns) == 0 || campaigns[0].Properties["hs_name"] == "" {
		t.Errorf("campaigns %+v, %v", campaigns, err)
	}
	_, err = c.ListCampaigns(ctx, []string{"id"})
	rowIs[*hubapi.ValidationError](t, "forbidden property", err)
}

func TestExportIsStartedFollowedAndFetched(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 50})
	ctx := t.Context()
	id, err := c.StartExport(ctx, hubapi.ExportRequest{Name: "all", ObjectType: "CONTACT", Properties: []string{"email"}})
	if err != nil || id == 0 {
		t.Fatalf("export %d, %v", id, err)
	}
	var task hubapi.ExportTask
	for deadline := time.Now().Add(20 * time.Second); !task.Done(); time.Sleep(10 * time.Millisecond) {
		if task, err = c.GetExport(ctx, id); err != nil || time.Now().After(deadline) {
			t.Fatalf("export %+v, %v", task, err)
		}
	}
	file, err := c.Download(ctx, task.URL)
	if err != nil || strings.Count(string(file), "\n") < s.Count("contacts") {
		t.Fatalf("file of %d bytes, %v", len(file), err)
	}
	for _, r := range reachable(s) {
		if !strings.Contains(string(file), r.Properties["email"]) {
			t.Fatalf("%s is not in the file", r.Properties["email"])
		}
	}
	for _, link := range []string{"http://169.254.169.254/latest", "file:///etc/passwd", "https://user@host/", "/relative", "%"} {
		if _, err := c.Download(ctx, link); err == nil || strings.Contains(err.Error(), "169") {
			t.Errorf("%s: %v", link, err)
		}
	}
}

// asApp returns a client of an account with a token of the app itself.
func asApp(t *testing.T, cfg sandbox.Config) (*sandbox.Server, *hubapi.Client) {
	t.Helper()
	cfg.Quiet, cfg.Empty = true, true
	return renewed(t, sandbox.New(cfg))
}

// renewed returns a client of an account with a new token of the app itself.
func renewed(t *testing.T, s *sandbox.Server) (*sandbox.Server, *hubapi.Client) {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	var scopes []string
	for _, scope := range []string{"read", "subscriptions.read", "subscriptions.write", "snapshots.read", "snapshots.write"} {
		scopes = append(scopes, "developer.webhooks_journal."+scope)
	}
	resp, err := http.PostForm(srv.URL+"/oauth/2026-09/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.DefaultClientID}, "client_secret": {sandbox.DefaultClientSecret},
		"scope": {strings.Join(scopes, " ")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.UnmarshalRead(resp.Body, &token); err != nil || token.Access == "" {
		t.Fatalf("token: %v", err)
	}
	c, err := hubapi.New(srv.URL, hubapi.StaticToken(token.Access), hasty)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestJournalTellsEveryChangeInOrder(t *testing.T) {
	t.Parallel()
	s, c := asApp(t, sandbox.Config{})
	ctx := t.Context()
	j := c.Journal(sandbox.DefaultPortalID)
	sub, err := j.Subscribe(ctx, hubapi.JournalSubscription{Type: "OBJECT", PortalID: sandbox.DefaultPortalID, ObjectTypeID: "0-1"})
	if err != nil || sub.ID == 0 {
		t.Fatalf("subscription %+v, %v", sub, err)
	}
	if subs, err := j.Subscriptions(ctx); err != nil || len(subs) != 1 || subs[0].ID != sub.ID {
		t.Errorf("subscriptions %+v, %v", subs, err)
	}
	for _, read := range []func(context.Context) (*hubapi.JournalEntry, error){j.Earliest, j.Latest} {
		if e, err := read(ctx); e != nil || err != nil {
			t.Errorf("an empty journal: %+v, %v", e, err)
		}
	}
	var ids []int64
	for range 5 {
		id, err := s.Create("contacts", map[string]string{"firstname": "x"})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		if _, err := j.Latest(ctx); err != nil { // a file of its own for each
			t.Fatal(err)
		}
	}
	if err := s.Archive("contacts", ids[0]); err != nil {
		t.Fatal(err)
	}
	var created, deleted []int64
	offset := ""
	for {
		entries, err := j.NextBatch(ctx, offset, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			file, err := j.File(ctx, &entries[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range file.Events {
				if e.PortalID != sandbox.DefaultPortalID || e.ObjectTypeID != "0-1" || e.OccurredAt.IsZero() {
					t.Errorf("event %+v", e)
				}
				switch e.Action {
				case "CREATE":
					created = append(created, e.ObjectID)
				case "DELETE":
					deleted = append(deleted, e.ObjectID)
				}
			}
			offset = entries[i].Offset
		}
	}
	if !slices.Equal(created, ids) || !slices.Equal(deleted, ids[:1]) {
		t.Errorf("created %v, deleted %v, want %v and the first", created, deleted, ids)
	}
	if e, err := j.Next(ctx, offset); e != nil || err != nil {
		t.Errorf("after the end: %+v, %v", e, err)
	}
	_, err = j.Next(ctx, "00000000-0000-0000-0000-000000000000")
	rowIs[*hubapi.NotFoundError](t, "offset past its retention", err)
	if err := j.Unsubscribe(ctx, sub.ID); err != nil {
		t.Error(err)
	}
}

func TestSnapshotsComeThroughTheJournal(t *testing.T) {
	t.Parallel()
	s, c := asApp(t, sandbox.Config{})
	ctx := t.Context()
	id, err := s.Create("contacts", map[string]string{"firstname": "Zoë", "email": "zoe@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	j := c.Journal(sandbox.DefaultPortalID)
	ask := hubapi.SnapshotRequest{PortalID: sandbox.DefaultPortalID, ObjectTypeID: "0-1", ObjectID: id, Properties: []string{"firstname", "email"}}
	gone := ask
	gone.ObjectID = id + 1
	taken, err := j.Snapshots(ctx, []hubapi.SnapshotRequest{ask, gone})
	if err != nil || len(taken) != 2 || taken[0].ObjectID != id || taken[0].StatusID == "" {
		t.Fatalf("snapshots %+v, %v", taken, err)
	}
	for i, want := range []string{hubapi.SnapshotSuccess, hubapi.SnapshotFailed} {
		if got, err := j.SnapshotStatus(ctx, taken[i].StatusID); got != want || err != nil {
			t.Errorf("snapshot %d is %s, %v; want %s", i, got, err, want)
		}
	}
	_, err = j.SnapshotStatus(ctx, "snapshot-0")
	rowIs[*hubapi.NotFoundError](t, "a snapshot that was never asked for", err)
	entry, err := j.Latest(ctx)
	if err != nil || entry == nil {
		t.Fatalf("journal %+v, %v", entry, err)
	}
	file, err := j.File(ctx, entry)
	if err != nil || len(file.Events) != 1 {
		t.Fatalf("file %+v, %v", file, err)
	}
	e := file.Events[0]
	if e.ObjectID != id || e.SnapshotStatusID != taken[0].StatusID || e.Properties["firstname"] != "Zoë" || e.Properties["email"] != "zoe@example.com" {
		t.Errorf("event %+v", e)
	}
	for _, n := range []int{0, hubapi.MaxPage + 1} {
		if _, err := j.Snapshots(ctx, make([]hubapi.SnapshotRequest, n)); err == nil {
			t.Errorf("%d snapshots were asked for", n)
		}
	}
}

func TestWebhooksAreManagedWithTheDeveloperKey(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Empty: true})
	ctx := t.Context()
	w := c.Webhooks(1160452, "sandbox-developer-key")
	set, err := w.Configure(ctx, "https://hubpg.example/hook", 8)
	if err != nil || set.MaxConcurrent != 8 {
		t.Fatalf("settings %+v, %v", set, err)
	}
	if got, err := w.Settings(ctx); err != nil || got.TargetURL != set.TargetURL {
		t.Errorf("settings %+v, %v", got, err)
	}
	sub, err := w.Subscribe(ctx, hubapi.WebhookSubscription{EventType: "contact.propertyChange", PropertyName: "email", Active: true})
	if err != nil || sub.ID == 0 || !sub.Active {
		t.Fatalf("subscription %+v, %v", sub, err)
	}
	if subs, err := w.Subscriptions(ctx); err != nil || len(subs) != 1 || subs[0].PropertyName != "email" {
		t.Errorf("subscriptions %+v, %v", subs, err)
	}
	if err := w.Unsubscribe(ctx, sub.ID); err != nil {
		t.Error(err)
	}
	_, err = c.Webhooks(1160452, "wrong-key").Settings(ctx)
	if err == nil || strings.Contains(err.Error(), "wrong-key") {
		t.Errorf("a wrong key: %v", err)
	}
}
