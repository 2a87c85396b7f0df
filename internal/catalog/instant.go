package catalog

import (
	"strconv"
	"time"
)

const (
	// minYear and maxYear bound dates to those that have four digits in HubSpot and in Postgres alike.
	minYear = 1
	maxYear = 9999
)

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
