package config

import (
	"fmt"
	"strconv"
)

// setting is one value that can be given in the file, the environment or by a flag.
type setting struct {
	key   string // in the file: section.name
	env   string
	flag  string
	usage string
	value func(*Config) any // pointer to the field: *string, *Secret, *Role or *float64
}

// FileVariable names the environment variable with the path of the configuration file.
const FileVariable = "HUBPG_CONFIG"

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
			"http.listen", "HUBPG_HTTP_LISTEN", "http-listen", "address of health checks, metrics and the status page",
			func(c *Config) any { return &c.HTTP.Listen },
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
	default:
		panic(fmt.Sprintf("config: setting %s has the unknown type %T", s.key, field))
	}
}
