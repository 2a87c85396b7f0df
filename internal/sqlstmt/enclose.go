package sqlstmt

import "strings"

// Enclose returns one statement that Postgres, from version 14 on, can parse if and only if it can parse text, of any number of
// statements, with a transaction's among them. It is for parsing only: a Parse of it neither looks at what is named nor does anything.
//
// It is the body of a function, where any statement may stand but BEGIN and END, which end the body; they have other names there. A
// RETURN may stand there too, and only there.
func Enclose(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 128)
	b.WriteString("create function pg_temp.hubpg() returns void begin atomic ")
	done := 0
	for e := range EachEffect(text) {
		if e.Control != Begin && e.Control != Commit {
			continue
		}
		s := scanner{text: text[:e.End], pos: e.Start}
		name, first := "", s.next()
		switch {
		case s.is(first, "begin"):
			name = "start transaction"
			if next := s.next(); s.is(next, "work") || s.is(next, "transaction") {
				first = next
			}
		case s.is(first, "end"):
			name = "commit"
		default:
			continue
		}
		b.WriteString(text[done:e.Start])
		b.WriteString(name)
		done = first.end
	}
	b.WriteString(text[done:])
	b.WriteString("\n; end") // behind a comment
	return b.String()
}
