package proxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"hubpg/internal/changes"
	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// How LISTEN is answered.
//
// A LISTEN on one of the hub's channels goes to Postgres as an UNLISTEN of a channel that nobody uses. That statement
// does nothing, but it has LISTEN's shape in every respect: allowed where LISTEN is, refused in a failed transaction,
// without rows, without parameters. So its place in pipelines, the state of the transaction and every error remain
// Postgres's own. On the way back its tag is turned into LISTEN, and the subscription comes into force when Postgres
// says that the transaction around it has committed.

// actionKind says what a LISTEN or UNLISTEN of the client means to the hub.
type actionKind uint8

const (
	actNothing actionKind = iota // an UNLISTEN of somebody else's channel
	actListen
	actUnlisten
	actUnlistenAll
	actSavepoint // these undo or keep those before them
	actRelease
	actRollbackTo
	actRollback
)

// action is a LISTEN or UNLISTEN that the hub has to know about, or what becomes of those in a transaction.
type action struct {
	kind actionKind
	sub  changes.Subscription
	from int64  // the change after which a LISTEN starts, or fromCommit
	name string // of a savepoint
	at   int    // where it stands in its text
}

// fromCommit marks a LISTEN that starts at the newest change when its transaction commits.
const fromCommit = -1

// maxPrepared bounds how many prepared statements and portals that listen are remembered for one session.
const maxPrepared = 1000

const (
	noop        = `UNLISTEN "@"`
	tagUnlisten = "UNLISTEN"
)

var listenComplete = pgwire.AppendMessage(nil, 'C', []byte("LISTEN\x00"))

// prepares reports whether the names in Bind, Execute and Close matter.
func (l *ledger) prepares() bool { return len(l.prepared)+len(l.portals) > 0 }

// listens reports whether the tags of completed statements matter.
func (l *ledger) listens() bool { return l.active || len(l.pending)+len(l.staged) > 0 }

// blank reports whether nothing of the kind is known.
func (l *ledger) blank() bool { return !l.listens() && len(l.marks)+l.doubtful == 0 }

// promise notes that Postgres will be asked to do a in round. Where a client does not stop asking it ends the session: what is noted
// stays until the transaction is over.
func (l *listener) promise(a action, round uint64) {
	g := &l.ledger
	if len(g.pending)+len(g.staged) >= l.server.config.Limits.Listens {
		l.cut(errTooManyListens())
		return
	}
	g.pending = append(g.pending, promise{a, round})
}

// rewrite replaces the hub's LISTENs in a message of the client. It is called by front, under mu.
func (l *listener) rewrite(ctx context.Context, message []byte) []byte {
	switch message[0] {
	case 'Q':
		return l.query(ctx, message)
	case 'P':
		return l.parse(ctx, message)
	case 'B':
		l.bind(message)
	case 'E':
		if portal, _, ok := pgwire.CutString(message[pgwire.HeaderLen:]); ok {
			if a, listens := l.ledger.portals[string(portal)]; listens {
				l.promise(a, l.ledger.asked+1)
			}
		}
	case 'C':
		l.closeNamed(message)
	}
	return message
}

func (l *listener) query(ctx context.Context, message []byte) []byte {
	text, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok || len(rest) > 0 {
		l.residue.give()
		return message
	}
	l.residue.query(text, &l.ledger, l.hub)
	replaced, actions := l.study(ctx, text)
	for _, a := range actions {
		l.promise(a, l.ledger.asked)
	}
	if replaced == "" {
		return message
	}
	return pgwire.AppendMessage(nil, 'Q', []byte(replaced), []byte{0})
}

func (l *listener) parse(ctx context.Context, message []byte) []byte {
	name, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok {
		l.residue.give()
		return message
	}
	delete(l.ledger.prepared, string(name))
	text, types, ok := pgwire.CutString(rest)
	if !ok || len(l.ledger.prepared) >= maxPrepared {
		l.residue.give()
		return message
	}
	replaced, actions := l.study(ctx, text)
	if len(actions) == 1 { // Postgres refuses to prepare more
		if l.ledger.prepared == nil {
			l.ledger.prepared, l.ledger.portals = map[string]action{}, map[string]action{}
		}
		l.ledger.prepared[string(name)] = actions[0]
	}
	if replaced != "" {
		message = pgwire.AppendMessage(nil, 'P', name, []byte{0}, []byte(replaced), []byte{0}, types)
	}
	l.residue.parse(string(name), text, message, &l.ledger, l.hub)
	return message
}

func (l *listener) bind(message []byte) {
	portal, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
	if !ok {
		return
	}
	statement, _, ok := pgwire.CutString(rest)
	if !ok {
		return
	}
	delete(l.ledger.portals, string(portal))
	if a, listens := l.ledger.prepared[string(statement)]; listens && len(l.ledger.portals) < maxPrepared {
		l.ledger.portals[string(portal)] = a
	}
}

func (l *listener) closeNamed(message []byte) {
	body := message[pgwire.HeaderLen:]
	if len(body) == 0 {
		return
	}
	name, _, _ := pgwire.CutString(body[1:])
	switch body[0] {
	case 'S':
		delete(l.ledger.prepared, string(name))
		l.residue.closed(string(name))
	case 'P':
		delete(l.ledger.portals, string(name))
	}
}

// study returns text with the hub's LISTENs replaced, or "" if there are none, and what is to be counted when Postgres has
// done it: LISTENs and UNLISTENs, and in a transaction with some what undoes them.
func (l *listener) study(ctx context.Context, text []byte) (replaced string, actions []action) {
	if sqlstmt.MayListen(text) {
		replaced, actions = l.substitute(ctx, string(text))
	}
	if len(actions) > 0 || l.ledger.staging() {
		actions = withControls(actions, string(text))
	}
	return replaced, actions
}

// withControls adds a text's savepoints and rollbacks to the rest of what it does, in its order.
func withControls(actions []action, text string) []action {
	kinds := map[sqlstmt.Control]actionKind{
		sqlstmt.Savepoint: actSavepoint, sqlstmt.Release: actRelease, sqlstmt.RollbackTo: actRollbackTo, sqlstmt.Rollback: actRollback,
	}
	for _, e := range sqlstmt.Effects(text) {
		if kind := kinds[e.Control]; kind != actNothing {
			actions = append(actions, action{kind: kind, name: e.Savepoint, at: e.Start})
		}
	}
	slices.SortStableFunc(actions, func(a, b action) int { return a.at - b.at })
	return actions
}

// substitute returns text with the hub's LISTENs replaced, or "" if there are none, and what every LISTEN of the
// hub's and every UNLISTEN in it mean.
func (l *listener) substitute(ctx context.Context, text string) (string, []action) {
	statements, err := sqlstmt.Listens(text)
	if err != nil {
		l.residue.give()
		return "", nil // Postgres will say what is wrong with it, or take it as it is
	}
	var out strings.Builder
	var actions []action
	done := 0
	for _, s := range statements {
		sub, ours, err := changes.ParseChannel(s.Channel, l.hub.schemas)
		if err == nil && ours && s.Cut && sub.Replay {
			err = errPlaceCut
		}
		switch {
		case err != nil && s.Kind == sqlstmt.Listen:
			out.WriteString(text[done:s.Start])
			out.WriteString(raise(errReplayPlace(err)))
			done = s.End
		case err != nil:
			actions = append(actions, action{at: s.Start}) // nobody can listen to it
		case s.Kind == sqlstmt.UnlistenAll:
			actions = append(actions, action{kind: actUnlistenAll, at: s.Start})
		case s.Kind == sqlstmt.Unlisten && ours:
			actions = append(actions, action{kind: actUnlisten, sub: sub, at: s.Start})
		case s.Kind == sqlstmt.Unlisten:
			actions = append(actions, action{at: s.Start})
		case ours:
			a := action{kind: actListen, sub: sub, from: fromCommit, at: s.Start}
			if sub.Replay {
				a.from = sub.After
			}
			out.WriteString(text[done:s.Start])
			if refused := l.hub.refuses(ctx, sub, l.startup.Parameter("user")); refused != nil {
				out.WriteString(raise(refused))
				done = s.End
				break
			}
			instead, end := pad(noop, text[s.Start:s.End]), s.End
			if s.Cut {
				instead, end = unlisten(text, s)
			}
			out.WriteString(instead)
			actions = append(actions, a)
			done = end
		default:
			l.residue.give() // a channel of Postgres's own needs the backend
		}
	}
	if done == 0 {
		return "", actions
	}
	out.WriteString(text[done:])
	return out.String(), actions
}

// refuses says why a LISTEN cannot be served, or not to that role.
func (h *Hub) refuses(ctx context.Context, sub changes.Subscription, role string) *pgwire.Error {
	if h.Position() < 0 {
		return errHubNotReady()
	}
	allowed, err := h.permits(ctx, role, sub.Channel)
	if err == nil && !allowed {
		return errNotPermitted()
	}
	if err == nil && sub.Replay {
		_, err = h.check(ctx, sub.After)
	}
	if err != nil {
		return refusalOf(err)
	}
	return nil
}

// pad makes a statement as many characters long as the one it replaces, so that Postgres's error positions in what
// follows stay true.
func pad(statement, replaced string) string {
	missing := utf8.RuneCountInString(replaced) - len(statement)
	return statement + strings.Repeat(" ", max(missing, 0))
}

// errPlaceCut says that Postgres would cut a channel within the place behind its @, which would then be another.
var errPlaceCut = errors.New("the channel is longer than an identifier may be, so that its place in the log would be cut")

// unlisten returns a statement that names the channel of a LISTEN as that does, and the end of what it takes the place of. The
// channel is too long, and Postgres is to say so in its own words. The two letters that UNLISTEN has more come off the blanks
// around it, where there are any, so that error positions in what follows stay true.
func unlisten(text string, s sqlstmt.Statement) (instead string, end int) {
	const keyword = len("listen")
	more := len("unlisten") - keyword
	channel, tail := text[s.Start+keyword:s.End], ""
	end = s.End
	blanks := len(channel) - len(strings.TrimLeft(channel, " \t\n\r\f\v"))
	if channel[blanks] != '"' {
		blanks-- // one has to stay
	}
	off := max(min(blanks, more), 0)
	channel, more = channel[off:], more-off
	if end < len(text) { // at the semicolon
		behind := text[end+1:]
		off = min(len(behind)-len(strings.TrimLeft(behind, " \t\n\r\f\v")), more)
		tail, end = ";", end+1+off
	}
	return "UNLISTEN" + channel + tail, end
}

// raise returns a statement that fails in Postgres with e: in its turn, with all that an error does to a transaction
// and a pipeline.
func raise(e *pgwire.Error) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	body := "begin raise exception using errcode = " + quote(e.Code) + ", message = " + quote(e.Message) +
		", hint = " + quote(e.Hint) + "; end"
	tag := "$hubpg$"
	for strings.Contains(body, tag) { // the message repeats what the client wrote
		tag = tag[:len(tag)-1] + "_$"
	}
	return "do " + tag + body + tag
}

// complete looks at a CommandComplete of Postgres. It is called by back, under mu.
func (l *listener) complete(ctx context.Context, message []byte) []byte {
	tag, _, _ := pgwire.CutString(message[pgwire.HeaderLen:])
	g := &l.ledger
	switch string(tag) {
	case tagUnlisten:
		a, known := g.done(actNothing, actListen, actUnlisten, actUnlistenAll)
		if !known {
			break
		}
		if a.kind == actListen && a.from == fromCommit && g.ready == 'I' {
			// Outside a transaction block the client may take this message for the commit.
			a.from = l.newest(ctx)
		}
		g.staged = append(g.staged, a)
		if a.kind == actListen {
			return listenComplete
		}
	case "COMMIT":
		l.commit(ctx, 0)
	case "ROLLBACK":
		if a, known := g.done(actRollbackTo, actRollback); known {
			g.undo(a)
		} else {
			g.rollback()
		}
	case "SAVEPOINT":
		a, _ := g.done(actSavepoint)
		g.mark(a.name)
	case "RELEASE":
		a, _ := g.done(actRelease)
		g.marks = g.marks[:g.marked(a.name)]
	case "DISCARD ALL":
		l.apply(ctx, []action{{kind: actUnlistenAll}})
	}
	return message
}

// ready settles the account at a ReadyForQuery, before the ledger counts it. It is called by back, under mu.
func (l *listener) ready(ctx context.Context, status byte) {
	g := &l.ledger
	if g.blank() {
		return
	}
	// What this round has not completed, an error has skipped.
	n, at := 0, g.at()
	for n < len(g.pending) && g.pending[n].round <= at && !g.doubt {
		n++
	}
	if g.pending = g.pending[n:]; len(g.pending) == 0 {
		g.pending = nil
	}
	if status != 'I' {
		return
	}
	if g.errored {
		g.abort()
	} else {
		l.commit(ctx, g.doubtful)
	}
}

// commit puts what the transaction has done, from the given place on, into force.
func (l *listener) commit(ctx context.Context, from int) {
	g := &l.ledger
	if done := g.staged[from:]; len(done) > 0 {
		l.apply(ctx, done)
	}
	g.abort()
	g.active = len(l.subs) > 0
}
