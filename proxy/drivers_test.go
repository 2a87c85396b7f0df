package proxy_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

// claims are what a driver with everything shows, in this order.
var claims = []string{
	"connect", "types", "prepared", "batch", "copy", "large", "error", "transaction", "cancel", "listen native", "listen hubspot",
}

// driver is a program under testdata/drivers that talks to Postgres through a driver and prints "ok" and a claim for
// each thing it has seen to hold.
type driver struct {
	name   string
	part   string // of what .ci/drivers installs
	argv   []string
	claims []string
}

func drivers(home string) []driver {
	python := filepath.Join(home, "python", "bin", "python")
	return []driver{
		{"node-postgres", "node", []string{"node", "node-postgres.cjs"}, claims},
		{"postgres.js", "node", []string{"node", "postgres-js.cjs"}, claims},
		{"psycopg2", "python", []string{python, "psycopg2_driver.py"}, claims},
		{"psycopg3", "python", []string{python, "psycopg3_driver.py"}, claims},
		{"pgjdbc", "jdbc", []string{"java", "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(home, "jdbc", "postgresql.jar"), "Jdbc.java"}, append(slices.Clone(claims), "introspection")},
		{"psqlODBC", "python", []string{python, "odbc_driver.py"}, []string{
			"connect", "types", "prepared", "batch", "large", "error", "transaction", "cancel", "introspection",
		}},
		{"SQLAlchemy", "python", []string{python, "sqlalchemy_orm.py"}, []string{"reflection with psycopg2", "reflection with psycopg"}},
	}
}

// scene is a database as drivers find it, behind a proxy, in one mix of TLS.
type scene struct {
	*rig
	name string
	ca   string // of the proxy; empty where the client's leg is plain
}

// scenes are the mixes of TLS in which SCRAM is relayed, and the one in which the proxy asks for the password.
func scenes(t *testing.T) []scene {
	t.Helper()
	var list []scene
	for _, serverTLS := range []bool{false, true} {
		cluster, ca := guarded(t, serverTLS)
		sslmode := "disable"
		if serverTLS {
			sslmode = "verify-full&sslrootcert=" + url.QueryEscape(ca)
		}
		furnish(t, cluster)
		db := &pgtest.DB{
			Name: "postgres", Cluster: cluster,
			URL: fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=%s", cluster.Port(), sslmode),
		}
		for _, clientTLS := range []bool{false, true} {
			if serverTLS && !clientTLS {
				continue // relayed as plain to plain is
			}
			s := scene{name: fmt.Sprintf("client TLS %v, server TLS %v", clientTLS, serverTLS)}
			s.rig = newRig(t, db, func(c *proxy.Config) {
				pool, err := pgxpool.New(t.Context(), cluster.SocketURL("postgres"))
				if err != nil {
					t.Fatalf("open pool: %v", err)
				}
				t.Cleanup(pool.Close)
				c.Changes = pool
				if clientTLS {
					c.TLS.CertFile, c.TLS.KeyFile = issue(t, t.TempDir(), "proxy")
					c.TLS.Required = true
					s.ca = c.TLS.CertFile
				}
			})
			eventually(t, "the hub has read the log", func() bool { return s.server.Stats().HubPosition >= 0 })
			list = append(list, s)
		}
	}
	return list
}

// furnish makes what the drivers look at: a schema as hubpg makes one, and a function that changes a deal.
func furnish(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	admin := open(t, cluster.SocketURL("postgres"), nil)
	if err := migrations.Up(deadline(t), admin); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	exec(t, admin, `
create schema hubspot;
create table hubspot.deals (
    id bigint primary key, created_at timestamptz not null, dealname text, amount numeric, dealstage text, closedate date,
    hs_is_closed boolean, hs_all_owner_ids text[], _overflow jsonb not null default '{}'
);
comment on table hubspot.deals is 'Deals';
comment on column hubspot.deals.amount is 'Amount in the deal''s currency';
create index deals_dealstage_idx on hubspot.deals (dealstage);
create table hubspot.contacts (id bigint primary key, email text);
create table hubspot.deals_contacts (
    deal_id bigint references hubspot.deals, contact_id bigint references hubspot.contacts, primary key (deal_id, contact_id)
);
create view hubspot.open_deals as select * from hubspot.deals where not hs_is_closed;
insert into hubspot.deals values (1, now(), 'one', 100, 'a', '2026-01-02', false, '{1,2}'), (2, now(), 'two', 200, 'b', null, true, null);
insert into hubspot.contacts values (10, 'a@example.com');
insert into hubspot.deals_contacts values (1, 10);
grant usage on schema hubspot to public;
grant select on all tables in schema hubspot to public;
create function ring() returns bigint language sql security definer as $$
    select pg_notify('hubpg_wake', '');
    with next as (update hubpg.change_counter set last = last + 1 returning last)
    insert into hubpg.changes (seq, schema_name, table_name, record_id, op, changed, before, after, source)
    select last, 'hubspot', 'deals', 1, 'update', '{dealstage}', '{"dealstage":"a"}', '{"dealstage":"b"}', 'follow'
    from next
    returning seq
$$`)
}

// environment is how libpq, and the programs that are not libpq, are told where to connect.
func (s *scene) environment(home string) []string {
	addr := s.server.Addr().(*net.TCPAddr)
	mode := "disable"
	if s.ca != "" {
		mode = "verify-full"
	}
	return append(os.Environ(),
		"PGHOST="+addr.IP.String(), fmt.Sprintf("PGPORT=%d", addr.Port), "PGUSER=scram", "PGPASSWORD=s3cret", "PGDATABASE=postgres",
		"PGSSLMODE="+mode, "PGSSLROOTCERT="+s.ca, "HUBPG_CA="+s.ca, "PYTHONDONTWRITEBYTECODE=1",
		"NODE_PATH="+filepath.Join(home, "node", "node_modules"))
}

func (s *scene) url() string {
	mode := "disable"
	if s.ca != "" {
		mode = "verify-full&sslrootcert=" + url.QueryEscape(s.ca)
	}
	return fmt.Sprintf("postgres://scram:s3cret@%s/postgres?sslmode=%s", s.server.Addr(), mode)
}

// driversHome is where .ci/drivers installs.
func driversHome(t *testing.T) string {
	t.Helper()
	if home := os.Getenv("HUBPG_DRIVERS"); home != "" {
		return home
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("find cache: %v", err)
	}
	return filepath.Join(cache, "hubpg", "drivers")
}

func TestDriversCannotTellTheProxyFromPostgres(t *testing.T) {
	t.Parallel()
	home := driversHome(t)
	for _, s := range scenes(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Run("pq", func(t *testing.T) { talkThroughPQ(t, &s) })
			t.Run("psql", func(t *testing.T) { talkThroughPsql(t, &s, home) })
			t.Run("pgbench", func(t *testing.T) { pipelineThroughPgbench(t, &s, home) })
			t.Run("introspection", func(t *testing.T) { introspect(t, &s) })
			for _, d := range drivers(home) {
				t.Run(d.name, func(t *testing.T) { d.run(t, &s, home) })
			}
			eventually(t, "no session is left", func() bool { return s.server.Stats().Sessions == 0 })
			if got := s.server.Stats().Ended["panic"]; got != 0 {
				t.Errorf("%d sessions panicked", got)
			}
		})
	}
}

// run runs a driver's program and compares what it claims with what it should.
func (d driver) run(t *testing.T, s *scene, home string) {
	if _, err := os.Stat(filepath.Join(home, d.part, ".installed")); err != nil {
		if os.Getenv("HUBPG_DRIVERS_REQUIRED") != "" {
			t.Fatalf("the drivers are not installed: %v", err)
		}
		t.Skip("the drivers are not installed: run .ci/drivers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := osexec.CommandContext(ctx, d.argv[0], d.argv[1:]...)
	cmd.Dir = filepath.Join("testdata", "drivers")
	cmd.Env = s.environment(home)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, complaints.String())
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if claim, ok := strings.CutPrefix(strings.TrimSpace(line), "ok "); ok {
			got = append(got, claim)
		}
	}
	if !slices.Equal(got, d.claims) {
		t.Errorf("claims %q, want %q", got, d.claims)
	}
}

// talkThroughPQ is the same conversation in lib/pq. The driver has no COPY to the client and no batches.
func talkThroughPQ(t *testing.T, s *scene) {
	db, err := sql.Open("postgres", s.url())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer db.Close()
	conn, err := db.Conn(deadline(t))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close()

	var (
		l    int64
		n    string
		at   time.Time
		raw  []byte
		list []string
		null sql.NullString
	)
	when := time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)
	row := conn.QueryRowContext(deadline(t), "select $1::int8, $2::numeric, $3::timestamptz, $4::bytea, $5::text[], null::text",
		int64(1)<<53+1, "1.50", when, []byte{0, 255}, pq.Array([]string{"a", `b,"c"`}))
	if err := row.Scan(&l, &n, &at, &raw, pq.Array(&list), &null); err != nil {
		t.Fatalf("types: %v", err)
	}
	if l != 1<<53+1 || n != "1.50" || !at.Equal(when) || !bytes.Equal(raw, []byte{0, 255}) || !slices.Equal(list, []string{"a", `b,"c"`}) || null.Valid {
		t.Errorf("types: got %v %v %v %v %v %v", l, n, at, raw, list, null)
	}
	count := func(sql string, args ...any) (v int64) {
		t.Helper()
		if err := conn.QueryRowContext(deadline(t), sql, args...).Scan(&v); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return v
	}
	do := func(sql string) {
		t.Helper()
		if _, err := conn.ExecContext(deadline(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}

	twice, err := conn.PrepareContext(deadline(t), "select $1::int * 2")
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	defer twice.Close()
	for i := range 5 {
		var got int
		if err := twice.QueryRowContext(deadline(t), i).Scan(&got); err != nil || got != 2*i {
			t.Errorf("prepared: %d, %v", got, err)
		}
	}

	do("create temp table t (id int primary key, name text)")
	copyIn := func(rows ...[]any) error {
		tx, err := conn.BeginTx(deadline(t), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		in, err := tx.PrepareContext(deadline(t), pq.CopyIn("t", "id", "name"))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := in.ExecContext(deadline(t), row...); err != nil {
				return err
			}
		}
		if _, err := in.ExecContext(deadline(t)); err != nil {
			return err
		}
		return errors.Join(in.Close(), tx.Commit())
	}
	var rows [][]any
	for i := range 10000 {
		rows = append(rows, []any{i, fmt.Sprintf("name %d", i)})
	}
	if err := copyIn(rows...); err != nil {
		t.Errorf("copy: %v", err)
	}
	if err := copyIn([]any{"not a number", "x"}); !isPQCode(err, "22P02") {
		t.Errorf("copy of a bad row: %v", err)
	}
	if got := count("select count(*) from t"); got != 10000 {
		t.Errorf("copied %d rows", got)
	}

	large := strings.Repeat("x", 8<<20)
	if got := count("select octet_length($1::text)", large); got != int64(len(large)) {
		t.Errorf("a value of %d bytes arrived as %d", len(large), got)
	}
	if _, err := conn.ExecContext(deadline(t), "select 1/$1::int", 0); !isPQCode(err, "22012") {
		t.Errorf("division: %v", err)
	}
	do("begin; delete from t; rollback")
	if got := count("select count(*) from t"); got != 10000 {
		t.Errorf("%d rows after a rollback", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	_, err = conn.ExecContext(ctx, "select pg_sleep(30)")
	cancel()
	if !isPQCode(err, "57014") && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancel: %v", err)
	}

	listener := pq.NewListener(s.url(), time.Second, time.Second, nil)
	defer listener.Close()
	for _, channel := range []string{"native", "hubspot_deals"} {
		if err := listener.Listen(channel); err != nil {
			t.Fatalf("listen %s: %v", channel, err)
		}
	}
	hear := func(channel string) string {
		t.Helper()
		select {
		case n := <-listener.Notify:
			if n == nil || n.Channel != channel {
				t.Fatalf("heard %+v, want %s", n, channel)
			}
			return n.Extra
		case <-time.After(patience):
			t.Fatalf("nothing heard on %s", channel)
		}
		return ""
	}
	var seq int64
	if err := db.QueryRowContext(deadline(t), "select ring()").Scan(&seq); err != nil {
		t.Fatalf("ring: %v", err)
	}
	var change struct{ Seq int64 }
	if err := json.Unmarshal([]byte(hear("hubspot_deals")), &change); err != nil || change.Seq != seq {
		t.Errorf("change %d: heard %+v, %v", seq, change, err)
	}
	if _, err := db.ExecContext(deadline(t), "notify native, 'hello'"); err != nil {
		t.Fatalf("notify: %v", err)
	}
	if got := hear("native"); got != "hello" {
		t.Errorf("heard %q", got)
	}
}

func isPQCode(err error, code pq.ErrorCode) bool {
	e, ok := errors.AsType[*pq.Error](err)
	return ok && e.Code == code
}

// talkThroughPsql does what people do in psql: describe, copy, watch. A psql that is older than the server may not know how to list
// databases.
func talkThroughPsql(t *testing.T, s *scene, home string) {
	path := clientProgram(t, "psql")
	dir := t.TempDir()
	script := fmt.Sprintf(`
\d hubspot.deals
\dt hubspot.*
\dv+ hubspot.*
\dn
\df ring
\conninfo
create temp table t (id int primary key, name text);
\copy t from program 'seq 1 1000 | sed s/$/,x/' csv
\copy t to '%[1]s/out.csv' csv
\copy (select count(*) from t) to stdout
create temp sequence s;
\set ON_ERROR_STOP off
\l
select 10 / (3 - nextval('s')) as watched \watch 0.05
select 'gone' || ' on';
\set ON_ERROR_STOP on
select 1 as "one" \gset
select :one + 41;
`, dir)
	cmd := osexec.CommandContext(deadline(t), path, "-X", "-v", "ON_ERROR_STOP=1", "-P", "pager=off")
	cmd.Env = s.environment(home)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("psql: %v\n%s", err, out)
	}
	for _, want := range []string{
		`Table "hubspot.deals"`, `"deals_dealstage_idx" btree (dealstage)`, `TABLE "hubspot.deals_contacts" CONSTRAINT`, "open_deals",
		"ring", "COPY 1000", "\n1000\n", "watched", "division by zero", "gone on", `You are connected to database "postgres" as user "scram"`,
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("psql did not print %q:\n%s", want, out)
		}
	}
	if got := bytes.Count(out, []byte("watched")); got != 2 {
		t.Errorf("\\watch ran %d times before its error, want 2", got)
	}
	if (s.ca != "") != bytes.Contains(out, []byte("SSL connection (protocol: TLSv1.3")) {
		t.Errorf("psql on TLS: %s", out)
	}
	copied, err := os.ReadFile(filepath.Join(dir, "out.csv"))
	if err != nil || bytes.Count(copied, []byte(",x\n")) != 1000 {
		t.Errorf("\\copy to a file: %d bytes, %v", len(copied), err)
	}
}

// clientProgram finds a program of Postgres's that is installed with the server or in PATH.
func clientProgram(t testing.TB, name string) string {
	t.Helper()
	binaries, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatalf("find Postgres: %v", err)
	}
	for _, candidate := range []string{filepath.Join(binaries.Dir, name), name} {
		if path, err := osexec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Skipf("no %s beside the server or in PATH", name)
	return ""
}

// pipelineThroughPgbench runs libpq's pipeline mode from several connections at once.
func pipelineThroughPgbench(t *testing.T, s *scene, home string) {
	path := clientProgram(t, "pgbench")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	script := filepath.Join(t.TempDir(), "pipeline.sql")
	text := `\startpipeline
begin;
select count(*) from hubspot.deals where id < :client_id;
select repeat('x', 5000);
commit;
select 1;
\endpipeline
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatalf("write script: %v", err)
	}
	for _, mode := range []string{"extended", "prepared"} {
		cmd := osexec.CommandContext(ctx, path, "-n", "-M", mode, "-c", "4", "-t", "100", "-f", script)
		cmd.Env = s.environment(home)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("400/400")) {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
}

// introspect asks what tools for reports ask before they show anybody a table, in both protocols.
func introspect(t *testing.T, s *scene) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		conn := open(t, s.url(), func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
		for _, q := range []struct {
			what, sql string
			rows      int
		}{
			{"schemas", "select nspname from pg_catalog.pg_namespace where nspname !~ '^pg_' and nspname = 'hubspot'", 1},
			{"tables, views and their comments", `
select n.nspname as "schema", c.relname as "name", c.relkind, pg_catalog.obj_description(c.oid, 'pg_class') as description, c.reltuples::bigint
from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where c.relkind = any (array['r', 'p', 'v', 'f', 'm']) and n.nspname = 'hubspot' and pg_catalog.has_table_privilege(c.oid, 'select')
order by 1, 2`, 4},
			{"columns", `
select c.table_schema, c.table_name, c.column_name, c.ordinal_position, c.data_type, c.udt_name, c.is_nullable, c.column_default,
    pg_catalog.col_description(format('%I.%I', c.table_schema, c.table_name)::regclass, c.ordinal_position)
from information_schema.columns c where c.table_schema = 'hubspot' and c.table_name = 'deals'`, 9},
			{"keys", `
select tc.table_name, kcu.column_name, ccu.table_name, ccu.column_name
from information_schema.table_constraints tc
join information_schema.key_column_usage kcu on tc.constraint_name = kcu.constraint_name and tc.table_schema = kcu.table_schema
join information_schema.constraint_column_usage ccu on ccu.constraint_name = tc.constraint_name
where tc.constraint_type = 'FOREIGN KEY' and tc.table_schema = 'hubspot'`, 0},
			{"foreign keys of the catalog", `
select conname, conrelid::regclass::text, confrelid::regclass::text, pg_catalog.pg_get_constraintdef(oid)
from pg_catalog.pg_constraint where contype = 'f' and connamespace = 'hubspot'::regnamespace`, 2},
			{"indexes", `
select i.relname, am.amname, ix.indisunique, pg_catalog.pg_get_indexdef(ix.indexrelid), pg_catalog.pg_get_expr(ix.indpred, ix.indrelid)
from pg_catalog.pg_index ix join pg_catalog.pg_class i on i.oid = ix.indexrelid join pg_catalog.pg_am am on am.oid = i.relam
where ix.indrelid = 'hubspot.deals'::regclass`, 2},
			{"types", "select t.oid, t.typname, t.typelem, r.rngsubtype from pg_catalog.pg_type t left join pg_catalog.pg_range r on r.rngtypid = t.oid where t.typname in ('int8', '_text', 'tstzrange')", 3},
			{"privileges", "select table_name, privilege_type from information_schema.table_privileges where table_schema = 'hubspot' and table_name = 'deals' and privilege_type = 'SELECT'", 1},
			{"settings", "select set_config('search_path', 'hubspot,public', false), current_setting('server_version_num')::int, version(), current_database(), pg_catalog.pg_encoding_to_char(encoding) from pg_catalog.pg_database where datname = current_database()", 1},
			{"a sample", `select "hubspot"."deals"."dealstage" as "dealstage", date_trunc('month', "hubspot"."deals"."closedate") as "closedate", sum("hubspot"."deals"."amount") as "sum" from "hubspot"."deals" group by 1, 2 order by 1, 2`, 2},
		} {
			rows, err := conn.Query(deadline(t), q.sql)
			if err != nil {
				t.Errorf("%s: %v", q.what, err)
				continue
			}
			n := 0
			for rows.Next() {
				if _, err := rows.Values(); err != nil {
					t.Errorf("%s: %v", q.what, err)
				}
				n++
			}
			if err := rows.Err(); err != nil || n != q.rows {
				t.Errorf("%s: %d rows, want %d: %v", q.what, n, q.rows, err)
			}
		}
		cursor := "begin read only; declare c no scroll cursor for select * from hubspot.deals; fetch 100 from c; close c; commit"
		if _, err := conn.PgConn().Exec(deadline(t), cursor).ReadAll(); err != nil {
			t.Errorf("cursor: %v", err)
		}
	}
}
