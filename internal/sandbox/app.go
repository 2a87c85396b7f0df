package sandbox

import (
	"net"
	"net/url"
	"slices"
)

// The app of a [Config] without any.
const (
	DefaultClientID     = "sandbox-client"
	DefaultClientSecret = "sandbox-secret"
)

// App is a developer's application. It reaches the account by OAuth and hears of changes by webhooks or the journal.
type App struct {
	// ID identifies the app in webhooks (default 1160452 for the first, ascending).
	ID   int64
	Name string

	ClientID     string
	ClientSecret string
	// RedirectURIs are where codes may be sent; without any, every loopback address.
	RedirectURIs []string
	// Scopes are what the app may ask for; without any, every scope there is.
	Scopes []string
	// Private marks an app for one account: it has the account's limits instead of the marketplace's.
	Private bool
	// DeveloperKey is the hapikey that manages the app's webhooks (default "sandbox-developer-key").
	DeveloperKey string
}

// app is an App in this account.
type app struct {
	App
}

// newApps completes the apps of a config.
func newApps(apps []App) []*app {
	var out []*app
	for i, a := range apps {
		if a.ID == 0 {
			a.ID = 1160452 + int64(i)
		}
		if a.Name == "" {
			a.Name = "hubpg"
		}
		if a.DeveloperKey == "" {
			a.DeveloperKey = "sandbox-developer-key"
		}
		out = append(out, &app{a})
	}
	return out
}

// redirects tells whether codes may be sent to uri.
func (a *app) redirects(uri string) bool {
	if len(a.RedirectURIs) > 0 {
		return slices.Contains(a.RedirectURIs, uri)
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// mayAsk tells whether the app may ask for a scope.
func (a *app) mayAsk(scope string) bool {
	return len(a.Scopes) == 0 || slices.Contains(a.Scopes, scope)
}
