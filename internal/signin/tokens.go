package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/oauth2"
)

// Tokens is the token source of one connected account.
type Tokens struct {
	store   *Store
	app     App
	portal  int64
	log     *slog.Logger
	turn    chan struct{} // held by the one goroutine that renews
	unsaved *unsaved      // guarded by turn

	mu      sync.Mutex // guards below
	current *oauth2.Token
	renewAt time.Time // 80 % of its life
	ends    time.Time
}

// unsaved is a grant that Postgres could not be given yet. The refresh token that it replaces may be dead.
type unsaved struct {
	grant      *Grant
	generation int64
}

const (
	// renewPart is the part of its life that a token is used for.
	renewPart = 0.8
	// retryPause is how long a token that still lives is used after an exchange failed.
	retryPause = 30 * time.Second
	// renewTimeout bounds a renewal, waiting for another process included.
	renewTimeout = time.Minute
)

// NewTokens returns the tokens of an account that was connected through app. It asks for nothing before it must.
func NewTokens(store *Store, app App, portal int64, log *slog.Logger) *Tokens {
	return &Tokens{store: store, app: app, portal: portal, log: log, turn: make(chan struct{}, 1)}
}

// Token returns a token that has a fifth of its life before it.
func (t *Tokens) Token() (*oauth2.Token, error) { return t.TokenContext(context.Background()) }

// TokenContext is Token for a caller that may leave.
func (t *Tokens) TokenContext(ctx context.Context) (*oauth2.Token, error) { return t.get(ctx, "") }

// Refresh returns a token other than refused, which HubSpot did not accept although its time is not over.
func (t *Tokens) Refresh(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	return t.get(ctx, refused.AccessToken)
}

// get returns the token in hand while it is good, and otherwise lets one caller renew it.
func (t *Tokens) get(ctx context.Context, refused string) (*oauth2.Token, error) {
	tok, fresh := t.inHand(refused)
	if fresh {
		return tok, nil
	}
	if tok != nil { // it still lives: nobody waits for the one who renews
		select {
		case t.turn <- struct{}{}:
		default:
			return tok, nil
		}
	} else {
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer func() { <-t.turn }()
	if tok, fresh = t.inHand(refused); fresh {
		return tok, nil
	}
	// A caller that leaves must not take a refresh token along that HubSpot has just replaced.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTimeout)
	defer cancel()
	next, err := t.renew(work, refused, tok == nil)
	if err == nil {
		return next, nil
	}
	if tok != nil && (errors.Is(err, errNoRow) || temporary(err)) {
		t.log.Warn("token not refreshed, the old one stays in use", slog.Int64("portal", t.portal), slog.String("error", err.Error()))
		t.mu.Lock()
		t.renewAt = time.Now().Add(retryPause)
		t.mu.Unlock()
		return tok, nil
	}
	if errors.Is(err, errNoRow) {
		return nil, &NotConnectedError{PortalID: t.portal}
	}
	return nil, err
}

// inHand returns the token that lives and was not refused; fresh says that it is not yet to be renewed.
func (t *Tokens) inHand(refused string) (tok *oauth2.Token, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.current == nil || t.current.AccessToken == refused || !now.Before(t.ends) {
		return nil, false
	}
	return t.current, now.Before(t.renewAt)
}

func (t *Tokens) keep(access string, left, life time.Duration) *oauth2.Token {
	now := time.Now()
	tok := &oauth2.Token{AccessToken: access, TokenType: "Bearer", Expiry: now.Add(left)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.ends, t.renewAt = tok, tok.Expiry, tok.Expiry.Add(-time.Duration((1-renewPart)*float64(life)))
	return tok
}

// renew takes the stored token when another process has renewed it, and exchanges the refresh token otherwise. Must says
// that there is no token to go on with, so that it waits for a process that is at it.
func (t *Tokens) renew(ctx context.Context, refused string, must bool) (*oauth2.Token, error) {
	if u := t.unsaved; u != nil {
		if err := t.store.renewed(ctx, t.store.Pool, t.portal, u.generation, u.grant); err != nil {
			return nil, &storeError{err}
		}
		t.unsaved = nil
	}
	tx, err := t.store.Pool.Begin(ctx)
	if err != nil {
		return nil, &storeError{err}
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	row, err := t.store.lock(ctx, tx, t.portal, t.app.ClientID, must)
	switch {
	case errors.Is(err, errNoRow):
		return nil, err
	case err != nil:
		return nil, storeFailure(err)
	case row.refused != nil:
		return nil, &RefusedError{PortalID: t.portal, Reason: *row.refused}
	case row.access != refused && row.left > time.Duration((1-renewPart)*float64(row.life)):
		return t.keep(row.access, row.left, row.life), nil
	}
	g, err := t.app.refresh(ctx, row.refresh)
	if e, ok := errors.AsType[*ExchangeError](err); ok && e.Code == "invalid_grant" {
		if err := t.refuse(ctx, tx, e.Reason); err != nil {
			return nil, err
		}
		return nil, &RefusedError{PortalID: t.portal, Reason: e.Reason}
	}
	if err != nil {
		return nil, err
	}
	if err := t.put(ctx, tx, row.generation, g); err != nil {
		t.unsaved = &unsaved{g, row.generation}
		t.log.Error("new tokens not stored, kept in memory until they are", slog.Int64("portal", t.portal), slog.String("error", err.Error()))
	}
	return t.keep(g.AccessToken, g.Life, g.Life), nil
}

func (t *Tokens) refuse(ctx context.Context, tx pgx.Tx, reason string) error {
	err := t.store.refused(ctx, tx, t.portal, reason)
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		return &storeError{err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = nil
	return nil
}

// put stores the grant: in the transaction that holds the row, or, when that is lost, by itself. HubSpot may have
// replaced the refresh token, so it is tried for long.
func (t *Tokens) put(ctx context.Context, tx pgx.Tx, generation int64, g *Grant) error {
	err := t.store.renewed(ctx, tx, t.portal, generation, g)
	if err == nil {
		err = tx.Commit(ctx)
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for wait := 200 * time.Millisecond; err != nil; wait = min(2*wait, 5*time.Second) {
		pause.Reset(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return &storeError{err}
		}
		err = t.store.renewed(ctx, t.store.Pool, t.portal, generation, g)
	}
	return nil
}

// execer is a connection, a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

// RefusedError says that HubSpot does not take the account's refresh token any more.
type RefusedError struct {
	PortalID int64
	Reason   string
}

// Error says so.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("account %d is not connected any more: %s", e.PortalID, e.Reason)
}

// Hint says what to do.
func (e *RefusedError) Hint() string { return connectHint }

// NotConnectedError says that the account was never connected, or was connected anew through another app.
type NotConnectedError struct{ PortalID int64 }

// Error says so.
func (e *NotConnectedError) Error() string {
	return fmt.Sprintf("account %d is not connected to this database through this app", e.PortalID)
}

// Hint says what to do.
func (e *NotConnectedError) Hint() string {
	return "run hubpg connect to sign in to the account, or give the client_id of the app that it is connected through"
}

// storeError is a failure of Postgres, which passes.
type storeError struct{ err error }

func (e *storeError) Error() string   { return "keep sign-in: " + e.err.Error() }
func (e *storeError) Unwrap() error   { return e.err }
func (e *storeError) Temporary() bool { return true }

func storeFailure(err error) error {
	if _, ok := errors.AsType[*SealError](err); ok {
		return err
	}
	return &storeError{err}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
