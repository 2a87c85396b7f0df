package sqlstmt

import (
	"iter"
	"slices"
	"strings"
)

// Control is what a statement does to the transaction around it.
type Control uint8

// The statements that control transactions.
const (
	NoControl    Control = iota
	Begin                // BEGIN, START TRANSACTION
	Commit               // COMMIT, END, with AND CHAIN too
	Rollback             // ROLLBACK, ABORT, with AND CHAIN too
	RollbackTo           // ROLLBACK TO SAVEPOINT
	Savepoint            // SAVEPOINT
	Release              // RELEASE SAVEPOINT
	PrepareTwice         // PREPARE TRANSACTION
)

// Name is the name of a table or function as it stands in a text; Schema is empty if the text has none.
type Name struct{ Schema, Name string }

// Effect is what one statement of a text may do, as far as that shows in the text.
type Effect struct {
	Start, End int     // byte range from its first token up to the semicolon or the end of the text
	Control    Control // and if it is one, nothing below but Savepoint
	Savepoint  string  // name, for RollbackTo, Savepoint and Release

	Defines  bool   // CREATE, DROP, GRANT and the like, of whatever but a table: it only says what others will do, and has nothing below
	Makes    Name   // of those: the function, procedure or view that it makes, or the table that it gives a trigger or rule
	Targets  []Name // tables that it inserts into, updates, deletes from, merges or copies into
	Calls    []Name // functions that it calls
	CopyIn   bool   // COPY FROM STDIN
	Do       bool   // DO: its effect is in a string
	Code     string // that string, if it can be read off and is PL/pgSQL; for [Body]
	Executes string // name of the prepared statement that it runs
	Prepares string // name of the statement that it prepares; Targets and Calls are of that one
}

// createTable is how many words CREATE GLOBAL TEMPORARY TABLE has.
const createTable = 4

// maxDetails bounds how many targets and calls are collected of one statement.
const maxDetails = 1000

// Effects splits text into statements and says what each may do. It looks at keywords and names only, takes time in
// proportion to the length of the text and accepts any text: what is not SQL has no effects.
func Effects(text string) []Effect { return slices.Collect(EachEffect(text)) }

// EachEffect is [Effects] one by one, for texts of any length: one of two characters a statement has so many that they
// take sixty times its memory together.
func EachEffect(text string) iter.Seq[Effect] {
	return func(yield func(Effect) bool) {
		s := scanner{text: text}
		for more := true; more; {
			var e Effect
			if e, more = s.effect(); e.End > e.Start && !yield(e) {
				return
			}
		}
	}
}

// Single returns the effect of a text that is one statement, and false of any other.
func Single(text string) (only Effect, ok bool) {
	for e := range EachEffect(text) {
		if ok {
			return Effect{}, false
		}
		only, ok = e, true
	}
	return only, ok
}

// effect scans one statement, its semicolon included, and reports whether the text may hold another.
func (s *scanner) effect() (Effect, bool) {
	first := s.next()
	e := Effect{Start: first.start, End: first.start}
	if first.kind == tokenEnd {
		return e, false
	}
	if s.punct(first, ';') {
		return e, true
	}
	v := visit{scanner: s, effect: &e, first: first}
	e.End = first.end
	depth, atomic := 0, 0 // atomic: BEGIN ATOMIC … END of a function's body, CASE … END inside it
	var last [3]token     // the newest first
	for t := first; t.kind != tokenEnd; t = s.next() {
		switch {
		case s.punct(t, '(') || s.punct(t, '['):
			depth++
		case s.punct(t, ')') || s.punct(t, ']'):
			depth--
		case s.punct(t, ';') && depth <= 0 && atomic == 0:
			v.finish()
			return e, true
		case s.is(t, "atomic") && s.is(last[0], "begin"), atomic > 0 && s.is(t, "case"):
			atomic++
		case atomic > 0 && s.is(t, "end"):
			atomic--
		}
		v.token(t, last)
		e.End = t.end
		last[2], last[1], last[0] = last[1], last[0], t
	}
	v.finish()
	return e, false
}

// visit collects the effect of one statement.
type visit struct {
	*scanner
	effect *Effect
	first  token
	count  int // tokens so far

	dotted   [3]token // the parts of the name being read
	parts    int
	target   bool // the name being read is that of a table which is changed
	awaiting bool // such a name comes next

	explain, analyze bool
	copied, from     bool
	query            bool // what is copied is the answer of a query
	table            bool // CREATE TABLE, which may fill the table: AS
}

// token looks at the next token of the statement.
func (v *visit) token(t token, last [3]token) {
	e := v.effect
	v.count++
	if v.count == 1 {
		v.explain = v.is(t, "explain")
		v.copied = v.is(t, "copy")
		e.Do = v.is(t, "do")
		v.awaiting = v.copied || v.is(t, "update")
		e.Control = v.control(t)
		return
	}
	isName := t.kind == tokenWord || t.kind == tokenQuoted
	if v.count == 2 {
		v.query = v.copied && v.punct(t, '(')
		v.awaiting = v.awaiting && !v.query
	}
	v.table = v.table || v.count <= createTable && v.is(t, "table") && v.is(v.first, "create")
	switch {
	case isName && v.punct(last[0], '.') && v.parts > 0 && v.parts < len(v.dotted):
		v.dotted[v.parts] = t
		v.parts++
		return
	case v.punct(t, '.') && v.parts > 0:
		return
	case v.punct(t, '(') && v.parts > 0 && !v.target:
		v.add(&e.Calls)
	}
	v.endName()
	switch {
	case !isName:
		v.awaiting = v.awaiting && v.punct(t, '(') && v.is(last[0], "only")
		return
	case v.awaiting && v.is(t, "only"):
		return
	}
	v.dotted[0], v.parts, v.target, v.awaiting = t, 1, v.awaiting, false
	switch {
	case v.is(t, "into") && (v.is(last[0], "insert") || v.is(last[0], "merge")),
		v.is(t, "from") && v.is(last[0], "delete"), v.is(t, "update"):
		v.awaiting = true
	case v.explain && (v.is(t, "analyze") || v.is(t, "analyse")):
		v.analyze = true
	case v.copied && v.is(t, "stdin") && v.is(last[0], "from"):
		e.CopyIn = true
	case v.copied && v.is(t, "from"):
		v.from = true
	}
	v.prepared(t, last)
}

// prepared looks for the names in PREPARE and EXECUTE.
func (v *visit) prepared(t token, last [3]token) {
	e := v.effect
	switch {
	case e.Executes == "" && v.is(last[0], "execute") && (v.count == 2 && v.first.end > 0 || v.explain):
		e.Executes = v.name(t)
	case v.count == 2 && v.is(v.first, "prepare") && !v.is(t, "transaction"):
		e.Prepares = v.name(t)
	}
}

// endName takes note of the name that has been read, if it is a target.
func (v *visit) endName() {
	if v.parts > 0 && v.target {
		v.add(&v.effect.Targets)
	}
	v.parts, v.target = 0, false
}

func (v *visit) add(list *[]Name) {
	if len(*list) >= maxDetails {
		return
	}
	n := Name{Name: v.name(v.dotted[v.parts-1])}
	if v.parts > 1 {
		n.Schema = v.name(v.dotted[v.parts-2])
	}
	*list = append(*list, n)
}

// finish settles what only the whole statement tells.
func (v *visit) finish() {
	v.endName()
	e := v.effect
	switch {
	case e.Control != NoControl:
		v.finishControl()
	case e.Do:
		e.Code = v.code()
	case v.explain && !v.analyze, v.copied && !v.from && !v.query, v.defines():
		*e = Effect{Start: e.Start, End: e.End}
		if v.defines() {
			e.Defines, e.Makes = true, v.makes()
		}
	}
}

// makes reads a statement that defines something once more, up to the name of what others may call or change.
func (v *visit) makes() (n Name) {
	s := scanner{text: v.text[:v.effect.End], pos: v.first.end}
	if !v.is(v.first, "create") {
		return n
	}
	before := "" // the word before the name
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		switch {
		case before == "" && (s.is(t, "function") || s.is(t, "procedure") || s.is(t, "view")):
			return s.dotted(s.next())
		case before == "" && s.is(t, "trigger"):
			before = "on"
		case before == "" && s.is(t, "rule"):
			before = "to"
		case before != "" && s.is(t, before):
			return s.dotted(s.next())
		}
	}
	return n
}

// dotted reads the rest of a name that begins with t.
func (s *scanner) dotted(t token) (n Name) {
	if t.kind != tokenWord && t.kind != tokenQuoted {
		return n
	}
	n.Name = s.name(t)
	for s.punct(s.next(), '.') {
		n.Schema, n.Name = n.Name, s.name(s.next())
	}
	return n
}

// defines reports whether the statement only says what others will do.
func (v *visit) defines() bool {
	if v.table {
		return false
	}
	for _, word := range [...]string{"create", "alter", "drop", "comment", "grant", "revoke"} {
		if v.is(v.first, word) {
			return true
		}
	}
	return false
}

// control tells by its first word, and for PREPARE and START later by its second, a statement that controls the
// transaction.
func (v *visit) control(t token) Control {
	switch {
	case v.is(t, "begin"), v.is(t, "start"):
		return Begin
	case v.is(t, "commit"), v.is(t, "end"):
		return Commit
	case v.is(t, "rollback"), v.is(t, "abort"):
		return Rollback
	case v.is(t, "savepoint"):
		return Savepoint
	case v.is(t, "release"):
		return Release
	case v.is(t, "prepare"):
		return PrepareTwice
	}
	return NoControl
}

// finishControl reads the statement, which is short, once more.
func (v *visit) finishControl() {
	e := v.effect
	s := scanner{text: v.text[:e.End], pos: v.first.end}
	t := s.next()
	switch e.Control {
	case PrepareTwice:
		if !s.is(t, "transaction") {
			e.Control = NoControl
		}
		return
	case Commit, Rollback:
		if s.is(t, "prepared") { // of another transaction
			e.Control = NoControl
			return
		}
		if s.is(t, "work") || s.is(t, "transaction") {
			t = s.next()
		}
		if !s.is(t, "to") {
			break
		}
		e.Control = RollbackTo
		if t = s.next(); s.is(t, "savepoint") {
			t = s.next()
		}
		e.Savepoint = s.name(t)
	case Savepoint, Release:
		if e.Control == Release && s.is(t, "savepoint") {
			t = s.next()
		}
		e.Savepoint = s.name(t)
	}
	*e = Effect{Start: e.Start, End: e.End, Control: e.Control, Savepoint: e.Savepoint}
}

// code reads the string that a DO runs; "" if it is in another language, or not one constant without escapes.
func (v *visit) code() (code string) {
	s := scanner{text: v.text[:v.effect.End], pos: v.first.end}
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		switch {
		case s.is(t, "language"):
			if !s.is(s.next(), "plpgsql") {
				return ""
			}
		case code == "" && t.kind == tokenString:
			if code = s.constant(t); code == "" {
				return ""
			}
		default:
			return ""
		}
	}
	return code
}

// Strings returns the string constants of a text, one behind the other: what it may hand on to be run elsewhere.
func Strings(text string) string {
	var b strings.Builder
	s := scanner{text: text}
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		if t.kind == tokenString {
			b.WriteString(text[t.start:t.end])
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// ControlOf returns what a text of one statement does to the transaction. It costs a few nanoseconds for any other.
func ControlOf(text []byte) Control {
	i := 0
	for i < len(text) && isSpace(text[i]) {
		i++
	}
	var word [9]byte
	n := 0
	for ; i+n < len(text) && n < len(word) && isWord(text[i+n]); n++ {
		word[n] = fold(text[i+n])
	}
	if n == 0 && i < len(text) && (text[i] == '/' || text[i] == '-') {
		return controlOf(text) // a comment
	}
	switch string(word[:n]) {
	case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare":
		return controlOf(text)
	}
	return NoControl
}

func controlOf(text []byte) Control {
	e, _ := Single(string(text))
	return e.Control
}

// Body says what the body of a function, in SQL or PL/pgSQL, may do, and whether it runs statements that it puts
// together itself.
func Body(text string) (e Effect, dynamic bool) {
	s := scanner{text: text}
	v := visit{scanner: &s, effect: &e, count: 1}
	var last [3]token
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		dynamic = dynamic || s.is(t, "execute")
		v.token(t, last)
		last[2], last[1], last[0] = last[1], last[0], t
	}
	v.endName()
	return Effect{End: len(text), Targets: e.Targets, Calls: e.Calls}, dynamic
}
