package config

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// Loader collects the flags of a command and makes a Config of them, the environment and the file.
type Loader struct {
	flags *pflag.FlagSet
	file  *string
	given map[string]*string // key of a setting → its flag
}

// NewLoader adds the flags of the settings whose keys begin with one of the prefixes, and --config, to flags.
// No prefix means every setting.
func NewLoader(flags *pflag.FlagSet, prefixes ...string) *Loader {
	l := &Loader{flags: flags, given: map[string]*string{}}
	l.file = flags.String("config", "", "configuration file (YAML)  [$"+FileVariable+"]")
	defaults := Default()
	for _, s := range settings() {
		if !matches(s.key, prefixes) {
			continue
		}
		if s.flag == "" {
			continue
		}
		l.given[s.key] = new(string)
		flag := flags.VarPF(&textFlag{text: l.given[s.key], shown: s.show(defaults)}, s.flag, "", s.usage+"  [$"+s.env+"]")
		flag.Hidden = s.rare()
		if _, ok := s.value(defaults).(*bool); ok {
			flag.NoOptDefVal = "true"
		}
	}
	return l
}

func matches(key string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return len(prefixes) == 0
}

// textFlag is a flag whose default is shown but not stored: what was not given must not win over the environment.
type textFlag struct {
	text  *string
	shown string
}

func (f *textFlag) String() string {
	if f.text == nil || *f.text == "" {
		return f.shown
	}
	return *f.text
}
func (f *textFlag) Set(text string) error { *f.text = text; return nil }
func (f *textFlag) Type() string          { return "value" }

// Load makes the Config. lookup is os.LookupEnv, or a test's own environment. The result still has to be validated.
func (l *Loader) Load(lookup func(string) (string, bool)) (*Config, error) {
	c := Default()
	path, origin := *l.file, "--config"
	if path == "" {
		path, _ = lookup(FileVariable)
		origin = FileVariable
	}
	tokens := tokenLevels{}
	if path != "" {
		if err := c.readFile(path); err != nil {
			return nil, fmt.Errorf("read configuration (%s): %w", origin, err)
		}
		tokens.note(c, "the configuration file")
	}
	for _, s := range settings() {
		if text, ok := lookup(s.env); ok && text != "" {
			if err := c.assign(s, text, s.env); err != nil {
				return nil, err
			}
		}
	}
	tokens.note(c, "the environment")
	for _, s := range settings() {
		if l.given[s.key] == nil {
			continue
		}
		if flag := l.flags.Lookup(s.flag); flag != nil && flag.Changed {
			if err := c.assign(s, *l.given[s.key], "--"+s.flag); err != nil {
				return nil, err
			}
		}
	}
	tokens.note(c, "the flags")
	return c, tokens.resolve(c)
}

// assign gives a setting a value and remembers where it came from.
func (c *Config) assign(s setting, text, origin string) error {
	c.origins[s.key] = origin
	if err := s.set(c, text); err != nil {
		return c.bad(s.key, err.Error(), "see hubpg config for the value in force without it")
	}
	return nil
}

// tokenLevels finds out which of token and token_file was given on the higher level: that one is meant.
type tokenLevels struct {
	token, file string // where they came from, as of the last level
	useFile     bool
	conflict    string
}

// note is called after each level, lowest first.
func (t *tokenLevels) note(c *Config, level string) {
	token := c.HubSpot.Token != "" && c.origins["hubspot.token"] != t.token
	file := c.HubSpot.TokenFile != "" && c.origins["hubspot.token_file"] != t.file
	t.token, t.file = c.origins["hubspot.token"], c.origins["hubspot.token_file"]
	t.useFile = file || t.useFile && !token
	switch {
	case token && file:
		t.conflict = level
	case token || file:
		t.conflict = ""
	}
}

func (t *tokenLevels) resolve(c *Config) error {
	if t.conflict != "" {
		return &Error{Setting: "hubspot.token", Problem: "both a token and a token file are given in " + t.conflict, hint: "leave one of them out"}
	}
	if t.useFile {
		return c.readToken()
	}
	c.HubSpot.TokenFile = ""
	return nil
}

// Print writes the configuration in force as YAML that Load would accept, each value with where it came from.
// Secrets are masked.
func (c *Config) Print(w io.Writer) error {
	section := ""
	for _, s := range settings() {
		name, indent := s.key, ""
		if before, after, nested := strings.Cut(s.key, "."); nested {
			if before != section {
				if _, err := fmt.Fprintln(w, before+":"); err != nil {
					return err
				}
			}
			section, name, indent = before, after, "  "
		} else {
			section = ""
		}
		origin := c.origins[s.key]
		if origin == "" {
			origin = "default"
		}
		if _, err := fmt.Fprintf(w, "%s%s: %s # %s\n", indent, name, quote(s.show(c)), origin); err != nil {
			return err
		}
	}
	return nil
}

// quote makes text a YAML scalar on one line.
func quote(text string) string {
	if text == "" {
		return `""`
	}
	if strings.ContainsAny(text, ":#*&!|>'\"%@`{}[],? ") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
	}
	return text
}
