package signin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"hubpg/hubapi"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/internal/secret"
	"hubpg/internal/signin"
	"hubpg/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// hub is a simulated account whose token endpoint counts and can be made to fail.
type hub struct {
	*sandbox.Server
	url       string
	exchanges atomic.Int64
	fail      atomic.Int64 // status of the token endpoint, 0 for its own
}

func start(t *testing.T, cfg sandbox.Config) *hub {
	t.Helper()
	cfg.Empty, cfg.Quiet = true, true
	h := &hub{Server: sandbox.New(cfg)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			h.exchanges.Add(1)
			if status := h.fail.Load(); status != 0 {
				w.WriteHeader(int(status))
				return
			}
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

func (h *hub) app() signin.App {
	return signin.App{
		ClientID: sandbox.DefaultClientID, ClientSecret: sandbox.DefaultClientSecret,
		AuthorizeURL: h.url + "/oauth/authorize", APIURL: h.url, RedirectURL: "http://127.0.0.1:0/callback",
		Scopes: []string{"crm.objects.contacts.read"}, OptionalScopes: []string{"crm.objects.deals.read"},
	}
}

func store(t *testing.T, db *pgtest.DB) *signin.Store {
	t.Helper()
	k, err := secret.NewKeyring(bytes.Repeat([]byte{7}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return &signin.Store{Pool: db.Pool(t), Sealer: k}
}

// browse does what a browser does on an account whose user approves.
func browse(t *testing.T, address string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("callback answers %d, %v", resp.StatusCode, err)
	}
}

// connected returns a store with a connected account.
func connected(t *testing.T, h *hub) (*signin.Store, *pgtest.DB) {
	t.Helper()
	db := pgtest.Migrated(t, migrations.Up)
	s := store(t, db)
	g, err := h.app().Connect(t.Context(), func(address string) { go browse(t, address) })
	if err != nil {
		t.Fatal(err)
	}
	if g.PortalID != sandbox.DefaultPortalID || len(g.Scopes) != 3 || g.Life <= 0 {
		t.Fatalf("granted %d, %v for %s", g.PortalID, g.Scopes, g.Life)
	}
	if err := s.Save(t.Context(), sandbox.DefaultClientID, g); err != nil {
		t.Fatal(err)
	}
	return s, db
}

func tokens(h *hub, s *signin.Store, log io.Writer) *signin.Tokens {
	if log == nil {
		log = io.Discard
	}
	return signin.NewTokens(s, h.app(), sandbox.DefaultPortalID, slog.New(slog.NewTextHandler(log, nil)))
}

func TestConnectedAccountIsReadAndTokensAreSealed(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true})
	s, db := connected(t, h)
	if list, err := s.Portals(t.Context(), sandbox.DefaultClientID); err != nil || len(list) != 1 {
		t.Errorf("portals %v, %v", list, err)
	}
	source := tokens(h, s, nil)
	c, err := hubapi.New(h.url, source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListObjects(t.Context(), "contacts", hubapi.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := h.exchanges.Load(); n != 1 {
		t.Errorf("%d exchanges, the first token was enough", n)
	}
	tok, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	var dump string
	if err := db.Conn(t).QueryRow(t.Context(), "select encode(access_token, 'escape') || s::text from hubpg.sign_ins s").Scan(&dump); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(dump, tok.AccessToken[:20]) {
		t.Error("the row shows the token")
	}
}

func TestExpiredTokenIsRefreshedOnceByAllProcesses(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true, RotateRefreshTokens: true})
	s, db := connected(t, h)
	sources := []*signin.Tokens{tokens(h, s, nil), tokens(h, store(t, db), nil)} // two processes
	for round := range int64(3) {
		var wg sync.WaitGroup
		before := h.exchanges.Load()
		olds := make([]*oauth2.Token, len(sources))
		for i, source := range sources {
			var err error
			if olds[i], err = source.Token(); err != nil {
				t.Fatal(err)
			}
		}
		h.ExpireTokens()
		for i := range 16 {
			source := sources[i%2]
			wg.Go(func() {
				got, err := source.Refresh(t.Context(), olds[i%2])
				if err != nil || got.AccessToken == olds[i%2].AccessToken {
					t.Errorf("refresh: %v", err)
				}
			})
		}
		wg.Wait()
		// The second process's old token may already be the one before: it then takes the stored one.
		if n := h.exchanges.Load() - before; n != 1 {
			t.Errorf("round %d: %d exchanges", round, n)
		}
		for _, source := range sources {
			c, err := hubapi.New(h.url, source)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.GetAccount(t.Context()); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
}

func TestTokenIsRenewedBeforeItEnds(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true, TokenLife: 2 * time.Second})
	s, _ := connected(t, h)
	c, err := hubapi.New(h.url, tokens(h, s, nil))
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := c.GetAccount(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refused.Store(h.Stats().ByStatus[http.StatusUnauthorized])
	if refused.Load() > 1 || h.exchanges.Load() < 3 {
		t.Errorf("%d calls refused, %d exchanges", refused.Load(), h.exchanges.Load())
	}
}

func TestFailingTokenEndpointIsSurvivedWhileTheTokenLives(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true})
	s, db := connected(t, h)
	var log bytes.Buffer
	source := tokens(h, s, &log)
	old, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	h.fail.Store(http.StatusBadGateway)
	c, err := hubapi.New(h.url, source, hubapi.WithRetry(hubapi.RetryPolicy{Tries: 2, Initial: time.Millisecond, Max: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	h.ExpireTokens()
	_, err = c.GetAccount(t.Context())
	if _, ok := errors.AsType[*hubapi.UnavailableError](err); !ok {
		t.Errorf("a token endpoint that is away: %T %v", err, err)
	}
	if err != nil && strings.Contains(err.Error(), old.AccessToken) || strings.Contains(log.String(), old.AccessToken) {
		t.Error("the token is shown")
	}
	h.fail.Store(0)
	if _, err := c.GetAccount(t.Context()); err != nil {
		t.Errorf("it is back: %v", err)
	}
	// A fifth of the life is left: it is to be renewed, and lives.
	if _, err := db.Conn(t).Exec(t.Context(), "update hubpg.sign_ins set expires_at = clock_timestamp() + interval '100 s'"); err != nil {
		t.Fatal(err)
	}
	h.fail.Store(http.StatusServiceUnavailable)
	late := tokens(h, s, nil)
	if _, err := late.Token(); err == nil {
		t.Error("a process without a token in hand had one without an exchange")
	}
	h.fail.Store(0)
	if _, err := late.Token(); err != nil {
		t.Error(err)
	}
}

func TestRefusedRefreshTokenEndsTheSignInUntilConnectedAgain(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true})
	s, db := connected(t, h)
	source := tokens(h, s, nil)
	c, err := hubapi.New(h.url, source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Uninstall(sandbox.DefaultClientID); err != nil {
		t.Fatal(err)
	}
	old, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err = source.Refresh(t.Context(), old)
		if e, ok := errors.AsType[*signin.RefusedError](err); !ok || e.PortalID != sandbox.DefaultPortalID {
			t.Fatalf("refresh: %v", err)
		}
	}
	before := h.exchanges.Load()
	_, err = tokens(h, store(t, db), nil).Token() // another process learns it from the row
	if _, ok := errors.AsType[*signin.RefusedError](err); !ok || h.exchanges.Load() != before {
		t.Errorf("another process: %v after %d exchanges", err, h.exchanges.Load()-before)
	}
	_, err = c.GetAccount(t.Context())
	if _, ok := errors.AsType[*hubapi.AuthError](err); !ok || !strings.Contains(hubapi.Hint(err), "hubpg connect") {
		t.Errorf("a call: %v, hint %q", err, hubapi.Hint(err))
	}
	g, err := h.app().Connect(t.Context(), func(address string) { go browse(t, address) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), sandbox.DefaultClientID, g); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetAccount(t.Context()); err != nil {
		t.Errorf("connected again: %v", err)
	}
}

func TestOnlyTheBrowserWithTheStateEndsTheWait(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	ask := func(address string, change func(url.Values)) int {
		u, err := url.Parse(address)
		if err != nil {
			t.Error(err)
			return 0
		}
		back, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			t.Error(err)
			return 0
		}
		q := url.Values{"code": {"stolen"}, "state": {u.Query().Get("state")}}
		change(q)
		back.RawQuery = q.Encode()
		resp, err := http.Get(back.String())
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	_, err := h.app().Connect(t.Context(), func(address string) {
		if q, err := url.ParseQuery(address); err != nil || q.Get("code_challenge_method") != "S256" || len(q.Get("state")) < 20 {
			t.Errorf("address %s", address)
		}
		go func() {
			for _, wrong := range []func(url.Values){
				func(q url.Values) { q.Set("state", "guess") }, func(q url.Values) { q.Del("state") }, func(q url.Values) { q.Del("code") },
			} {
				if got := ask(address, wrong); got != http.StatusBadRequest {
					t.Errorf("a stranger was answered %d", got)
				}
			}
			ask(address, func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") })
		}()
	})
	if e, ok := errors.AsType[*signin.DeniedError](err); !ok || e.Code != "access_denied" {
		t.Errorf("denied: %v", err)
	}
	_, err = h.app().Connect(t.Context(), func(address string) {
		go ask(address, func(url.Values) {})
	})
	if e, ok := errors.AsType[*signin.ExchangeError](err); !ok || e.Code != "invalid_grant" || strings.Contains(err.Error(), "stolen") {
		t.Errorf("wrong code: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.app().Connect(ctx, func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody came: %v", err)
	}
	far := h.app()
	far.RedirectURL = "http://example.com/callback"
	if _, err := far.Connect(t.Context(), func(string) {}); err == nil {
		t.Error("a redirect to elsewhere was taken")
	}
}

func TestAnotherKeyCannotOpenTheTokens(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true})
	_, db := connected(t, h)
	other, err := secret.NewKeyring(bytes.Repeat([]byte{8}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tokens(h, &signin.Store{Pool: db.Pool(t), Sealer: other}, nil).Token()
	if e, ok := errors.AsType[*signin.SealError](err); !ok || !strings.Contains(e.Hint(), "HUBPG_SECRET_KEY") {
		t.Errorf("another key: %v", err)
	}
}

func TestJournalTokensBelongToTheApp(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	source := h.app().Journal("developer.webhooks_journal.read")
	first, err := source.Token()
	if err != nil || first.AccessToken == "" {
		t.Fatal(err)
	}
	if again, err := source.Token(); err != nil || again.AccessToken != first.AccessToken || h.exchanges.Load() != 1 {
		t.Errorf("a living token was asked for again: %v", err)
	}
	// HubSpot may end a token before its time.
	second, err := source.Refresh(t.Context(), first)
	if err != nil || second.AccessToken == first.AccessToken || h.exchanges.Load() != 2 {
		t.Errorf("a refused token was not replaced: %v", err)
	}
	if again, err := source.Refresh(t.Context(), first); err != nil || again.AccessToken != second.AccessToken || h.exchanges.Load() != 2 {
		t.Errorf("two callers with one refused token made two exchanges: %v", err)
	}
	bad := h.app()
	bad.ClientSecret = "very-secret"
	_, err = bad.Journal("developer.webhooks_journal.read").Token()
	if e, ok := errors.AsType[*signin.ExchangeError](err); !ok || e.Code != "invalid_client" || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("wrong secret: %v", err)
	}
}
