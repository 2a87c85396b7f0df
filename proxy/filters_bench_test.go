package proxy

import (
	"context"
	"net"
	"strings"
	"testing"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// BenchmarkFilters measures what the proxy itself does for one transaction of pgbench -S, both ways, without the
// kernel: the pumps, and the filters of a session that the hub serves and that may write. It allocates nothing.
//
//	go test -run '^$' -bench Filters ./proxy
func BenchmarkFilters(b *testing.B) {
	for _, name := range protocols {
		ask, answer := PgbenchAsk(name), PgbenchAnswer(name)
		for _, k := range []string{"a young session", "later", "nothing of HubSpot"} {
			b.Run(name+"/"+k, func(b *testing.B) {
				x := newExchange(k != "nothing of HubSpot")
				if k == "later" {
					for range 2 * maxTexts {
						x.transact(ask, answer)
					}
				}
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					if k == "a young session" && n%(maxTexts/2) == 0 {
						x.renew()
					}
					x.transact(ask, answer)
				}
			})
		}
	}
}

// TestFiltersAllocateNothing holds what the benchmark says of a session's usual messages.
func TestFiltersAllocateNothing(t *testing.T) {
	for _, name := range protocols {
		x, ask, answer := newExchange(true), PgbenchAsk(name), PgbenchAnswer(name)
		for range 10 {
			x.transact(ask, answer)
		}
		if n := testing.AllocsPerRun(maxTexts/4, func() { x.transact(ask, answer) }); n != 0 {
			t.Errorf("%s: %v allocations for a transaction, want none", name, n)
		}
	}
}

var protocols = []string{"simple", "extended", "prepared"}

// PgbenchAsk is what pgbench -S says for a transaction.
func PgbenchAsk(protocol string) (ask []byte) {
	statement := ""
	switch protocol {
	case "simple":
		return pgwire.AppendQuery(nil, "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;")
	case "extended":
		ask = pgwire.AppendParse(nil, "", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;")
	default:
		statement = "P_0"
	}
	ask = pgwire.AppendBind(ask, "", statement, []byte("12345"))
	ask = pgwire.AppendMessage(ask, 'D', []byte("P\x00"))
	return pgwire.AppendSync(pgwire.AppendExecute(ask, "", 0))
}

// PgbenchAnswer is what Postgres answers.
func PgbenchAnswer(protocol string) (answer []byte) {
	switch protocol {
	case "extended":
		answer = pgwire.AppendMessage(answer, '1')
		fallthrough
	case "prepared":
		answer = pgwire.AppendMessage(answer, '2')
	}
	answer = pgwire.AppendMessage(answer, 'T', make([]byte, 2), []byte("abalance\x00"), make([]byte, 18))
	answer = pgwire.AppendMessage(answer, 'D', make([]byte, 2), []byte{0, 0, 0, 1}, []byte("0"))
	answer = pgwire.AppendMessage(answer, 'C', []byte("SELECT 1\x00"))
	return pgwire.AppendMessage(answer, 'Z', []byte("I"))
}

// exchange is a session between a client and a Postgres that are not there.
type exchange struct {
	*session
	asks, answers said
	front, back   *pgwire.Pump
}

func newExchange(hubspot bool) *exchange {
	x := &exchange{session: &session{server: &Server{config: Config{}}, client: nowhere{}, upstream: &upstream{conn: nowhere{}}}}
	x.boundary, x.idle, x.ledger.ready = true, true, 'I'
	if hubspot {
		h := &Hub{}
		words := strings.Fields("nextval set_config pg_sleep currval setval lo_import now_and_then random timeofday clock_timestamp")
		h.names.Store(&names{number: 1, words: map[string]struct{}{}, sieve: sqlstmt.NewSieve(append(words, writeWords...), nil)})
		x.server.hub = h
		x.listener = newListener(x.session)
		x.pen = watchedPen()
		x.pen.session, x.pen.writer = x.session, idleWriter{}
		x.pen.watch.current.Load().readable.sieve = sqlstmt.NewSieve(nil, []string{"hubspot", "contacts", "companies", "deals", "owners"})
		x.server.watch = x.pen.watch
		x.startup = &pgwire.Startup{}
		x.vigil = newVigil(x.session)
	}
	f := &front{session: x.session, ctx: context.Background()}
	f.pump = pgwire.NewPump(&x.asks, nil, f)
	x.front = f.pump
	x.back = pgwire.NewPump(&x.answers, nil, &back{session: x.session, ctx: context.Background()})
	return x
}

// renew forgets what the session has left behind.
func (x *exchange) renew() {
	if x.listener != nil {
		x.listener.residue = residue{}
	}
}

func (x *exchange) transact(ask, answer []byte) {
	x.asks.next, x.answers.next = ask, answer
	if err := x.front.Step(); err != nil {
		panic(err)
	}
	if err := x.back.Step(); err != nil {
		panic(err)
	}
}

// said is a stream that says one thing at a time.
type said struct{ next []byte }

func (s *said) Read([]byte) (int, error) { panic("waits") }

func (s *said) TryRead(b []byte) (n int, ready bool, err error) { return copy(b, s.next), true, nil }

func (s *said) AwaitRead() error { panic("waits") }

// nowhere is a connection that takes everything.
type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// idleWriter is a Writer that is never asked.
type idleWriter struct{ Writer }
