package main

import (
	"regexp"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

func TestSchemaVerbsSayWhatTheyWant(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"rename", "contacts", "email"}, {"exclude", "contacts"}, {"include"}, {"pin", "contacts"}, {"unpin", "a", "b", "c"}} {
		var out, errs strings.Builder
		p := &Program{Stdout: &out, Stderr: &errs, LookupEnv: func(string) (string, bool) { return "", false }}
		if status := p.Run(t.Context(), append([]string{"schema"}, args...)); status != exitUsage || !strings.Contains(errs.String(), "TABLE COLUMN") {
			t.Errorf("schema %v exits %d and says %q", args, status, errs.String())
		}
	}
}

// The verbs that change a running account: what they change holds, and the tables are still HubSpot's.
func TestSchemaAndResyncWhileServing(t *testing.T) {
	t.Parallel()
	s := serve(t, sandbox.Config{}, nil)
	_, web := s.addresses(t)
	ready(t, web)
	do := func(want string, args ...string) string {
		t.Helper()
		r := run(t, s.env, args...)
		if r.status != exitDone || !strings.Contains(r.stdout, want) {
			t.Fatalf("%v: %+v", args, r)
		}
		return r.stdout
	}
	do("firstname", "schema", "list", "contacts")
	do("", "schema", "rename", "contacts", "firstname", "given_name")
	do("", "schema", "exclude", "contacts", "fax")
	do("", "schema", "pin", "contacts", "email")
	list := do("", "schema", "list", "contacts")
	for _, want := range []string{`given_name +text +firstname +column`, `fax +text +same +excluded`, `email +text +same +column +pinned`} {
		if !regexp.MustCompile(want).MatchString(list) {
			t.Errorf("%s is not in\n%s", want, list)
		}
	}
	for _, refused := range []struct {
		want string
		args []string
	}{
		{"taken", []string{"schema", "rename", "contacts", "email", "id"}},
		{"1 to 63 bytes", []string{"schema", "rename", "contacts", "email", ""}},
		{"no such column", []string{"schema", "exclude", "contacts", "nothing"}},
		{"is no table of records", []string{"schema", "exclude", "nothing", "email"}},
		{"table nothing is not mirrored", []string{"verify", "nothing"}},
		{"table nothing is not mirrored", []string{"resync", "nothing"}},
	} {
		run(t, s.env, refused.args...).wants(t, exitFailed, refused.want)
	}
	do("", "schema", "include", "contacts", "fax")
	do("20 read", "resync", "contacts")
	do("equal: 2 tables", "verify", "contacts", "--table", "companies", "--sample", "5", "--repair")
}
