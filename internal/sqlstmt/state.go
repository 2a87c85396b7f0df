package sqlstmt

import "strings"

// State says what a text leaves behind in the session that ran it, once no transaction is open any more.
type State uint8

// What a text may leave behind.
const (
	Nothing  State = iota // whatever it answered
	Setting               // the value of a setting, which the same text sets again: one SET or RESET
	Anything              // more than the text shows
)

// LeavesBehind says what the statements of a text leave behind in their session. Of reads it knows only what their
// words say: suspect is asked for each of them, folded as Postgres folds it, and says whether a function, view or
// type of that name may leave something behind. A nil suspect suspects every word. LISTEN and UNLISTEN count as
// nothing: that is for the caller to judge.
func LeavesBehind(text string, suspect func(word string) bool) State {
	if strings.IndexByte(text, '\\') >= 0 {
		return Anything // where a string ends may depend on a setting
	}
	s := scanner{text: text}
	worst, statements := Nothing, 0
	for {
		t := s.next()
		if t.kind == tokenEnd {
			break
		}
		if s.punct(t, ';') {
			continue
		}
		statements++
		if worst = max(worst, s.leaves(t, suspect)); worst == Anything {
			return Anything
		}
	}
	if worst == Setting && statements > 1 {
		return Anything // the others may take it back
	}
	return worst
}

// leaves scans the statement that starts with first up to its semicolon.
func (s *scanner) leaves(first token, suspect func(string) bool) State {
	if first.kind != tokenWord {
		return Anything
	}
	state := Anything
	switch s.name(first) {
	case "listen", "unlisten", "notify", "show", "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release":
		state = Nothing
	case "set", "reset":
		state = Setting
	case "select", "values", "table", "with":
		return s.reads(suspect)
	}
	for t := s.next(); t.kind != tokenEnd && !s.punct(t, ';'); t = s.next() {
		if state == Setting && t.kind == tokenWord && scoped(s.name(t)) {
			state = Anything
		}
	}
	return state
}

// scoped tells the words that make SET more, or less, than the value of a setting.
func scoped(word string) bool {
	switch word {
	case "local", "role", "authorization", "transaction", "characteristics", "constraints":
		return true
	}
	return false
}

// reads scans a query that has begun.
func (s *scanner) reads(suspect func(string) bool) State {
	state := Nothing
	for t := s.next(); t.kind != tokenEnd && !s.punct(t, ';'); t = s.next() {
		switch t.kind {
		case tokenQuoted:
			if s.text[t.start] != '"' || suspect == nil || suspect(s.name(t)) {
				state = Anything
			}
		case tokenWord:
			switch word := s.name(t); word {
			case "null", "true", "false", "as":
			case "into", "insert", "update", "delete", "merge":
				state = Anything
			default:
				if suspect == nil || suspect(word) {
					state = Anything
				}
			}
		}
	}
	return state
}

// Empty reports whether Postgres finds no statement in a text and answers it with EmptyQueryResponse. Texts for which
// that is not plain to see are not empty.
func Empty(text []byte) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case isSpace(c) || c == ';':
		case c == '-' && i+1 < len(text) && text[i+1] == '-':
			for i < len(text) && text[i] != '\n' && text[i] != '\r' {
				if text[i] >= 0x80 { // it may not be valid in the client's encoding
					return false
				}
				i++
			}
		default:
			return false
		}
	}
	return true
}
