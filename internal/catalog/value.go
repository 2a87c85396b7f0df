package catalog

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	// maxNumber and maxExponent bound a number well inside what numeric holds (131,072 digits before the point and
	// 16,383 after) and well outside of what a double can say (1,075 characters in full binary expansion).
	maxNumber   = 1200
	maxExponent = 1000
	// minYear and maxYear bound dates to those that have four digits in HubSpot and in Postgres alike.
	minYear = 1
	maxYear = 9999
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

// isCalendarDay reports whether s begins with a day that exists, YYYY-MM-DD.
func isCalendarDay(s []byte) bool {
	if s[4] != '-' || s[7] != '-' {
		return false
	}
	year, ok1 := number(s[0:4])
	month, ok2 := number(s[5:7])
	day, ok3 := number(s[8:10])
	if !ok1 || !ok2 || !ok3 || year < minYear || month < 1 || month > 12 || day < 1 {
		return false
	}
	if day <= 28 {
		return true
	}
	return day <= time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// isInstant reports whether s is an instant in the form that HubSpot normally sends, with at most microseconds: the
// form that Postgres reads without help.
func isInstant(s []byte) bool {
	const seconds = len("2006-01-02T15:04:05")
	if len(s) < seconds+1 || s[len(s)-1] != 'Z' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || !isCalendarDay(s) {
		return false
	}
	hour, ok1 := number(s[11:13])
	minute, ok2 := number(s[14:16])
	second, ok3 := number(s[17:19])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return false
	}
	fraction := s[seconds : len(s)-1]
	if len(fraction) == 0 {
		return true
	}
	if fraction[0] != '.' || len(fraction) < 2 || len(fraction) > len(".123456") {
		return false
	}
	_, ok := number(fraction[1:])
	return ok
}

// instant reads the less usual forms: milliseconds since 1970, also as a float, other offsets, more digits, no time.
func instant(s []byte) (time.Time, bool) {
	var at time.Time
	text := string(s)
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		at = time.UnixMilli(ms)
	} else if f, err := strconv.ParseFloat(text, 64); err == nil && isPlainNumber(s) {
		const limit = 1 << 53
		if f != f || f > limit || f < -limit {
			return at, false
		}
		at = time.UnixMilli(int64(f))
	} else {
		parsed := false
		for _, layout := range []string{
			time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05.999999999Z0700",
			"2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", time.DateOnly,
		} {
			if at, err = time.Parse(layout, text); err == nil {
				parsed = true
				break
			}
		}
		if !parsed {
			return at, false
		}
	}
	at = at.UTC()
	return at, at.Year() >= minYear && at.Year() <= maxYear
}

// isPlainNumber tells a decimal number from the other things that strconv.ParseFloat reads (Inf, hex, underscores).
func isPlainNumber(s []byte) bool {
	_, ok := appendNumber(nil, s)
	return ok
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

// number reads a run of decimal digits.
func number(s []byte) (n int, ok bool) {
	for _, c := range s {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(s) > 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
