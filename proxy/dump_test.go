package proxy_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hubpg/internal/pgtest"

	"github.com/google/go-cmp/cmp"
)

// tools are Postgres's own programs for dumps, of the server's version.
type tools struct {
	t   *testing.T
	dir string
}

func dumpTools(t *testing.T) tools {
	t.Helper()
	bin, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pg_dump", "pg_restore", "pg_dumpall", "psql"} {
		if _, err := os.Stat(filepath.Join(bin.Dir, name)); err != nil {
			t.Skipf("no %s beside the server", name)
		}
	}
	return tools{t, bin.Dir}
}

// run returns what a program prints, less what differs from run to run.
func (w tools) run(name string, args ...string) string {
	w.t.Helper()
	var out, complaints bytes.Buffer
	cmd := osexec.CommandContext(deadline(w.t), filepath.Join(w.dir, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, complaints.String())
	}
	lines := strings.SplitAfter(out.String(), "\n")
	return strings.Join(slices.DeleteFunc(lines, fleeting), "")
}

// same compares two dumps.
func (w tools) same(what, want, got string) {
	w.t.Helper()
	if want != got {
		w.t.Errorf("%s (-want +got):\n%.5000s", what, cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
	}
}

// fleeting reports whether no two dumps have a line in common: a key against commands in the data, and the time in a list of
// contents.
func fleeting(line string) bool {
	return strings.HasPrefix(line, `\restrict `) || strings.HasPrefix(line, `\unrestrict `) || strings.HasPrefix(line, "; Archive created at ")
}

// as is an address as the superuser, of another database if one is given.
func as(t *testing.T, admin, host, database string) string {
	t.Helper()
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		u.Host = host
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

// stock gives a database something of every kind that is dumped.
func stock(t *testing.T, c *crm) {
	t.Helper()
	admin := c.db.AdminConn(t)
	for _, sql := range []string{
		"create type app.mood as enum ('glad', 'sad')",
		"create domain app.positive as int check (value > 0)",
		"create sequence app.numbers start 7 increment 3",
		"create table app.notes (id int primary key generated always as identity, contact_id bigint, mood app.mood, n app.positive default 1, body text, raw bytea, at timestamptz, parts numeric[], doc jsonb) with (fillfactor = 70)",
		`create table app."Odd "" name" (a int, b int generated always as (a * 2) stored)`,
		"create table app.parts (day date, n int) partition by range (day)",
		"create table app.parts_1 partition of app.parts for values from ('2026-01-01') to ('2026-02-01')",
		"create view app.glad as select n.*, c.email from app.notes n join hubspot.contacts c on c.id = n.contact_id where mood = 'glad'",
		"create materialized view app.counts as select mood, count(*) from app.notes group by mood",
		"create function app.twice(int) returns int language sql immutable return $1 * 2",
		"create index on app.notes (lower(body)) where mood = 'sad'",
		"create statistics app.both on n, mood from app.notes",
		"alter table app.notes enable row level security",
		"create policy mine on app.notes using (n > 0)",
		"create rule quiet as on delete to app.parts do instead nothing",
		"comment on table app.notes is E'of \\'one\\'s own\\' \\\\ é'",
		"grant select on app.notes to hubspot_reader",
		`insert into app.notes (contact_id, mood, body, raw, at, parts, doc)
select i, (array['glad', 'sad', null]::app.mood[])[i % 3 + 1], repeat(E'a\tb\\c\n\'é"', i % 20), decode(repeat('00ff', i % 300), 'hex'), '2026-01-01'::timestamptz + i * interval '1 s',
    array[i / 3.0, null, 'NaN'], jsonb_build_object('i', i)
from generate_series(1, 300) i`,
		"insert into app.notes (body) values (repeat('long', 50000)), (''), (null)",
		`insert into app."Odd "" name" select generate_series(1, 10)`,
		"insert into app.parts values ('2026-01-05', 1)",
		"refresh materialized view app.counts",
		"select nextval('app.numbers')",
		"select lo_from_bytea(424242, decode(repeat('ab', 100000), 'hex'))",
	} {
		if _, err := admin.Exec(deadline(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for n := range 50 {
		if _, err := c.hub.Create("contacts", map[string]string{"email": fmt.Sprintf("dump%d@example.com", n), "firstname": "é\t\\N"}); err != nil {
			t.Fatal(err)
		}
	}
	c.poll("contacts")
}

// TestDumpsAreThoseOfPostgres holds that Postgres's own programs write the same dumps through the proxy as without it, in every
// format, and restore from them the same database.
func TestDumpsAreThoseOfPostgres(t *testing.T) {
	t.Parallel()
	w := dumpTools(t)
	c := newCRM(t, nil)
	stock(t, c)
	host := c.server.Addr().String()
	direct, through := as(t, c.db.AdminURL, "", ""), as(t, c.db.AdminURL, host, "")

	// Not schema hubpg, in which the proxy keeps who is connected.
	of := []string{"-n", "hubspot", "-n", "app", "--blobs"}
	for name, options := range map[string][]string{
		"plain": nil, "inserts": {"--inserts", "--rows-per-insert=7"}, "columns": {"--column-inserts", "--disable-dollar-quoting"},
		"data": {"--data-only", "--disable-triggers"}, "schema": {"--schema-only", "--create", "--clean", "--if-exists"},
		"serializable": {"--serializable-deferrable"}, "latin1": {"--encoding=latin1", "--quote-all-identifiers"},
	} {
		args := append(append([]string{}, of...), options...)
		want := w.run("pg_dump", append(args, "-d", direct)...)
		w.same(name, want, w.run("pg_dump", append(args, "-d", through)...))
		if len(want) < 10_000 {
			t.Errorf("%s has %d bytes", name, len(want))
		}
	}
	dir := t.TempDir()
	for name, options := range map[string][]string{
		"custom": {"-Fc"}, "directory": {"-Fd"}, "jobs": {"-Fd", "--jobs=3"}, "tar": {"-Ft"},
	} {
		archive := func(way, address string) string {
			path := filepath.Join(dir, name+"-"+way)
			w.run("pg_dump", append(append(append([]string{"-f", path}, of...), options...), "-d", address)...)
			return path
		}
		want, got := archive("direct", direct), archive("through", through)
		for _, show := range [][]string{{"-l"}, {"-f", "-"}} {
			w.same(fmt.Sprint(name, show), w.run("pg_restore", append(show, want)...), w.run("pg_restore", append(show, got)...))
		}
	}

	// All of the database into another, to which the proxy connects as well.
	whole := filepath.Join(dir, "whole")
	w.run("pg_dump", "-Fd", "--jobs=3", "-f", whole, "-d", through)
	want := w.run("pg_restore", "-f", "-", whole)
	admin := c.db.AdminConn(t)
	for name, restore := range map[string]func(into string){
		"jobs": func(into string) { w.run("pg_restore", "--exit-on-error", "--jobs=3", "-d", into, whole) },
		"one":  func(into string) { w.run("pg_restore", "--exit-on-error", "--single-transaction", "-d", into, whole) },
		"psql": func(into string) {
			script := filepath.Join(dir, "whole.sql")
			if err := os.WriteFile(script, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
			w.run("psql", "-X", "-q", "-o", os.DevNull, "-v", "ON_ERROR_STOP=1", "-f", script, into)
		},
	} {
		database := c.db.Name + "_" + name
		exec(t, admin, "create database "+database+" template template0")
		t.Cleanup(func() { exec(t, admin, "drop database "+database+" with (force)") })
		restore(as(t, c.db.AdminURL, host, database))
		w.same("restored by "+name, want, w.run("pg_dump", "-d", as(t, c.db.AdminURL, "", database)))
	}

	// Other tests make and drop roles in the same cluster.
	for _, what := range []string{"--roles-only", "--globals-only"} {
		eventually(t, "pg_dumpall "+what+" tells the same", func() bool {
			dumpall := func(address string) string { return w.run("pg_dumpall", what, "-d", address) }
			before, got, after := dumpall(direct), dumpall(through), dumpall(direct)
			return before == after && got == before && strings.Contains(got, "CREATE ROLE hubspot_reader")
		})
	}
	if s := c.server.Stats(); s.Ended["panic"]+s.Ended["server"]+s.Ended["client"] > 0 {
		t.Errorf("%+v", s)
	}
}
