package catalog_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"hubpg/internal/catalog"
)

func TestAppendTextReadsWhatHubSpotSends(t *testing.T) {
	t.Parallel()
	binary := "0.200000000000000011102230246251565404236316680908203125"
	tests := map[catalog.Kind]map[string]string{ // value → text; "!" for a value that does not parse
		catalog.Text: {"": "", "x": "x", "a\x00b": "ab", "caf\xc3\xa9": "café", "bad\xff": "bad\ufffd", "\n": "\n"},
		catalog.Numeric: {
			"43": "43", "0.0": "0.0", "-1.50": "-1.50", binary: binary, "1.5E-7": "1.5E-7", "2e10": "2e10", ".5": ".5",
			" 7 ": "7", "1743685150726": "1743685150726", "1234;5678": "!", "": "!", "NaN": "!", "Infinity": "!", "0x1F": "!",
			"1,000": "!", "1e": "!", "1e99999": "!", "-": "!", ".": "!", "1_000": "!", "1 2": "!", "--1": "!",
		},
		catalog.Bool: {"true": "t", "false": "f", "TRUE": "t", "0": "f", "1": "t", "": "!", "2": "!", "truthful": "!"},
		catalog.Date: {
			"2024-02-29": "2024-02-29", "2023-02-29": "!", "2024-13-01": "!", "2024-00-10": "!", "0000-01-01": "!",
			"1743638400000": "2025-04-03", "1743638400000.0": "2025-04-03", "1.7436384E12": "2025-04-03", "-86400000": "1969-12-31",
			"2024-10-28T23:39:01.173Z": "2024-10-28", "2024-10-28T23:39:01-05:00": "2024-10-29", "": "!", "tomorrow": "!",
			"99999999999999999": "!", "10000-01-01": "!", "2024-1-1": "!",
		},
		catalog.Timestamp: {
			"2024-10-28T16:39:01.173Z": "2024-10-28T16:39:01.173Z", "2024-10-28T16:39:01Z": "2024-10-28T16:39:01Z",
			"1762212973632": "2025-11-03T23:36:13.632Z", "0": "1970-01-01T00:00:00Z", "2024-10-28": "2024-10-28T00:00:00Z",
			"2024-10-28T16:39:01.173+02:00": "2024-10-28T14:39:01.173Z", "2024-10-28T16:39:01.123456789Z": "2024-10-28T16:39:01.123456Z",
			"2024-10-28T24:00:00Z": "!", "2024-10-28T16:60:00Z": "!", "2024-02-30T00:00:00Z": "!", "": "!", "1;2": "!", "Inf": "!",
			"2024-10-28T16:39Z": "2024-10-28T16:39:00Z",
		},
		catalog.TextArray: {
			"a;b;c": `{"a","b","c"}`, ";c": `{"c"}`, "a;;b;": `{"a","b"}`, `q"u\o`: `{"q\"u\\o"}`, ";": "{}",
			"{a,b};NULL": `{"{a,b}","NULL"}`, "a\x00": `{"a"}`,
		},
	}
	for kind, values := range tests {
		for value, want := range values {
			prefix := []byte("before ")
			got, ok := kind.AppendText(prefix, []byte(value))
			text, found := strings.CutPrefix(string(got), "before ")
			switch {
			case !found:
				t.Errorf("%s %q: lost what was there: %q", kind, value, got)
			case want == "!" && (ok || text != ""):
				t.Errorf("%s %q: got %q, want no value", kind, value, text)
			case want != "!" && (!ok || text != want):
				t.Errorf("%s %q: got %q, %v, want %q", kind, value, text, ok, want)
			}
		}
	}
}

func TestKindsFollowTheType(t *testing.T) {
	t.Parallel()
	tests := map[[2]string]string{
		{"string", "text"}: "text", {"phone_number", "phonenumber"}: "text", {"json", "text"}: "text", {"object_coordinates", "text"}: "text",
		{"number", "calculation_equation"}: "numeric", {"bool", "calculation_rollup"}: "boolean", {"date", "date"}: "date",
		{"datetime", "date"}: "timestamptz", {"enumeration", "select"}: "text", {"enumeration", "booleancheckbox"}: "text",
		{"enumeration", "checkbox"}: "text[]", {"from the future", "checkbox"}: "text",
	}
	for in, want := range tests {
		kind := catalog.KindOf(in[0], in[1])
		if kind.SQL() != want {
			t.Errorf("%v: got %s, want %s", in, kind.SQL(), want)
		}
		if back, ok := catalog.ParseKind(kind.SQL()); !ok || back != kind {
			t.Errorf("%s does not parse back", kind)
		}
	}
}

func TestEveryInstantIsReadInEveryForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first, last := time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC).UnixMilli()
		ms := rapid.Int64Range(first, last).Draw(t, "ms")
		want := time.UnixMilli(ms).UTC()
		zone := time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "offset")*3600)
		for _, form := range []string{
			strconv.FormatInt(ms, 10), want.Format("2006-01-02T15:04:05.000Z"), want.Format(time.RFC3339Nano), want.In(zone).Format(time.RFC3339Nano),
		} {
			text, ok := catalog.Timestamp.AppendText(nil, []byte(form))
			got, err := time.Parse(time.RFC3339Nano, string(text))
			if !ok || err != nil || !got.Equal(want) {
				t.Fatalf("%s became %s, %v, %v", form, text, ok, err)
			}
			day, ok := catalog.Date.AppendText(nil, []byte(form))
			if !ok || string(day) != want.Format(time.DateOnly) {
				t.Fatalf("%s became %s, want %s", form, day, want.Format(time.DateOnly))
			}
		}
	})
}

func TestNumbersKeepTheirValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringMatching(`[+-]?([0-9]{1,30}(\.[0-9]{0,60})?|\.[0-9]{1,60})([eE][+-]?[0-9]{1,3})?`).Draw(t, "number")
		want, ok := new(big.Rat).SetString(in)
		if !ok {
			t.Skip("not a number for math/big")
		}
		text, ok := catalog.Numeric.AppendText(nil, []byte(in))
		if !ok {
			t.Fatalf("%s does not parse", in)
		}
		if got, _ := new(big.Rat).SetString(string(text)); got == nil || got.Cmp(want) != 0 {
			t.Fatalf("%s became %s", in, text)
		}
		raw, _ := catalog.Numeric.AppendJSON(nil, []byte(in))
		if !json.Valid(raw) {
			t.Fatalf("%s became %s, which is not JSON", in, raw)
		}
		if got, _ := new(big.Rat).SetString(string(raw)); got == nil || got.Cmp(want) != 0 {
			t.Fatalf("%s became %s in JSON", in, raw)
		}
	})
}

// FuzzAppendText holds what the applier relies on: whatever comes in, what goes to Postgres is valid UTF-8 without NUL,
// and of the shape that the kind's input function takes.
func FuzzAppendText(f *testing.F) {
	for _, seed := range []string{"", "1", "-1.5e-7", "true", "2024-10-28T16:39:01.173Z", "1762212973632", "a;b", "\x00\xff", ";\";\\"} {
		for kind := range uint8(6) {
			f.Add(kind, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, k uint8, raw []byte) {
		kind := catalog.Kind(k % 6)
		text, ok := kind.AppendText([]byte("x"), raw)
		if !bytes.HasPrefix(text, []byte("x")) {
			t.Fatalf("lost what was there: %q", text)
		}
		text = text[1:]
		if !ok {
			if len(text) != 0 {
				t.Fatalf("refused and appended %q", text)
			}
			return
		}
		if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			t.Fatalf("Postgres cannot store %q", text)
		}
		if raw, ok := kind.AppendJSON(nil, raw); !ok || !json.Valid(raw) {
			t.Fatalf("no JSON: %q, %v", raw, ok)
		}
		switch kind {
		case catalog.Numeric:
			if _, err := strconv.ParseFloat(string(text), 64); err != nil && !strings.Contains(err.Error(), "out of range") {
				t.Fatalf("%q: %v", text, err)
			}
		case catalog.Date:
			if _, err := time.Parse(time.DateOnly, string(text)); err != nil {
				t.Fatal(err)
			}
		case catalog.Timestamp:
			if _, err := time.Parse(time.RFC3339Nano, string(text)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
