package config

import (
	"fmt"
	"strconv"
)

// setting is one value that can be given in the file, the environment or by a flag.
type setting struct {
	key   string // in the file: section.name
	env   string
	flag  string // "" for a setting that has none
	usage string
	value func(*Config) any // pointer to the field: *string, *Secret, *Role, *float64, *int or *bool
}

// FileVariable names the environment variable with the path of the configuration file.
const FileVariable = "HUBPG_CONFIG"

// rare reports whether a setting's flag is left out of the help, which has to fit a screen. hubpg config shows them all.
func (s *setting) rare() bool {
	switch s.key {
	case "proxy.max_sessions_per_address", "proxy.max_sessions_per_role", "proxy.statement_memory", "proxy.copy_disk", "proxy.keep_backends", "proxy.tls_client_ca", "proxy.listener_idle", "proxy.event_loop", "webhooks.signatures",
		"new_properties", "keep_changes", "backfill_events":
		return true
	}
	return false
}

// settings lists every setting in the order in which they are printed.
func settings() []setting {
	return []setting{
		{
			"hubspot.url", "HUBPG_HUBSPOT_URL", "hubspot-url", "base URL of the HubSpot API or of a sandbox",
			func(c *Config) any { return &c.HubSpot.URL },
		},
		{
			"hubspot.token", "HUBPG_HUBSPOT_TOKEN", "hubspot-token", "access token (visible in ps: prefer the variable or the file)",
			func(c *Config) any { return &c.HubSpot.Token },
		},
		{
			"hubspot.token_file", "HUBPG_HUBSPOT_TOKEN_FILE", "hubspot-token-file", "file that holds the access token",
			func(c *Config) any { return &c.HubSpot.TokenFile },
		},
		{
			"hubspot.client_id", "HUBPG_HUBSPOT_CLIENT_ID", "", "app that accounts are connected through, instead of a token",
			func(c *Config) any { return &c.HubSpot.ClientID },
		},
		{
			"hubspot.client_secret", "HUBPG_HUBSPOT_CLIENT_SECRET", "", "secret of the app",
			func(c *Config) any { return &c.HubSpot.ClientSecret },
		},
		{
			"hubspot.scopes", "HUBPG_HUBSPOT_SCOPES", "", "scopes that the app requires",
			func(c *Config) any { return &c.HubSpot.Scopes },
		},
		{
			"hubspot.optional_scopes", "HUBPG_HUBSPOT_OPTIONAL_SCOPES", "", "scopes to ask for as far as the account has them; auto: all that are of use",
			func(c *Config) any { return &c.HubSpot.OptionalScopes },
		},
		{
			"hubspot.authorize_url", "HUBPG_HUBSPOT_AUTHORIZE_URL", "", "address of the consent page",
			func(c *Config) any { return &c.HubSpot.AuthorizeURL },
		},
		{
			"hubspot.redirect_url", "HUBPG_HUBSPOT_REDIRECT_URL", "", "loopback address registered with the app",
			func(c *Config) any { return &c.HubSpot.RedirectURL },
		},
		{
			"hubspot.share", "HUBPG_HUBSPOT_SHARE", "hubspot-share", "part of the account's API quota that hubpg may use",
			func(c *Config) any { return &c.HubSpot.Share },
		},
		{
			"hubspot.limits", "HUBPG_HUBSPOT_LIMITS", "hubspot-limits", "real, or off for a sandbox that has none",
			func(c *Config) any { return &c.HubSpot.Limits },
		},
		{
			"database.url", "HUBPG_DATABASE_URL", "database-url", "Postgres database that hubpg may own",
			func(c *Config) any { return &c.Database.URL },
		},
		{
			"proxy.listen", "HUBPG_PROXY_LISTEN", "proxy-listen", "address of the proxy",
			func(c *Config) any { return &c.Proxy.Listen },
		},
		{
			"proxy.tls_cert", "HUBPG_PROXY_TLS_CERT", "proxy-tls-cert", "certificate (PEM) that the proxy shows its clients",
			func(c *Config) any { return &c.Proxy.TLSCert },
		},
		{
			"proxy.tls_key", "HUBPG_PROXY_TLS_KEY", "proxy-tls-key", "key (PEM) of the certificate",
			func(c *Config) any { return &c.Proxy.TLSKey },
		},
		{
			"proxy.tls_client_ca", "HUBPG_PROXY_TLS_CLIENT_CA", "proxy-tls-client-ca", "authorities (PEM) one of which must have signed a certificate of the client",
			func(c *Config) any { return &c.Proxy.TLSClientCA },
		},
		{
			"proxy.tls_required", "HUBPG_PROXY_TLS_REQUIRED", "proxy-tls-required", "refuse clients that do not ask for TLS",
			func(c *Config) any { return &c.Proxy.TLSRequired },
		},
		{
			"proxy.socket", "HUBPG_PROXY_SOCKET", "proxy-socket", "directory of a Unix socket to serve too",
			func(c *Config) any { return &c.Proxy.Socket },
		},
		{
			"proxy.auth", "HUBPG_PROXY_AUTH", "proxy-auth", "auto, relay, password or scram",
			func(c *Config) any { return &c.Proxy.Auth },
		},
		{
			"proxy.auth_url", "HUBPG_PROXY_AUTH_URL", "", "database in which a role may run proxy.auth_query; database.url if empty",
			func(c *Config) any { return &c.Proxy.AuthURL },
		},
		{
			"proxy.auth_query", "HUBPG_PROXY_AUTH_QUERY", "", "reads name and stored password of role $1, for proxy.auth scram; of pg_authid if empty",
			func(c *Config) any { return &c.Proxy.AuthQuery },
		},
		{
			"proxy.listener_idle", "HUBPG_PROXY_LISTENER_IDLE", "proxy-listener-idle", "silence after which a client that only listens gives its backend back; off: never",
			func(c *Config) any { return &c.Proxy.ListenerIdle },
		},
		{
			"proxy.event_loop", "HUBPG_PROXY_EVENT_LOOP", "proxy-event-loop", "relay short messages by event loops, which Linux has; false: by goroutines",
			func(c *Config) any { return &c.Proxy.EventLoop },
		},
		{
			"proxy.max_sessions", "HUBPG_PROXY_MAX_SESSIONS", "proxy-max-sessions", "sessions at once; 0: 10000",
			func(c *Config) any { return &c.Proxy.MaxSessions },
		},
		{
			"proxy.max_sessions_per_address", "HUBPG_PROXY_MAX_SESSIONS_PER_ADDRESS", "proxy-max-sessions-per-address",
			"sessions at once from one address; 0: 5000",
			func(c *Config) any { return &c.Proxy.MaxSessionsPerAddress },
		},
		{
			"proxy.max_sessions_per_role", "HUBPG_PROXY_MAX_SESSIONS_PER_ROLE", "proxy-max-sessions-per-role", "sessions at once of one role; 0: no limit",
			func(c *Config) any { return &c.Proxy.MaxSessionsPerRole },
		},
		{
			"proxy.statement_memory", "HUBPG_PROXY_STATEMENT_MEMORY", "proxy-statement-memory",
			"MiB that all sessions together may hold of long statements; 0: 512",
			func(c *Config) any { return &c.Proxy.StatementMemory },
		},
		{
			"proxy.copy_disk", "HUBPG_PROXY_COPY_DISK", "proxy-copy-disk",
			"MiB that all sessions together may keep in files of COPY data for HubSpot; 0: 2048",
			func(c *Config) any { return &c.Proxy.CopyDisk },
		},
		{
			"proxy.keep_backends", "HUBPG_PROXY_KEEP_BACKENDS", "proxy-keep-backends",
			"backends whose clients have left that are kept for a minute, for clients that log in alike; 0: none",
			func(c *Config) any { return &c.Proxy.KeepBackends },
		},
		{
			"take_over", "HUBPG_TAKE_OVER", "take-over", "listen where a running hubpg of the same user does, which is stopped afterwards",
			func(c *Config) any { return &c.TakeOver },
		},
		{
			"http.listen", "HUBPG_HTTP_LISTEN", "http-listen", "address of health checks, metrics and the status page",
			func(c *Config) any { return &c.HTTP.Listen },
		},
		{
			"webhooks.url", "HUBPG_WEBHOOKS_URL", "webhooks-url", "address at which HubSpot calls this process, where the request does not say",
			func(c *Config) any { return &c.Webhooks.URL },
		},
		{
			"webhooks.signatures", "HUBPG_WEBHOOKS_SIGNATURES", "webhooks-signatures", "v3, or any: those of version 1 and 2 too, which can be replayed",
			func(c *Config) any { return &c.Webhooks.Signatures },
		},
		{
			"role", "HUBPG_ROLE", "role", "what this process runs: all, materialize or proxy",
			func(c *Config) any { return &c.Role },
		},
		{
			"schema", "HUBPG_SCHEMA", "schema", "schema of the account's tables",
			func(c *Config) any { return &c.Schema },
		},
		{
			"notify", "HUBPG_NOTIFY", "notify", "rows: NOTIFY reaches direct connections too; off: only the proxy's",
			func(c *Config) any { return &c.Notify },
		},
		{
			"journal", "HUBPG_JOURNAL", "journal", "auto: follow HubSpot's webhooks journal where an app is given; off: never",
			func(c *Config) any { return &c.Journal },
		},
		{
			"secret_key", "HUBPG_SECRET_KEY", "", "key that seals stored tokens: 32 bytes in base64; a comma and older keys may follow",
			func(c *Config) any { return &c.SecretKey },
		},
		{
			"secret_key_file", "HUBPG_SECRET_KEY_FILE", "", "file of the key, made when it is missing and no key is given",
			func(c *Config) any { return &c.SecretKeyFile },
		},
		{
			"deletes", "HUBPG_DELETES", "deletes", "hard: rows of deleted records leave the table; soft: they stay with archived_at set",
			func(c *Config) any { return &c.Deletes },
		},
		{
			"objects", "HUBPG_OBJECTS", "objects", "the only tables to keep, separated by commas; empty: all that the token may read",
			func(c *Config) any { return &c.Objects },
		},
		{
			"new_properties", "HUBPG_NEW_PROPERTIES", "new-properties", "add: properties that HubSpot gains get a column; ignore: not in tables that exist",
			func(c *Config) any { return &c.NewProperties },
		},
		{
			"keep_changes", "HUBPG_KEEP_CHANGES", "keep-changes", "how long the change log is kept",
			func(c *Config) any { return &c.KeepChanges },
		},
		{
			"backfill_events", "HUBPG_BACKFILL_EVENTS", "backfill-events", "write the first filling of a table into the change log too",
			func(c *Config) any { return &c.BackfillEvents },
		},
		{
			"log.level", "HUBPG_LOG_LEVEL", "log-level", "debug, info, warn or error",
			func(c *Config) any { return &c.Log.Level },
		},
		{
			"log.format", "HUBPG_LOG_FORMAT", "log-format", "text or json",
			func(c *Config) any { return &c.Log.Format },
		},
	}
}

// set gives the setting a value from text.
func (s setting) set(c *Config, text string) error {
	switch field := s.value(c).(type) {
	case *string:
		*field = text
	case *Secret:
		*field = Secret(text)
	case *Role:
		*field = Role(text)
	case *float64:
		number, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*field = number
	case *int:
		number, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		*field = number
	case *bool:
		yes, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*field = yes
	default:
		panic(fmt.Sprintf("config: setting %s has the unknown type %T", s.key, field))
	}
	return nil
}

// show renders the value in force, secrets masked.
func (s setting) show(c *Config) string {
	switch field := s.value(c).(type) {
	case *string:
		return *field
	case *Secret:
		return field.String()
	case *Role:
		return string(*field)
	case *float64:
		return strconv.FormatFloat(*field, 'g', 4, 64)
	case *int:
		return strconv.Itoa(*field)
	case *bool:
		return strconv.FormatBool(*field)
	default:
		panic(fmt.Sprintf("config: setting %s has the unknown type %T", s.key, field))
	}
}
