package signin_test

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"

	"hubpg/internal/sandbox"
	"hubpg/internal/signin"
)

var discard = slog.New(slog.DiscardHandler)

// afterExchange is a way to the token endpoint on which something happens after each exchange.
type afterExchange func()

func (f afterExchange) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		f()
	}
	return resp, err
}

// TestARefusalThatANewerGrantContradictsDoesNotStay: Postgres is restarted in the instant in which one process has the new
// refresh token and has not stored it yet. Another takes the row, tries the token that HubSpot has just replaced and is
// refused. What the first then stores proves that the account is connected.
func TestARefusalThatANewerGrantContradictsDoesNotStay(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{AutoApprove: true, RotateRefreshTokens: true})
	s, db := connected(t, h)
	other := tokens(h, store(t, db), nil)
	old, err := other.Token()
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	app := h.app()
	app.HTTP = &http.Client{Transport: afterExchange(func() {
		once.Do(func() {
			if _, err := db.Conn(t).Exec(t.Context(), `
select pg_terminate_backend(pid)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%'`); err != nil {
				t.Error(err)
			}
			_, err := other.Refresh(t.Context(), old)
			if _, ok := errors.AsType[*signin.RefusedError](err); !ok {
				t.Errorf("the other process was not refused: %v", err)
			}
		})
	})}
	first := signin.NewTokens(s, app, sandbox.DefaultPortalID, discard)
	next, err := first.Refresh(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]*signin.Tokens{"the other process": other, "a new process": tokens(h, store(t, db), nil)} {
		if got, err := source.Token(); err != nil || got.AccessToken != next.AccessToken {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnotherAppsConnectionIsLeftAlone: the account is connected anew through another app while a process still runs with
// the one before. HubSpot does not take the new refresh token from the old app, which says nothing of the connection.
func TestAnotherAppsConnectionIsLeftAlone(t *testing.T) {
	t.Parallel()
	const id, key = "another-app", "another-secret"
	h := start(t, sandbox.Config{AutoApprove: true, Apps: []sandbox.App{
		{ClientID: sandbox.DefaultClientID, ClientSecret: sandbox.DefaultClientSecret}, {ClientID: id, ClientSecret: key},
	}})
	s, db := connected(t, h)
	before := tokens(h, s, nil)
	if _, err := before.Token(); err != nil {
		t.Fatal(err)
	}
	app := h.app()
	app.ClientID, app.ClientSecret = id, key
	g, err := app.Connect(t.Context(), func(address string) { go browse(t, address) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), id, g); err != nil {
		t.Fatal(err)
	}
	h.ExpireTokens()
	if _, err := db.Conn(t).Exec(t.Context(), "update hubpg.sign_ins set expires_at = clock_timestamp()"); err != nil {
		t.Fatal(err)
	}
	old, err := before.Token()
	if err != nil {
		t.Fatal(err)
	}
	if tok, err := before.Refresh(t.Context(), old); err == nil {
		t.Errorf("the app that was replaced has the token %.8s…", tok.AccessToken)
	} else if e, ok := errors.AsType[*signin.NotConnectedError](err); !ok || e.Hint() == "" {
		t.Errorf("the app that was replaced: %v", err)
	}
	if _, err := signin.NewTokens(store(t, db), app, sandbox.DefaultPortalID, discard).Token(); err != nil {
		t.Errorf("the app that is connected: %v", err)
	}
}
