package sandbox

import (
	"strconv"
	"time"
)

// appendInstant appends ms since the epoch as java.time.Instant prints it: no fraction when the
// milliseconds are zero.
func appendInstant(dst []byte, ms int64) []byte {
	t := time.UnixMilli(ms).UTC()
	y, mo, d := t.Date()
	h, mi, s := t.Clock()
	dst = appendPadded(dst, y, 4)
	dst = append(dst, '-')
	dst = appendPadded(dst, int(mo), 2)
	dst = append(dst, '-')
	dst = appendPadded(dst, d, 2)
	dst = append(dst, 'T')
	dst = appendPadded(dst, h, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, mi, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, s, 2)
	if f := t.Nanosecond() / 1e6; f != 0 {
		dst = append(dst, '.')
		dst = appendPadded(dst, f, 3)
	}
	return append(dst, 'Z')
}

// appendDay appends the date of ms since the epoch, in UTC.
func appendDay(dst []byte, ms int64) []byte {
	y, mo, d := time.UnixMilli(ms).UTC().Date()
	dst = appendPadded(dst, y, 4)
	dst = append(dst, '-')
	dst = appendPadded(dst, int(mo), 2)
	dst = append(dst, '-')
	return appendPadded(dst, d, 2)
}

func appendPadded(dst []byte, n, width int) []byte {
	for p := pow10(width - 1); p > 0; p /= 10 {
		dst = append(dst, byte('0'+n/p%10))
	}
	return dst
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

// parseInstant reads a datetime as HubSpot accepts it: epoch milliseconds or ISO 8601.
func parseInstant(s string) (ms int64, ok bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

// parseDay reads a date as HubSpot accepts it: YYYY-MM-DD, or an instant at midnight UTC.
func parseDay(s string) (ms int64, ok bool) {
	ms, ok = parseInstant(s)
	return ms, ok && ms%86_400_000 == 0
}
