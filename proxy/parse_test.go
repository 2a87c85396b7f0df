package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres reads all of a text before it does anything of it. So does the proxy: HubSpot would keep what came before a mistake.
func TestNothingIsDoneOfATextThatCannotBeParsed(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("parse@example.com")
	conn := c.session(nil)
	set := func(name string) string {
		return fmt.Sprintf("update contacts set firstname = '%s' where id = %d", name, id)
	}
	run := func(text string) (tags []string, err error) {
		results, err := conn.PgConn().Exec(deadline(t), text).ReadAll()
		for _, r := range results {
			if tag := r.CommandTag.String(); tag != "" { // of a statement that failed there is none
				tags = append(tags, tag)
			}
		}
		return tags, err
	}
	exec(t, conn, set("before"))
	for name, p := range map[string]struct{ text, at string }{
		"last":                    {set("A") + ";\nselec 1", "selec"},
		"first":                   {"selec 1; " + set("A"), "selec"},
		"amid":                    {set("A") + "; selec; " + set("B"), "selec"},
		"behind a commit":         {"begin; " + set("A") + "; commit; selec", "selec"},
		"at the end of the text":  {set("A") + "; select (", ""},
		"a quote":                 {set("A") + "; select 'x", "'x"},
		"a comment":               {set("A") + "; select 1 /* x", "/* x"},
		"a comment behind":        {set("A") + "; /* x", "/* x"},
		"a block that is not one": {"begin isolation level high; " + set("A"), "high"},
		"the end of another":      {set("A") + "; end; end atomic", "atomic"},
	} {
		for _, block := range []bool{false, true} {
			if block {
				exec(t, conn, "begin")
			}
			tags, err := run(p.text)
			position := int32(strings.Index(p.text, p.at) + 1)
			if p.at == "" {
				position = int32(len(p.text) + 1)
			}
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42601" || e.Position != position || len(tags) > 0 {
				t.Errorf("%s, in a block %v: done %q, error %v at %d, want at %d", name, block, tags, err, e.Position, position)
			}
			if status := conn.PgConn().TxStatus(); status != map[bool]byte{false: 'I', true: 'E'}[block] {
				t.Errorf("%s, in a block %v: then %c", name, block, status)
			}
			if block {
				exec(t, conn, "rollback")
			}
		}
	}
	if got := c.hubspot("contacts", id, "firstname"); got != "before" {
		t.Errorf("HubSpot has %q", got)
	}
	exec(t, conn, "set hubpg.max_staleness = '1 min'") // whose statements wait one by one
	if tags, err := run("select 1 from contacts; selec"); !isCode(err, "42601") || len(tags) > 0 {
		t.Errorf("of statements that wait %q were done: %v", tags, err)
	}
	exec(t, conn, "reset hubpg.max_staleness")
	// What Postgres parses is done, whatever it is.
	for _, text := range []string{
		"begin; %s; end", "begin work isolation level read committed; %s; end work", "BEGIN TRANSACTION READ WRITE; %s; /* ; */ COMMIT AND NO CHAIN -- ; selec",
		";;%s;; ;", "start transaction; %s; savepoint a; release a; end transaction --", "%s; create temp table if not exists parsed (n int); insert into parsed values (1)",
		"%s; create or replace function pg_temp.f() returns int begin atomic select case when true then 1 end; end; select pg_temp.f()",
		"%s; do $x$ begin perform 1; end $x$; select E'\\'; selec'", "%s; prepare parsed as select $1::int; execute parsed (1); deallocate parsed",
	} {
		want := fmt.Sprintf("done %d", len(text))
		if tags, err := run(fmt.Sprintf(text, set(want))); err != nil {
			t.Errorf("%s: %q %v", text, tags, err)
		}
		if got := c.hubspot("contacts", id, "firstname"); got != want || conn.PgConn().TxStatus() != 'I' {
			t.Errorf("%s: HubSpot has %q; then %c", text, got, conn.PgConn().TxStatus())
		}
	}
	c.agree("contacts", "firstname")
}
