package sqlstmt

import (
	"bytes"
	"math/bits"
	"strings"
)

// Sieve tells texts that cannot change certain tables from those that might. It is made once and may be used
// concurrently.
type Sieve struct {
	names  map[string]struct{} // lower-case words, at least one of which every text that matters holds
	filter []uint64            // one bit for the hash of each of the names; a power of two of words
	calls  bool                // a text that only selects may matter
}

// NewSieve returns a Sieve for tables, the schemas they are in, and functions that change them.
func NewSieve(tables, functions []string) *Sieve {
	// 64 bits for each name: one in 64 of the words that are no names is looked up all the same.
	filter := max(64, 1<<bits.Len(uint(len(tables)+len(functions))))
	s := &Sieve{names: map[string]struct{}{}, filter: make([]uint64, filter), calls: len(functions) > 0}
	for _, list := range [][]string{tables, functions} {
		for _, name := range list {
			s.add(name)
		}
	}
	return s
}

// add registers the first word of a name: all of it, unless it has to be quoted.
func (s *Sieve) add(name string) {
	name = strings.ToLower(name)
	start := 0
	for start < len(name) && !isWord(name[start]) {
		start++
	}
	word := name[start:wordEnd(name, start)]
	s.names[word] = struct{}{}
	h := uint32(0)
	for i := range len(word) {
		h = mix(h, word[i])
	}
	s.filter[h>>6&s.mask()] |= 1 << (h & 63)
}

func (s *Sieve) mask() uint32 { return uint32(len(s.filter) - 1) }

func mix(h uint32, c byte) uint32 { return (h ^ uint32(c|0x20)) * 0x9E3779B1 >> 3 }

// MayChange reports whether text could change one of the tables. False is certain for statements that name what they
// change; true is not. It costs nothing to speak of for a text that starts with SELECT, unless there are functions,
// and about a nanosecond a character for others.
func (s *Sieve) MayChange(text []byte) bool {
	return len(s.names) > 0 && (s.calls || !onlySelects(text)) && s.holds(text)
}

// Clears reports whether text is one SELECT that none of the names can hide in, and whether it has any other word than
// SELECT. True is certain; false is not: it is said of every text with a quote, an escape, a dollar that is no parameter's,
// or a letter that is not ASCII's.
func (s *Sieve) Clears(text []byte) (cleared, named bool) {
	if !onlySelects(text) {
		return false, false
	}
	others := -len("select")
	for i, c := range text {
		switch {
		case c >= 0x80, c == '"', c == '\'', c == '\\', c == '$' && !startsParameter(text, i):
			return false, false
		case isWordStart(c):
			others++
		}
	}
	return !s.holds(text), others > 0
}

// startsParameter reports whether the dollar at i is that of a parameter, as $1 is, and certainly not one around a string.
func startsParameter(text []byte, i int) bool {
	if i > 0 && isWord(text[i-1]) {
		return false
	}
	end := i + 1
	for end < len(text) && '0' <= text[end] && text[end] <= '9' {
		end++
	}
	return end > i+1 && (end == len(text) || !isWord(text[end]))
}

// holds reports whether one of the words of text is a name.
func (s *Sieve) holds(text []byte) bool {
	h, start, mask := uint32(0), -1, s.mask()
	for i, c := range text {
		if isWord(c) {
			if start < 0 {
				h, start = 0, i
			}
			h = mix(h, c)
			continue
		}
		if start >= 0 {
			if s.filter[h>>6&mask]&(1<<(h&63)) != 0 && s.has(text[start:i]) {
				return true
			}
			start = -1
		}
	}
	return start >= 0 && s.filter[h>>6&mask]&(1<<(h&63)) != 0 && s.has(text[start:])
}

func (s *Sieve) has(word []byte) bool {
	_, ok := s.names[string(bytes.ToLower(word))]
	return ok
}

// onlySelects reports whether text is one statement that starts with SELECT.
func onlySelects(text []byte) bool {
	const word = "select"
	i := 0
	for i < len(text) && isSpace(text[i]) {
		i++
	}
	if len(text)-i <= len(word) || isWord(text[i+len(word)]) {
		return false
	}
	for n := range len(word) {
		if text[i+n]|0x20 != word[n] {
			return false
		}
	}
	_, rest, _ := bytes.Cut(text, []byte{';'})
	for _, c := range rest {
		if !isSpace(c) {
			return false
		}
	}
	return true
}
