package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// keeper stands in for the lanes: it takes the jobs that are due, reads the table again and says when it began to.
type keeper struct {
	*crm
	looks atomic.Int64
	delay atomic.Int64 // of a look, in nanoseconds
}

// newKeeper mirrors an account whose tables were verified an hour ago and have a lane that sleeps for another.
func newKeeper(t *testing.T, change func(*proxy.Config)) *keeper {
	k := &keeper{crm: newCRM(t, change)}
	for _, sql := range []string{
		`update hubpg.objects set phase = 'live', verified_at = now() - interval '1 hour'`,
		`insert into hubpg.river_job (kind, args, queue, max_attempts, state, scheduled_at)
select 'hubpg_lane', jsonb_build_object('portal', portal_id, 'table', table_name, 'lane', case kind when 'object' then 'follow' else 'associations' end),
    'p_fresh', 100, 'scheduled', now() + interval '1 hour'
from hubpg.objects
where kind in ('object', 'association')`,
		`insert into hubpg.river_job (kind, args, queue, max_attempts, state, scheduled_at)
values ('hubpg_lane', '{"portal": 4711, "table": "", "lane": "schema"}', 'p_fresh', 100, 'scheduled', now() + interval '1 hour')`,
	} {
		if _, err := k.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// keep works until the test ends.
func (k *keeper) keep() *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := k.work(ctx); err != nil && ctx.Err() == nil {
				k.t.Errorf("keep: %v", err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	k.t.Cleanup(func() { cancel(); done.Wait() })
	return k
}

func (k *keeper) work(ctx context.Context) error {
	rows, err := k.pool.Query(ctx, `
select id, args ->> 'table', args ->> 'lane', clock_timestamp()
from hubpg.river_job
where state = 'available' and scheduled_at <= now()`)
	if err != nil {
		return err
	}
	type due struct {
		id          int64
		table, lane string
		began       time.Time
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
		return d, row.Scan(&d.id, &d.table, &d.lane, &d.began)
	})
	for _, d := range list {
		k.looks.Add(1)
		time.Sleep(time.Duration(k.delay.Load()))
		if _, ok := k.tables[d.table]; ok {
			if err := k.read(ctx, d.table); err != nil {
				return err
			}
		}
		if _, err = k.pool.Exec(ctx, `
with o as (
    update hubpg.objects set verified_at = $3
    where table_name = $2 or $2 = '' and kind = 'lookup')
update hubpg.river_job set state = 'scheduled', scheduled_at = now() + interval '1 hour'
where id = $1`, d.id, d.table, d.began); err != nil {
			return err
		}
	}
	return err
}

// age makes the tables an hour old again.
func (k *keeper) age() {
	k.t.Helper()
	if _, err := k.pool.Exec(k.t.Context(), `update hubpg.objects set verified_at = now() - interval '1 hour'`); err != nil {
		k.t.Fatal(err)
	}
	k.looks.Store(0)
}

// rename changes the contact's name in HubSpot alone.
func (k *keeper) rename(id int64, name string) {
	k.t.Helper()
	if err := k.hub.Update("contacts", id, map[string]string{"firstname": name}); err != nil {
		k.t.Fatal(err)
	}
}

func TestAStatementWaitsUntilItsTablesAreFresh(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil).keep()
	id := k.contact("ada@example.com")
	k.each(func(mode string, conn *pgx.Conn) {
		k.age()
		name := func(sql string, args ...any) string {
			t.Helper()
			return value[string](t, conn, sql, args...)
		}
		k.rename(id, "old "+mode)
		const byID = "select firstname from contacts where id = $1"
		if got := name(byID, id); got == "old "+mode || k.looks.Load() != 0 {
			t.Fatalf("%s: a session that asks for nothing waited", mode)
		}
		exec(t, conn, "set hubpg.max_staleness = '1 min'")
		if got := name(byID, id); got != "old "+mode { // prepared before the setting
			t.Errorf("%s: read %q", mode, got)
		}
		looks := k.looks.Load()
		k.rename(id, "new "+mode)
		if got := name(byID, id); got == "new "+mode || k.looks.Load() != looks || looks == 0 {
			t.Errorf("%s: a table fresh enough was looked at again: %d looks, %d before", mode, k.looks.Load(), looks)
		}
		exec(t, conn, "set hubpg.max_staleness = '0'")
		for _, sql := range []string{
			"select firstname from hubspot.contacts where id = $1",
			`with n as (select 1) select firstname from n, "contacts" where id = $1`,
			"select firstname from (table hubspot.contacts) c where id = $1",
		} {
			k.rename(id, "new "+sql)
			if got := name(sql, id); got != "new "+sql {
				t.Errorf("%s, %s: read %q", mode, sql, got)
			}
		}
		exec(t, conn, "set hubpg.max_staleness = ''")
		k.age()
		name(byID, id)
		if k.looks.Load() != 0 {
			t.Errorf("%s: the setting outlived its end", mode)
		}
	})
}

func TestOnlyStatementsOnMirroredTablesWait(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil) // nobody keeps the tables
	conn := k.session(nil)
	exec(t, conn, "create table app.contacts (id int, deals text); set hubpg.max_staleness = '0'")
	for _, sql := range []string{
		"select 1", "select deals from app.contacts", "set search_path = app; select id from contacts", "select 'from contacts'",
		"set search_path = app, hubspot; select deals from contacts as companies", "show hubpg.max_staleness",
		"select pg_catalog.count(*) from pg_catalog.pg_class", "create view app.v as select * from hubspot.contacts", "begin; commit",
	} {
		exec(t, conn, sql)
	}
	if n := k.server.Stats().Waits; n != 0 {
		t.Errorf("%d statements waited", n)
	}
}

func TestManyWhoWaitShareALook(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil)
	k.delay.Store(int64(300 * time.Millisecond))
	k.keep()
	id := k.contact("ada@example.com")
	const sessions = 40
	conns := make([]*pgx.Conn, sessions)
	for i := range conns {
		conns[i] = k.session(nil)
		exec(t, conns[i], "set hubpg.max_staleness = '0'")
	}
	k.age()
	k.rename(id, "shared")
	var g sync.WaitGroup
	for _, conn := range conns {
		g.Go(func() {
			var name string
			if err := conn.QueryRow(deadline(t), "select firstname from contacts where id = $1", id).Scan(&name); err != nil || name != "shared" {
				t.Errorf("read %q, %v", name, err)
			}
		})
	}
	g.Wait()
	if n := k.looks.Load(); n < 1 || n > 10 {
		t.Errorf("%d looks for %d sessions", n, sessions)
	}
}

// Each way to give the setting a value, and to take it back.
func TestEveryWayToSetStalenessCounts(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil).keep()
	id := k.contact("ada@example.com")
	admin := k.db.AdminConn(t)
	n := 0
	waits := func(conn *pgx.Conn, what string, want bool) {
		t.Helper()
		n++
		k.age()
		k.rename(id, fmt.Sprint("name ", n))
		got := value[string](t, conn, "select firstname from contacts where id = $1", id)
		if waited := got == fmt.Sprint("name ", n); waited != want {
			t.Errorf("%s: waited is %v, want %v", what, waited, want)
		}
	}
	conn := k.session(nil)
	exec(t, conn, "begin; set hubpg.max_staleness = '0'; rollback")
	waits(conn, "a SET that was rolled back", false)
	exec(t, conn, "SET Hubpg.MAX_staleness TO '0'")
	waits(conn, "SET in capitals", true)
	exec(t, conn, "reset all")
	waits(conn, "RESET ALL", false)
	exec(t, conn, "select set_config('hubpg.max_staleness', $1, false)", "0")
	waits(conn, "set_config", true)
	if err := conn.DeallocateAll(t.Context()); err != nil { // as pgx must know it, too
		t.Fatal(err)
	}
	exec(t, conn, "discard all")
	exec(t, conn, "set search_path = hubspot")
	waits(conn, "DISCARD ALL", false)
	exec(t, conn, "begin")
	exec(t, conn, "set local hubpg.max_staleness = '0'")
	waits(conn, "SET LOCAL", true)
	exec(t, conn, "commit")
	waits(conn, "after SET LOCAL", false)

	options := k.session(func(c *pgx.ConnConfig) { c.RuntimeParams["options"] = "-c hubpg.max_staleness=0" })
	waits(options, "options of the start-up packet", true)
	parameter := k.session(func(c *pgx.ConnConfig) { c.RuntimeParams["hubpg.max_staleness"] = "0" })
	waits(parameter, "parameter of the start-up packet", true)

	exec(t, admin, "create function app.fresh() returns void language plpgsql as $$ begin set hubpg.max_staleness = '0'; end $$")
	exec(t, admin, "alter role app in database "+pgx.Identifier{k.pool.Config().ConnConfig.Database}.Sanitize()+" set hubpg.max_staleness = '0'")
	eventually(t, "the proxy knows that roles have it", func() bool {
		conn := k.session(nil)
		defer conn.Close(t.Context())
		k.age()
		value[string](t, conn, "select firstname from contacts where id = $1", id)
		return k.looks.Load() > 0
	})
	exec(t, conn, "select app.fresh()")
	waits(conn, "a function", true)

	// Where another role has it, a session that has not is left alone, until it sets it.
	exec(t, admin, "drop function app.fresh()")
	exec(t, admin, "alter role app in database "+pgx.Identifier{k.pool.Config().ConnConfig.Database}.Sanitize()+" reset all")
	exec(t, admin, "alter role "+pgx.Identifier{k.pool.Config().ConnConfig.User}.Sanitize()+" in database "+
		pgx.Identifier{k.pool.Config().ConnConfig.Database}.Sanitize()+" set hubpg.max_staleness = '0'")
	time.Sleep(200 * time.Millisecond) // several looks of the proxy
	other := k.session(nil)
	waits(other, "another role's", false)
	waits(other, "another role's, again", false)
	exec(t, other, "set hubpg.max_staleness = '0'")
	waits(other, "SET where another role has it", true)
}

func TestTransactionsWithOneSnapshotTakeItAfterTheWait(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil).keep()
	id := k.contact("ada@example.com")
	k.each(func(mode string, conn *pgx.Conn) {
		for _, begin := range []string{
			"begin isolation level repeatable read", "begin isolation level serializable",
			"set default_transaction_isolation = 'repeatable read'",
		} {
			k.age()
			k.rename(id, begin+mode)
			exec(t, conn, begin)
			exec(t, conn, "set hubpg.max_staleness = '0'")
			if got := value[string](t, conn, "select firstname from contacts where id = $1", id); got != begin+mode {
				t.Errorf("%s, %s: read %q", mode, begin, got)
			}
			if strings.HasPrefix(begin, "begin") {
				exec(t, conn, "commit")
			}
		}
	})
}

func TestStatementsReadThroughOtherNamesWait(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil).keep()
	id := k.contact("ada@example.com")
	exec(t, k.db.AdminConn(t), "create view app.people as select * from hubspot.contacts; create view app.names as select id, firstname from app.people; grant select on app.people, app.names to app")
	conn := k.session(func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol })
	exec(t, conn, "prepare p as select firstname from hubspot.contacts where id = "+fmt.Sprint(id))
	exec(t, conn, "set hubpg.max_staleness = '0'")
	eventually(t, "the proxy knows the view", func() bool {
		k.age()
		value[int64](t, conn, "select count(*) from names")
		return k.looks.Load() > 0
	})
	for i, sql := range []string{
		"select firstname from names where id = %d", "execute p", "explain analyze execute p",
		"set hubpg.max_staleness = '0'; select firstname from contacts where id = %d",
		"begin; declare c cursor for select firstname from contacts where id = %d", "fetch c", "commit",
		"copy (select firstname from contacts) to stdout",
		"create temp table mine as select firstname from contacts", "table mine",
		"update contacts set lastname = firstname where id = %d returning firstname",
		"select count(*) from owners",
		"select count(*) from contacts_companies",
	} {
		name := fmt.Sprint("name ", i)
		if strings.Contains(sql, "%d") {
			sql = fmt.Sprintf(sql, id)
		}
		k.age()
		k.rename(id, name)
		looks := strings.Contains(sql, "from contacts") || strings.Contains(sql, "execute") || strings.Contains(sql, "names") || strings.Contains(sql, "owners") ||
			strings.HasPrefix(sql, "update")
		results, err := conn.PgConn().Exec(deadline(t), sql).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if got := k.looks.Load() > 0; got != looks {
			t.Errorf("%s: looked is %v", sql, got)
		}
		for _, r := range results {
			if len(r.Rows) > 0 && r.FieldDescriptions[0].Name == "firstname" && sql != "fetch c" && sql != "table mine" && string(r.Rows[0][0]) != name {
				t.Errorf("%s: read %q, want %q", sql, r.Rows[0][0], name)
			}
		}
	}
}

// A pipeline without BEGIN is one transaction in Postgres, and stays one when a statement in its middle waits.
func TestAPipelineThatWaitsIsStillOneTransaction(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil).keep()
	id := k.contact("ada@example.com")
	conn := k.session(nil)
	exec(t, conn, "create table app.log (what text)")
	exec(t, conn, "set hubpg.max_staleness = '0'")
	for _, fails := range []bool{true, false} {
		k.age()
		k.rename(id, fmt.Sprint("fails ", fails))
		b := &pgx.Batch{}
		b.Queue("insert into app.log values ('before')")
		var name string
		b.Queue("select firstname from contacts where id = $1", id).QueryRow(func(row pgx.Row) error { return row.Scan(&name) })
		b.Queue("insert into app.log values ('after')")
		if fails {
			b.Queue("select 1 / (length($1) - 1)", "x")
		}
		err := conn.SendBatch(deadline(t), b).Close()
		if (err != nil) != fails {
			t.Fatalf("fails %v: %v", fails, err)
		}
		if want := fmt.Sprint("fails ", fails); name != want && !fails {
			t.Errorf("read %q, want %q", name, want)
		}
		want := int64(2)
		if fails {
			want = 0
		}
		if got := value[int64](t, conn, "select count(*) from app.log"); got != want {
			t.Errorf("fails %v: %d rows were kept, want %d", fails, got, want)
		}
	}
	if s := value[string](t, conn, "select current_setting('hubpg.max_staleness')"); s != "0" {
		t.Errorf("the setting is %q", s)
	}
}

// A statement may be prepared before the setting is given its value and bound after it, all in one round.
func TestASettingInTheMiddleOfARoundCountsForWhatIsBoundAfterIt(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil).keep()
	id := k.contact("ada@example.com")
	conn := k.session(nil)
	exec(t, conn, "set hubpg.max_staleness = ''")
	k.age()
	k.rename(id, "renamed")
	p := conn.PgConn().StartPipeline(deadline(t))
	p.SendPrepare("s", fmt.Sprint("select firstname from contacts where id = ", id), nil)
	p.SendQueryParams("set hubpg.max_staleness = '0'", nil, nil, nil, nil)
	p.SendQueryPrepared("s", nil, nil, nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	var name string
	for range 4 {
		results, err := p.GetResults()
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := results.(*pgconn.ResultReader); ok {
			for r.NextRow() {
				name = string(r.Values()[0])
			}
			if _, err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if name != "renamed" {
		t.Errorf("read %q", name)
	}
}

func TestAStatementThatCannotBeFreshFailsWithTheReason(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, func(c *proxy.Config) { c.Limits.FreshWithin = 300 * time.Millisecond }) // nobody keeps the tables
	const query = "select count(*) from contacts"
	set := func(sql string) {
		t.Helper()
		if _, err := k.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	stale := func(conn *pgx.Conn, code, sql, detail string) *pgconn.PgError {
		t.Helper()
		_, err := conn.Exec(deadline(t), sql)
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || e.Code != code || !strings.Contains(e.Detail, detail) {
			t.Fatalf("%s: got %v, want %s with %q", sql, err, code, detail)
		}
		return e
	}
	k.each(func(mode string, conn *pgx.Conn) {
		set("update hubpg.objects set phase = 'live', last_error = 'no answer', hint = 'ask again' where table_name = 'contacts'")
		exec(t, conn, "set hubpg.max_staleness = '5s'")
		if e := stale(conn, "HS020", query, "The last look failed: no answer"); e.Hint != "ask again" || e.TableName != "contacts" {
			t.Errorf("%s: %+v", mode, e)
		}
		began := time.Now()
		set("update hubpg.objects set phase = 'degraded' where table_name = 'contacts'")
		stale(conn, "HS020", query, "cannot be read")
		set("update hubpg.objects set phase = 'backfill' where table_name = 'contacts'")
		stale(conn, "HS020", query, "being filled")
		if took := time.Since(began); took > patience/2 {
			t.Errorf("what cannot become fresh was waited for: %s", took)
		}
		set("update hubpg.objects set phase = 'live' where table_name = 'contacts'")
		for _, nonsense := range []string{"soon", "-1s", "1 hour 2 parsecs"} {
			exec(t, conn, "set hubpg.max_staleness = '"+nonsense+"'")
			stale(conn, "22023", query, "")
		}
		exec(t, conn, "set hubpg.max_staleness = '5s'")
		exec(t, conn, "begin")
		exec(t, conn, "select 1")
		stale(conn, "HS020", query, "")
		stale(conn, "25P02", "select 1", "")
		exec(t, conn, "rollback")
		exec(t, conn, "set statement_timeout = '100ms'")
		stale(conn, "57014", query, "")
		exec(t, conn, "set statement_timeout = 0")
		exec(t, conn, "set hubpg.max_staleness = '2 hours'")
		exec(t, conn, query)
	})
}

func TestAWaitForFreshTablesCanBeCancelled(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil) // nobody keeps the tables
	conn := k.session(nil)
	exec(t, conn, "set hubpg.max_staleness = '5s'")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select count(*) from contacts")
		done <- err
	}()
	eventually(t, "the statement waits", func() bool { return k.server.Stats().Waits == 1 })
	for stop := false; !stop; {
		if err := conn.PgConn().CancelRequest(deadline(t)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
				t.Fatalf("got %v", err)
			}
			stop = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	exec(t, conn, "select 1")
}

// BenchmarkFresh measures what a statement costs whose tables are fresh enough, beside one of a session that does not ask.
func BenchmarkFresh(b *testing.B) {
	k := newCRM(b, nil)
	if _, err := k.pool.Exec(b.Context(), "update hubpg.objects set phase = 'live', verified_at = now()"); err != nil {
		b.Fatal(err)
	}
	for _, staleness := range []string{"", "1 day"} {
		b.Run("staleness="+staleness, func(b *testing.B) {
			conn := k.session(nil)
			exec(b, conn, "set hubpg.max_staleness = '"+staleness+"'")
			for b.Loop() {
				exec(b, conn, "select count(*) from contacts")
			}
		})
	}
}
