package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

// raw is bytes of a client that no message of pgproto3 would be.
type raw []byte

func (raw) Frontend()                            {}
func (raw) Decode([]byte) error                  { return nil }
func (r raw) Encode(dst []byte) ([]byte, error)  { return append(dst, r...), nil }
func query(text string) pgproto3.FrontendMessage { return &pgproto3.Query{String: text} }

// said is the message typ with a body of one's own.
func said(typ byte, body string) raw {
	n := len(body) + 4
	return append(raw{typ, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func call(function uint32, arguments ...string) pgproto3.FrontendMessage {
	f := &pgproto3.FunctionCall{Function: function}
	for _, a := range arguments {
		f.Arguments = append(f.Arguments, []byte(a))
	}
	return f
}

// The oids of functions that libpq calls by the fast path, and of one that adds.
const (
	int4pl, loCreate, loOpen, loWrite, loRead, loSeek, loClose, loUnlink = 177, 715, 952, 955, 954, 956, 953, 964
)

var (
	sync1    = &pgproto3.Sync{}
	execute  = &pgproto3.Execute{}
	bind     = &pgproto3.Bind{}
	portal   = &pgproto3.Describe{ObjectType: 'P'}
	copyDone = &pgproto3.CopyDone{}
)

func parse(text string) pgproto3.FrontendMessage { return &pgproto3.Parse{Query: text} }
func data(text string) pgproto3.FrontendMessage  { return &pgproto3.CopyData{Data: []byte(text)} }

// transcripts are what a client may say, a session each. They leave the database as they found it.
func transcripts() map[string][]pgproto3.FrontendMessage {
	big := strings.Repeat("0123456789", 30_000)
	return map[string][]pgproto3.FrontendMessage{
		"nothing":              {},
		"blanks":               {query(""), query(" ; ;"), query("-- a comment"), parse(""), bind, portal, execute, sync1},
		"several in one":       {query("select 1; select 'two' as b, null; values (1), (2); select 1/0; select 3"), query("select 4")},
		"notices":              {query("do $$ begin raise notice 'a'; raise warning 'b' using detail = 'c', hint = 'd'; raise exception 'e' using errcode = 'HS123', column = 'f', table = 'g'; end $$")},
		"settings":             {query("set timezone = 'Asia/Tokyo'"), query("begin; set local datestyle = 'SQL'; rollback"), query("set client_encoding = latin1; select 'é'"), query("discard all")},
		"a transaction":        {query("begin"), query("select 1/0"), query("select 1"), query("savepoint a"), query("commit"), query("commit"), query("begin; savepoint a; select 1/0"), query("rollback to a; select 2; commit")},
		"cursors":              {query("begin; declare c cursor for select generate_series(1, 5)"), query("fetch 2 from c"), query("move 1 from c; fetch all from c"), query("close c; close c"), query("rollback")},
		"prepared in SQL":      {query("prepare p as select $1::int"), query("execute p(1); execute p('x')"), query("deallocate p; deallocate p")},
		"of one's own":         {query("listen mine; notify mine, 'news'; notify mine, 'news'; unlisten mine"), query("listen mine"), query("begin; notify mine, 'later'; select 1"), query("commit"), query("notify mine, 'again'"), query("unlisten *")},
		"too long a channel":   {query("listen " + strings.Repeat("x", 70)), query("notify " + strings.Repeat("x", 63) + ", 'y'"), query("select pg_notify(repeat('x', 64), '')")},
		"long channels":        {query("listen hubspot_" + strings.Repeat("x", 56)), query("LISTEN Hubspot_" + strings.Repeat("X", 70)), query(`listen "hubspot_` + strings.Repeat("Y", 56) + `"`), query(`listen"hubspot_` + strings.Repeat(`y""`, 56) + `"  `), query("/* a */ listen /* b */ hubspot_" + strings.Repeat("z", 60) + " -- c"), query("set client_min_messages = warning; listen hubspot_" + strings.Repeat("x", 60))},
		"long names of others": {query("unlisten hubspot_" + strings.Repeat("x", 56)), query("notify hubspot_" + strings.Repeat("é", 40) + ", 'y'"), query(`unlisten U&"hubspot_` + strings.Repeat(`\00e9`, 28) + `"`), query("listen hubspot_" + strings.Repeat("x", 55)), query("unlisten hubspot_" + strings.Repeat("x", 56)), query("unlisten *")},
		"channels of any letters": {
			query(`listen "hubspot_` + strings.Repeat("é", 28) + `"`), query("listen hubspot_" + strings.Repeat("日本", 20)), query(`listen hubspot_x` + strings.Repeat("😀É", 20)), query(`listen U&"hubspot_` + strings.Repeat(`\00e9`, 28) + `"`),
			query(`listen U&"hubspot_` + strings.Repeat("!+01F600", 14) + `" uescape '!'`), query(`listen u&"hubspot_` + strings.Repeat(`\d83d\de00`, 14) + `"`), query(`listen U&"hubspot_` + strings.Repeat(`\\`, 56) + `"`),
			query(`listen U&"hubspot_` + strings.Repeat(`\\`, 55) + `"`), query(`listen U&"hubspot_` + strings.Repeat(`\0061`, 55) + `"`),
		},
		"long channels among others": {
			query(`listen "hubspot_` + strings.Repeat("x", 60) + `"; select nothing`), query(`select 1; listen   hubspot_` + strings.Repeat("x", 60) + `; select 'é', nothing; listen hubspot_deals`), query("listen hubspot_" + strings.Repeat("x", 60) + ";\n  select nothing"),
			query("listen hubspot_" + strings.Repeat("x", 60) + "; listen hubspot_" + strings.Repeat("x", 61) + "; unlisten hubspot_" + strings.Repeat("x", 62)),
			parse("listen hubspot_" + strings.Repeat("x", 60)), bind, execute, sync1, &pgproto3.Parse{Name: "l", Query: "listen hubspot_" + strings.Repeat("é", 40)}, &pgproto3.Bind{PreparedStatement: "l"}, execute, &pgproto3.Bind{PreparedStatement: "l"}, execute, sync1,
			query("begin; select 1/0"), query("listen hubspot_" + strings.Repeat("x", 60)), query("rollback"),
		},
		"a large text":          {query("select length('" + big + "'), '" + big + "'"), parse("select $1::text"), &pgproto3.Bind{Parameters: [][]byte{[]byte(big)}}, execute, sync1},
		"extended":              {parse("select $1::int + 1, $2::text"), &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Bind{Parameters: [][]byte{[]byte("41"), nil}}, portal, execute, sync1},
		"binary":                {parse("select $1::int8, now() is null, '{1,2}'::int[]"), &pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 0, 0, 0, 1, 0}}, ResultFormatCodes: []int16{1}}, portal, execute, sync1},
		"flush without a sync":  {parse("select 1"), &pgproto3.Flush{}, bind, portal, &pgproto3.Flush{}, execute, &pgproto3.Flush{}, sync1, &pgproto3.Flush{}},
		"no sync at all":        {parse("select 1"), bind, execute, &pgproto3.Flush{}},
		"a sync for nothing":    {sync1, sync1, &pgproto3.Flush{}, sync1},
		"a query in a pipeline": {parse("select 1"), bind, execute, query("select 2"), parse("select 3"), bind, execute, sync1},
		"rows in portions":      {query("begin"), parse("select generate_series(1, 7)"), &pgproto3.Bind{DestinationPortal: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 3}, &pgproto3.Flush{}, &pgproto3.Execute{Portal: "p", MaxRows: 3}, sync1, &pgproto3.Execute{Portal: "p"}, &pgproto3.Close{ObjectType: 'P', Name: "p"}, sync1, query("commit")},
		"a portal that is gone": {parse("select 1"), &pgproto3.Bind{DestinationPortal: "p"}, sync1, &pgproto3.Execute{Portal: "p"}, sync1},
		"errors skip":           {parse("select 1/0"), bind, execute, parse("select 2"), bind, execute, sync1, parse("select 3"), bind, execute, sync1},
		"every kind of mistake": {parse("selec"), sync1, parse("select 1; select 2"), sync1, &pgproto3.Bind{PreparedStatement: "none"}, sync1, &pgproto3.Execute{Portal: "none"}, sync1, &pgproto3.Describe{ObjectType: 'S', Name: "none"}, sync1, &pgproto3.Close{ObjectType: 'S', Name: "none"}, sync1, parse("select $1::int"), &pgproto3.Bind{Parameters: [][]byte{[]byte("x")}}, sync1, bind, sync1},
		"a statement twice":     {&pgproto3.Parse{Name: "s", Query: "select 1"}, &pgproto3.Parse{Name: "s", Query: "select 2"}, sync1, &pgproto3.Close{ObjectType: 'S', Name: "s"}, &pgproto3.Parse{Name: "s", Query: "select 3"}, &pgproto3.Bind{PreparedStatement: "s"}, execute, sync1},
		"a plan that changes":   {query("create temp table t (a int)"), &pgproto3.Parse{Name: "s", Query: "table t"}, &pgproto3.Bind{PreparedStatement: "s"}, execute, sync1, query("alter table t add b int"), &pgproto3.Bind{PreparedStatement: "s"}, execute, sync1},
		"function calls":        {call(int4pl, "40", "2"), call(1), call(int4pl, "x", "2"), call(int4pl, "1"), query("begin"), call(int4pl, "x", "2"), call(int4pl, "1", "2"), query("rollback"), parse("select 1"), call(int4pl, "1", "1"), sync1},
		"large objects": {
			query("begin"), call(loCreate, "424242"), call(loOpen, "424242", "393216"), call(loWrite, "0", `\x`+strings.Repeat("ab", 9000)), call(loSeek, "0", "8990", "0"),
			call(loRead, "0", "100"), call(loClose, "0"), query("select length(lo_get(424242))"), call(loUnlink, "424242"), call(loOpen, "424242", "262144"), query("rollback"),
		},
		"copy in": {
			query("create temp table t (n int, s text)"), query("copy t from stdin"), data("1\ta\n2\t"), data("b\n"), copyDone, query("select n + 0, s || '' from t"),
			query("copy t from stdin; select 'and more'"), data("3\tc\n"), copyDone, query("copy t from stdin"), copyDone, query("copy t from stdin (format csv)"), data("4,\"" + big + "\"\n"), copyDone,
			query("select n + 0, md5(s) from t"),
		},
		"copy in that fails": {
			query("create temp table t (n int)"), query("copy t from stdin"), data("1\n"), &pgproto3.CopyFail{Message: "no more"}, query("copy t from stdin"), data("x\n"), data("2\n"), copyDone,
			query("copy nowhere from stdin"), data("1\n"), copyDone, query("select count(*) from t"), copyDone, data("1\n"), &pgproto3.CopyFail{}, query("select 1"),
		},
		"a query amid the data": {query("create temp table t (n int)"), query("copy t from stdin"), data("1\n"), query("select 'in between'"), query("select 1")},
		"a copy left to itself": {query("create temp table t (n int)"), query("copy t from stdin"), data("1\n")},
		"syncs amid the data":   {query("create temp table t (n int)"), parse("copy t from stdin"), bind, execute, sync1, data("1\n"), sync1, &pgproto3.Flush{}, data("2\n"), copyDone, sync1, query("select n + 0 from t")},
		"copy in by the extended protocol": {
			query("create temp table t (n int)"), parse("copy t from stdin"), bind, execute, data("1\n"), copyDone, sync1, parse("copy t from stdin"), bind, execute, sync1, data("2\n"), copyDone, sync1,
			parse("copy t from stdin"), bind, execute, data("x\n"), copyDone, sync1, parse("copy t from stdin"), bind, execute, &pgproto3.Flush{}, &pgproto3.CopyFail{Message: "no"}, sync1, query("select n + 0 from t"),
		},
		"copy out":               {query("copy (select generate_series(1, 3)) to stdout; select 1"), parse("copy (select repeat('x', 5000) from generate_series(1, 50)) to stdout"), bind, execute, sync1, query("copy (select 1 / (3 - n) from generate_series(1, 5) n) to stdout"), query("copy (select 1) to stdout (format binary)")},
		"a long copy out":        {query("copy (select n, repeat('x', 100) from generate_series(1, 3000) n) to stdout")},
		"ended in a transaction": {query("begin"), query("create temp table t (n int)"), parse("select 1")},
		"an unknown message":     {query("select 1"), said('y', ""), query("select 2")},
		"a message of servers":   {said('Z', "I"), query("select 1")},
		"a late password":        {said('p', "secret\x00"), query("select 1")},
		"a text without its end": {said('Q', "select 1"), query("select 2")},
		"more than a text":       {said('Q', "select 1\x00\x00"), query("select 2")},
		"a zero in a text":       {said('Q', "select 1\x00select 2\x00"), query("select 3")},
		"letters of no encoding": {query("select '\xff'"), parse("select '\xc3'"), sync1, query("select 1")},
		"a sync with more":       {said('S', "x"), query("select 1")},
		"half a bind":            {parse("select 1"), said('B', "\x00\x00\x00\x01"), sync1, query("select 1")},
		"a bind of too many":     {parse("select 1"), said('B', "\x00\x00\x7f\xff\x00\x00\x00\x00"), sync1, query("select 1")},
		"a bind below nothing":   {parse("select $1::text"), said('B', "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xf0\x00\x00"), sync1, query("select 1")},
		"describe what":          {said('D', "X\x00"), sync1, said('C', "X\x00"), sync1, said('D', ""), sync1, query("select 1")},
		"half a parse":           {said('P', "\x00select 1"), sync1, said('P', "\x00select 1\x00\x00"), sync1, query("select 1")},
		"half an execute":        {said('E', "\x00\x00"), sync1, said('E', "\x00\xff\xff\xff\xff"), sync1, query("select 1")},
		"half a call":            {said('F', "\x00\x00"), query("select 1"), said('F', "\x00\x00\x00\xb1\x00\x01\x00\x07\x00\x00\x00\x00"), query("select 1")},
	}
}

// converse says all that a transcript has, in pieces, and returns what was answered up to the end of the connection, one
// message a line, less what differs from session to session.
func converse(t *testing.T, address, database string, script []pgproto3.FrontendMessage, pieces *rand.Rand) []string {
	t.Helper()
	wire := startup("user", "app", "database", database)
	for _, m := range append(slices.Clone(script), &pgproto3.Terminate{}) {
		var err error
		if wire, err = m.Encode(wire); err != nil {
			t.Fatalf("encode: %v", err)
		}
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatalf("set deadline: %v", err)
	}
	go func() { // ends with the connection, at the latest
		for len(wire) > 0 {
			n := len(wire)
			if pieces != nil {
				n = min(n, 1+pieces.IntN(1+pieces.IntN(1+len(wire)/8)))
			}
			if _, err := conn.Write(wire[:n]); err != nil {
				return // Postgres had enough
			}
			wire = wire[n:]
		}
	}()
	answer, err := io.ReadAll(conn)
	if isTimeout(err) {
		t.Errorf("the connection was left open")
	}
	var lines []string
	for len(answer) >= 5 {
		size := 1 + int(answer[1])<<24 + int(answer[2])<<16 + int(answer[3])<<8 + int(answer[4])
		if size > len(answer) {
			break
		}
		message := answer[:size]
		answer = answer[size:]
		switch message[0] {
		case 'K', 'A':
			message = append([]byte{message[0]}, message[9:]...)
			if message[0] == 'K' {
				message = message[:1] // pid and key
			}
		}
		lines = append(lines, fmt.Sprintf("%q", shortened(message)))
	}
	return append(lines, fmt.Sprintf("and %d bytes", len(answer)))
}

// shortened is a message that people can read when it differs.
func shortened(message []byte) []byte {
	if len(message) < 500 {
		return message
	}
	return fmt.Appendf(bytes.Clone(message[:100]), "… %x of %d", bytesum(message), len(message))
}

func bytesum(message []byte) (sum uint64) {
	for _, b := range message {
		sum = sum*1099511628211 + uint64(b)
	}
	return sum
}

// Postgres and the proxy in front of it answer the same bytes to the same bytes, however those are cut: as a relay, as one
// that rings listeners and sends writes to HubSpot, and for a session that listens.
func TestTranscriptsAreAnsweredAsByPostgres(t *testing.T) {
	t.Parallel()
	full := newCRM(t, func(c *proxy.Config) { c.ListenerIdle = -1 })
	bare := newRig(t, full.db, func(c *proxy.Config) { c.Changes, c.ExpressAfter = nil, -1 })
	direct, err := url.Parse(full.db.URL)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	for name, script := range transcripts() {
		t.Run(name, func(t *testing.T) {
			listening := append([]pgproto3.FrontendMessage{query("listen hubspot_contacts")}, script...)
			want, wantListening := converse(t, direct.Host, full.db.Name, script, nil), converse(t, direct.Host, full.db.Name, listening, nil)
			for way, c := range map[string]struct {
				r      *rig
				script []pgproto3.FrontendMessage
				want   []string
			}{
				"relay": {bare, script, want}, "with everything": {full.rig, script, want}, "listening": {full.rig, listening, wantListening},
			} {
				for _, pieces := range []*rand.Rand{nil, rand.New(rand.NewPCG(1, 2))} {
					got := converse(t, c.r.server.Addr().String(), full.db.Name, c.script, pieces)
					if diff := cmp.Diff(c.want, got); diff != "" {
						t.Errorf("%s, in pieces %v (-Postgres +proxy):\n%s", way, pieces != nil, diff)
					}
				}
			}
		})
	}
}
