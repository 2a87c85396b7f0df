package catalog

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

const (
	// maxNumber and maxExponent bound a number well inside what numeric holds (131,072 digits before the point and
	// 16,383 after) and well outside of what a double can say (1,075 characters in full binary expansion).
	maxNumber   = 1200
	maxExponent = 1000
)

// AppendText appends raw, a value as HubSpot writes it, to dst in the form that Postgres reads for this kind. It
// reports false and leaves dst as it was when raw is not a value of this kind; the caller then stores NULL and keeps
// raw aside. The empty string is a value of Text only: callers store NULL for it.
//
//   - Text: as it is, without NUL bytes (which Postgres cannot store) and with malformed UTF-8 replaced.
//   - Numeric: decimal, with or without fraction and exponent, full binary expansions included.
//   - Bool: true, false, 1, 0, yes, no in any case.
//   - Date: YYYY-MM-DD, an ISO date and time (its UTC day), or milliseconds since 1970.
//   - Timestamp: an ISO date and time, a date (midnight UTC), or milliseconds since 1970.
//   - TextArray: values separated by semicolons, empty ones dropped.
func (k Kind) AppendText(dst, raw []byte) (out []byte, ok bool) {
	switch k {
	case Numeric:
		return appendNumber(dst, raw)
	case Bool:
		return appendBool(dst, raw)
	case Date:
		return appendDate(dst, raw)
	case Timestamp:
		return appendTimestamp(dst, raw)
	case TextArray:
		return appendArray(dst, raw)
	case Text:
	}
	return appendClean(dst, raw), true
}

// appendClean appends s as Postgres can store it.
func appendClean(dst, s []byte) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	if bytes.IndexByte(s, 0) >= 0 {
		s = bytes.ReplaceAll(s, []byte{0}, nil)
	}
	if !utf8.Valid(s) {
		s = bytes.ToValidUTF8(s, []byte(string(utf8.RuneError)))
	}
	return append(dst, s...)
}

// isPlain reports whether s is ASCII without NUL, as most values are: one look at each byte instead of two.
func isPlain(s []byte) bool {
	for _, c := range s {
		if c == 0 || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func appendNumber(dst, raw []byte) ([]byte, bool) {
	s := bytes.TrimSpace(raw)
	if len(s) > maxNumber {
		return dst, false
	}
	i, digits := 0, 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	for ; i < len(s) && isDigit(s[i]); i++ {
		digits++
	}
	if i < len(s) && s[i] == '.' {
		for i++; i < len(s) && isDigit(s[i]); i++ {
			digits++
		}
	}
	if digits == 0 {
		return dst, false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		exponent, err := strconv.Atoi(string(s[i+1:]))
		if err != nil || exponent > maxExponent || exponent < -maxExponent {
			return dst, false
		}
		i = len(s)
	}
	if i != len(s) {
		return dst, false
	}
	return append(dst, s...), true
}

func appendBool(dst, raw []byte) ([]byte, bool) {
	s := bytes.TrimSpace(raw)
	for _, yes := range []string{"true", "1", "yes"} {
		if bytes.EqualFold(s, []byte(yes)) {
			return append(dst, 't'), true
		}
	}
	for _, no := range []string{"false", "0", "no"} {
		if bytes.EqualFold(s, []byte(no)) {
			return append(dst, 'f'), true
		}
	}
	return dst, false
}

func appendDate(dst, raw []byte) ([]byte, bool) {
	s := bytes.TrimSpace(raw)
	if len(s) == len("2006-01-02") && isCalendarDay(s) {
		return append(dst, s...), true
	}
	at, ok := instant(s)
	if !ok {
		return dst, false
	}
	return at.AppendFormat(dst, "2006-01-02"), true
}

func appendTimestamp(dst, raw []byte) ([]byte, bool) {
	s := bytes.TrimSpace(raw)
	if isInstant(s) {
		return append(dst, s...), true
	}
	at, ok := instant(s)
	if !ok {
		return dst, false
	}
	return at.AppendFormat(dst, "2006-01-02T15:04:05.999999Z"), true
}

// appendArray renders "a;b;c" as an array literal with every element quoted.
func appendArray(dst, raw []byte) ([]byte, bool) {
	dst = append(dst, '{')
	first := true
	for item := range bytes.SplitSeq(raw, []byte{';'}) {
		item = bytes.TrimSpace(item)
		if !isPlain(item) {
			item = appendClean(nil, item)
		}
		if len(item) == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		for _, c := range item {
			if c == '"' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
		dst = append(dst, '"')
	}
	return append(dst, '}'), true
}
