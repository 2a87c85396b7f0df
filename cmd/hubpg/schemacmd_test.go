package main

import (
	"strings"
	"testing"
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
