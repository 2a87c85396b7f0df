package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	osexec "os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// modelSteps is how many statements or transactions each client of the model test runs, unless HUBPG_SOAK, like
	// "10m", says how long to go on.
	modelSteps = 15
	// resolvedWithin bounds how long a write may stay unresolved, also after the proxy was killed.
	resolvedWithin = time.Minute
)

// model is an account that several clients change at once, each its own contacts, while HubSpot fails and is polled.
type model struct {
	*crm
	seed uint64
	addr atomic.Pointer[string] // of the proxy
	dies bool                   // the proxy may vanish

	mu       sync.Mutex     // guards below
	outcomes map[string]int // by SQLSTATE, "" for success
}

// TestAnyMixOfWritesTellsClientsTheTruth runs random statements of several clients through the proxy while HubSpot
// refuses, half-refuses, loses answers, answers too late or not at all. Every client is told the truth; in the end the
// tables are HubSpot's, hubpg.writes explains every record and value, and nothing was made twice.
func TestAnyMixOfWritesTellsClientsTheTruth(t *testing.T) {
	t.Parallel()
	m := newModel(t)
	m.runWriter()
	address := m.url()
	m.addr.Store(&address)
	m.play(nil)
	m.verify()
}

// TestAKilledProxyLeavesNothingUnresolved is the same with a proxy in a process of its own, which is killed again and
// again without a word.
func TestAKilledProxyLeavesNothingUnresolved(t *testing.T) {
	t.Parallel()
	m := newModel(t)
	m.dies = true
	kill := m.spawn()
	m.play(func(r *rand.Rand, done <-chan struct{}) {
		var start time.Duration // of the last one: on a busy machine each lives longer, or no client would get anywhere
		for {
			select {
			case <-done:
				return
			case <-time.After(start + time.Duration(200+r.IntN(1500))*time.Millisecond):
			}
			begun := time.Now()
			kill()
			kill = m.spawn()
			start = time.Since(begun)
		}
	})
	m.verify()
	kill()
}

func newModel(t *testing.T) *model {
	t.Helper()
	m := &model{crm: newCRM(t, nil), seed: uint64(time.Now().UnixNano()), outcomes: map[string]int{}}
	t.Logf("seed %d", m.seed)
	return m
}

// play runs the clients, with trouble beside them, and returns when all have finished.
func (m *model) play(trouble func(r *rand.Rand, done <-chan struct{})) {
	m.t.Helper()
	var lasts time.Duration
	if text := os.Getenv("HUBPG_SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			m.t.Fatalf("HUBPG_SOAK: %v", err)
		}
	}
	end := time.Now().Add(lasts)
	done := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				_ = m.followAll() // a fault may hit it; the next one comes
			}
		}
	})
	if trouble != nil {
		beside.Go(func() { trouble(rand.New(rand.NewPCG(m.seed, 99)), done) })
	}
	var clients sync.WaitGroup
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		k := &client{m: m, name: fmt.Sprintf("c%d", i), mode: mode, r: rand.New(rand.NewPCG(m.seed, uint64(i)))}
		clients.Go(func() {
			defer k.close()
			for n := 0; n < modelSteps && lasts == 0 || time.Now().Before(end); n++ {
				if !k.step(n) {
					return
				}
			}
		})
	}
	clients.Wait()
	close(done)
	beside.Wait()
	m.hub.ClearFaults()
	m.t.Logf("outcomes %v", m.outcomes)
	if m.outcomes[""] < 3 {
		m.t.Errorf("only %d statements succeeded: %v", m.outcomes[""], m.outcomes)
	}
}

// followAll reads every contact as the materializer would.
func (m *model) followAll() error {
	for _, r := range m.hub.Snapshot("contacts") {
		if r.Archived {
			continue
		}
		if err := m.follow("contacts", r.ID); err != nil {
			return err
		}
	}
	return nil
}

// verify looks at the end of the play.
func (m *model) verify() {
	m.t.Helper()
	m.patiently("every write is resolved", func() string {
		var open int
		if err := m.pool.QueryRow(deadline(m.t), "select count(*) from hubpg.writes where settled_at is null").Scan(&open); err != nil {
			return err.Error()
		}
		if open > 0 {
			return fmt.Sprintf("%d writes are open", open)
		}
		return ""
	})
	if err := m.followAll(); err != nil {
		m.t.Fatal(err)
	}
	for _, property := range []string{"email", "firstname", "lastname"} {
		m.agree("contacts", property)
	}
	made := map[string]int64{}
	for _, r := range m.hub.Snapshot("contacts") {
		email := r.Properties["email"]
		if other, twice := made[email]; twice {
			m.t.Errorf("%s was made twice: %d and %d", email, other, r.ID)
		}
		made[email] = r.ID
		// The record itself, and each value that it has.
		for property, value := range r.Properties {
			if value == "" || property != "email" && property != "firstname" && property != "lastname" {
				continue
			}
			var explained bool
			err := m.pool.QueryRow(deadline(m.t), `
select exists (
  select
  from hubpg.writes w
  cross join jsonb_array_elements(w.intent) with ordinality i (change, n)
  where change -> 'after' ->> $3 = $4
  and (change ->> 'id' = $1 or w.outcome -> (n - 1)::int ->> 'id' = $1
       or change ->> 'op' = 'insert' and change -> 'after' ->> 'email' = $2))`, strconv.FormatInt(r.ID, 10), email, property, value).Scan(&explained)
			if err != nil {
				m.t.Fatal(err)
			}
			if !explained {
				m.t.Errorf("contact %d, %s = %q: no entry of hubpg.writes meant it", r.ID, property, value)
			}
		}
		if r.Archived {
			var explained bool
			err := m.pool.QueryRow(deadline(m.t), `
select exists (
  select from hubpg.writes w cross join jsonb_array_elements(w.intent) c
  where c ->> 'op' = 'delete' and c ->> 'id' = $1)`, strconv.FormatInt(r.ID, 10)).Scan(&explained)
			if err != nil || !explained {
				m.t.Errorf("contact %d is gone and no entry of hubpg.writes meant it: %v", r.ID, err)
			}
		}
	}
	if len(made) < 3 {
		m.t.Errorf("only %d contacts were made", len(made))
	}
}

// patiently waits until nothing is wrong, as long as the proxy has to put things right.
func (m *model) patiently(what string, wrong func() string) bool {
	m.t.Helper()
	for end := time.Now().Add(resolvedWithin); ; time.Sleep(20 * time.Millisecond) {
		problem := wrong()
		if problem == "" {
			return true
		}
		if time.Now().After(end) {
			m.t.Errorf("not within %v: %s: %s", resolvedWithin, what, problem)
			return false
		}
	}
}

// client is one app of the model.
type client struct {
	m    *model
	name string
	mode pgx.QueryExecMode
	r    *rand.Rand
	conn *pgx.Conn

	settledAt time.Time // when its rows were last those of HubSpot, before the statement at hand
	lostAt    time.Time // when a statement was lost: HubSpot may still take it
}

func (k *client) close() {
	if k.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = k.conn.Close(ctx) // it may be broken
	}
}

// connect opens a session, also while the proxy is being started again.
func (k *client) connect() bool {
	if k.conn != nil && !k.conn.IsClosed() {
		return true
	}
	return k.m.patiently("a session", func() string {
		cfg, err := pgx.ParseConfig(*k.m.addr.Load())
		if err != nil {
			return err.Error()
		}
		cfg.User, cfg.DefaultQueryExecMode = "app", k.mode
		cfg.RuntimeParams["search_path"] = "hubspot, app, public"
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if k.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
			return err.Error()
		}
		return ""
	})
}

// contacts are the client's own in HubSpot, by id, as "email firstname lastname".
func (k *client) contacts() map[string]string {
	list := map[string]string{}
	for _, r := range k.m.hub.Snapshot("contacts") {
		p := r.Properties
		if strings.HasPrefix(p["email"], k.name+"-") && !r.Archived {
			list[strconv.FormatInt(r.ID, 10)] = p["email"] + " " + p["firstname"] + " " + p["lastname"]
		}
	}
	return list
}

// rows are the same in the table, as the client's session sees it.
func (k *client) rows() (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rows, err := k.conn.Query(ctx, "select id::text, concat(email, ' ', firstname, ' ', lastname) from contacts where email like $1", k.name+"-%")
	if err != nil {
		return nil, err
	}
	list := map[string]string{}
	var id, text string
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error { list[id] = text; return nil })
	return list, err
}

// settled waits until the table is what HubSpot has, which after an error may take a moment.
func (k *client) settled() bool {
	return k.m.patiently(k.name+"'s rows follow HubSpot", func() string {
		if !k.connect() {
			return "no session"
		}
		rows, err := k.rows()
		if err != nil {
			k.close()
			return err.Error()
		}
		k.settledAt = time.Now()
		if want := k.contacts(); !maps.Equal(rows, want) {
			return fmt.Sprintf("rows %v, HubSpot has %v", rows, want)
		}
		return ""
	})
}

// landedLate reports whether all that HubSpot has otherwise than the rows was changed since they were the same, by something
// other than the statement at hand: by one that was on its way when its proxy was killed, or when it was given up.
func (k *client) landedLate(word, statement string, rows, has map[string]string) bool {
	const atMost = 10 * time.Second
	if time.Since(k.lostAt) > atMost {
		return false
	}
	for id := range rows {
		n, err := strconv.ParseInt(id, 10, 64)
		if _, known := k.m.hub.Lookup("contacts", n); err != nil || !known {
			return false
		}
	}
	for _, r := range k.m.hub.Snapshot("contacts") {
		id := strconv.FormatInt(r.ID, 10)
		if rows[id] == has[id] {
			continue
		}
		changed := r.UpdatedAt
		mine := strings.HasPrefix(has[id], word+"-") || slices.Contains(strings.Fields(has[id]), word)
		if r.Archived {
			changed, mine = r.ArchivedAt, strings.Contains(statement, "delete")
		}
		if mine || changed.Before(k.settledAt.Truncate(time.Millisecond)) {
			return false
		}
		k.m.t.Logf("%s: %s was changed %s after the rows were HubSpot's", word, id, changed.Sub(k.settledAt))
	}
	return true
}

// trouble makes one of the next calls fail.
func (k *client) trouble() {
	kinds := []sandbox.FaultKind{
		sandbox.FaultDrop, sandbox.FaultDropAfter, sandbox.FaultCut, sandbox.FaultInternal, sandbox.FaultGatewayTimeout, sandbox.FaultSlow,
	}
	k.m.hub.InjectFault(sandbox.Fault{
		Method: "POST", Path: "contacts/batch/(create|update|archive)", Kind: kinds[k.r.IntN(len(kinds))], Count: 1 + k.r.IntN(2), Delay: 300 * time.Millisecond,
	})
}

// step runs one statement, alone or in a transaction, and compares what the client is told with what HubSpot has. It
// reports false when there is no point in going on.
func (k *client) step(n int) bool {
	if !k.settled() {
		return false
	}
	word := fmt.Sprintf("%s-%d", k.name, n)
	mine := "email like '" + k.name + "-%'"
	some := "id in (select id from contacts where " + mine + " order by md5(id::text || '" + word + "') limit 2)"
	statements := []string{
		"insert into contacts (email, firstname) select '" + word + "-' || i || '@example.com', 'New' from generate_series(1, 3) i",
		"insert into contacts (email, firstname) select '" + word + "-' || i || '@example.com', 'New' from generate_series(1, 3) i",
		"insert into contacts (email) select '" + word + "-x@example.com' union all (select email from contacts where " + mine + " limit 1)",
		"update contacts set firstname = '" + word + "' where " + mine,
		"update contacts set lastname = '" + word + "', firstname = null where " + some,
		"with gone as (delete from contacts where id = (select min(id) from contacts where " + mine + ") returning id) update contacts set lastname = '" + word + "' where " + mine + " and id > (select min(id) from gone)",
		"delete from contacts where id = (select max(id) from contacts where " + mine + ")",
		"update contacts set hs_lead_status = 'no such status' where " + some,
	}
	statement := statements[k.r.IntN(len(statements))]
	if n == 0 {
		statement = statements[0] // something to begin with
	}
	settings := "select set_config('statement_timeout', $1, false), set_config('hubpg.on_row_error', $2, false)"
	timeout, onError := "20s", "fail"
	if k.r.IntN(6) == 0 {
		timeout = "150ms" // not enough for a slow answer
	}
	if k.r.IntN(5) == 0 {
		onError = "skip"
	}
	block := k.r.IntN(3) == 0
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := k.conn.Exec(ctx, settings, timeout, onError); err != nil {
		return k.failed(word, "", nil, err)
	}
	if block {
		if _, err := k.conn.Exec(ctx, "begin"); err != nil {
			return k.failed(word, "", nil, err)
		}
	}
	if k.r.IntN(3) == 0 {
		k.trouble()
	}
	before := k.contacts()
	tag, err := k.conn.Exec(ctx, statement)
	if err != nil {
		ok := k.failed(word, statement, before, err)
		if block && !k.conn.IsClosed() {
			_, _ = k.conn.Exec(ctx, "rollback") // whether it arrives does not matter
		}
		return ok
	}
	k.count("")
	// Success: HubSpot has it, and the session sees what HubSpot has.
	after := k.contacts()
	if tag.RowsAffected() > 0 && maps.Equal(before, after) && strings.Contains(statement, word) {
		k.m.t.Errorf("%s: %s succeeded with %s and changed nothing in HubSpot", word, statement, tag)
	}
	rows, err := k.rows()
	if err != nil {
		return k.failed(word, "", nil, err)
	}
	if !maps.Equal(rows, after) && !k.landedLate(word, statement, rows, after) {
		k.m.t.Errorf("%s: after %s with %s the session sees\n%v, HubSpot has\n%v", word, statement, tag, rows, after)
	}
	if block {
		end := []string{"commit", "rollback"}[k.r.IntN(2)]
		if _, err := k.conn.Exec(ctx, end); err != nil {
			return k.failed(word, "", nil, err)
		}
	}
	return true
}

// failed compares an error with what HubSpot has. Where it says that nothing is known, HubSpot may have anything.
func (k *client) failed(word, statement string, before map[string]string, err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || strings.HasPrefix(e.Code, "57P") || strings.HasPrefix(e.Code, "08") {
		k.count("lost")
		k.lostAt = time.Now()
		if !k.m.dies {
			k.m.t.Errorf("%s: %s: %v", word, statement, err)
			return false
		}
		k.close()
		return true
	}
	k.count(e.Code)
	switch e.Code {
	case "57014", "40001", "40P01", writeback.CodeUnknown: // they say that HubSpot may have taken it
		k.lostAt = time.Now() // or will
		return true
	case "22P02", "23505", writeback.CodeRefused, writeback.CodeGone, writeback.CodeUnavailable:
	default:
		k.m.t.Errorf("%s: %s: %v (%s)", word, statement, err, e.Detail)
		return true
	}
	after := k.contacts()
	for _, id := range slices.Sorted(maps.Keys(after)) {
		if after[id] != before[id] && !strings.Contains(e.Detail, "contacts "+id) {
			k.m.t.Errorf("%s: %s failed with %v\n%s\nand HubSpot has %s as %q, before %q", word, statement, err, e.Detail, id, after[id], before[id])
		}
	}
	for id := range before {
		if _, stays := after[id]; !stays && !strings.Contains(e.Detail, "contacts "+id) {
			k.m.t.Errorf("%s: %s failed with %v\n%s\nand HubSpot has lost %s", word, statement, err, e.Detail, id)
		}
	}
	return true
}

func (k *client) count(outcome string) {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	k.m.outcomes[outcome]++
}

// The variables by which a test starts this program again as a proxy.
const (
	childDatabase = "HUBPG_TEST_CHILD_DATABASE"
	childHubSpot  = "HUBPG_TEST_CHILD_HUBSPOT"
)

// spawn starts a proxy in a process of its own, tells the clients where it is, and returns what kills it.
func (m *model) spawn() (kill func()) {
	m.t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDatabase+"="+m.db.URL, childHubSpot+"="+m.hubURL)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		m.t.Errorf("start a proxy: %v", err)
		return func() {}
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // SIGKILL; it may have ended
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	m.t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		m.t.Errorf("the proxy does not say where it is: %v", err)
		return kill
	}
	u, err := url.Parse(m.db.URL)
	if err != nil {
		m.t.Errorf("parse url: %v", err)
		return kill
	}
	u.Host = strings.TrimSpace(line)
	address := u.String()
	m.addr.Store(&address)
	return kill
}

// serveAsChild is a process that a test has started: a proxy with its writer, until it is killed.
func serveAsChild() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, err := pgxpool.New(ctx, os.Getenv(childDatabase))
	if err != nil {
		return err
	}
	hubspot, err := hubapi.New(os.Getenv(childHubSpot), hubapi.StaticToken(sandbox.DefaultToken), hubapi.WithRetry(hubapi.RetryPolicy{Tries: 2, Initial: time.Millisecond}))
	if err != nil {
		return err
	}
	w, err := writeback.New(writeback.Config{Pool: pool, Client: hubspot, PortalID: crmPortal, Every: 100 * time.Millisecond, Landing: 5 * time.Second})
	if err != nil {
		return err
	}
	server, err := proxy.New(proxy.Config{
		Listen: "127.0.0.1:0", Upstream: os.Getenv(childDatabase), Changes: pool, Poll: 50 * time.Millisecond,
		Writer: &scribe{Writer: w, settled: map[int64]bool{}},
	})
	if err != nil {
		return err
	}
	go func() { _ = w.Run(ctx) }() // it ends with the process
	fmt.Println(server.Addr())
	return server.Run(ctx)
}
