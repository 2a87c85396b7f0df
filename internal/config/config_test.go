package config_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"hubpg/internal/config"
)

// load runs a Loader over a file's text (none when empty), an environment and flags.
func load(t *testing.T, file string, env map[string]string, args ...string) (*config.Config, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "hubpg.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config", path}, args...)
	}
	flags := pflag.NewFlagSet("hubpg", pflag.ContinueOnError)
	loader := config.NewLoader(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loader.Load(func(name string) (string, bool) { text, ok := env[name]; return text, ok })
}

func TestFlagsWinOverEnvironmentOverFileOverDefault(t *testing.T) {
	t.Parallel()
	const file = "proxy:\n  listen: file:1\nhttp:\n  listen: file:2\nschema: from_file\n"
	env := map[string]string{"HUBPG_HTTP_LISTEN": "env:2", "HUBPG_SCHEMA": "from_env"}
	c, err := load(t, file, env, "--schema", "from_flag")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.HubSpot.URL, c.Proxy.Listen, c.HTTP.Listen, c.Schema}
	want := []string{config.DefaultHubSpotURL, "file:1", "env:2", "from_flag"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEveryVariableOfTheIssueIsRead(t *testing.T) {
	t.Parallel()
	c, err := load(t, "", map[string]string{
		"HUBPG_HUBSPOT_URL": "http://a", "HUBPG_HUBSPOT_TOKEN": "b", "HUBPG_DATABASE_URL": "postgres://c/d",
		"HUBPG_PROXY_LISTEN": "e:1", "HUBPG_HTTP_LISTEN": "f:2",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.HubSpot.URL, c.HubSpot.Token.Reveal(), c.Database.URL.Reveal(), c.Proxy.Listen, c.HTTP.Listen}
	want := []string{"http://a", "b", "postgres://c/d", "e:1", "f:2"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfTheFileNameTheLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, line, problem string }{
		"unknown section": {"role: all\nproxi:\n  listen: x\n", ":2", `unknown field "proxi"`},
		"unknown key":     {"proxy:\n  listen: a:1\n  lissten: b:1\n", ":3", `unknown field "lissten"`},
		"wrong kind":      {"hubspot:\n  share: lots\n", ":2", `"lots" is not a number`},
		"half a session":  {"proxy:\n  max_sessions: 1.5\n", ":2", "not a whole number"},
		"given twice":     {"role: all\nrole: proxy\n", ":2", "already defined"},
		"list":            {"- role: all\n", ":1", "list of settings"},
		"section is text": {"role: all\nhubspot: mine\n", ":2", "list of settings"},
		"value is a list": {"role: all\nschema: [a, b]\n", ":2", "schema takes one plain value"},
		"two documents":   {"role: all\n---\nrole: proxy\n", ":3", "second document"},
		"syntax":          {"role: [all\n", ":1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, test.file, nil)
			if err == nil || !strings.Contains(err.Error(), "hubpg.yaml"+test.line) || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("got %v", err)
			}
			if hinted(err) == "" {
				t.Error("no next step")
			}
		})
	}
}

func TestWhatTheFileLeavesEmptyKeepsItsDefault(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"nothing":         " ",
		"comment":         "# all of it is commented out\n",
		"document marker": "---\n",
		"null":            "null\n",
		"sections":        "hubspot:\nproxy:\n  # listen: a:1\nhttp: ~\n",
		"values":          "hubspot:\n  share:\n  limits: ~\nrole:\nschema: null\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := load(t, file, map[string]string{"HUBPG_NOTIFY": "off"})
			if err != nil {
				t.Fatal(err)
			}
			want := config.Default()
			want.Notify = "off"
			if got, want := fmt.Sprint(c.HubSpot, c.Proxy, c.HTTP, c.Role, c.Schema, c.Notify),
				fmt.Sprint(want.HubSpot, want.Proxy, want.HTTP, want.Role, want.Schema, want.Notify); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestValuesOfTheFileAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	c, err := load(t, "hubspot:\n  token: 00123\n  share: 5e-1\n  scopes: |\n    a b\nproxy: {event_loop: false, max_sessions: 7}\n"+
		"log:\n  level: 'warn' # quoted\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.HubSpot.Token.Reveal(), c.HubSpot.Share, c.HubSpot.Scopes, c.Proxy.EventLoop, c.Proxy.MaxSessions, c.Log.Level}
	want := []any{"00123", 0.5, "a b\n", false, 7, "warn"}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestErrorsOfTheFileDoNotQuoteSecrets(t *testing.T) {
	t.Parallel()
	_, err := load(t, "hubspot:\n  token: pat-secret\n  tokn: pat-secret\n", nil)
	if err == nil || strings.Contains(err.Error(), "pat-secret") {
		t.Errorf("got %v", err)
	}
}

func TestTokenFileIsReadAndTheHigherLevelWins(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file string
		env  map[string]string
		args []string
		want string
	}{
		"file alone":         {env: map[string]string{"HUBPG_HUBSPOT_TOKEN_FILE": path}, want: "from-file"},
		"flag over variable": {env: map[string]string{"HUBPG_HUBSPOT_TOKEN": "env"}, args: []string{"--hubspot-token-file", path}, want: "from-file"},
		"variable over file": {file: "hubspot:\n  token_file: " + path, env: map[string]string{"HUBPG_HUBSPOT_TOKEN": "env"}, want: "env"},
		"flag that says what the file says": {
			file: "hubspot:\n  token_file: " + path, env: map[string]string{"HUBPG_HUBSPOT_TOKEN": "env"}, args: []string{"--hubspot-token-file", path},
			want: "from-file",
		},
		"flag that gives the token of the file": {
			file: "hubspot:\n  token: mine", env: map[string]string{"HUBPG_HUBSPOT_TOKEN_FILE": path}, args: []string{"--hubspot-token", "mine"}, want: "mine",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := load(t, test.file, test.env, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.HubSpot.Token.Reveal(); got != test.want {
				t.Errorf("token %q, want %q", got, test.want)
			}
		})
	}
	_, err := load(t, "", map[string]string{"HUBPG_HUBSPOT_TOKEN": "env", "HUBPG_HUBSPOT_TOKEN_FILE": path})
	if err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("two tokens on one level: %v", err)
	}
}

func TestATokenFileWithoutATokenIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"empty":           {"\n", "is empty"},
		"byte order mark": {"\xef\xbb\xbfpat-x\n", "no token has"},
		"two lines":       {"pat-x\npat-y\n", "white space"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := load(t, "", map[string]string{"HUBPG_HUBSPOT_TOKEN_FILE": path, "HUBPG_DATABASE_URL": "postgres://h/d"})
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), "hubspot.token_file (HUBPG_HUBSPOT_TOKEN_FILE)") ||
				!strings.Contains(err.Error(), test.want) || hinted(err) == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPrintMasksSecretsAndSaysWhereValuesComeFrom(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HUBPG_HUBSPOT_TOKEN": "pat-secret", "HUBPG_DATABASE_URL": "postgres://me:hidden@db/x?sslmode=require"}
	c, err := load(t, "schema: mine\n", env, "--role", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"pat-secret", "hidden"} {
		for _, text := range []string{out.String(), fmt.Sprintf("%v %+v %#v", c.HubSpot, c.Database, *c)} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is shown in %s", secret, text)
			}
		}
	}
	for _, want := range []string{"role: proxy # --role", "# HUBPG_DATABASE_URL", "hubpg.yaml:1", "db/x?sslmode=require", "# default"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	// What is printed is a configuration file again.
	if _, err := load(t, out.String(), nil); err != nil {
		t.Errorf("read back: %v", err)
	}
}

func TestAURLThatCannotBeTakenApartIsMaskedWhole(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"postgres://db/x?user=me&password=hidden;more", "postgres://db/x?user=me&password=hidden%", "postgres://me:12?hidden@db/x",
		"postgres://me:12#hidden@db/x", "postgres://me:12/hidden@db/x", "postgres://me:hi%dden@db/x", "postgres://db/x?password=hidden",
	} {
		if shown := config.Secret(text).String(); strings.Contains(shown, "hidden") || strings.Contains(shown, "dden") {
			t.Errorf("%s is shown as %s", text, shown)
		}
	}
	if got := config.Secret("postgres://me:hidden@db/x?sslmode=require").String(); got != "postgres://me:xxxxx@db/x?sslmode=require" {
		t.Errorf("a whole one is shown as %s", got)
	}
}

func TestValidateNamesTheSettingAndTheNextStep(t *testing.T) {
	t.Parallel()
	good := map[string]string{"HUBPG_HUBSPOT_TOKEN": "t", "HUBPG_DATABASE_URL": "postgres://h/d"}
	for name, test := range map[string]struct {
		change map[string]string
		args   []string
		want   string
	}{
		"no database":     {change: map[string]string{"HUBPG_DATABASE_URL": ""}, want: "database.url"},
		"no postgres url": {change: map[string]string{"HUBPG_DATABASE_URL": "mysql://h/d"}, want: "database.url (HUBPG_DATABASE_URL)"},
		"no token":        {change: map[string]string{"HUBPG_HUBSPOT_TOKEN": ""}, want: "hubspot.token"},
		"broken token":    {change: map[string]string{"HUBPG_HUBSPOT_TOKEN": "a b"}, want: "white space"},
		"url of hubspot":  {change: map[string]string{"HUBPG_HUBSPOT_URL": "api.hubapi.com"}, want: "hubspot.url"},
		"role":            {args: []string{"--role", "boss"}, want: "role (--role)"},
		"token of bytes":  {change: map[string]string{"HUBPG_HUBSPOT_TOKEN": "a\xffb"}, want: "no token has"},
		"token with bell": {change: map[string]string{"HUBPG_HUBSPOT_TOKEN": "a\ab"}, want: "no token has"},
		"share of what":   {args: []string{"--hubspot-share", "NaN"}, want: "hubspot.share"},
		"share":           {args: []string{"--hubspot-share", "1.5"}, want: "hubspot.share"},
		"limits":          {args: []string{"--hubspot-limits", "off"}, want: "hubspot.limits (--hubspot-limits)"},
		"schema":          {args: []string{"--schema", "hubpg"}, want: "schema"},
		"listen":          {args: []string{"--proxy-listen", "6543"}, want: "proxy.listen"},
		"half tls":        {args: []string{"--proxy-tls-cert", "x.pem"}, want: "proxy.tls_cert"},
		"auth":            {args: []string{"--proxy-auth", "magic"}, want: "proxy.auth (--proxy-auth)"},
		"auth plain":      {args: []string{"--proxy-auth", "password"}, want: "inside TLS only"},
		"auth unread":     {change: map[string]string{"HUBPG_PROXY_AUTH_QUERY": "select 1"}, want: "verifiers are not read with auto"},
		"no tls":          {args: []string{"--proxy-tls-required"}, want: "proxy.tls_required (--proxy-tls-required)"},
		"no tls for ca":   {args: []string{"--proxy-tls-client-ca", "x.pem"}, want: "proxy.tls_client_ca"},
		"socket":          {args: []string{"--proxy-socket", "/does/not/exist"}, want: "proxy.socket"},
		"memory":          {args: []string{"--proxy-statement-memory", "-1"}, want: "proxy.statement_memory"},
		"disk":            {args: []string{"--proxy-copy-disk", "-1"}, want: "proxy.copy_disk"},
		"keep":            {args: []string{"--proxy-keep-backends", "-1"}, want: "proxy.keep_backends"},
		"cap":             {args: []string{"--proxy-max-sessions-per-role", "-1"}, want: "proxy.max_sessions_per_role"},
		"cap in words":    {args: []string{"--proxy-max-sessions", "many"}, want: "not a whole number"},
		"listener idle":   {args: []string{"--proxy-listener-idle", "soon"}, want: "proxy.listener_idle"},
		"take over":       {args: []string{"--take-over=perhaps"}, want: "neither true nor false"},
		"notify":          {args: []string{"--notify", "sometimes"}, want: "notify"},
		"deletes":         {args: []string{"--deletes", "gently"}, want: "deletes"},
		"objects":         {args: []string{"--objects", "contacts,,deals"}, want: "objects (--objects)"},
		"objects in caps": {change: map[string]string{"HUBPG_OBJECTS": "Contacts"}, want: "objects (HUBPG_OBJECTS)"},
		"new properties":  {args: []string{"--new-properties", "some"}, want: "new_properties (--new-properties)"},
		"keep changes":    {args: []string{"--keep-changes", "7 days"}, want: "keep_changes (--keep-changes)"},
		"keep too short":  {change: map[string]string{"HUBPG_KEEP_CHANGES": "5m"}, want: "too short"},
		"backfill events": {args: []string{"--backfill-events=some"}, want: "neither true nor false"},
		"journal":         {args: []string{"--journal", "maybe"}, want: "journal"},
		"signatures":      {change: map[string]string{"HUBPG_WEBHOOKS_SIGNATURES": "v9"}, want: "webhooks.signatures"},
		"webhooks url":    {args: []string{"--webhooks-url", "hubpg.example.com/x"}, want: "webhooks.url"},
		"log level":       {args: []string{"--log-level", "loud"}, want: "log.level"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := maps.Clone(good)
			maps.Copy(env, test.change)
			c, err := load(t, "", env, test.args...)
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || hinted(err) == "" {
				t.Errorf("got %v", err)
			}
		})
	}
	c, err := load(t, "", map[string]string{"HUBPG_DATABASE_URL": "postgres://h/d"}, "--role", "proxy")
	if err != nil || c.Validate() != nil {
		t.Errorf("a proxy needs no token: %v, %v", err, c.Validate())
	}
	c, err = load(t, "proxy:\n  max_sessions_per_role: 7\n  statement_memory: 64\n", map[string]string{
		"HUBPG_DATABASE_URL": "postgres://h/d", "HUBPG_PROXY_AUTH_URL": "postgres://u:hidden@h/d",
	}, "--role", "proxy", "--proxy-auth", "scram", "--take-over")
	if err != nil || c.Validate() != nil || !c.TakeOver || c.Proxy.MaxSessionsPerRole != 7 || c.Proxy.StatementMemory != 64 || c.Proxy.AuthURL.Reveal() == "" {
		t.Errorf("settings of the proxy: %v, %+v", err, c)
	}
}

func TestTablesOfTheAccountAreChosen(t *testing.T) {
	t.Parallel()
	c, err := load(t, "objects: contacts, deals\nnew_properties: ignore\nkeep_changes: 24h\nbackfill_events: true\n", map[string]string{
		"HUBPG_HUBSPOT_TOKEN": "t", "HUBPG_DATABASE_URL": "postgres://h/d",
	})
	if err != nil || c.Validate() != nil {
		t.Fatalf("%v, %v", err, c.Validate())
	}
	keep, err := c.Keep()
	if got, want := fmt.Sprintln(c.ObjectNames(), c.NewProperties, keep, c.BackfillEvents, err), "[contacts deals] ignore 24h0m0s true <nil>\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if d := config.Default(); len(d.ObjectNames()) != 0 || d.NewProperties != "add" || d.BackfillEvents {
		t.Errorf("by default: %+v", d)
	}
}

func hinted(err error) string {
	var hint interface{ Hint() string }
	if errors.As(err, &hint) {
		return hint.Hint()
	}
	return ""
}
