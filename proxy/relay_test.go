package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestEveryWayToQueryGivesWhatPostgresGives(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	modes := map[string]pgx.QueryExecMode{
		"simple": pgx.QueryExecModeSimpleProtocol, "prepared": pgx.QueryExecModeCacheStatement,
		"described": pgx.QueryExecModeCacheDescribe, "exec": pgx.QueryExecModeExec,
	}
	for name, mode := range modes {
		conn := open(t, r.url(), func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
		for range 3 {
			if got := value[int32](t, conn, "select $1::int4 + 1", int32(41)); got != 42 {
				t.Errorf("%s: got %d", name, got)
			}
		}
		if _, err := conn.Exec(deadline(t), "select 1/0"); !isCode(err, "22012") {
			t.Errorf("%s: want division by zero, got %v", name, err)
		}
		if got := value[string](t, conn, "select 'still ' || 'here'"); got != "still here" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestTheSessionIsTheClientsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := open(t, r.url("application_name=shop", "search_path=hubpg"), func(c *pgx.ConnConfig) {
		c.RuntimeParams["options"] = "-c work_mem=7MB"
	})
	for sql, want := range map[string]string{
		"select current_user::text": "hubpg_owner", "show application_name": "shop", "show search_path": "hubpg",
		"show work_mem": "7MB", "select current_database()::text": r.db.Name,
	} {
		if got := value[string](t, conn, sql); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
	if got, want := value[int32](t, conn, "select pg_backend_pid()"), int32(conn.PgConn().PID()); got != want {
		t.Errorf("process id: got %d, told %d", got, want)
	}
	exec(t, conn, "set timezone = 'Asia/Tokyo'")
	if got := conn.PgConn().ParameterStatus("TimeZone"); got != "Asia/Tokyo" {
		t.Errorf("parameter status: got %q", got)
	}
}

func TestPipelinesKeepTheirOrderAndTheirErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := r.connect()
	exec(t, conn, "create temp table t (n int unique)")
	ctx := deadline(t)
	p := conn.PgConn().StartPipeline(ctx)
	const rounds = 300
	for i := range rounds {
		p.SendQueryParams("select $1::text, repeat('x', 2000)", [][]byte{[]byte(strings.Repeat("y", i))}, nil, nil, nil)
		if i%10 == 9 {
			p.SendQueryParams("select 1/0", nil, nil, nil, nil)
			p.SendQueryParams("insert into t values (1)", nil, nil, nil, nil)
		}
		if err := p.Sync(); err != nil {
			t.Fatalf("sync: %v", err)
		}
	}
	for i := range rounds {
		got, err := p.GetResults()
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		rows := got.(*pgconn.ResultReader).Read()
		if rows.Err != nil || len(rows.Rows) != 1 || len(rows.Rows[0][0]) != i {
			t.Fatalf("round %d: %v, %d rows", i, rows.Err, len(rows.Rows))
		}
		if i%10 == 9 {
			got, err := p.GetResults()
			if reader, ok := got.(*pgconn.ResultReader); ok {
				_, err = reader.Close()
			}
			if !isCode(err, "22012") {
				t.Fatalf("round %d: want division by zero, got %v", i, err)
			}
		}
		if got, err := p.GetResults(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		} else if _, ok := got.(*pgconn.PipelineSync); !ok {
			t.Fatalf("round %d: want sync, got %T", i, got)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatalf("close pipeline: %v", err)
	}
	if n := value[int64](t, conn, "select count(*) from t"); n != 0 {
		t.Errorf("a statement after an error ran: %d rows", n)
	}
}

func TestCopyGoesBothWaysAtAnySize(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := r.connect()
	exec(t, conn, "create temp table t (n int, filler text)")
	var rows bytes.Buffer
	for i := range 20_000 {
		rows.WriteString(strings.Repeat("1", 1+i%5) + "\t" + strings.Repeat("x", i%900) + "\n")
	}
	sent := rows.String()
	tag, err := conn.PgConn().CopyFrom(deadline(t), &rows, "copy t from stdin")
	if err != nil || tag.RowsAffected() != 20_000 {
		t.Fatalf("copy in: %v, %s", err, tag)
	}
	var got bytes.Buffer
	if _, err := conn.PgConn().CopyTo(deadline(t), &got, "copy t to stdout"); err != nil {
		t.Fatalf("copy out: %v", err)
	}
	if sorted(got.String()) != sorted(sent) {
		t.Errorf("copied %d bytes in, %d out, or they differ", len(sent), got.Len())
	}
	if _, err := conn.PgConn().CopyFrom(deadline(t), strings.NewReader("1\tx\nno number\ty\n"), "copy t from stdin"); !isCode(err, "22P02") {
		t.Errorf("bad copy: want invalid text, got %v", err)
	}
	broken := io.MultiReader(strings.NewReader("1\tx\n"), errReader{})
	if _, err := conn.PgConn().CopyFrom(deadline(t), broken, "copy t from stdin"); err == nil {
		t.Error("interrupted copy: want an error")
	}
	if n := value[int64](t, conn, "select count(*) from t"); n != 20_000 {
		t.Errorf("after failed copies: %d rows", n)
	}
}

// sorted puts lines in an order of their own: a table has none.
func sorted(lines string) string {
	list := strings.Split(lines, "\n")
	slices.Sort(list)
	return strings.Join(list, "\n")
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("source is broken") }

func TestLargeValuesAndLongResultsArriveWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := r.connect()
	const size = 40 << 20
	big := strings.Repeat("0123456789abcdef", size/16)
	if got := value[string](t, conn, "select $1::text", big); got != big {
		t.Errorf("a value of %d bytes came back as %d or changed", size, len(got))
	}
	rows, err := conn.Query(deadline(t), "select n, repeat(chr(65 + n % 26), n % 3000) from generate_series(1, 30000) n")
	if err != nil {
		t.Fatalf("query: %v", err)
	}
	defer rows.Close()
	next := 1
	for rows.Next() {
		var n int
		var text string
		if err := rows.Scan(&n, &text); err != nil {
			t.Fatalf("scan: %v", err)
		}
		if n != next || len(text) != n%3000 || strings.Trim(text, string(rune(65+n%26))) != "" {
			t.Fatalf("row %d arrived as %d with %d bytes", next, n, len(text))
		}
		next++
	}
	if rows.Err() != nil || next != 30_001 {
		t.Errorf("result ended after row %d: %v", next-1, rows.Err())
	}
}

func TestNoticesAndNativeNotificationsPass(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	var heard []string
	conn := open(t, r.url(), func(c *pgx.ConnConfig) {
		c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard = append(heard, n.Message) }
	})
	exec(t, conn, "do $$ begin raise notice 'psst'; end $$")
	if len(heard) != 1 || heard[0] != "psst" {
		t.Errorf("notices: %q", heard)
	}
	exec(t, conn, "listen other")
	exec(t, r.connect(), "notify other, 'news'")
	n, err := conn.WaitForNotification(deadline(t))
	if err != nil || n.Channel != "other" || n.Payload != "news" {
		t.Errorf("notification: %v, %+v", err, n)
	}
}

func TestCancelReachesItsOwnSessionOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	slow, bystander := r.connect(), r.connect()
	done := make(chan error, 1)
	go func() {
		_, err := bystander.Exec(context.Background(), "select pg_sleep(1)")
		done <- err
	}()
	failed := make(chan error, 1)
	go func() {
		_, err := slow.Exec(context.Background(), "select pg_sleep(60)")
		failed <- err
	}()
	watch := r.db.Conn(t)
	eventually(t, "the query runs", func() bool {
		return value[bool](t, watch, "select exists (select from pg_stat_activity where pid = $1 and query like '%sleep(60)%' and state = 'active')", int32(slow.PgConn().PID()))
	})
	if err := slow.PgConn().CancelRequest(deadline(t)); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("cancel: %v", err)
	}
	if err := <-failed; !isCode(err, "57014") {
		t.Errorf("want a cancelled query, got %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("bystander: %v", err)
	}
	if got := value[int32](t, slow, "select 7"); got != 7 {
		t.Errorf("after cancel: got %d", got)
	}
	if n := r.server.Stats().Cancels; n != 1 {
		t.Errorf("cancels forwarded: %d", n)
	}
}

func TestReplicationIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	for _, how := range []string{"database", "true", "on", "1"} {
		_, err := pgconn.Connect(deadline(t), r.url("replication="+how))
		if !isCode(err, "0A000") || !strings.Contains(err.Error(), "replication") {
			t.Errorf("replication=%s: %v", how, err)
		}
	}
}

func TestPostgresOutOfReachIsSaidClearly(t *testing.T) {
	t.Parallel()
	db := newRig(t, nil, nil).db
	r := newRig(t, db, func(c *proxy.Config) { c.Upstream = "postgres://nobody@127.0.0.1:1/x?sslmode=disable" })
	_, err := pgconn.Connect(deadline(t), r.url())
	if !isCode(err, "08006") || !strings.Contains(err.Error(), "cannot be reached: connection refused") {
		t.Errorf("got %v", err)
	}
	eventually(t, "the end is counted", func() bool { return r.server.Stats().Ended["unreachable"] == 1 })
}

func TestLimitsOnConnectionsAreSaidClearly(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.Limits.Sessions = 2 })
	first := r.connect()
	r.connect()
	_, err := pgconn.Connect(deadline(t), r.url())
	if !isCode(err, "53300") {
		t.Errorf("third session: %v", err)
	}
	first.Close(deadline(t))
	eventually(t, "the place of a closed session is free", func() bool {
		conn, err := pgconn.Connect(deadline(t), r.url())
		return err == nil && conn.Close(deadline(t)) == nil
	})
	per := newRig(t, r.db, func(c *proxy.Config) { c.Limits.SessionsPerAddress = 1 })
	per.connect()
	if _, err := pgconn.Connect(deadline(t), per.url()); !isCode(err, "53300") || !strings.Contains(err.Error(), "address") {
		t.Errorf("second session of an address: %v", err)
	}
	if n := per.server.Stats().Refused["address"]; n != 1 {
		t.Errorf("refused for their address: %d", n)
	}
}

func TestALostBackendEndsItsSessionOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	victim, other := r.connect(), r.connect()
	admin := r.db.AdminConn(t)
	exec(t, admin, "select pg_terminate_backend($1)", int32(victim.PgConn().PID()))
	eventually(t, "the session hears of it", func() bool {
		_, err := victim.Exec(deadline(t), "select 1")
		if err != nil && !isCode(err, "57P01") && !victim.IsClosed() {
			t.Fatalf("unexpected %v", err)
		}
		return err != nil
	})
	if got := value[int32](t, other, "select 1"); got != 1 {
		t.Errorf("other session: %d", got)
	}
	eventually(t, "the end is counted", func() bool { return r.server.Stats().Ended["server"] == 1 })
}

func TestAClientThatLeavesTakesItsBackendWithIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	conn := r.connect()
	pid := int32(conn.PgConn().PID())
	conn.PgConn().Conn().Close() // no Terminate
	watch := r.db.Conn(t)
	eventually(t, "the backend is gone", func() bool {
		return !value[bool](t, watch, "select exists (select from pg_stat_activity where pid = $1)", pid)
	})
	eventually(t, "no session is left", func() bool { return r.server.Stats().Sessions == 0 })
}

func TestDrainLetsTransactionsFinishAndIdleSessionsGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	idle, busy := r.connect(), r.connect()
	exec(t, busy, "create table t (n int)")
	exec(t, busy, "begin")
	exec(t, busy, "insert into t values (1)")
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if _, err := idle.WaitForNotification(deadline(t)); !isCode(err, "57P01") {
		t.Errorf("idle session: want 57P01, got %v", err)
	}
	exec(t, busy, "insert into t values (2)")
	exec(t, busy, "commit")
	if _, err := busy.WaitForNotification(deadline(t)); !isCode(err, "57P01") {
		t.Errorf("after commit: want 57P01, got %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("run: %v", err)
	}
	if n := value[int64](t, r.db.Conn(t), "select count(*) from t"); n != 2 {
		t.Errorf("committed rows: %d", n)
	}
}

func TestDrainEndsATransactionThatDoesNot(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(c *proxy.Config) { c.DrainTimeout = 200 * time.Millisecond })
	conn := r.connect()
	exec(t, conn, "begin")
	if err := r.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := conn.Exec(deadline(t), "select 1"); err == nil {
		t.Error("the session outlived the drain")
	}
	eventually(t, "the end is counted", func() bool { return r.server.Stats().Ended["drain"] == 1 })
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == code
}
