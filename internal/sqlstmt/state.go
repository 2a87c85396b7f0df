package sqlstmt

import (
	"strings"
)

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

// MayOutlast reports whether a text may leave behind in its session what DISCARD ALL does not take back: a setting with a name of the
// client's own making, a library, or what the body of a DO block or a procedure does. What a function does is not in the text.
func MayOutlast(text []byte) bool {
	if !mentions(text) {
		return false
	}
	s := scanner{text: string(text)}
	first := true
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		switch {
		case (t.kind == tokenString || t.kind == tokenQuoted) && s.backslash(t):
			return true
		case s.is(t, "set_config"), first && (s.is(t, "load") || s.is(t, "do") || s.is(t, "call")):
			return true
		case t.kind == tokenQuoted && s.name(t) == "set_config", (s.is(t, "set") || s.is(t, "reset")) && s.setsOwn():
			return true
		}
		first = s.punct(t, ';')
	}
	return false
}

// backslash reports whether there is one in a name, or in a string that ends elsewhere if a setting has it escape a quote.
func (s *scanner) backslash(t token) bool {
	text := s.text[t.start:t.end]
	return strings.IndexByte(text, '\\') >= 0 && (t.kind == tokenQuoted || strings.IndexByte("eEuU$", text[0]) < 0)
}

// setsOwn reports whether the name of what is set has two parts, or may have. The scanner is behind the SET or RESET.
func (s *scanner) setsOwn() bool {
	t := s.next()
	for s.is(t, "local") || s.is(t, "session") {
		t = s.next()
	}
	if t.kind == tokenQuoted {
		return true
	}
	after := *s
	return after.punct(after.next(), '.')
}

// mentions is a sieve in front of MayOutlast: it looks for the letters of its words, anywhere.
func mentions(text []byte) bool {
	for i := 0; i+1 < len(text); i++ {
		switch text[i] | 0x20 {
		case 's': // set
			if i+2 < len(text) && text[i+1]|0x20 == 'e' && text[i+2]|0x20 == 't' {
				return true
			}
		case 'd': // do
			if text[i+1]|0x20 == 'o' {
				return true
			}
		case 'l', 'c': // load, call
			if i+3 < len(text) && (foldedAt(text[i:], "load") || foldedAt(text[i:], "call")) {
				return true
			}
		case 'u': // U&"..."
			if text[i+1] == '&' {
				return true
			}
		}
	}
	return false
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
