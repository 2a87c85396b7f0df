package proxy_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgproto3"
)

// skipped are rounds of which Postgres answers fewer than the client has begun, or as many as can only be seen later.
func skipped() map[string][]pgproto3.FrontendMessage {
	none := &pgproto3.Describe{ObjectType: 'S', Name: "none"} // fails and leaves nothing behind
	return map[string][]pgproto3.FrontendMessage{
		"a query behind an error":         {none, query("select 1"), sync1},
		"queries and calls behind it":     {none, query("select 1"), call(int4pl, "1", "2"), query("select 2"), sync1, sync1},
		"an error behind a query":         {none, sync1, query("select 1"), none, query("select 2"), query("select 3"), sync1},
		"a flush that Postgres refuses":   {said('H', "x"), query("select 1"), sync1},
		"listens that are skipped":        {none, query("listen hubspot_deals"), parse("listen hubspot_deals"), bind, execute, sync1},
		"stray data behind a query":       {query("select 1"), data("1"), copyDone, sync1},
		"more rounds than are looked at":  pipeline(none, 300),
		"a round that never seems to end": endless(10_000),
	}
}

// endless is a round in which so many times some COPY data ends that nobody takes.
func endless(n int) (script []pgproto3.FrontendMessage) {
	for range n {
		script = append(script, parse("select 1"), copyDone)
	}
	return append(script, sync1)
}

// pipeline is so many rounds, each of which has a Query that is skipped.
func pipeline(fails pgproto3.FrontendMessage, n int) (script []pgproto3.FrontendMessage) {
	for range n {
		script = append(script, fails, query("select 1"), sync1)
	}
	return script
}

// Rounds that Postgres skips are not waited for: not by a drain, and not by a listener that could give its backend back.
func TestSkippedRoundsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	const drain = 20 * time.Second
	// The others say what keeps a listener its backend.
	parks := map[string]bool{"a query behind an error": true, "an error behind a query": true, "more rounds than are looked at": true}
	for name, script := range skipped() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, func(c *proxy.Config) { c.ListenerIdle, c.DrainTimeout = 100*time.Millisecond, drain })
			eventually(t, "the hub knows its place", func() bool { return r.server.Stats().HubPosition >= 0 })
			said := append([]pgproto3.FrontendMessage{query("listen hubspot_deals")}, script...)
			stays := make(chan struct{})
			defer close(stays)
			lines, ended := discussAs(t, "hubpg_owner", r.server.Addr().String(), r.db.Name, append(said, query(theEnd)), rand.New(rand.NewPCG(1, 1)), stays)
			if !ended {
				t.Fatalf("answers: %q", lines)
			}
			if parks[name] {
				eventually(t, "the session has no backend", func() bool { return r.server.Stats().Parked == 1 })
			}
			_, ended = discussAs(t, "hubpg_owner", r.server.Addr().String(), r.db.Name, append(script, query(theEnd)), nil, stays)
			begun := time.Now()
			if err := r.stop(); err != nil || !ended || time.Since(begun) > drain/2 {
				t.Errorf("stopped after %v: %v", time.Since(begun), err)
			}
		})
	}
}

// A write that is sent right behind a COPY with a Sync amid its data waits for no answer to that Sync, and one that is sent in the
// place of data ends the session, as Postgres would.
func TestAWriteBehindCopyData(t *testing.T) {
	t.Parallel()
	r := newCRM(t, nil)
	table := query("create temp table t (n int)")
	copies := []pgproto3.FrontendMessage{table, parse("copy pg_temp.t from stdin"), bind, execute, sync1, data("1\n")}
	for name, c := range map[string]struct {
		script []pgproto3.FrontendMessage
		ends   bool
	}{
		"a Sync amid the data": {append(slices.Clip(copies), copyDone, query(writes)), true},
		"no end of the data":   {append(slices.Clip(copies), query(writes)), false},
		"no end of a query's":  {[]pgproto3.FrontendMessage{table, query("copy pg_temp.t from stdin"), data("1\n"), query(writes)}, false},
		"data that has failed": {[]pgproto3.FrontendMessage{table, query("copy pg_temp.t from stdin"), data("x\n"), query(writes)}, true},
	} {
		for range 5 { // it depends on what Postgres has said by then
			lines, ended := discuss(t, r.server.Addr().String(), r.db.Name, append(c.script, query(theEnd)), nil)
			if ended != c.ends || !ended && !fatal(lines) {
				t.Errorf("%s: ended: %v, answers: %q", name, ended, lines)
			}
		}
	}
}

// Errors come while the client says long things: both change what is known of the session.
func TestErrorsAmidALongPipeline(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	var script []pgproto3.FrontendMessage
	for range 500 {
		long := parse("select '" + strings.Repeat("x", 20<<10) + "'")
		script = append(script, &pgproto3.Describe{ObjectType: 'S', Name: "none"}, long, sync1, long, bind, sync1)
	}
	stays := make(chan struct{})
	defer close(stays)
	lines, ended := discussAs(t, "hubpg_owner", r.server.Addr().String(), r.db.Name, append(script, query(theEnd)), nil, stays)
	if n := len(ready(lines)); !ended || n != 2+1000 {
		t.Errorf("ended: %v, rounds: %d", ended, n)
	}
}
