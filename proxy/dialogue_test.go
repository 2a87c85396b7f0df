package proxy_test

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/proxy"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

// dialoguesVariable names the environment variable with how many random dialogues there are, and seedVariable that with the seed
// of the first.
const (
	dialoguesVariable = "HUBPG_DIALOGUES"
	seedVariable      = "HUBPG_DIALOGUE_SEED"
)

// before is what a session of a dialogue begins with: a table, one whose constraint is looked at at the end of a transaction,
// one that refuses data before any has come, and a view, which does so too.
const before = `create temp table t (n int); create temp table d (n int unique deferrable initially deferred); create temp table b (n int);
create function pg_temp.no() returns trigger language plpgsql as 'begin raise exception ''no''; end';
create trigger no before insert on b for each statement execute function pg_temp.no(); create temp view v as select 1 as n`

// writes is a statement that the proxy takes over and that changes nothing.
const writes = "update hubspot.contacts set firstname = 'x' where id = -7"

// texts are what is said in a dialogue.
var texts = []string{
	"select 1", "select 1/0", "selec", "", "insert into pg_temp.t values (1)", "insert into pg_temp.t values ('x')", "select n + 0 from pg_temp.t",
	"begin", "commit", "rollback", "savepoint a", "rollback to a", "copy pg_temp.t from stdin", "copy pg_temp.t from stdin", "copy pg_temp.d from stdin",
	"copy pg_temp.b from stdin", "copy pg_temp.v from stdin", "copy nowhere from stdin", "copy pg_temp.t to stdout", "insert into pg_temp.d values (1)",
}

// traceless are those of which nothing is left in the backend.
var traceless = []string{
	"select 1", "select 1/0", "selec", "", "begin", "commit", "rollback", "savepoint a", "rollback to a", "copy nowhere from stdin", "prepare p as select 1",
	"listen hubspot_deals", "listen other", "set timezone = 'UTC'", "set search_path = nowhere", "declare c cursor with hold for select 1",
}

// theEnd is asked last, and its answer is known from any other.
const theEnd = "select 'the end'"

// dialogue is messages of a client in any order, most of them in an order that no driver would think of.
func dialogue(dice *rand.Rand, texts []string) (script []pgproto3.FrontendMessage) {
	one := func(of ...string) string { return of[dice.IntN(len(of))] }
	chance := func(n int) bool { return dice.IntN(n) == 0 }
	add := func(m ...pgproto3.FrontendMessage) { script = append(script, m...) }
	name := func() string { return one("", "", "p") }
	feed := func() {
		for range dice.IntN(4) {
			switch dice.IntN(8) {
			case 0:
				add(sync1)
			case 1:
				add(&pgproto3.Flush{})
			case 2:
				add(data("x\n"))
			case 3:
				add(data("1"), data("2\n"))
			default:
				add(data("3\n"))
			}
		}
		switch dice.IntN(16) {
		case 0, 1, 2, 3:
			add(&pgproto3.CopyFail{Message: "no"})
		case 4: // Postgres waits for more
		default:
			add(copyDone)
		}
	}
	for range 1 + dice.IntN(12) {
		text := one(texts...)
		copies := strings.Contains(text, "from stdin")
		switch dice.IntN(14) {
		case 0, 1:
			if chance(3) {
				text += "; " + one(texts...)
			}
			add(query(text))
			for range strings.Count(text, "from stdin") {
				feed()
			}
		case 2, 3, 4, 5:
			add(&pgproto3.Parse{Name: name(), Query: text})
			if !chance(4) {
				add(bind)
			}
			if !chance(4) {
				add(execute)
			}
			if copies {
				if chance(2) {
					add(sync1)
				}
				feed()
			}
		case 6:
			add(&pgproto3.Bind{PreparedStatement: name(), DestinationPortal: name()})
		case 7:
			add(&pgproto3.Execute{Portal: name(), MaxRows: uint32(dice.IntN(2))})
		case 8:
			add(&pgproto3.Describe{ObjectType: one("S", "P")[0], Name: name()})
		case 9:
			add(&pgproto3.Close{ObjectType: one("S", "P")[0], Name: name()})
		case 10:
			add(call(int4pl, one("1", "x"), "2"))
		case 11:
			add([]pgproto3.FrontendMessage{&pgproto3.Flush{}, data("1\n"), copyDone, said('H', "x")}[dice.IntN(4)])
		default:
			add(sync1)
		}
	}
	return append(script, sync1)
}

// saying is what a client says, for people to read.
func saying(script []pgproto3.FrontendMessage) string {
	var lines []string
	for _, m := range script {
		lines = append(lines, fmt.Sprintf("%T%+v", m, m))
	}
	return strings.Join(lines, "\n")
}

// discuss says a script in pieces and returns the answers up to that to theEnd, which the script asks last, one message a line.
// Without an answer to theEnd, ended is false.
func discuss(t *testing.T, address, database string, script []pgproto3.FrontendMessage, pieces *rand.Rand) (lines []string, ended bool) {
	stays := make(chan struct{})
	defer close(stays)
	return discussAs(t, "app", address, database, script, pieces, stays)
}

// inTLS stands before an address that is to be spoken to in TLS.
const inTLS = "tls://"

func reach(address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: patience}
	if secret, ok := strings.CutPrefix(address, inTLS); ok {
		return tls.DialWithDialer(dialer, "tcp", secret, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	}
	return dialer.Dial("tcp", address)
}

// discussAs is discuss of a role whose connection is there until stays is closed.
func discussAs(
	t *testing.T, role, address, database string, script []pgproto3.FrontendMessage, pieces *rand.Rand, stays <-chan struct{},
) (lines []string, ended bool) {
	conn, err := reach(address)
	if err != nil {
		t.Errorf("dial: %v", err)
		return nil, false
	}
	go func() {
		<-stays
		_, _ = conn.Write(pgwire.AppendMessage(nil, 'X')) // to a session that is over, perhaps
		conn.Close()
	}()
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Errorf("set deadline: %v", err)
	}
	wire := startup("user", role, "database", database)
	for _, m := range script {
		if wire, err = m.Encode(wire); err != nil {
			t.Errorf("encode: %v", err)
		}
	}
	if pieces != nil {
		pieces = rand.New(rand.NewPCG(pieces.Uint64(), 1)) // whose dice are the caller's
	}
	go func() { // ends with the connection, at the latest
		for len(wire) > 0 {
			n := len(wire)
			if pieces != nil {
				n = min(n, 1+pieces.IntN(1+pieces.IntN(1+len(wire)/2)))
			}
			if _, err := conn.Write(wire[:n]); err != nil {
				return
			}
			if wire = wire[n:]; pieces != nil && pieces.IntN(3) == 0 {
				time.Sleep(time.Duration(pieces.IntN(1000)) * time.Microsecond) // so that some answers come in between
			}
		}
	}()
	r := pgproto3.NewFrontend(conn, nil)
	last := false
	for {
		if err := conn.SetReadDeadline(time.Now().Add(patience / 3)); err != nil {
			t.Errorf("deadline: %v", err)
		}
		m, err := r.Receive()
		if err != nil {
			if isTimeout(err) {
				lines = append(lines, "and then nothing")
			}
			return lines, false
		}
		switch m := m.(type) {
		case *pgproto3.BackendKeyData, *pgproto3.NotificationResponse:
			continue
		case *pgproto3.DataRow:
			last = len(m.Values) == 1 && string(m.Values[0]) == "the end"
		}
		wire, err := m.Encode(nil)
		if err != nil {
			t.Errorf("encode: %v", err)
		}
		if _, failed := m.(*pgproto3.ErrorResponse); failed { // it may name the schema
			wire = temporary.ReplaceAll(append(wire[:1:1], wire[5:]...), []byte("pg_temp"))
		}
		lines = append(lines, fmt.Sprintf("%q", wire))
		if _, ready := m.(*pgproto3.ReadyForQuery); ready && last {
			return lines, true
		}
	}
}

// ready is how rounds have ended.
func ready(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasPrefix(line, `"Z`) })
}

// goesOn is the version of Postgres from which on a transaction goes on behind a Query amid a round that has executed something; after
// the Sync that follows, it fails with "unexpected state STARTED". In a takeover the Query ends it, as in earlier versions.
const goesOn = 180000

var temporary = regexp.MustCompile(`pg_temp_\d+`)

// fatal reports whether Postgres has ended the session: what of its last words arrives is chance.
func fatal(lines []string) bool {
	return len(lines) > 0 && strings.Contains(lines[len(lines)-1], "SFATAL")
}

// number is the value of an environment variable.
func number(t *testing.T, variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// Postgres and the proxy answer the same bytes to messages in any order, and a write that is sent right behind them, before
// their answers are there, is answered too.
func TestDialoguesAreAnsweredAsByPostgres(t *testing.T) {
	t.Parallel()
	cert, key := issue(t, t.TempDir(), "proxy")
	full := newCRM(t, func(c *proxy.Config) { c.ListenerIdle, c.TLS.CertFile, c.TLS.KeyFile = -1, cert, key })
	bare := newRig(t, full.db, func(c *proxy.Config) { c.Changes, c.TLS.CertFile, c.TLS.KeyFile = nil, cert, key })
	afoot := newRig(t, full.db, func(c *proxy.Config) {
		c.Changes, c.ExpressAfter, c.TLS.CertFile, c.TLS.KeyFile = nil, -1, cert, key
	})
	// Each dialogue has the backend of another one that has made nothing temporary, if that has left it in one piece.
	keeping := newRig(t, full.db, func(c *proxy.Config) { c.Limits.KeptBackends, c.TLS.CertFile, c.TLS.KeyFile = 4, cert, key })
	direct, err := url.Parse(full.db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	version := value[int](t, full.db.Conn(t), "select current_setting('server_version_num')::int")
	count, first := number(t, dialoguesVariable, 60), number(t, seedVariable, 1)
	slots := make(chan struct{}, 4)
	var running sync.WaitGroup
	for seed := first; seed < first+count && !t.Failed(); seed++ {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			dice := rand.New(rand.NewPCG(uint64(seed), 1))
			said := texts
			if dice.IntN(2) == 0 {
				said = slices.Concat(texts, []string{"listen hubspot_contacts", "listen hubspot_deals", "unlisten hubspot_deals", "unlisten *"})
			}
			amid := dice.IntN(2) == 0
			if amid {
				said = slices.Concat(said, []string{writes, writes, writes})
				// In a round that writes there is a block, which is the proxy's; Postgres's own would not be one.
				said = slices.DeleteFunc(said, func(text string) bool {
					// A COPY that fails before its data has Postgres count or ignore a Sync, as the proxy can only guess.
					return strings.Contains(text, "_temp.b") || strings.Contains(text, "_temp.v") || strings.HasSuffix(text, " a") || text == "begin" || text == "commit" || text == "rollback"
				})
			}
			script := append([]pgproto3.FrontendMessage{query(before)}, dialogue(dice, said)...)
			if dice.IntN(2) == 0 {
				script = append(script, query("rollback"), query(writes), query(theEnd))
			} else {
				script = append(script, query("rollback"), parse(writes), bind, execute, sync1, query(theEnd))
			}
			want, ended := discuss(t, direct.Host, full.db.Name, script, nil)
			relay, goroutines, everything := bare.server.Addr().String(), afoot.server.Addr().String(), full.rig.server.Addr().String()
			kept := keeping.server.Addr().String()
			for _, address := range []string{relay, inTLS + relay, inTLS + goroutines, everything, inTLS + everything, kept, inTLS + kept} {
				if strings.HasSuffix(address, kept) {
					before := append(dialogue(rand.New(rand.NewPCG(uint64(seed), 3)), traceless), query("rollback"), query(theEnd))
					discuss(t, address, full.db.Name, before, nil)
					for range 100 { // 100 ms, after which it has a backend of its own
						if keeping.server.Stats().Kept > 0 {
							break
						}
						time.Sleep(time.Millisecond)
					}
				}
				got, gotEnded := discuss(t, address, full.db.Name, script, []*rand.Rand{nil, dice}[dice.IntN(2)])
				want := want
				if !ended && !gotEnded && (fatal(want) || fatal(got)) {
					n := max(min(len(want), len(got))-1, 0)
					want, got = want[:n:n], got[:n]
				}
				if amid && strings.HasSuffix(address, everything) { // what is wrong with a text is said in other words, or not at all
					if want, got = ready(want), ready(got); version >= goesOn {
						for i := range min(len(want), len(got)) {
							want[i], got[i] = "Z", "Z"
						}
					}
				}
				if diff := cmp.Diff(want, got); diff != "" || ended != gotEnded {
					way := map[string]string{
						relay: "relay", inTLS + relay: "relay in TLS", inTLS + goroutines: "by goroutines in TLS",
						everything: "everything", inTLS + everything: "everything in TLS", kept: "kept", inTLS + kept: "kept in TLS",
					}[address]
					t.Errorf("seed %d, %s: ended %v, %v (-Postgres +proxy):\n%s\n%s", seed, way, ended, gotEnded, diff, saying(script))
				}
			}
		})
	}
	running.Wait()
	reused := keeping.server.Stats().Reused
	t.Logf("%d dialogues of %d had a backend that was kept", reused, 2*count)
	if reused == 0 && count > 10 {
		t.Error("no backend was kept")
	}
}
