package materialize_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/oauth2"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// childFleet, when set, makes the test binary a materializer of several accounts; it holds the accounts as JSON.
const childFleet = "HUBPG_TEST_FLEET"

// childAccount is an account that a child keeps.
type childAccount struct {
	URL     string // of the API
	Schema  string
	Refresh string // refresh token of an app that is installed there; "" for a static token
	Objects []string
	Pace    materialize.Pace
	Soft    bool
}

// fleetChild keeps all accounts until it is killed or its parent has gone.
func fleetChild(ctx context.Context, accounts []byte) error {
	var list []childAccount
	if err := json.Unmarshal(accounts, &list); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // open for as long as the parent lives
		os.Exit(1)
	}()
	pool, err := pgxpool.New(ctx, os.Getenv(childDatabase))
	if err != nil {
		return err
	}
	defer pool.Close()
	g, ctx := errgroup.WithContext(ctx)
	for _, a := range list {
		g.Go(func() error {
			tokens := hubapi.StaticToken(sandbox.DefaultToken)
			if a.Refresh != "" {
				tokens = &refreshing{url: a.URL, refresh: a.Refresh}
			}
			client, err := hubapi.New(a.URL, tokens)
			if err != nil {
				return err
			}
			e, err := materialize.New(materialize.Config{
				Pool: pool, Client: client, Schema: a.Schema, Objects: a.Objects, Pace: a.Pace, SoftDeletes: a.Soft,
				Fetchers: 2, Remember: 1000, BackfillEvents: true, Logger: childLogger().With("schema", a.Schema),
			})
			if err != nil {
				return err
			}
			return e.Run(ctx)
		})
	}
	return g.Wait()
}

// refreshing is a token source that exchanges its refresh token whenever the access token is refused.
type refreshing struct {
	url, refresh string

	mu      sync.Mutex // guards below
	current *oauth2.Token
}

// Token returns the token in hand.
func (r *refreshing) Token() (*oauth2.Token, error) {
	return r.Refresh(context.Background(), nil)
}

// Refresh returns a token other than refused.
func (r *refreshing) Refresh(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && (refused == nil || r.current.AccessToken != refused.AccessToken) {
		return r.current, nil
	}
	form := url.Values{
		"grant_type": {"refresh_token"}, "client_id": {sandbox.DefaultClientID},
		"client_secret": {sandbox.DefaultClientSecret}, "refresh_token": {r.refresh},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/oauth/2026-09/token", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	fresh := &oauth2.Token{}
	if err := json.NewDecoder(resp.Body).Decode(fresh); err != nil || fresh.AccessToken == "" {
		return nil, fmt.Errorf("exchange refresh token: %s, %w", resp.Status, err)
	}
	r.current = fresh
	return fresh, nil
}
