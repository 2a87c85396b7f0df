package config

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Defaults of the settings that have one.
const (
	DefaultHubSpotURL   = "https://api.hubapi.com"
	DefaultAuthorizeURL = "https://app.hubspot.com/oauth/authorize"
	DefaultRedirectURL  = "http://localhost:8098/callback"
	DefaultProxyListen  = "127.0.0.1:6543"
	DefaultHTTPListen   = "127.0.0.1:8099"
	DefaultSchema       = "hubspot"
	DefaultShare        = 1.0 / 3
)

// Role says which part of hubpg a process runs.
type Role string

// The roles. RoleAll is both others in one process.
const (
	RoleAll         Role = "all"
	RoleMaterialize Role = "materialize"
	RoleProxy       Role = "proxy"
)

// Materializes reports whether the role keeps tables true.
func (r Role) Materializes() bool { return r == RoleAll || r == RoleMaterialize }

// Proxies reports whether the role serves the Postgres protocol.
func (r Role) Proxies() bool { return r == RoleAll || r == RoleProxy }

// Config is everything that hubpg can be told.
type Config struct {
	HubSpot  HubSpot
	Database Database
	Proxy    Proxy
	HTTP     HTTP
	Log      Log
	Webhooks Webhooks

	Role   Role
	Schema string // of the account's tables
	Notify string // rows: direct connections can LISTEN too; off: only through the proxy

	// Journal says whether HubSpot's webhooks journal is followed: auto: where an app is given; off: never.
	Journal string

	SecretKey     Secret // seals stored tokens
	SecretKeyFile string // holds the key where SecretKey is not given

	// Deletes is what becomes of deleted records: hard: their rows leave the table; soft: they stay with archived_at set.
	Deletes string
	// Objects are the only tables of the account that are kept, separated by commas; empty: all that the token may read.
	Objects string
	// NewProperties is what becomes of properties that HubSpot gains later: add: they get a column; ignore: they do not.
	NewProperties string
	// KeepChanges is how long the change log is kept.
	KeepChanges string
	// BackfillEvents makes the first filling of a table write the change log too.
	BackfillEvents bool
	// TakeOver lets the process listen where another hubpg of the same user does, to replace it.
	TakeOver bool

	origins map[string]string // key of a setting → where its value came from
}

// HubSpot is the account.
type HubSpot struct {
	URL            string
	Token          Secret
	TokenFile      string
	ClientID       string // of the app that the account is connected through, instead of a token
	ClientSecret   Secret
	Scopes         string // that the app requires, separated by spaces
	OptionalScopes string // auto: all that are of use
	AuthorizeURL   string
	RedirectURL    string

	Share  float64 // of the account's quota that hubpg may use
	Limits string  // real: keep HubSpot's limits; off: only for a sandbox that has none
}

// Database is where the tables are kept.
type Database struct {
	URL Secret // may hold a password
}

// Proxy is the Postgres protocol's side.
type Proxy struct {
	Listen  string
	TLSCert string
	TLSKey  string

	TLSClientCA string // authorities of the certificates that clients must show, if any
	TLSRequired bool
	Socket      string // directory

	Auth      string // auto, relay, password or scram
	AuthURL   Secret // where AuthQuery runs; the database's if empty
	AuthQuery string // of auth scram; of pg_authid if empty

	ListenerIdle string // silence after which a client that only listens has no backend, or off

	EventLoop bool // carries sessions that chat

	// Sessions at once; 0 is the proxy's default, and no limit for a role.
	MaxSessions           int
	MaxSessionsPerAddress int
	MaxSessionsPerRole    int

	KeepBackends int // whose clients have left, for the next ones; 0 is none

	// MiB, of all sessions; 0 is the proxy's default
	StatementMemory int
	CopyDisk        int
}

// Idle is ListenerIdle as a duration, less than 0 for off.
func (p *Proxy) Idle() (time.Duration, error) {
	if p.ListenerIdle == "off" {
		return -1, nil
	}
	idle, err := time.ParseDuration(p.ListenerIdle)
	if err != nil || idle <= 0 {
		return 0, fmt.Errorf("%q is no length of time", p.ListenerIdle)
	}
	return idle, nil
}

// HTTP is the side of health checks, metrics and the status page.
type HTTP struct {
	Listen string
}

// Webhooks say how HubSpot's webhooks are told from forgeries. They are taken where the secret of an app is given.
type Webhooks struct {
	URL        string // that HubSpot calls, where the request does not say
	Signatures string // v3, or any: older ones too, which can be replayed
}

// Log says what is logged to standard error, and how.
type Log struct {
	Level  string
	Format string
}

// Default returns the configuration of a process that was told nothing.
func Default() *Config {
	return &Config{
		HubSpot: HubSpot{
			URL: DefaultHubSpotURL, Share: DefaultShare, Limits: "real",
			Scopes: "oauth", OptionalScopes: "auto", AuthorizeURL: DefaultAuthorizeURL, RedirectURL: DefaultRedirectURL,
		},
		Proxy:   Proxy{Listen: DefaultProxyListen, Auth: "auto", ListenerIdle: "5s", EventLoop: true},
		HTTP:    HTTP{Listen: DefaultHTTPListen},
		Log:     Log{Level: "info", Format: "text"},
		Role:    RoleAll,
		Schema:  DefaultSchema,
		Notify:  "rows",
		Deletes: "hard",
		origins: map[string]string{},

		Webhooks: Webhooks{Signatures: "v3"},
		Journal:  "auto",

		NewProperties: "add",
		KeepChanges:   "168h",
	}
}

// ObjectNames are the names in Objects.
func (c *Config) ObjectNames() []string {
	if c.Objects == "" {
		return nil
	}
	names := strings.Split(c.Objects, ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	return names
}

// isTable reports whether a table of an account could have the name.
func isTable(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// Keep is KeepChanges as a duration.
func (c *Config) Keep() (time.Duration, error) {
	keep, err := time.ParseDuration(c.KeepChanges)
	if err != nil {
		return 0, fmt.Errorf("%q is no length of time", c.KeepChanges)
	}
	if keep < time.Hour {
		return 0, fmt.Errorf("%q is too short", c.KeepChanges)
	}
	return keep, nil
}

// Error says which setting cannot be used, and what to do about it.
type Error struct {
	Setting string // its key, or the file and line
	Problem string
	hint    string
}

// Error names the setting and the problem.
func (e *Error) Error() string { return e.Setting + ": " + e.Problem }

// Hint is the next step.
func (e *Error) Hint() string { return e.hint }

// Validate reports the first setting with which the role cannot run.
func (c *Config) Validate() error {
	checks := []func() error{c.checkRole, c.checkDatabase, c.checkLog, c.checkFeeds}
	if c.Role.Materializes() {
		checks = append(checks, c.checkHubSpot, c.checkTables)
	}
	if c.Role.Proxies() {
		checks = append(checks, c.checkProxy)
	}
	if c.HTTP.Listen != "" {
		checks = append(checks, func() error { return c.checkListen("http.listen", c.HTTP.Listen) })
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// ValidateDatabase reports why the database cannot be used, for the verbs that need nothing else.
func (c *Config) ValidateDatabase() error { return c.checkDatabase() }

// ValidateConnect reports why no account can be connected through an app.
func (c *Config) ValidateConnect() error { return c.checkApp() }

// Connects reports whether the account is reached through an app rather than with a token.
func (h *HubSpot) Connects() bool { return h.Token == "" && h.ClientID != "" }

// checkApp reports why the app cannot be used.
func (c *Config) checkApp() error {
	h := &c.HubSpot
	if h.ClientID == "" {
		return c.bad("hubspot.client_id", "no app is given",
			"set HUBPG_HUBSPOT_CLIENT_ID and HUBPG_HUBSPOT_CLIENT_SECRET to those of your app in HubSpot")
	}
	if h.ClientSecret == "" {
		return c.bad("hubspot.client_secret", "is not given", "set HUBPG_HUBSPOT_CLIENT_SECRET to the secret of the app in HubSpot")
	}
	if u, err := url.Parse(h.AuthorizeURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return c.bad("hubspot.authorize_url", fmt.Sprintf("%q is not an http or https URL", h.AuthorizeURL),
			"leave it out for HubSpot itself ("+DefaultAuthorizeURL+")")
	}
	u, err := url.Parse(h.RedirectURL)
	if ip := net.ParseIP(hostname(u)); err != nil || u.Scheme != "http" || hostname(u) != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return c.bad("hubspot.redirect_url", fmt.Sprintf("%q is not http on a loopback address", h.RedirectURL),
			"register "+DefaultRedirectURL+" with the app, or give the loopback address that is registered")
	}
	return nil
}

func hostname(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Hostname()
}

// ValidateHubSpot reports why the account cannot be used, for the verbs that read it.
func (c *Config) ValidateHubSpot() error { return c.checkHubSpot() }

func (c *Config) checkRole() error {
	switch c.Role {
	case RoleAll, RoleMaterialize, RoleProxy:
		return nil
	}
	return c.bad("role", fmt.Sprintf("%q is no role", c.Role), "use all, materialize or proxy")
}

func (c *Config) checkDatabase() error {
	const key = "database.url"
	text := c.Database.URL.Reveal()
	if text == "" {
		return c.bad(key, "no database is given",
			"set HUBPG_DATABASE_URL to the URL of a Postgres database that hubpg may own, or try hubpg demo, which brings its own")
	}
	u, err := url.Parse(text)
	if err != nil {
		return c.bad(key, "is not a URL", "use postgres://user:password@host:5432/database; percent-encode special characters")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return c.bad(key, fmt.Sprintf("has the scheme %q", u.Scheme), "use postgres://user:password@host:5432/database")
	}
	return nil
}

func (c *Config) checkHubSpot() error {
	u, err := url.Parse(c.HubSpot.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return c.bad("hubspot.url", fmt.Sprintf("%q is not an http or https URL", c.HubSpot.URL),
			"leave it out for HubSpot itself ("+DefaultHubSpotURL+") or give the URL of a hubpg sandbox")
	}
	if c.HubSpot.Token == "" && c.HubSpot.ClientID != "" {
		if err := c.checkApp(); err != nil {
			return err
		}
	} else if c.HubSpot.Token == "" {
		return c.bad("hubspot.token", "no access token is given",
			"set HUBPG_HUBSPOT_TOKEN or HUBPG_HUBSPOT_TOKEN_FILE to the token of a private app or service key "+
				"(the token of a sandbox is sandbox), or hubspot.client_id to connect through an app")
	}
	if strings.ContainsFunc(c.HubSpot.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		key := "hubspot.token"
		if c.HubSpot.TokenFile != "" {
			key = "hubspot.token_file"
		}
		return c.bad(key, "holds white space or another character that no token has",
			"copy the token again as plain text, on one line and without a byte order mark")
	}
	if c.HubSpot.Share <= 0 || c.HubSpot.Share > 1 || math.IsNaN(c.HubSpot.Share) {
		return c.bad("hubspot.share", fmt.Sprintf("%v is not a share", c.HubSpot.Share),
			"give the part of the account's quota that hubpg may use, over 0 and at most 1")
	}
	if c.HubSpot.Limits != "real" && c.HubSpot.Limits != "off" {
		return c.bad("hubspot.limits", fmt.Sprintf("%q is unknown", c.HubSpot.Limits), "use real, or off for a sandbox without limits")
	}
	if host := u.Hostname(); c.HubSpot.Limits == "off" && (host == "hubapi.com" || strings.HasSuffix(host, ".hubapi.com")) {
		return c.bad("hubspot.limits", "HubSpot has limits", "leave it at real; off is for a sandbox that has none")
	}
	return nil
}

func (c *Config) checkTables() error {
	if c.Notify != "rows" && c.Notify != "off" {
		return c.bad("notify", fmt.Sprintf("%q is unknown", c.Notify), "use rows or off")
	}
	if c.Deletes != "hard" && c.Deletes != "soft" {
		return c.bad("deletes", fmt.Sprintf("%q is unknown", c.Deletes), "use hard or soft")
	}
	for _, name := range c.ObjectNames() {
		if !isTable(name) {
			return c.bad("objects", fmt.Sprintf("%q is not the name of a table", name),
				"use names as hubpg status shows them, separated by commas, such as contacts,companies; leave it out for all")
		}
	}
	if c.NewProperties != "add" && c.NewProperties != "ignore" {
		return c.bad("new_properties", fmt.Sprintf("%q is unknown", c.NewProperties), "use add or ignore")
	}
	if _, err := c.Keep(); err != nil {
		return c.bad("keep_changes", err.Error(), "use a duration of an hour or more, such as 168h")
	}
	if c.Schema == "" || len(c.Schema) > 40 || c.Schema == "hubpg" || strings.HasPrefix(c.Schema, "pg_") {
		return c.bad("schema", fmt.Sprintf("%q cannot be the schema of an account", c.Schema),
			"use a name of at most 40 bytes that is neither hubpg nor begins with pg_")
	}
	return nil
}

// checkFeeds reports why what HubSpot tells by itself cannot be heard.
func (c *Config) checkFeeds() error {
	if c.Journal != "auto" && c.Journal != "off" {
		return c.bad("journal", fmt.Sprintf("%q is unknown", c.Journal), "use auto or off")
	}
	if c.Webhooks.Signatures != "v3" && c.Webhooks.Signatures != "any" {
		return c.bad("webhooks.signatures", fmt.Sprintf("%q is unknown", c.Webhooks.Signatures),
			"use v3, or any for an app that signs with version 1 or 2 only")
	}
	if c.Webhooks.URL == "" {
		return nil
	}
	u, err := url.Parse(c.Webhooks.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
		return c.bad("webhooks.url", fmt.Sprintf("%q is not an http or https URL without a query", c.Webhooks.URL),
			"give the target URL of the app in HubSpot, such as https://hubpg.example.com/webhooks/hubspot")
	}
	return nil
}

func (c *Config) checkProxy() error {
	if err := c.checkListen("proxy.listen", c.Proxy.Listen); err != nil {
		return err
	}
	if (c.Proxy.TLSCert == "") != (c.Proxy.TLSKey == "") {
		return c.bad("proxy.tls_cert", "certificate and key are not both given", "set proxy.tls_cert and proxy.tls_key")
	}
	if _, err := c.Proxy.Idle(); err != nil {
		return c.bad("proxy.listener_idle", err.Error(), "use a duration such as 5s, or off")
	}
	if err := c.checkProxyAuth(); err != nil {
		return err
	}
	for key, path := range map[string]string{
		"proxy.tls_cert": c.Proxy.TLSCert, "proxy.tls_key": c.Proxy.TLSKey,
		"proxy.tls_client_ca": c.Proxy.TLSClientCA, "proxy.socket": c.Proxy.Socket,
	} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return c.bad(key, err.Error(), "give the path of a file or directory that hubpg may read")
		}
	}
	return nil
}

// checkProxyAuth checks how clients are let in, and how many.
func (c *Config) checkProxyAuth() error {
	p := &c.Proxy
	const needed = "set proxy.tls_cert and proxy.tls_key"
	switch {
	case p.TLSCert != "":
	case p.TLSRequired:
		return c.bad("proxy.tls_required", "there is no certificate to show", needed)
	case p.TLSClientCA != "":
		return c.bad("proxy.tls_client_ca", "there is no certificate to show", needed)
	case p.Auth == "password":
		return c.bad("proxy.auth", "passwords are taken inside TLS only", needed)
	}
	switch p.Auth {
	case "auto", "relay", "password":
		if p.AuthURL != "" || p.AuthQuery != "" {
			return c.bad("proxy.auth", "verifiers are not read with "+p.Auth, "leave proxy.auth_url and proxy.auth_query out, or use scram")
		}
	case "scram":
	default:
		return c.bad("proxy.auth", fmt.Sprintf("%q is unknown", p.Auth), "use auto, relay, password or scram")
	}
	for key, n := range map[string]int{
		"proxy.max_sessions": p.MaxSessions, "proxy.max_sessions_per_address": p.MaxSessionsPerAddress,
		"proxy.max_sessions_per_role": p.MaxSessionsPerRole, "proxy.statement_memory": p.StatementMemory,
		"proxy.copy_disk": p.CopyDisk, "proxy.keep_backends": p.KeepBackends,
	} {
		if n < 0 {
			return c.bad(key, "is negative", "use 0 for the default")
		}
	}
	return nil
}

func (c *Config) checkListen(key, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return c.bad(key, fmt.Sprintf("%q is not host:port", address), "use for instance 127.0.0.1:6543, or :6543 for every interface")
	}
	return nil
}

func (c *Config) checkLog() error {
	if _, err := c.Log.SlogLevel(); err != nil {
		return c.bad("log.level", fmt.Sprintf("%q is unknown", c.Log.Level), "use debug, info, warn or error")
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return c.bad("log.format", fmt.Sprintf("%q is unknown", c.Log.Format), "use text or json")
	}
	return nil
}

// SlogLevel is the level as slog knows it.
func (l Log) SlogLevel() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(l.Level))
	return level, err
}

// bad makes an error about a setting that says where the value came from.
func (c *Config) bad(key, problem, hint string) error {
	if origin := c.origins[key]; origin != "" {
		key += " (" + origin + ")"
	}
	return &Error{Setting: key, Problem: problem, hint: hint}
}
