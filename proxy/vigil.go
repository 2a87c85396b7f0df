package proxy

import (
	"slices"
	"strings"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// stalenessSetting makes every statement of a session wait until the mirrored tables that it names are verified that
// fresh. Postgres keeps its value, as that of any setting; what it is now only Postgres knows, who is asked before each
// statement that names such a table. Sessions that have nothing to do with it are not asked.
const (
	stalenessSetting = "hubpg.max_staleness"
	stalenessWord    = "max_staleness" // every text that sets it holds this
)

// maxReadings bounds how many names of tables are remembered of the statements that a session has prepared.
const maxReadings = 10_000

// vigil is what a session has to do with hubpg.max_staleness: whether it may have been set, and what the statements
// read that the client has prepared. Only front uses it.
type vigil struct {
	session *session
	watch   *watch

	wary     bool   // the setting may have a value, or be given one by the statement at hand
	doubtful bool   // wary only because roles have a value: whether this one has is to be asked
	assured  bool   // it was asked, and has not
	backend  uint32 // process id of the backend that knows the setting by name; 0 before the first
	prepared map[string][]sqlstmt.Name
	names    int            // in all of prepared
	beyond   bool           // more was prepared than is remembered
	unnamed  []sqlstmt.Name // likewise, of the statement without a name
	partial  bool           // and these are not all
	awaited  []sqlstmt.Name // what the Parse just before has waited for
}

func newVigil(v *session) *vigil {
	g := &vigil{session: v, watch: v.server.watch}
	for _, p := range v.startup.Parameters { // whose value a session begins with
		g.wary = g.wary || strings.EqualFold(p.Name, stalenessSetting) || p.Name == "options" && sqlstmt.Holds([]byte(p.Value), stalenessWord)
	}
	return g
}

// minds reports whether the names in Bind and Close matter.
func (g *vigil) minds(typ byte) bool {
	return g != nil && (typ == 'B' && g.wary || typ == 'C' && len(g.prepared) > 0)
}

// synced notes the end of a round.
func (g *vigil) synced() {
	if g != nil {
		g.awaited = nil
	}
}

// claims looks at a message of the client and reports whether something must be done before it is relayed.
func (g *vigil) claims(message []byte) bool {
	scope, body := g.watch.current.Load(), message[pgwire.HeaderLen:]
	switch message[0] {
	case 'Q':
		text, _, _ := pgwire.CutString(body)
		return g.query(scope, text)
	case 'P':
		name, rest, _ := pgwire.CutString(body)
		text, _, _ := pgwire.CutString(rest)
		return g.parse(scope, string(name), text)
	case 'B':
		names, known := g.bound(body)
		awaited := g.hasAwaited(names)
		g.awaited = nil // what is bound next may come after a change of the setting
		return g.wary && (!g.met() || !known || len(names) > 0 && !awaited)
	case 'C':
		if len(body) > 0 && body[0] == 'S' {
			name, _, _ := pgwire.CutString(body[1:])
			g.forget(string(name))
		}
	}
	return false
}

func (g *vigil) query(scope *scope, text []byte) bool {
	g.unnamed, g.partial, g.awaited = nil, false, nil
	wary := g.heeds(scope, text)
	if !wary && (!mayPrepare(text) || !scope.readable.mayName(text)) {
		return false
	}
	reading := sqlstmt.Reads(string(text))
	for _, name := range reading.Prepares {
		g.remember(name, reading)
	}
	return wary && (!g.met() || len(reading.Tables)+len(reading.Executes) > 0)
}

func (g *vigil) parse(scope *scope, name string, text []byte) bool {
	g.awaited = nil
	wary := g.heeds(scope, text)
	var reading sqlstmt.Reading
	if wary || name != "" && scope.readable.mayName(text) {
		reading = sqlstmt.Reads(string(text))
	}
	if name == "" {
		g.unnamed, g.partial = reading.Tables, reading.Beyond
	} else {
		g.remember(name, reading)
	}
	return wary && (!g.met() || len(reading.Tables) > 0)
}

// heeds reports whether the session has to be asked for the setting from now on.
func (g *vigil) heeds(scope *scope, text []byte) bool {
	if g.wary && !g.doubtful {
		return true
	}
	r := &scope.readable
	if r.called || sqlstmt.Holds(text, stalenessWord) {
		g.wary, g.doubtful = true, false
	} else if r.preset && !g.assured {
		g.wary, g.doubtful = true, true
	}
	return g.wary
}

// unset notes that the setting has no value.
func (g *vigil) unset() {
	if g.doubtful {
		g.wary, g.doubtful, g.assured = false, false, true
	}
}

// met reports whether the session's backend knows the setting by name, so that it can be shown.
func (g *vigil) met() bool { return g.backend == g.session.upstream.pid }

func (g *vigil) remember(name string, reading sqlstmt.Reading) {
	g.forget(name)
	reads := reading.Tables
	if len(reads) == 0 {
		return
	}
	if reading.Beyond || g.names+len(reads) > maxReadings {
		g.beyond = true
		return
	}
	if g.prepared == nil {
		g.prepared = map[string][]sqlstmt.Name{}
	}
	g.prepared[name] = reads
	g.names += len(reads)
}

func (g *vigil) forget(name string) {
	if reads, known := g.prepared[name]; known {
		g.names -= len(reads)
		delete(g.prepared, name)
	}
}

// bound returns what the statement reads that a Bind names, and whether that is known.
func (g *vigil) bound(body []byte) (names []sqlstmt.Name, known bool) {
	_, rest, _ := pgwire.CutString(body)
	statement, _, _ := pgwire.CutString(rest)
	if len(statement) == 0 {
		return g.unnamed, !g.partial
	}
	names, known = g.prepared[string(statement)]
	return names, known || !g.beyond
}

func (g *vigil) hasAwaited(names []sqlstmt.Name) bool {
	return !slices.ContainsFunc(names, func(n sqlstmt.Name) bool { return !slices.Contains(g.awaited, n) })
}

// reads returns the tables that a message of the client names, and whether these are all.
func (g *vigil) reads(message []byte) (names []sqlstmt.Name, all bool) {
	body := message[pgwire.HeaderLen:]
	if message[0] == 'B' {
		return g.bound(body)
	}
	if message[0] == 'P' {
		_, body, _ = pgwire.CutString(body)
	}
	text, _, _ := pgwire.CutString(body)
	return g.readsText(string(text))
}

func (g *vigil) readsText(text string) (names []sqlstmt.Name, all bool) {
	reading := sqlstmt.Reads(text)
	names, all = reading.Tables, !reading.Beyond
	for _, name := range reading.Executes {
		tables, known := g.prepared[name]
		names, all = append(names, tables...), all && (known || !g.beyond)
	}
	return names, all
}

// mayPrepare reports whether text begins with PREPARE or a comment.
func mayPrepare(text []byte) bool {
	for i, c := range text {
		if c > ' ' {
			return c|0x20 == 'p' || c == '-' || c == '/'
		}
		if i > 1000 {
			return true
		}
	}
	return false
}
