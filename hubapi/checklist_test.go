package hubapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

// What HubSpot is known to do, met by the client. Each test is of one of its habits.

func TestEveryVersionAndNameOfATypeAnswersAlike(t *testing.T) {
	t.Parallel()
	s, base := account(t, sandbox.Config{Contacts: 30})
	machines, err := base.GetSchema(t.Context(), "machines")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	contact := live(s.Snapshot("contacts"))[0].ID
	for _, version := range []string{"v3", "v4", "2025-09", "2026-03", "2026-09"} {
		v := hubapi.Versions{
			Objects: version, Properties: version, Schemas: version, Associations: version, Owners: version, Pipelines: version,
			Account: version, Segments: version, Exports: version,
		}
		if version == "v4" {
			v = hubapi.Versions{Associations: "v4"}
		}
		c, err := hubapi.New(srv.URL, hubapi.StaticToken(sandbox.DefaultToken), hasty, hubapi.WithVersions(v))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]int{
			"contacts": s.Count("contacts"), "contact": s.Count("contacts"), "0-1": s.Count("contacts"),
			machines.ObjectTypeID: s.Count("machines"), machines.FullyQualifiedName: s.Count("machines"),
		} {
			n := 0
			for page, err := range c.Objects(t.Context(), name, hubapi.ListOptions{}) {
				if err != nil {
					t.Fatalf("%s, %s: %v", version, name, err)
				}
				n += len(page.Records)
			}
			found, err := c.Search(t.Context(), name, hubapi.SearchRequest{Limit: 1})
			if err != nil || n != want || found.Total != want {
				t.Errorf("%s, %s: %d listed, %+v found, %v; want %d", version, name, n, found, err, want)
			}
			if definitions, err := c.ListProperties(t.Context(), name, false); err != nil || len(definitions) == 0 {
				t.Errorf("%s, %s: %d properties, %v", version, name, len(definitions), err)
			}
		}
		res, err := c.BatchReadAssociations(t.Context(), "0-1", "company", []hubapi.AssociationInput{{ID: contact}})
		if err != nil || len(res.Results) != 1 {
			t.Errorf("%s: associations %+v, %v", version, res, err)
		}
	}
}

func TestRecycledRecordsGoAfterNinetyDays(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	old, young := live(s.Snapshot("contacts"))[0].ID, live(s.Snapshot("contacts"))[1].ID
	archived := func() (ids []int64) {
		for page, err := range c.Objects(t.Context(), "contacts", hubapi.ListOptions{Archived: true}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				if !r.Archived {
					t.Errorf("%d is among the archived", r.ID)
				}
				ids = append(ids, r.ID)
			}
		}
		return ids
	}
	if err := s.Archive("contacts", old); err != nil {
		t.Fatal(err)
	}
	s.Age(60 * 24 * time.Hour)
	if err := s.Archive("contacts", young); err != nil {
		t.Fatal(err)
	}
	if ids := archived(); !slices.Equal(ids, []int64{old, young}) {
		t.Errorf("archived %v, want %d and %d", ids, old, young)
	}
	s.Age(31 * 24 * time.Hour)
	if ids := archived(); !slices.Equal(ids, []int64{young}) {
		t.Errorf("archived after 91 days: %v, want %d", ids, young)
	}
}

func TestModifiedTimesMoveOnlyWithWrites(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20, SecondBump: 300 * time.Millisecond})
	people := live(s.Snapshot("contacts"))
	a, b := people[0], people[1]
	company := live(s.Snapshot("companies"))[0].ID
	for _, err := range []error{
		s.SetCalculated("contacts", a.ID, "hubspotscore", "99"),
		s.Associate("contacts", a.ID, "companies", company, 0),
		s.Archive("contacts", b.ID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := hubapi.NewProjection([]string{"hubspotscore"})
	res, err := c.BatchRead(t.Context(), "contacts", []int64{a.ID}, p)
	if err != nil || !res.Records[0].UpdatedAt.Equal(a.UpdatedAt) || string(res.Records[0].Values[0]) != "99" {
		t.Errorf("calculated and associated: %+v, %v; was modified at %v", res, err, a.UpdatedAt)
	}
	page, err := c.ListObjects(t.Context(), "contacts", hubapi.ListOptions{Archived: true})
	if err != nil || len(page.Records) != 1 || !page.Records[0].UpdatedAt.Equal(b.UpdatedAt) {
		t.Errorf("archived: %+v, %v; was modified at %v", page, err, b.UpdatedAt)
	}
	made, err := c.BatchCreate(t.Context(), "contacts", []hubapi.CreateInput{{Properties: map[string]string{"email": "new@example.com"}}}, nil)
	if err != nil || made.Failed() > 0 {
		t.Fatalf("create: %+v, %v", made, err)
	}
	created := made.Results[0].Record
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := c.BatchRead(t.Context(), "contacts", []int64{created.ID}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if moved := res.Records[0].UpdatedAt.Sub(created.UpdatedAt); moved > 0 {
			if moved < 300*time.Millisecond {
				t.Errorf("a new record was modified again after %v", moved)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a new record is not modified again")
		}
	}
}

func TestEachBadValueHasItsCode(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	if err := s.AddProperty("contacts", sandbox.PropertyDef{Name: "badge", Type: "string", FieldType: "text", HasUniqueValue: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Update("contacts", live(s.Snapshot("contacts"))[0].ID, map[string]string{"badge": "7"}); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ property, value, code string }{
		{"color", "x", "PROPERTY_DOESNT_EXIST"},
		{"email", "example.lcom", "INVALID_EMAIL"},
		{"hs_lead_status", "Maybe", "INVALID_OPTION"},
		{"interests", "leasing;flying", "INVALID_OPTION"},
		{"newsletter", "perhaps", "INVALID_OPTION"},
		{"loyalty_points", "many", "INVALID_INTEGER"},
		{"next_review_at", "1/1/1", "INVALID_LONG"},
		{"date_of_birth", "1700000000001", "INVALID_DATE"},
		{"hs_object_source", "x", "READ_ONLY_VALUE"},
		{"hubspotscore", "1", "READ_ONLY_VALUE"},
		{"hubspot_owner_id", "1", "INVALID_OWNER_ID"},
	}
	in := make([]hubapi.CreateInput, len(cases))
	for i, bad := range cases {
		in[i].Properties = map[string]string{"firstname": strconv.Itoa(i), bad.property: bad.value}
	}
	b, err := c.BatchCreate(t.Context(), "contacts", in, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range cases {
		e := rowIs[*hubapi.ValidationError](t, want.property, b.Results[i].Err)
		if e != nil && (len(e.Details) != 1 || e.Details[0].Code != want.code || e.Details[0].Property != want.property) {
			t.Errorf("%s: %+v, want %s", want.property, e.Details, want.code)
		}
	}
	clash, err := c.BatchCreate(t.Context(), "contacts", []hubapi.CreateInput{{Properties: map[string]string{"badge": "7", "firstname": "x"}}}, nil)
	if err != nil || clash.Failed() != 1 {
		t.Fatalf("a unique value that is taken: %+v, %v", clash, err)
	}
	taken := rowIs[*hubapi.ValidationError](t, "a unique value that is taken", clash.Results[0].Err)
	if taken != nil && (len(taken.Details) != 1 || taken.Details[0].Code != "CONFLICTING_UNIQUE_VALUE" || taken.Details[0].Property != "badge") {
		t.Errorf("a unique value that is taken: %+v", taken.Details)
	}
	for objectType, properties := range map[string]map[string]string{
		"contacts": {"phone": "1"}, "deals": {"amount": "1"}, "tickets": {"subject": "x"}, "notes": {"hs_note_body": "x"},
	} {
		b, err := c.BatchCreate(t.Context(), objectType, []hubapi.CreateInput{{Properties: properties}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rowIs[*hubapi.ValidationError](t, "required in "+objectType, b.Results[0].Err)
	}
}

func TestEachLimitRefusesByItsName(t *testing.T) {
	t.Parallel()
	contact := func(s *sandbox.Server) int64 { return live(s.Snapshot("contacts"))[0].ID }
	for name, c := range map[string]struct {
		cfg    sandbox.Config
		calls  int
		policy string
		call   func(ctx context.Context, c *hubapi.Client, s *sandbox.Server) error
	}{
		"burst": {sandbox.Config{Tier: sandbox.TierStarter}, 101, hubapi.PolicyTenSecondly, func(ctx context.Context, c *hubapi.Client, _ *sandbox.Server) error {
			return listContacts(ctx, c)
		}},
		"search": {sandbox.Config{}, 6, hubapi.PolicySecondly, func(ctx context.Context, c *hubapi.Client, _ *sandbox.Server) error {
			_, err := c.Search(ctx, "contacts", hubapi.SearchRequest{Limit: 1})
			return err
		}},
		"associations": {sandbox.Config{Tier: sandbox.TierStarter}, 101, hubapi.PolicyTenSecondly, func(ctx context.Context, c *hubapi.Client, s *sandbox.Server) error {
			_, err := c.BatchReadAssociations(ctx, "contacts", "companies", []hubapi.AssociationInput{{ID: contact(s)}})
			return err
		}},
		"daily": {sandbox.Config{Tier: sandbox.TierStarter, DailyUsed: 249_999}, 2, hubapi.PolicyDaily, func(ctx context.Context, c *hubapi.Client, _ *sandbox.Server) error {
			return listContacts(ctx, c)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Contacts, c.cfg.Limits = 20, true
			s, client := account(t, c.cfg, hubapi.WithRetry(hubapi.RetryPolicy{LimitTries: 1}))
			// All at once: a window must not roll on meanwhile.
			errs := make([]error, c.calls)
			var g sync.WaitGroup
			for i := range errs {
				g.Go(func() { errs[i] = c.call(t.Context(), client, s) })
			}
			g.Wait()
			refused := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
			if len(refused) != 1 {
				t.Fatalf("%d of %d calls were refused: %v", len(refused), c.calls, errors.Join(refused...))
			}
			if err := wantPolicy(c.policy)(nil, refused[0]); err != nil {
				t.Error(err)
			}
			if st := s.Stats(); st.Violations[name] != 1 {
				t.Errorf("violations %v", st.Violations)
			}
		})
	}
}

// installed is the token source of an app that is installed in a sandbox.
type installed struct {
	url string

	mu       sync.Mutex // guards below
	refresh  string
	token    *oauth2.Token
	exchange int
}

func (i *installed) Token() (*oauth2.Token, error) { return i.Refresh(context.Background(), nil) }

// Refresh implements hubapi.Refresher.
func (i *installed) Refresh(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.token != nil && i.token != refused {
		return i.token, nil
	}
	cfg := oauth2.Config{
		ClientID: sandbox.DefaultClientID, ClientSecret: sandbox.DefaultClientSecret,
		Endpoint: oauth2.Endpoint{TokenURL: i.url + "/oauth/2026-09/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	token, err := cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: i.refresh}).Token()
	if err != nil {
		return nil, err
	}
	i.token, i.refresh = token, token.RefreshToken
	i.exchange++
	return token, nil
}

func TestTokensThatExpireMidRunAreReplacedAndRevokedOnesEndIt(t *testing.T) {
	t.Parallel()
	s := sandbox.New(sandbox.Config{Contacts: 300, Quiet: true, RotateRefreshTokens: true})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	refresh, err := s.Install(sandbox.DefaultClientID, "crm.objects.contacts.read")
	if err != nil {
		t.Fatal(err)
	}
	tokens := &installed{url: srv.URL, refresh: refresh}
	c, err := hubapi.New(srv.URL, tokens, hasty)
	if err != nil {
		t.Fatal(err)
	}
	p := hubapi.NewProjection([]string{"email"})
	var got []hubapi.Record
	for page, err := range c.Objects(t.Context(), "contacts", hubapi.ListOptions{Projection: p, Limit: 50}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.Records...)
		s.ExpireTokens()
	}
	same(t, got, p, live(s.Snapshot("contacts")))
	if tokens.exchange < 5 {
		t.Errorf("%d exchanges of tokens", tokens.exchange)
	}
	_, err = c.ListObjects(t.Context(), "deals", hubapi.ListOptions{})
	rowIs[*hubapi.ScopeError](t, "a scope that was not granted", err)
	if err := s.Uninstall(sandbox.DefaultClientID); err != nil {
		t.Fatal(err)
	}
	refused := rowIs[*hubapi.AuthError](t, "an app that was uninstalled", listContacts(t.Context(), c))
	if refused != nil && refused.Hint == "" {
		t.Error("there is no remedy")
	}
}

func TestEachWithheldScopeEndsItsOwnSurface(t *testing.T) {
	t.Parallel()
	for scope, call := range map[string]func(ctx context.Context, c *hubapi.Client) error{
		"crm.objects.contacts.read": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.Search(ctx, "contacts", hubapi.SearchRequest{})
			return err
		},
		"crm.objects.companies.write": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.BatchCreate(ctx, "companies", []hubapi.CreateInput{{Properties: map[string]string{"name": "x"}}}, nil)
			return err
		},
		"crm.objects.owners.read": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.ListOwners(ctx, false)
			return err
		},
		"crm.lists.read": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.ListSegments(ctx)
			return err
		},
		"forms": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.ListForms(ctx, false)
			return err
		},
		"content": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.ListEmails(ctx, hubapi.EmailOptions{})
			return err
		},
		"marketing.campaigns.read": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.ListCampaigns(ctx, nil)
			return err
		},
		"settings.users.read": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.ListUsers(ctx)
			return err
		},
		"crm.export": func(ctx context.Context, c *hubapi.Client) error {
			_, err := c.StartExport(ctx, hubapi.ExportRequest{Name: "x", ObjectType: "CONTACT", Properties: []string{"email"}})
			return err
		},
	} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			_, c := account(t, sandbox.Config{Contacts: 5, WithheldScopes: []string{scope}})
			if err := wantScope(scope)(nil, call(t.Context(), c)); err != nil {
				t.Error(err)
			}
			if _, err := c.ListObjects(t.Context(), "tickets", hubapi.ListOptions{}); err != nil {
				t.Errorf("tickets: %v", err)
			}
		})
	}
}

func TestTheJournalForgetsAfterThreeDays(t *testing.T) {
	t.Parallel()
	s, c := asApp(t, sandbox.Config{})
	ctx := t.Context()
	j := c.Journal(sandbox.DefaultPortalID)
	if _, err := j.Subscribe(ctx, hubapi.JournalSubscription{Type: "OBJECT", PortalID: sandbox.DefaultPortalID, ObjectTypeID: "0-1"}); err != nil {
		t.Fatal(err)
	}
	var offsets []string
	for i := range 3 {
		if _, err := s.Create("contacts", map[string]string{"firstname": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		entry, err := j.Latest(ctx)
		if err != nil || entry == nil {
			t.Fatalf("journal %+v, %v", entry, err)
		}
		offsets = append(offsets, entry.Offset)
		s.Age(26 * time.Hour)
		// Tokens of the app end, too: HubSpot's live for half an hour.
		_, c = renewed(t, s)
		j = c.Journal(sandbox.DefaultPortalID)
	}
	_, err := j.Next(ctx, offsets[0])
	rowIs[*hubapi.NotFoundError](t, "the offset of three days ago", err)
	if e, err := j.Earliest(ctx); err != nil || e == nil || e.Offset != offsets[1] {
		t.Errorf("earliest %+v, %v; want %s", e, err, offsets[1])
	}
	if e, err := j.Next(ctx, offsets[1]); err != nil || e == nil || e.Offset != offsets[2] {
		t.Errorf("next %+v, %v; want %s", e, err, offsets[2])
	}
}
