package sqlstmt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sqlc-dev/oliphant"
)

// Kind says which statement was found.
type Kind uint8

// The statements that [Listens] finds.
const (
	Listen Kind = iota
	Unlisten
	UnlistenAll // UNLISTEN *
)

// Statement is a LISTEN or UNLISTEN and where it stands in its text.
type Statement struct {
	Kind       Kind
	Channel    string // unquoted, case-folded and cut as Postgres does; empty for UnlistenAll
	Cut        bool   // the channel is longer in the text: Postgres says so in a notice
	Start, End int    // byte range from its first keyword up to the semicolon or the end of the text
}

const word = "listen"

// MayListen reports whether text holds the letters of LISTEN anywhere, in any case. It is a sieve in front of
// [Listens]: false is certain, true is not.
func MayListen(text []byte) bool {
	for end := len(word) - 1; end < len(text); {
		c := text[end] | 0x20
		if c == 'n' && isListen(text[end-len(word)+1:end+1]) {
			return true
		}
		end += skip[c]
	}
	return false
}

// skip says how far the end of the window may move on when its last letter is c.
var skip = func() (table [256]int) {
	for i := range table {
		table[i] = len(word)
	}
	for i := range len(word) - 1 {
		table[word[i]] = len(word) - 1 - i
	}
	return table
}()

func isListen(text []byte) bool {
	for i := range len(word) {
		if text[i]|0x20 != word[i] {
			return false
		}
	}
	return true
}

// Listens returns the LISTEN and UNLISTEN statements of text in order. It returns an error if the text cannot be
// parsed or is [ErrTooComplex].
func Listens(text string) ([]Statement, error) {
	if err := guard(text); err != nil {
		return nil, err
	}
	tree, err := oliphant.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	var found []Statement
	for _, raw := range tree.GetStmts() {
		var s Statement
		node := raw.GetStmt()
		if listen := node.GetListenStmt(); listen != nil {
			s = Statement{Kind: Listen, Channel: listen.GetConditionname()}
		} else if unlisten := node.GetUnlistenStmt(); unlisten != nil {
			s = Statement{Kind: Unlisten, Channel: unlisten.GetConditionname()}
			if s.Channel == "" {
				s.Kind = UnlistenAll
			}
		} else {
			continue
		}
		s.Start, s.End = int(raw.GetStmtLocation()), len(text)
		if n := int(raw.GetStmtLen()); n > 0 {
			s.End = s.Start + n
		}
		s.Start += blank(text[s.Start:s.End])
		s.Cut = len(s.Channel) > longest-utf8.UTFMax && channelLen(text[s.Start:s.End]) > longest
		found = append(found, s)
	}
	return found, nil
}

// channelLen returns how many bytes the channel of a LISTEN or UNLISTEN has before it is cut.
func channelLen(statement string) int {
	s := scanner{text: statement}
	s.next()
	t := s.next()
	text := statement[t.start:t.end]
	switch {
	case t.kind != tokenQuoted:
		return len(text)
	case text[0] == '"':
		return len(strings.ReplaceAll(text[1:len(text)-1], `""`, `"`))
	}
	escape := byte('\\')
	if s.is(s.next(), "uescape") {
		if c := s.next(); c.end-c.start == len("'!'") {
			escape = statement[c.start+1]
		}
	}
	return unicodeLen(strings.ReplaceAll(text[len(`U&"`):len(text)-1], `""`, `"`), escape)
}

// unicodeLen returns how many bytes of UTF-8 an identifier has that is written with Unicode escapes, which the parser has found
// to be right.
func unicodeLen(text string, escape byte) (n int) {
	for i := 0; i < len(text); {
		digits, skip := 0, 1
		switch {
		case text[i] != escape || i+1 == len(text):
		case text[i+1] == escape:
			skip = 2
		case text[i+1] == '+':
			digits, skip = 6, len("\\+")
		default:
			digits = 4
		}
		if digits == 0 || i+skip+digits > len(text) {
			i += skip
			n++
			continue
		}
		code, _ := strconv.ParseUint(text[i+skip:i+skip+digits], 16, 32)
		i += skip + digits
		switch r := rune(code); {
		case utf16.IsSurrogate(r):
			n += 2 // each half of a pair, which has four
		case utf8.RuneLen(r) > 0:
			n += utf8.RuneLen(r)
		}
	}
	return n
}

// blank returns the length of the white space and comments at the start of text.
func blank(text string) int {
	i := 0
	for i < len(text) {
		switch {
		case isSpace(text[i]):
			i++
		case hasPrefixAt(text, i, "--"):
			for i < len(text) && text[i] != '\n' && text[i] != '\r' {
				i++
			}
		case hasPrefixAt(text, i, "/*"):
			i = comment(text, i)
		default:
			return i
		}
	}
	return i
}

// comment returns the end of the block comment, which may hold others, that starts at i.
func comment(text string, i int) int {
	depth := 0
	for i < len(text) {
		switch {
		case hasPrefixAt(text, i, "/*"):
			depth++
			i += 2
		case hasPrefixAt(text, i, "*/"):
			i += 2
			if depth--; depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return i
}

func hasPrefixAt(text string, i int, prefix string) bool {
	return len(text)-i >= len(prefix) && text[i:i+len(prefix)] == prefix
}

func isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}
