package proxy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// codeGuard is what the guard of a mirrored table says to a change that was not rehearsed.
const codeGuard = "HS001"

// codeTermination is what Postgres says to a procedure or DO that ends its transaction where that is not its own.
const (
	codeTermination = "2D000"
	hintTermination = "What changes tables of HubSpot is run inside of a transaction, so that it can be taken back. " +
		"Change them in statements of their own, or in a procedure without COMMIT and ROLLBACK."
)

// maxCaptured bounds what one statement may change, as its rows in JSON.
const maxCaptured = 256 << 20

// rehearsal is what a statement would do.
type rehearsal struct {
	role, application  string
	writes, onRowError string
	timeout            time.Duration
	impatient          bool // the session may not wait inside a transaction
	rows               []CapturedRow
	size               int
	tooLarge           bool
	hold               *holding // the rows
	unheld             bool     // tooLarge for the memory that there is now
	ends               bool     // the statement ends its transaction, and may: it has one to itself
	seen               []*seenRows
	kept               bool   // the rows are locked, and a savepoint is behind that
	locks              []byte // what keeps appliers out, as Postgres wrote it; nil if they have to be waited for
}

// seenRows are rows of one table that a statement would change, in the order in which it came to them, as it has seen them.
type seenRows struct {
	schema, table string
	ids, versions []string
	known         map[string]bool
}

// saw notes a row that was there; the first of several changes has seen it.
func (r *rehearsal) saw(schema, table, id, version string) {
	if id == "" || id[0] == '-' { // the statement itself makes it
		return
	}
	i := slices.IndexFunc(r.seen, func(s *seenRows) bool { return s.schema == schema && s.table == table })
	if i < 0 {
		i = len(r.seen)
		r.seen = append(r.seen, &seenRows{schema: schema, table: table, known: map[string]bool{}})
	}
	s := r.seen[i]
	if !s.known[id] {
		s.known[id] = true
		s.ids, s.versions = append(s.ids, id), append(s.versions, version)
	}
}

// rehearsed runs the statement, looks at what it would do and takes it back, up to the savepoint.
func (t *takeover) rehearsed(a *act, permit string) (*rehearsal, bool, error) {
	t.rows.release()
	t.short = false
	r := &rehearsal{hold: &t.rows}
	t.ask(askSavepoint)
	scope := t.pen.watch.current.Load()
	if names := t.pen.unresolved(scope, &a.effect); len(names) > 0 {
		t.ask(askResolve, array(names)).row = func(columns [][]byte) error {
			t.pen.resolve(scope, string(columns[0]), string(columns[1]))
			return nil
		}
	}
	t.ask(askRehearse, []byte(permit)).row = r.settings
	t.ask(askApart, []byte(permit))
	if a.effect.CopyIn {
		t.endGroup()
		if f, err := t.play(); err != nil || f != nil {
			_, err = t.finish(f, err)
			return nil, false, err
		}
		s := t.present(a)
		s.told, s.hold, s.copied, s.replay = false, false, a.copied, a.taken
		a.taken = true
		f, err := t.play()
		if e := a.copied.broken; err == nil && f != nil && e != nil {
			t.session.server.counters.notHeld.Add(1)
			t.log.Warn("the data of a COPY was not kept", "reason", e.Message)
			f.message = e.Append(nil)
		}
		if err != nil || f != nil {
			_, err = t.finish(f, err)
			return nil, false, err
		}
	} else {
		t.rehearse(a)
	}
	locks := len(t.steps)
	t.ask(askCaptured, []byte(permit)).row = r.captured
	t.ask(askBack)
	f, err := t.play()
	r.unheld = r.unheld || r.tooLarge && t.short
	t.locked = len(r.rows) > 0 || r.tooLarge || f != nil && f.step >= locks
	if f != nil && pgwire.ParseError(f.message).Code == codeTermination {
		if f.message = pgwire.WithHint(f.message, hintTermination); err == nil && t.alone(a) {
			r.ends = true
			return r, false, nil
		}
	}
	ok, err := t.finish(f, err)
	return r, ok, err
}

// alone reports whether nothing but this statement is in the transaction, which is the proxy's.
func (t *takeover) alone(a *act) bool {
	if !t.own || len(t.pen.unsettled) > 0 || a.effect.CopyIn {
		return false
	}
	return a.simple && t.solo || !a.simple && t.executes == 1
}

// byItself runs a statement that ends its transaction as Postgres would, without a rehearsal. Where it changes a mirrored table, the guard
// refuses that.
func (t *takeover) byItself(a *act) (bool, error) {
	if err := t.rollback(); err != nil {
		return false, err
	}
	t.void = false
	t.present(a)
	f, err := t.play()
	if f != nil && pgwire.ParseError(f.message).Code == codeGuard {
		f.message = pgwire.WithHint(f.message, hintTermination)
	}
	return t.finish(f, err)
}

// maxRehearsals bounds how often a statement is rehearsed.
const maxRehearsals = 5

// asItIs runs a statement of which the rehearsal has changed nothing, or nothing that it has not taken back itself. By now
// there may be something for it to change: then it is to be rehearsed again, unless the client has seen part of its answer.
func (t *takeover) asItIs(a *act, permit string, try int) (ok, again bool, err error) {
	said, flushes := len(t.toClient), t.flushes
	t.ask(askRehearse, []byte(permit))
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			ok, err = t.finish(f, err)
			return ok, false, err
		}
	}
	t.presentAgain(a).hold = true // until it is known that nothing has changed
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			ok, err = t.finish(f, err)
			return ok, false, err
		}
	}
	t.ask(askUnchanged, []byte(permit))
	t.ask(askRelease)
	f, err := t.play()
	if err == nil && f == nil && (!t.own || a.simple && !a.last) {
		t.release()
	}
	if err != nil || f == nil || pgwire.ParseError(f.message).Code != codeGuard {
		ok, err = t.finish(f, err)
		return ok, false, err
	}
	if t.flushes != flushes || try == maxRehearsals {
		ok, err = t.refuse(failure("40001", "rows of HubSpot changed while the statement was looked at", "", "Repeat the statement."))
		return ok, false, err
	}
	t.toClient, t.held = t.toClient[:said], nil
	err = t.insist(func() int {
		t.ask(askBack)
		t.ask(askRelease)
		return len(t.steps)
	})
	return err == nil, err == nil, err
}

func (r *rehearsal) settings(columns [][]byte) error {
	if len(columns) != 6 {
		return protocolError('D')
	}
	r.role, r.application = string(columns[0]), string(columns[1])
	r.writes, r.onRowError = strings.ToLower(string(columns[2])), strings.ToLower(string(columns[3]))
	ms, err := strconv.ParseInt(string(columns[4]), 10, 64)
	if err != nil {
		return protocolError('D')
	}
	r.timeout = time.Duration(ms) * time.Millisecond
	r.impatient = string(columns[5]) == "t"
	return nil
}

// captured takes a row; nil is one that was too large to be held.
func (r *rehearsal) captured(columns [][]byte) error {
	for _, c := range columns {
		r.size += len(c)
	}
	if r.tooLarge {
		return nil
	}
	if r.unheld = columns != nil && !r.hold.grow(copiesOfRows*int64(r.size)); columns == nil || r.unheld || r.size > maxCaptured {
		r.tooLarge, r.rows, r.seen = true, nil, nil
		return nil
	}
	n, err := strconv.ParseInt(string(columns[0]), 10, 64)
	if err != nil || len(columns) != 9 {
		return protocolError('D')
	}
	r.locks = bytes.Clone(columns[6])
	r.rows = append(r.rows, CapturedRow{
		N: n, Schema: string(columns[1]), Table: string(columns[2]), Op: string(columns[3]),
		Old: json.RawMessage(bytes.Clone(columns[4])), New: json.RawMessage(bytes.Clone(columns[5])),
	})
	r.saw(string(columns[1]), string(columns[2]), string(columns[7]), string(columns[8]))
	return nil
}

// unresolved lists the targets whose meaning depends on the search path and has not been looked up.
func (p *pen) unresolved(scope *scope, e *sqlstmt.Effect) []string {
	var names []string
	for _, t := range e.Targets {
		if _, known := p.resolved[t.Name]; !known && scope.relevance(t) == ambiguous {
			names = append(names, t.Name)
		}
	}
	return names
}

// resolve notes the schema that a name means on the search path.
func (p *pen) resolve(scope *scope, name, schema string) {
	if len(p.resolved) >= maxResolved {
		clear(p.resolved)
	}
	if p.resolved == nil {
		p.resolved = map[string]bool{}
	}
	p.resolved[name] = schema != "" && scope.relevance(sqlstmt.Name{Schema: schema, Name: name}) == relevant
}
