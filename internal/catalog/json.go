package catalog

import (
	"bytes"
	"encoding/json"
	"strings"
)

// AppendJSON appends raw as the JSON value that Postgres's to_jsonb gives for a column of this kind, so that a value
// looks alike whether it lives in a column of its own or in _overflow. It reports false where [Kind.AppendText] does.
func (k Kind) AppendJSON(dst, raw []byte) (out []byte, ok bool) {
	text, ok := k.AppendText(nil, raw)
	if !ok {
		return dst, false
	}
	switch k {
	case Numeric:
		return appendJSONNumber(dst, text), true
	case Bool:
		if text[0] == 't' {
			return append(dst, "true"...), true
		}
		return append(dst, "false"...), true
	case Timestamp:
		at, ok := instant(text)
		if !ok {
			return dst, false
		}
		return at.AppendFormat(dst, `"2006-01-02T15:04:05.999999+00:00"`), true
	case TextArray:
		list := []string{}
		for item := range bytes.SplitSeq(raw, []byte{';'}) {
			if item = appendClean(nil, bytes.TrimSpace(item)); len(item) > 0 {
				list = append(list, string(item))
			}
		}
		return appendJSON(dst, list), true
	case Text, Date:
	}
	return appendJSON(dst, string(text)), true
}

// appendJSONNumber writes a number that Postgres reads as one that JSON allows: no plus sign, a digit on both sides of
// the point, no leading zeros.
func appendJSONNumber(dst, text []byte) []byte {
	s := strings.TrimPrefix(string(text), "+")
	if rest, negative := strings.CutPrefix(s, "-"); negative {
		dst, s = append(dst, '-'), rest
	}
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	dst = append(dst, whole...)
	if fraction != "" {
		dst = append(append(dst, '.'), fraction...)
	}
	return append(dst, exponent...)
}

func appendJSON(dst []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings and lists of strings always encode
		return append(dst, "null"...)
	}
	return append(dst, text...)
}
