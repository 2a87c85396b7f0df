package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// newHubRig is a rig whose hub has found the log.
func newHubRig(t testing.TB, change func(*proxy.Config)) *rig {
	t.Helper()
	r := newRig(t, nil, change)
	eventually(t, "the hub has read the log", func() bool { return r.server.Stats().HubPosition >= 0 })
	return r
}

// hears checks that the next notifications of conn are those of the given changes, in order.
func hears(t testing.TB, conn *pgx.Conn, channel string, seqs ...int64) {
	t.Helper()
	for _, seq := range seqs {
		n, err := conn.WaitForNotification(deadline(t))
		if err != nil {
			t.Fatalf("%s: await change %d: %v", channel, seq, err)
		}
		if n.Channel != channel || n.Payload != notice(seq) || n.PID != conn.PgConn().PID() {
			t.Fatalf("got %+v, want change %d on %s", n, seq, channel)
		}
	}
}

// silent checks that conn has nothing more to hear: a marker sent through the hub, with nothing before it, proves it.
func (r *rig) silent(conn, writer *pgx.Conn) {
	r.t.Helper()
	exec(r.t, conn, `listen "hubspot_deals.dealstage"`)
	hears(r.t, conn, "hubspot_deals.dealstage", r.change(writer, 1))
	exec(r.t, conn, `unlisten "hubspot_deals.dealstage"`)
}

func TestAListenerHearsEveryChangeOnceInOrder(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer := r.db.Conn(t)
	r.change(writer, 3) // before anyone listens
	for name, mode := range map[string]pgx.QueryExecMode{
		"simple": pgx.QueryExecModeSimpleProtocol, "prepared": pgx.QueryExecModeCacheStatement, "exec": pgx.QueryExecModeExec,
	} {
		conn := open(t, r.url(), func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
		if tag := exec(t, conn, "listen hubspot_deals"); tag.String() != "LISTEN" {
			t.Errorf("%s: tag %q", name, tag)
		}
		first := r.change(writer, 1)
		hears(t, conn, "hubspot_deals", first)
		r.change(writer, 2500) // more than one page of the log
		for seq := first + 1; seq <= first+2500; seq++ {
			hears(t, conn, "hubspot_deals", seq)
		}
		if tag := exec(t, conn, "unlisten hubspot_deals"); tag.String() != "UNLISTEN" {
			t.Errorf("%s: tag %q", name, tag)
		}
		r.change(writer, 1)
		r.silent(conn, writer)
	}
	eventually(t, "what was delivered is counted", func() bool { return r.server.Stats().Delivered >= 3*2501 })
}

func TestEachChannelOfAChangeRings(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer := r.db.Conn(t)
	for statement, channel := range map[string]string{
		`listen hubspot`: "hubspot", `LISTEN HubSpot_Deals`: "hubspot_deals",
		`listen "hubspot_deals.dealstage"`: "hubspot_deals.dealstage", `listen "hubspot@0"`: "hubspot@0",
	} {
		conn := r.connect()
		exec(t, conn, statement)
		seq := r.change(writer, 1)
		if strings.HasSuffix(channel, "@0") {
			for past := int64(1); past < seq; past++ {
				hears(t, conn, channel, past)
			}
		}
		hears(t, conn, channel, seq)
	}
	quiet := r.connect()
	exec(t, quiet, "listen hubspot_contacts")
	exec(t, quiet, `listen "hubspot_deals.amount"`)
	r.change(writer, 1)
	r.silent(quiet, writer)
}

func TestAChangeCommittedRightAfterLISTENIsHeard(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer, conn := r.db.Conn(t), r.connect()
	for range 50 {
		r.change(writer, 1)
		exec(t, conn, "listen hubspot_deals")
		hears(t, conn, "hubspot_deals", r.change(writer, 1))
		exec(t, conn, "unlisten *")
	}
}

func TestLISTENTakesEffectAtCommitOnly(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer := r.db.Conn(t)
	t.Run("commit", func(t *testing.T) {
		conn := r.connect()
		exec(t, conn, "begin")
		exec(t, conn, "listen hubspot_deals")
		r.change(writer, 1) // not yet
		exec(t, conn, "commit")
		hears(t, conn, "hubspot_deals", r.change(writer, 1))
	})
	t.Run("rollback", func(t *testing.T) {
		conn := r.connect()
		exec(t, conn, "begin")
		exec(t, conn, "listen hubspot_deals")
		exec(t, conn, "rollback")
		r.change(writer, 1)
		r.silent(conn, writer)
	})
	t.Run("failed transaction", func(t *testing.T) {
		conn := r.connect()
		exec(t, conn, "begin")
		exec(t, conn, "listen hubspot_deals")
		if _, err := conn.Exec(deadline(t), "select 1/0"); err == nil {
			t.Fatal("want an error")
		}
		if _, err := conn.Exec(deadline(t), "listen hubspot"); !isCode(err, "25P02") {
			t.Errorf("LISTEN in a failed transaction: %v", err)
		}
		exec(t, conn, "commit") // is a rollback
		r.change(writer, 1)
		r.silent(conn, writer)
	})
	t.Run("savepoint", func(t *testing.T) {
		conn := r.connect()
		exec(t, conn, "begin")
		exec(t, conn, "listen hubspot_deals")
		exec(t, conn, "savepoint s")
		exec(t, conn, "listen hubspot")
		exec(t, conn, "rollback to s")
		exec(t, conn, "commit")
		hears(t, conn, "hubspot_deals", r.change(writer, 1))
		exec(t, conn, "unlisten *")
		r.silent(conn, writer)
	})
	t.Run("unlisten rolled back", func(t *testing.T) {
		conn := r.connect()
		exec(t, conn, "listen hubspot_deals")
		exec(t, conn, "begin")
		exec(t, conn, "unlisten hubspot_deals")
		exec(t, conn, "rollback")
		hears(t, conn, "hubspot_deals", r.change(writer, 1))
	})
	t.Run("not delivered inside a transaction", func(t *testing.T) {
		conn := r.connect()
		exec(t, conn, "listen hubspot_deals")
		exec(t, conn, "begin")
		seq := r.change(writer, 1)
		eventually(t, "the hub has rung", func() bool { return r.server.Stats().HubPosition >= seq })
		short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if n, err := conn.WaitForNotification(short); err == nil {
			t.Errorf("heard %+v inside a transaction", n)
		}
		exec(t, conn, "commit")
		hears(t, conn, "hubspot_deals", seq)
	})
}

func TestMixedTextsListenWhereTheyStand(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer := r.db.Conn(t)
	conn := r.connect()
	results, err := conn.PgConn().Exec(deadline(t),
		"select 'é;listen x' as a; listen /* c; */ hubspot_deals; listen other -- tail\n; unlisten never; select 2").ReadAll()
	if err != nil {
		t.Fatalf("exec: %v", err)
	}
	var tags []string
	for _, result := range results {
		tags = append(tags, result.CommandTag.String())
	}
	if got := strings.Join(tags, ","); got != "SELECT 1,LISTEN,LISTEN,UNLISTEN,SELECT 1" {
		t.Errorf("tags: %s", got)
	}
	hears(t, conn, "hubspot_deals", r.change(writer, 1))
	exec(t, writer, "notify other, 'x'")
	if n, err := conn.WaitForNotification(deadline(t)); err != nil || n.Channel != "other" {
		t.Errorf("native channel: %v %+v", err, n)
	}

	// An error in the text undoes the LISTEN before it, and points at the right place.
	exec(t, conn, "unlisten *")
	_, err = conn.PgConn().Exec(deadline(t), "listen hubspot_deals; select nothing_like_it").ReadAll()
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Position != 30 {
		t.Errorf("want an error at character 30, got %+v", e)
	}
	r.change(writer, 1)
	r.silent(conn, writer)
}

func TestPreparedAndPipelinedLISTENsAreCounted(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer, conn := r.db.Conn(t), r.connect()
	if _, err := conn.Prepare(deadline(t), "hark", "listen hubspot_deals"); err != nil {
		t.Fatalf("prepare: %v", err)
	}
	p := conn.PgConn().StartPipeline(deadline(t))
	p.SendQueryPrepared("hark", nil, nil, nil)
	p.SendQueryParams("select 1/0", nil, nil, nil, nil)
	p.SendQueryParams("listen hubspot", nil, nil, nil, nil) // skipped
	if err := p.Sync(); err != nil {
		t.Fatalf("sync: %v", err)
	}
	p.SendQueryParams(`listen "hubspot_deals.dealstage"`, nil, nil, nil, nil)
	p.SendQueryParams("select 1", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		t.Fatalf("sync: %v", err)
	}
	if err := p.Close(); err != nil && !isCode(err, "22012") {
		t.Fatalf("pipeline: %v", err)
	}
	hears(t, conn, "hubspot_deals.dealstage", r.change(writer, 1))
	exec(t, conn, "unlisten *")
	exec(t, conn, "hark")
	hears(t, conn, "hubspot_deals", r.change(writer, 1))
	exec(t, conn, "discard all")
	r.change(writer, 1)
	exec(t, conn, "listen hubspot")
	hears(t, conn, "hubspot", r.change(writer, 1))
}

// An extended COPY sends a Sync that Postgres ignores. Whoever counts it loses account of the session.
func TestACopyWithASyncTooManyDoesNotConfuseTheLedger(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.DrainTimeout = patience })
	writer, conn := r.db.Conn(t), r.connect()
	exec(t, conn, "create temp table t (n int)")
	hijacked, err := conn.PgConn().Hijack()
	if err != nil {
		t.Fatalf("hijack: %v", err)
	}
	defer hijacked.Conn.Close()
	if err := hijacked.Conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatalf("set deadline: %v", err)
	}
	f := hijacked.Frontend
	send := func(messages ...pgproto3.FrontendMessage) {
		t.Helper()
		for _, m := range messages {
			f.Send(m)
		}
		if err := f.Flush(); err != nil {
			t.Fatalf("flush: %v", err)
		}
	}
	await := func(types string) {
		t.Helper()
		for _, want := range types {
			m, err := f.Receive()
			if err != nil {
				t.Fatalf("receive: %v", err)
			}
			if got := messageType(t, m); got != byte(want) {
				t.Fatalf("got message %c, want %c of %s", got, want, types)
			}
		}
	}
	send(&pgproto3.Parse{Query: "copy t from stdin"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
	await("12G")
	send(&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{})
	await("CZ")
	send(&pgproto3.Query{String: "listen hubspot; select 1/0"})
	await("CEZ")
	send(&pgproto3.Query{String: "listen hubspot_deals"})
	await("CZ")
	seq := r.change(writer, 1)
	m, err := f.Receive()
	if n, ok := m.(*pgproto3.NotificationResponse); !ok || err != nil || n.Channel != "hubspot_deals" || n.Payload != notice(seq) {
		t.Fatalf("got %+v, %v", m, err)
	}
	// A session that the ledger thinks busy would hold up the drain until its deadline.
	begun := time.Now()
	if err := r.stop(); err != nil || time.Since(begun) > patience/2 {
		t.Errorf("drain took %v: %v", time.Since(begun), err)
	}
}

func messageType(t *testing.T, m pgproto3.BackendMessage) byte {
	t.Helper()
	wire, err := m.Encode(nil)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return wire[0]
}

func TestReplayGoesLiveWithoutGapOrDouble(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.Limits.ListenerQueue = 1300 })
	writer := r.db.Conn(t)
	r.change(writer, 2300)
	const more, size = 30, 20
	const last = 2300 + more*size
	var wg sync.WaitGroup
	wg.Go(func() {
		for range more {
			r.change(writer, size)
		}
	})
	defer wg.Wait()
	var listeners sync.WaitGroup
	for i := range 5 {
		conn, start := r.connect(), int64(i*500)
		listeners.Go(func() {
			channel := fmt.Sprintf("hubspot_deals@%d", start)
			if _, err := conn.Exec(deadline(t), `listen "`+channel+`"`); err != nil {
				t.Errorf("listen: %v", err)
				return
			}
			for seq := start + 1; seq <= last; seq++ {
				n, err := conn.WaitForNotification(deadline(t))
				if err != nil || n.Channel != channel || n.Payload != notice(seq) {
					t.Errorf("%s: want %d, got %+v, %v", channel, seq, n, err)
					return
				}
			}
		})
	}
	listeners.Wait()
}

func TestReplayBeyondTheLogIsRefused(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	writer, conn := r.db.Conn(t), r.connect()
	r.change(writer, 20)
	exec(t, writer, "delete from hubpg.changes where seq <= 10")
	if _, err := conn.Exec(deadline(t), `listen "hubspot_deals@5"`); !isCode(err, "HS001") || !strings.Contains(err.Error(), "oldest kept is 11") {
		t.Errorf("too old: %v", err)
	}
	if _, err := conn.Exec(deadline(t), `listen "hubspot_deals@500"`); !isCode(err, "HS002") {
		t.Errorf("from the future: %v", err)
	}
	exec(t, conn, "begin")
	if _, err := conn.Exec(deadline(t), `listen "hubspot_deals@5"`); !isCode(err, "HS001") {
		t.Errorf("in a transaction: %v", err)
	}
	if status := conn.PgConn().TxStatus(); status != 'E' {
		t.Errorf("transaction status after a refused LISTEN: %c", status)
	}
	exec(t, conn, "rollback")
	exec(t, conn, `listen "hubspot_deals@18"`)
	hears(t, conn, "hubspot_deals@18", 19, 20, r.change(writer, 1))
	all := r.connect()
	exec(t, all, `listen "hubspot_deals@0"`) // all that is kept
	hears(t, all, "hubspot_deals@0", 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, r.change(writer, 1))
}

// TestListensAreBounded: what is remembered of them is the memory of all sessions.
func TestListensAreBounded(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.Limits.Listens = 50 })
	writer, witness := r.db.Conn(t), r.connect()
	for i := range 50 {
		exec(t, witness, fmt.Sprintf("listen hubspot_deals%d", i))
	}
	for name, text := range map[string]string{
		"in force": "listen hubspot_t%d", "in one transaction": "begin; listen hubspot_deals; --%d",
		"UNLISTENs": "begin; unlisten hubspot_deals; --%d", "together": strings.Repeat("listen hubspot_deals;", 51) + "--%d",
	} {
		conn := open(t, r.url(), func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol })
		var err error
		for i := 0; i <= 50 && err == nil; i++ {
			_, err = conn.Exec(deadline(t), fmt.Sprintf(text, i))
			if err == nil && i == 50 {
				_, err = conn.Exec(deadline(t), "select 1")
			}
		}
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "54000" || e.Severity != "FATAL" {
			t.Errorf("%s: %v", name, err)
		}
	}
	exec(t, witness, "unlisten *")
	exec(t, witness, "listen hubspot_deals")
	hears(t, witness, "hubspot_deals", r.change(writer, 1))
}

// TestAReplayThatRetentionOvertakesEnds, also where no change is left that the hub could miss one before.
func TestAReplayThatRetentionOvertakesEnds(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.Limits.ListenerQueue = 100 })
	writer, conn := r.db.Conn(t), r.connect()
	last := r.change(writer, 3000)
	eventually(t, "the hub has read them", func() bool { return r.server.Stats().HubPosition == last })
	f := conn.PgConn().Frontend()
	f.Send(&pgproto3.Query{String: `listen "hubspot_deals@0"`})
	f.Send(&pgproto3.Query{String: "begin"}) // nothing is told meanwhile, and a queue that is half full waits
	if err := f.Flush(); err != nil {
		t.Fatalf("listen: %v", err)
	}
	eventually(t, "the replay waits", func() bool {
		return value[bool](t, writer, "select exists (select from pg_stat_activity where state = 'idle in transaction' and query = 'begin')")
	})
	time.Sleep(200 * time.Millisecond)
	exec(t, writer, "delete from hubpg.changes")
	f.Send(&pgproto3.Query{String: "commit"})
	if err := f.Flush(); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if err := conn.PgConn().Conn().SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatalf("set deadline: %v", err)
	}
	for heard := int64(0); ; {
		m, err := f.Receive()
		if err != nil {
			t.Fatalf("after change %d: %v", heard, err)
		}
		switch m := m.(type) {
		case *pgproto3.NotificationResponse:
			if heard++; heard == last {
				t.Fatal("the log was kept")
			}
		case *pgproto3.ErrorResponse:
			if m.Code != "HS001" {
				t.Errorf("%s: %s", m.Code, m.Message)
			}
			return
		}
	}
}

func TestARoleHearsOnlyOfTablesThatItMayRead(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	owner, admin := r.db.Conn(t), r.db.AdminConn(t)
	exec(t, owner, "create schema hubspot")
	exec(t, owner, "create table hubspot.deals (id int)")
	exec(t, owner, "create table hubspot.contacts (id int)")
	role := fmt.Sprintf("guest_%d", time.Now().UnixNano())
	exec(t, admin, "create role "+role+" login")
	t.Cleanup(func() {
		exec(t, admin, "drop owned by "+role)
		exec(t, admin, "drop role "+role)
	})
	conn := open(t, r.url(), func(c *pgx.ConnConfig) { c.User = role })
	for _, channel := range []string{`hubspot`, `hubspot_deals`, `"hubspot_deals.amount"`, `"hubspot@0"`} {
		if _, err := conn.Exec(deadline(t), "listen "+channel); !isCode(err, "42501") {
			t.Errorf("%s without any grant: %v", channel, err)
		}
	}
	exec(t, owner, "grant usage on schema hubspot to "+role)
	exec(t, owner, "grant select on hubspot.deals to "+role)
	exec(t, conn, "listen hubspot_deals")
	for _, channel := range []string{"hubspot", "hubspot_contacts"} {
		if _, err := conn.Exec(deadline(t), "listen "+channel); !isCode(err, "42501") {
			t.Errorf("%s with a grant on deals: %v", channel, err)
		}
	}
	hears(t, conn, "hubspot_deals", r.change(owner, 1))
	exec(t, conn, "listen other")
	long := "p_" + strings.Repeat("x", 61) // Postgres cuts the channel, and the hub rings it cut
	exec(t, owner, "create table hubspot."+long+" (id int)")
	for _, channel := range []string{"hubspot_" + long, "hubspot_" + long[:55], `"hubspot_` + long + `.amount"`} {
		if _, err := conn.Exec(deadline(t), "listen "+channel); !isCode(err, "42501") {
			t.Errorf("%s without a grant: %v", channel, err)
		}
	}
	exec(t, owner, "create table hubspot.deals_"+long[:40]+" (id int)")
	exec(t, conn, `listen "hubspot_deals.`+long+`"`)
	exec(t, owner, "create table hubspot.mine (id int)")
	exec(t, owner, "grant select on hubspot.mine to "+role)
	exec(t, conn, "listen hubspot_mine")
	exec(t, conn, "unlisten hubspot_mine")
	exec(t, owner, "alter table hubspot.mine enable row level security") // shows the role no row
	if _, err := conn.Exec(deadline(t), "listen hubspot_mine"); !isCode(err, "42501") {
		t.Errorf("with policies: %v", err)
	}
	exec(t, r.connect(), "listen hubspot_mine") // the owner
	exec(t, owner, "grant select on hubspot."+long+" to "+role)
	exec(t, conn, "listen hubspot_"+long)
}

func TestASlowListenerIsCutOffAndTheOthersAreNot(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) {
		c.Limits.ListenerQueue, c.Limits.CutOffGrace = 500, 200*time.Millisecond
	})
	writer, busy, stuck, good := r.db.Conn(t), r.connect(), r.connect(), r.connect()
	for _, conn := range []*pgx.Conn{busy, stuck, good} {
		exec(t, conn, "listen hubspot_deals")
	}
	exec(t, busy, "begin") // never told anything
	heard := make(chan error, 1)
	go func() {
		for seq := int64(1); ; seq++ {
			n, err := good.WaitForNotification(context.Background())
			if err == nil && n.Payload != notice(seq) {
				err = fmt.Errorf("want %d, got %+v", seq, n)
			}
			if err != nil || n.Payload == notice(20_000) {
				heard <- err
				return
			}
		}
	}()
	// stuck reads nothing: its socket's buffers fill up first.
	for i := range 100 {
		last := r.change(writer, 200)
		eventually(t, "the good listener keeps up", func() bool {
			s := r.server.Stats()
			return s.HubPosition >= last && s.Delivered >= last
		})
		if i == 5 { // asked soon: the system forgets a connection that was closed a minute ago, and what it had to say
			eventually(t, "the listener in a transaction is cut off", func() bool { return r.server.Stats().CutOff >= 1 })
			_, err := busy.Exec(deadline(t), "select 1")
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "53400" || !strings.Contains(e.Hint, "@0 ") {
				t.Errorf("listener in a transaction: want 53400 and that it has heard nothing, got %+v", err)
			}
		}
	}
	if err := <-heard; err != nil {
		t.Errorf("good listener: %v", err)
	}
	if n := r.server.Stats().CutOff; n > 2 {
		t.Errorf("cut off: %d", n)
	}
}

func TestTheHubSurvivesPostgresRestarting(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	cluster, err := pgtest.Start(ctx, pgtest.ClusterConfig{Dir: pgtest.Dir(t)})
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() { _ = cluster.Kill() })
	db := &pgtest.DB{Name: "postgres", URL: cluster.URL("postgres"), AdminURL: cluster.URL("postgres"), Cluster: cluster}
	setup := db.Conn(t)
	if err := migrations.Up(ctx, setup); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	r := newRig(t, db, nil)
	conn := r.connect()
	eventually(t, "the hub is ready", func() bool { return r.server.Stats().HubPosition >= 0 })
	exec(t, conn, "listen hubspot_deals")
	r.change(setup, 5)
	hears(t, conn, "hubspot_deals", 1, 2, 3, 4, 5)
	if err := cluster.Restart(ctx, pgtest.Fast); err != nil {
		t.Fatalf("restart: %v", err)
	}
	if _, err := conn.WaitForNotification(deadline(t)); err == nil {
		t.Fatal("the session outlived its backend")
	}
	again := r.connect()
	exec(t, again, `listen "hubspot_deals@3"`)
	hears(t, again, "hubspot_deals@3", 4, 5, r.change(db.Conn(t), 1))
	if n := r.server.Stats().HubFailures; n == 0 {
		t.Error("the hub's loss was not counted")
	}
}

func TestTheHubFindsWhatNobodyRangFor(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, func(c *proxy.Config) { c.Poll = 50 * time.Millisecond })
	conn, writer := r.connect(), r.db.Conn(t)
	exec(t, conn, "listen hubspot_deals")
	exec(t, writer, "begin") // a number without its change is what retention leaves
	exec(t, writer, "update hubpg.change_counter set last = last + 1")
	exec(t, writer, `insert into hubpg.changes (seq, schema_name, table_name, record_id, op, changed, before, after, source)
values (1, 'hubspot', 'deals', 1001, 'update', '{dealstage}', '{"dealstage":"a"}', '{"dealstage":"b"}', 'follow')`)
	exec(t, writer, "commit")
	hears(t, conn, "hubspot_deals", 1)
}

func TestWithoutALogEveryChannelIsPostgress(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.Changes = nil })
	conn := r.connect()
	exec(t, conn, "listen hubspot_deals")
	exec(t, r.connect(), "notify hubspot_deals, 'x'")
	if n, err := conn.WaitForNotification(deadline(t)); err != nil || n.Payload != "x" {
		t.Errorf("got %+v, %v", n, err)
	}
}

func TestTheChannelsOfAListenerAreGivenBack(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, nil)
	conn := r.connect()
	exec(t, conn, "listen hubspot")
	exec(t, conn, "listen hubspot")
	exec(t, conn, `listen "hubspot_deals@0"`)
	if n := r.server.Stats().Listeners; n != 2 {
		t.Errorf("listeners: %d", n)
	}
	conn.PgConn().Conn().Close()
	eventually(t, "no listener is left", func() bool { return r.server.Stats().Listeners == 0 })
}
