package sqlstmt

import (
	"strings"
	"unicode/utf8"
)

// tokenKind says what a token is.
type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a keyword or an unquoted identifier
	tokenQuoted           // a quoted identifier
	tokenString           // any string constant, and any number
	tokenPunct            // one character of anything else
)

// token is a piece of a text: text[start:end].
type token struct {
	kind       tokenKind
	start, end int
}

// scanner splits a text into tokens as Postgres does with standard_conforming_strings on. It accepts every text:
// what is not closed ends with the text.
type scanner struct {
	text string
	pos  int
}

// next returns the next token, white space and comments left out.
func (s *scanner) next() token {
	s.pos += blank(s.text[s.pos:])
	t := token{start: s.pos}
	if s.pos >= len(s.text) {
		t.end = s.pos
		return t
	}
	switch c := s.text[s.pos]; {
	case isWordStart(c):
		t.kind = s.word(c)
	case c == '"':
		t.kind = tokenQuoted
		s.pos = quotedEnd(s.text, s.pos, '"', false)
	case c == '\'':
		t.kind = tokenString
		s.pos = quotedEnd(s.text, s.pos, '\'', false)
	case c >= '0' && c <= '9':
		t.kind = tokenString
		s.pos = wordEnd(s.text, s.pos)
	case c == '$':
		t.kind = s.dollar()
	default:
		t.kind = tokenPunct
		s.pos++
	}
	t.end = s.pos
	return t
}

// word takes an identifier, or the string that E, B, X, N or U& in front of a quote make.
func (s *scanner) word(c byte) tokenKind {
	if at := s.pos + 1; at < len(s.text) && s.text[at] == '\'' && strings.IndexByte("eEbBxXnN", c) >= 0 {
		s.pos = quotedEnd(s.text, at, '\'', c|0x20 == 'e')
		return tokenString
	}
	if c|0x20 == 'u' && s.pos+2 < len(s.text) && s.text[s.pos+1] == '&' {
		switch s.text[s.pos+2] {
		case '\'':
			s.pos = quotedEnd(s.text, s.pos+2, '\'', false)
			return tokenString
		case '"': // escapes are left as they are: such a name is nobody's
			s.pos = quotedEnd(s.text, s.pos+2, '"', false)
			return tokenQuoted
		}
	}
	s.pos = wordEnd(s.text, s.pos)
	return tokenWord
}

// dollar takes a dollar-quoted string, or else the dollar alone.
func (s *scanner) dollar() tokenKind {
	at := s.pos + 1
	for at < len(s.text) && isWord(s.text[at]) && s.text[at] != '$' {
		at++
	}
	if at >= len(s.text) || s.text[at] != '$' || at > s.pos+1 && !isWordStart(s.text[s.pos+1]) {
		s.pos++
		return tokenPunct
	}
	tag := s.text[s.pos : at+1]
	if n := strings.Index(s.text[at+1:], tag); n >= 0 {
		s.pos = at + 1 + n + len(tag)
	} else {
		s.pos = len(s.text)
	}
	return tokenString
}

// quotedEnd returns the end of what the quote at i opens. A doubled quote stands for one.
func quotedEnd(text string, i int, quote byte, escapes bool) int {
	for i++; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] != quote:
		case i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return len(text)
}

func wordEnd(text string, i int) int {
	for i < len(text) && isWord(text[i]) {
		i++
	}
	return i
}

func isWordStart(c byte) bool { return letters[c]&startsWord != 0 }

func isWord(c byte) bool { return letters[c] != 0 }

const (
	startsWord = 1 << iota
	goesOn
)

// letters says of each byte whether an identifier may start with it, or go on.
var letters = func() (table [256]uint8) {
	for i := range table {
		switch c := byte(i); {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c >= 0x80:
			table[i] = startsWord | goesOn
		case c >= '0' && c <= '9', c == '$':
			table[i] = goesOn
		}
	}
	return table
}()

// is reports whether t is the keyword, given in lower case.
func (s *scanner) is(t token, keyword string) bool {
	if t.kind != tokenWord || t.end-t.start != len(keyword) {
		return false
	}
	for i := range len(keyword) {
		if fold(s.text[t.start+i]) != keyword[i] {
			return false
		}
	}
	return true
}

// punct reports whether t is that character.
func (s *scanner) punct(t token, c byte) bool { return t.kind == tokenPunct && s.text[t.start] == c }

// name returns what an identifier means: unquoted or folded, and cut as Postgres does.
func (s *scanner) name(t token) string {
	text := s.text[t.start:t.end]
	if t.kind == tokenQuoted && text[0] == '"' {
		text = strings.TrimSuffix(text[1:], `"`)
		text = strings.ReplaceAll(text, `""`, `"`)
	} else if t.kind == tokenWord {
		text = foldAll(text)
	}
	return cut(text)
}

// constant returns what a string constant means; "" if that is not plain.
func (s *scanner) constant(t token) string {
	text := s.text[t.start:t.end]
	if text[0] == '$' {
		tag := text[:1+strings.IndexByte(text[1:], '$')+1]
		if len(text) < 2*len(tag) || !strings.HasSuffix(text, tag) {
			return ""
		}
		return text[len(tag) : len(text)-len(tag)]
	}
	if len(text) < 2 || text[0] != '\'' || text[len(text)-1] != '\'' || strings.Contains(text, `\`) {
		return ""
	}
	return strings.ReplaceAll(text[1:len(text)-1], "''", "'")
}

// longest is how many bytes of an identifier Postgres keeps.
const longest = 63

// cut shortens an identifier as Postgres does: not within a character.
func cut(name string) string {
	if len(name) <= longest {
		return name
	}
	end := longest
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

func foldAll(text string) string {
	for i := range len(text) {
		if text[i] == fold(text[i]) {
			continue
		}
		folded := []byte(text)
		for ; i < len(folded); i++ {
			folded[i] = fold(folded[i])
		}
		return string(folded)
	}
	return text
}

func fold(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}
