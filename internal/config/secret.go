package config

import (
	"log/slog"
	"net/url"
	"strings"
)

// Secret is text that must not be printed. Every usual way of printing shows a mask; Reveal shows the text.
type Secret string

const mask = "********"

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String masks the text. Of a URL with a password only the password is hidden.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(string(s))
	if err != nil || u.Scheme == "" || u.Host == "" {
		return mask
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.User == nil && strings.Contains(string(s), "@") { // a password that should have been encoded, which may be anywhere
		return mask
	}
	for _, key := range []string{"password", "sslpassword"} {
		if query.Has(key) {
			query.Set(key, "xxxxx")
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}

// GoString masks the text in %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue masks the text in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the text in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
