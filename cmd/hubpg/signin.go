package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hubpg/hubapi"
	"hubpg/internal/config"
	"hubpg/internal/secret"
	"hubpg/internal/signin"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/oauth2"
)

var (
	_ hubapi.Refresher = (*signin.Tokens)(nil)
	_ signin.Sealer    = (*secret.Keyring)(nil)
)

// tokens returns the tokens of the account: the one given, or those of the account that was connected.
func (a *App) tokens(ctx context.Context, known int64) (oauth2.TokenSource, error) {
	if !a.cfg.HubSpot.Connects() {
		return hubapi.StaticToken(a.cfg.HubSpot.Token.Reveal()), nil
	}
	store, err := signInStore(a.cfg, a.pool)
	if err != nil {
		return nil, err
	}
	portals, err := store.Portals(ctx, a.cfg.HubSpot.ClientID)
	if err != nil {
		return nil, err
	}
	portal := known
	switch {
	case known != 0 && slices.Contains(portals, known):
	case known == 0 && len(portals) == 1:
		portal = portals[0]
	case len(portals) == 0 || known != 0:
		return nil, fail(nil, "run hubpg connect with the same database", "no HubSpot account is connected for schema %s", a.cfg.Schema)
	default:
		return nil, fail(nil, "use one database per account", "%d HubSpot accounts are connected to this database", len(portals))
	}
	return signin.NewTokens(store, hubspotApp(a.cfg), portal, a.log), nil
}

// signInStore opens the stored tokens with the key that is given, or with that of the key file.
func signInStore(c *config.Config, pool *pgxpool.Pool) (*signin.Store, error) {
	ring, path, err := keyring(c)
	if err != nil {
		hint := "give 32 random bytes in base64, for instance from: openssl rand -base64 32"
		if path != "" {
			hint = "make the file readable for hubpg's user alone, or give the key in HUBPG_SECRET_KEY"
		}
		return nil, fail(err, hint, "the secret key cannot be used: %s", oneLine(err.Error()))
	}
	return &signin.Store{Pool: pool, Sealer: ring}, nil
}

func keyring(c *config.Config) (ring *secret.Keyring, path string, err error) {
	if c.SecretKey != "" {
		keys, err := secret.ParseKeys(c.SecretKey.Reveal())
		if err != nil {
			return nil, "", err
		}
		ring, err = secret.NewKeyring(keys...)
		return ring, "", err
	}
	if path = c.SecretKeyFile; path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, "", fmt.Errorf("no place for a key file: %w", err)
		}
		path = filepath.Join(dir, "hubpg", "secret.key")
	}
	ring, err = secret.LoadOrCreate(path)
	return ring, path, err
}

// hubspotApp is the app of the configuration.
func hubspotApp(c *config.Config) signin.App {
	optional := strings.Fields(c.HubSpot.OptionalScopes)
	if c.HubSpot.OptionalScopes == "auto" {
		optional = usefulScopes()
	}
	return signin.App{
		ClientID: c.HubSpot.ClientID, ClientSecret: c.HubSpot.ClientSecret.Reveal(),
		AuthorizeURL: c.HubSpot.AuthorizeURL, APIURL: c.HubSpot.URL, RedirectURL: c.HubSpot.RedirectURL,
		Scopes: strings.Fields(c.HubSpot.Scopes), OptionalScopes: optional,
	}
}

// usefulScopes are the scopes of everything that hubpg reads.
func usefulScopes() []string {
	scopes := map[string]bool{
		"crm.objects.owners.read": true, "crm.objects.custom.read": true, "crm.schemas.custom.read": true,
		"crm.schemas.contacts.read": true, "crm.schemas.companies.read": true, "crm.schemas.deals.read": true,
		"crm.lists.read": true,
	}
	for _, t := range hubapi.StandardTypes() {
		scopes[t.ReadScope] = true
	}
	return slices.Sorted(maps.Keys(scopes))
}
