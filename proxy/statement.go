package proxy

import (
	"iter"
	"slices"
	"strings"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// query performs a text of one or more statements, which share an implicit transaction as in Postgres.
func (t *takeover) query(message []byte) error {
	if t.listener != nil && len(message) <= pgwire.MaxTake {
		t.mu.Lock()
		message = t.listener.rewrite(t.ctx, message)
		t.mu.Unlock()
	}
	raw, _, _ := pgwire.CutString(message[pgwire.HeaderLen:])
	text := string(raw)
	t.solo = false
	ok, err := t.open(true, false)
	switch {
	case err != nil:
		return err
	case t.void: // something before it in the round has failed
		return t.endQuery()
	case !ok && t.pen.unbound():
		t.toServer = pgwire.AppendQuery(t.toServer, text)
		return t.flushServer()
	}
	next, stop := iter.Pull(sqlstmt.EachEffect(text))
	defer stop()
	effect, more := next()
	if more && strings.TrimLeft(text[effect.End:], "; \t\n\v\f\r") != "" { // another statement, or what may be a mistake: an open comment
		if ok, err := t.parses(text); err != nil || !ok {
			return err
		}
	}
	for alone := true; more; alone = false {
		following, another := next()
		a := &act{sql: statementAt(text, &effect), effect: effect, simple: true, last: !another}
		ok, err := t.statement(a, alone && !another)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		effect, more = following, another
	}
	if t.own {
		if err := t.commit(); err != nil {
			return err
		}
	}
	return t.ready()
}

// parses reports whether Postgres can parse a text of several statements. If not, the Query ends as it would: with nothing done, where
// HubSpot would keep what comes before the mistake.
func (t *takeover) parses(text string) (bool, error) {
	parse := func(sql string) (*fault, error) {
		t.toServer = pgwire.AppendClose(t.toServer, 'S', ownName)
		t.toServer = pgwire.AppendParse(t.toServer, ownName, sql)
		t.add(step{})
		return t.play()
	}
	f, err := parse(sqlstmt.Enclose(text))
	if err != nil || f == nil {
		return err == nil, err
	}
	switch code := pgwire.ParseError(f.message).Code; {
	case code == "25P02": // said of what can be parsed
		return true, nil
	case slices.Contains([]string{"42", "22", "0A"}, code[:min(len(code), 2)]): // in Postgres's words for the text as it is
		again, err := parse(text)
		if err != nil {
			return false, err
		}
		if again != nil {
			f = again
		}
	}
	if _, err := t.finish(f, nil); err != nil {
		return false, err
	}
	return false, t.ready()
}

// statement runs one of the statements of a Query and reports whether the next may follow.
func (t *takeover) statement(a *act, alone bool) (bool, error) {
	e := &a.effect
	if e.Control != sqlstmt.NoControl {
		return t.control(a)
	}
	writes := t.status != 'E' && t.pen.writes(t.pen.watch.current.Load(), e)
	if t.status == 'I' && !t.own && (!alone || writes) {
		t.ask("begin")
		t.own, t.status, t.solo = true, 'T', alone
	}
	if t.each && t.status != 'E' {
		if ok, err := t.await(t.vigil.readsText(a.sql)); err != nil || !ok {
			return ok, err
		}
	}
	if writes {
		return t.write(a)
	}
	return t.plain(a)
}

// statementAt returns a statement of a text with blanks in place of what came before it, so that the positions in
// Postgres's errors stay true.
func statementAt(text string, e *sqlstmt.Effect) string {
	const most = 8 << 10
	if e.Start == 0 || e.Start > most {
		return text[e.Start:e.End]
	}
	padding := make([]byte, 0, e.End)
	for _, r := range text[:e.Start] {
		if r != '\n' {
			r = ' '
		}
		padding = append(padding, byte(r))
	}
	return string(append(padding, text[e.Start:e.End]...))
}

// execute performs a portal.
func (t *takeover) execute(message []byte) error {
	b := t.pen.portalOf(message)
	portal, rest, _ := pgwire.CutString(message[pgwire.HeaderLen:])
	a := &act{sql: b.text, effect: b.effect, portal: string(portal), execute: append([]byte(nil), message...)}
	if len(rest) != 4 {
		return t.pass(message)
	}
	if b.bind != nil {
		a.parse, a.bind, a.known = t.pen.again(b)
	}
	if n := len(a.parse) + len(a.bind); n > unmetered { // it is sent twice
		again := holding{memory: &t.session.server.memory}
		if err := t.hold(&again, copiesOfStatement*int64(n), false); err != nil {
			return t.declined(false, err)
		}
		defer again.release()
	}
	ok, err := t.open(false, t.pen.permit != "" && a.effect.Control == sqlstmt.NoControl && !a.effect.CopyIn)
	if err == nil && !ok && !t.void && !t.pen.unbound() && a.effect.Control != sqlstmt.NoControl { // in a failed block that has to be ended
		ok, err = t.settleEarlier(false)
	}
	switch {
	case err != nil:
		return err
	case t.void:
		return t.flush()
	case !ok:
		return t.pass(a.execute)
	case a.effect.Control != sqlstmt.NoControl:
		ok, err = t.control(a)
		t.pen.block = blockAsKnown(t.status)
	default:
		a.there = t.split
		t.pen.unbind(a.portal) // it may be executed once
		ok, err = t.write(a)
	}
	if t.void = !ok; t.void && err == nil {
		err = t.flush() // as Postgres does
	}
	return err
}

func blockAsKnown(status byte) blockState {
	if status == 'I' {
		return blockClosed
	}
	return blockOpen
}
