package signin

import (
	"context"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// appTokenLeft is how much of its life a token of the app must have before it to be used.
const appTokenLeft = 5 * time.Minute

// AppTokens are tokens of an app itself, not of an account that it is connected to: the webhooks journal wants them. They
// are kept in memory only.
type AppTokens struct {
	app    App
	config clientcredentials.Config

	mu      sync.Mutex // guards below; held during an exchange, which all callers need
	current *oauth2.Token
}

// Journal returns tokens of the app itself. Nothing is asked for before the first is needed.
func (a App) Journal(scopes ...string) *AppTokens {
	return &AppTokens{app: a, config: clientcredentials.Config{
		ClientID: a.ClientID, ClientSecret: a.ClientSecret, TokenURL: a.tokenURL(), Scopes: scopes,
		AuthStyle: oauth2.AuthStyleInParams,
	}}
}

// Token returns a token that lives for some minutes.
func (t *AppTokens) Token() (*oauth2.Token, error) { return t.TokenContext(context.Background()) }

// TokenContext is Token for a caller that may leave.
func (t *AppTokens) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && time.Until(t.current.Expiry) > appTokenLeft {
		return t.current, nil
	}
	return t.exchange(ctx)
}

// Refresh returns a token other than refused, which HubSpot did not accept although its time is not over.
func (t *AppTokens) Refresh(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && t.current.AccessToken != refused.AccessToken {
		return t.current, nil
	}
	return t.exchange(ctx)
}

// exchange asks for a token; mu is held. What the endpoint answers beyond it is kept out of errors.
func (t *AppTokens) exchange(ctx context.Context) (*oauth2.Token, error) {
	token, err := t.config.Token(t.app.context(ctx))
	if err != nil {
		return nil, exchangeError(err)
	}
	t.current = token
	return token, nil
}
