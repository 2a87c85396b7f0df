package sandbox

import (
	"strings"
	"unicode"
)

// tokens splits text into lower-case words, as the search index does.
func tokens(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// tokenMatcher matches text that has every token of pattern, in which * stands for any characters.
func tokenMatcher(pattern string) func(string) bool {
	wants := strings.FieldsFunc(strings.ToLower(pattern), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '*'
	})
	return func(text string) bool {
		words := tokens(text)
		for _, want := range wants {
			found := false
			for _, w := range words {
				if found = glob(want, w); found {
					break
				}
			}
			if !found {
				return false
			}
		}
		return len(wants) > 0
	}
}

// glob matches s against a pattern with *.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

// queryMatcher matches records whose searched properties hold a word beginning with each word of query.
func queryMatcher(t *table, query string) func(*record) bool {
	words := tokens(query)
	var ps []*property
	names := t.kind.query
	if t.kind.custom {
		names = t.kind.searchableList
	}
	for _, name := range names {
		if p := t.property(name); p != nil {
			ps = append(ps, p)
		}
	}
	return func(r *record) bool {
		var have []string
		for _, p := range ps {
			have = append(have, tokens(string(t.text(r, p, nil)))...)
		}
		for _, w := range words {
			found := false
			for _, h := range have {
				if found = strings.HasPrefix(h, w); found {
					break
				}
			}
			if !found {
				return false
			}
		}
		return true
	}
}
