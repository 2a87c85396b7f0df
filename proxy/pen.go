package proxy

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// Bounds of what a session remembers for writes.
const (
	maxKept     = 64 << 20 // bytes of statements and Bind messages
	maxResolved = 1000     // names looked up on the search path
	maxFresh    = 1000     // names of what the session has made
	maxSQL      = 64 << 10 // of a statement in the record of a write
	settleTime  = 30 * time.Second
)

// pen is what a session has to do with writes: which of its statements may change mirrored tables, and which accepted
// writes wait for the end of their transaction. It exists for every session that may write and costs next to nothing
// until the first statement that does. Only front uses it.
type pen struct {
	session *session
	writer  Writer
	watch   *watch

	prepared map[string]*sentence // statements of the client that write or control transactions, by name
	portals  map[string]*bound    // portals of such statements
	kept     int                  // bytes held by both
	keeping  holding              // those of kept that count
	full     bool                 // a statement of the message at hand could not be kept
	resolved map[string]bool      // names without schema: do they mean a mirrored table?
	block    blockState           // of the present round
	made     bool                 // the session has made or changed something that may matter, since the last look at the catalogs
	fresh    map[string]bool      // names of functions, views and tables with triggers among that: statements that name them may write

	settling  chan struct{} // size 1: committed writes are being settled
	permit    string
	unsettled []int64 // accepted writes in the open transaction, in order
	undone    []int64 // accepted writes that were rolled back in it
	tried     int     // so many of those could not be settled before its end
	marks     []mark  // savepoints since the first of them
}

// newPen returns nil where a session has nothing to do with mirrored tables: without a change log, or on another
// database than theirs. Without a writer it claims nothing.
func (s *Server) newPen(v *session) *pen {
	if s.watch == nil || databaseOf(v) != s.watch.database {
		return nil
	}
	s.watch.await()
	return &pen{
		session: v, writer: s.config.Writer, watch: s.watch, settling: make(chan struct{}, 1),
		keeping: holding{memory: &s.memory, keep: true},
	}
}

// pathWords are words one of which every statement that changes the search path holds.
var pathWords = [...]string{"search_path", "reset", "discard", "schema", "role", "authorization"}

// sentence is a statement that the client has prepared.
type sentence struct {
	text   string
	types  []byte         // of parameters, as Parse has them; nil if PREPARE has made it
	effect sqlstmt.Effect // Start and End are within text
	uses   int            // names and portals that it has
}

func (s *sentence) size() int { return len(s.text) + len(s.types) }

// bound is a portal of a sentence, with the message that made it.
type bound struct {
	*sentence
	bind []byte
}

// mark is a savepoint and how many of the unsettled were before it.
type mark struct {
	name   string
	before int
}

// blockState says whether the messages since the last Sync have opened or closed a transaction block.
type blockState uint8

const (
	blockAsReported blockState = iota // as the last ReadyForQuery says
	blockOpen
	blockClosed
)

// prepares reports whether the names in Bind, Execute and Close matter.
func (p *pen) prepares() bool { return p != nil && len(p.prepared)+len(p.portals) > 0 }

// outdated reports whether what the session itself has made is to be looked at before its next text: where nothing is under way, and
// no transaction is open in which it could not be seen.
func (p *pen) outdated(message []byte, settled bool) bool {
	return p.made && settled && (message[0] == 'Q' || message[0] == 'P')
}

// makes takes note of a statement that defines something. What it makes is not in the catalogs yet that the watch looks at, or, where a
// transaction is open, will not be until its end.
func (p *pen) makes(e *sqlstmt.Effect) {
	p.made = p.made || e.Defines
	if e.Makes.Name == "" || len(p.fresh) >= maxFresh {
		return
	}
	if p.fresh == nil {
		p.fresh = map[string]bool{}
	}
	p.fresh[strings.Clone(e.Makes.Name)] = true
}

func (p *pen) isFresh(n sqlstmt.Name) bool { return p.fresh[n.Name] }

// look has the watch see what the session has made.
func (p *pen) look(ctx context.Context) {
	p.made, p.fresh = false, nil
	if err := p.watch.refresh(ctx); err != nil && ctx.Err() == nil {
		p.watch.log.Warn("look up what a session has made; some seconds later it is known", "error", err)
	}
}

// claims looks at a message of the client and reports whether it must not be relayed but performed, or, where full is set,
// refused.
func (p *pen) claims(message []byte) bool {
	if p.writer == nil {
		return false
	}
	p.full = false
	return p.looksAt(message) || p.full
}

func (p *pen) looksAt(message []byte) bool {
	switch message[0] {
	case 'Q':
		claimed := p.claimsQuery(message)
		p.forget("") // it ends the unnamed statement; its portals stay
		return claimed
	case 'P':
		p.parse(message)
	case 'B':
		p.bind(message)
	case 'C':
		p.close(message)
	case 'E':
		return p.claimsExecute(message)
	}
	return false
}

func (p *pen) claimsQuery(message []byte) bool {
	text, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok || len(rest) > 0 {
		return false
	}
	scope := p.watch.current.Load()
	sieved := scope.sieve.MayChange(text) || len(p.prepared) > 0 && mayExecute(text)
	if !sieved && p.unbound() && len(p.fresh) == 0 {
		return false
	}
	query := string(text)
	p.follow(query)
	claimed := false
	for e := range sqlstmt.EachEffect(query) {
		p.makes(&e)
		p.learn(scope, query, e)
		claimed = claimed || p.writes(scope, &e) || e.Control != sqlstmt.NoControl && !p.unbound()
	}
	return claimed
}

// follow forgets what names meant when a text may change the search path. One that does so behind the proxy's back
// costs a rehearsal of a statement on somebody's own table, or brings up the guard.
func (p *pen) follow(text string) {
	if len(p.resolved) == 0 {
		return
	}
	text = strings.ToLower(text)
	for _, word := range pathWords {
		if strings.Contains(text, word) {
			clear(p.resolved)
		}
	}
}

// mayExecute is a cheap test for EXECUTE as the first word of one of the statements.
func mayExecute(text []byte) bool {
	for i := 0; i+7 <= len(text); i++ {
		if text[i]|0x20 == 'e' && text[i+1]|0x20 == 'x' && text[i+2]|0x20 == 'e' && text[i+6]|0x20 == 'e' {
			return true
		}
	}
	return false
}

// learn takes note of a statement that the SQL command PREPARE makes.
func (p *pen) learn(scope *scope, text string, e sqlstmt.Effect) {
	if e.Prepares == "" {
		return
	}
	run := e
	run.Prepares = ""
	if p.writes(scope, &run) {
		p.remember(e.Prepares, &sentence{text: strings.Clone(text[e.Start:e.End]), effect: run})
	}
}

// writes reports whether a statement may change a mirrored table.
func (p *pen) writes(scope *scope, e *sqlstmt.Effect) bool {
	if e.Prepares != "" || p.writer == nil {
		return false
	}
	if e.Do { // of what cannot be read the sieve has found a name in the text
		return e.Code == "" || scope.changes(e.Code) || scope.named.MayChange([]byte("do "+sqlstmt.Strings(e.Code)))
	}
	for _, t := range e.Targets {
		switch scope.relevance(t) {
		case relevant:
			return true
		case ambiguous:
			if mirrored, known := p.resolved[t.Name]; mirrored || !known {
				return true
			}
		}
	}
	if slices.ContainsFunc(e.Calls, scope.calls) || slices.ContainsFunc(e.Calls, p.isFresh) || slices.ContainsFunc(e.Targets, p.isFresh) {
		return true
	}
	if s := p.prepared[e.Executes]; e.Executes != "" && s != nil && s.effect.Executes == "" {
		return p.writes(scope, &s.effect)
	}
	return false
}

func (p *pen) parse(message []byte) {
	name, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok {
		return
	}
	if len(p.prepared) > 0 {
		p.forget(string(name))
	}
	text, types, ok := pgwire.CutString(rest)
	if !ok {
		return
	}
	if control := sqlstmt.ControlOf(text); control != sqlstmt.NoControl {
		query := string(text)
		e, _ := sqlstmt.Single(query)
		p.remember(string(name), &sentence{text: query, effect: e})
		return
	}
	scope := p.watch.current.Load()
	if !scope.sieve.MayChange(text) && (len(p.prepared) == 0 || !mayExecute(text)) && len(p.fresh) == 0 {
		return
	}
	query := string(text)
	p.follow(query)
	e, one := sqlstmt.Single(query)
	if !one {
		return // Postgres refuses to prepare it
	}
	p.makes(&e)
	p.learn(scope, query, e)
	if p.writes(scope, &e) {
		p.remember(string(name), &sentence{text: query, types: bytes.Clone(types), effect: e})
	}
}

func (p *pen) remember(name string, s *sentence) {
	p.forget(name)
	if len(p.prepared) >= maxPrepared || p.kept+s.size() > maxKept {
		return // the guard will refuse it
	}
	if !p.keep(s.size()) {
		return
	}
	s.uses = 1
	if p.prepared == nil {
		p.prepared, p.portals = map[string]*sentence{}, map[string]*bound{}
	}
	p.prepared[name] = s
}

// keep makes room for more bytes to be kept.
func (p *pen) keep(more int) bool {
	if !p.keeping.grow(int64(p.kept + more)) {
		p.full = true
		return false
	}
	p.kept += more
	return true
}

func (p *pen) drop(bytes int) {
	p.kept -= bytes
	p.keeping.shrink(int64(p.kept))
}

func (p *pen) forget(name string) {
	if s := p.prepared[name]; s != nil {
		delete(p.prepared, name)
		p.release(s)
	}
}

// release takes one use of a statement back. Portals outlive the name.
func (p *pen) release(s *sentence) {
	if s.uses--; s.uses == 0 {
		p.drop(s.size())
	}
}

func (p *pen) bind(message []byte) {
	portal, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok {
		return
	}
	statement, _, ok := pgwire.CutString(rest)
	if !ok {
		return
	}
	p.unbind(string(portal))
	s := p.prepared[string(statement)]
	if s == nil || len(p.portals) >= maxPrepared || p.kept+len(message) > maxKept {
		return
	}
	b := &bound{sentence: s}
	if s.effect.Control == sqlstmt.NoControl {
		if !p.keep(len(message)) {
			return
		}
		b.bind = append([]byte(nil), message...)
	}
	s.uses++
	p.portals[string(portal)] = b
}

func (p *pen) unbind(portal string) {
	if b := p.portals[portal]; b != nil {
		delete(p.portals, portal)
		p.drop(len(b.bind))
		p.release(b.sentence)
	}
}

// again returns the message that binds a portal once more, and the one before it that prepares its statement where the
// client has put another in its place, or none. It reports false if that cannot be done.
func (p *pen) again(b *bound) (parse, bind []byte, ok bool) {
	portal, rest, _ := pgwire.CutString(b.bind[pgwire.HeaderLen:])
	statement, rest, _ := pgwire.CutString(rest)
	if p.prepared[string(statement)] == b.sentence {
		return nil, b.bind, true
	}
	end := []byte{0}
	parse = pgwire.AppendMessage(nil, 'P', []byte(ownRehearsal), end, []byte(b.text), end, b.types)
	return parse, pgwire.AppendMessage(nil, 'B', portal, end, []byte(ownRehearsal), end, rest), b.types != nil
}

// minds reports whether a Bind, of which only the head is given, may be of a statement that is kept. If not, it takes
// note of it.
func (p *pen) minds(head []byte) bool {
	portal, rest, ok := pgwire.CutString(head[pgwire.HeaderLen:])
	if !ok {
		return true
	}
	statement, _, ok := pgwire.CutString(rest)
	if !ok || p.prepared[string(statement)] != nil {
		return true
	}
	p.unbind(string(portal))
	return false
}

func (p *pen) close(message []byte) {
	body := message[pgwire.HeaderLen:]
	if len(body) == 0 {
		return
	}
	name, _, _ := pgwire.CutString(body[1:])
	switch body[0] {
	case 'S':
		p.forget(string(name))
	case 'P':
		p.unbind(string(name))
	}
}

func (p *pen) claimsExecute(message []byte) bool {
	b := p.portalOf(message)
	if b == nil {
		return false
	}
	if b.effect.Control == sqlstmt.NoControl {
		return p.writes(p.watch.current.Load(), &b.effect)
	}
	if !p.unbound() {
		return true
	}
	p.block = blockAfter(b.effect.Control, p.block)
	return false
}

// portalOf returns the portal that an Execute names, nil if it is none of ours.
func (p *pen) portalOf(message []byte) *bound {
	portal, _, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok {
		return nil
	}
	return p.portals[string(portal)]
}

func blockAfter(c sqlstmt.Control, before blockState) blockState {
	switch c {
	case sqlstmt.Begin:
		return blockOpen
	case sqlstmt.Commit, sqlstmt.Rollback, sqlstmt.PrepareTwice:
		return blockClosed
	}
	return before
}

// synced notes the end of a round: from here on ReadyForQuery tells.
func (p *pen) synced() {
	if p != nil {
		p.block = blockAsReported
	}
}

// unbound reports whether no accepted write waits for the end of the transaction.
func (p *pen) unbound() bool { return len(p.unsettled)+len(p.undone) == 0 }

// settle tells the writer what became of accepted writes.
func (p *pen) settle(ctx context.Context, ids []int64, committed bool) {
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	for _, id := range ids {
		if err := p.writer.Settle(ctx, id, committed); err != nil {
			p.session.log.Error("settle a write; it will be resolved later", "write", id, "committed", committed, "error", err)
		}
	}
}

// settleBehind tells the writer of committed writes while the session goes on, one lot at a time.
func (p *pen) settleBehind(ctx context.Context, ids []int64) {
	if len(ids) == 0 {
		return
	}
	p.settling <- struct{}{}
	p.session.workers.Go(func() {
		defer p.session.recover()
		defer func() { <-p.settling }()
		p.settle(ctx, ids, true)
	})
}

// end settles what the session leaves behind: its backend has rolled back.
func (p *pen) end(ctx context.Context) {
	p.keeping.release()
	p.settle(ctx, append(p.undone, p.unsettled...), false)
	p.undone, p.unsettled = nil, nil
	if p.permit != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		p.writer.Revoke(ctx, p.permit)
	}
}
