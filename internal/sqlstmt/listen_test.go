package sqlstmt_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"hubpg/internal/sqlstmt"

	"github.com/google/go-cmp/cmp"
)

func TestListensFindsEveryStatementAndItsPlace(t *testing.T) {
	t.Parallel()
	type found struct {
		kind    sqlstmt.Kind
		channel string
		text    string
	}
	cases := map[string][]found{
		`LISTEN Hubspot_Deals`:     {{sqlstmt.Listen, "hubspot_deals", `LISTEN Hubspot_Deals`}},
		`listen "Hubspot@12" ; `:   {{sqlstmt.Listen, "Hubspot@12", `listen "Hubspot@12" `}},
		`listen "a""b"`:            {{sqlstmt.Listen, `a"b`, `listen "a""b"`}},
		`listen U&"\0061\+000062"`: {{sqlstmt.Listen, "ab", `listen U&"\0061\+000062"`}},
		`unlisten *`:               {{sqlstmt.UnlistenAll, "", `unlisten *`}},
		`unlisten x; listen y`:     {{sqlstmt.Unlisten, "x", `unlisten x`}, {sqlstmt.Listen, "y", `listen y`}},
		"/* ; listen a */ -- listen b;\n listen /* /* nested */ ; */ c -- end": {
			{sqlstmt.Listen, "c", "listen /* /* nested */ ; */ c -- end"},
		},
		`select 'é', ';listen a' ; listen hubspot;select $$ ; listen b $$`: {
			{sqlstmt.Listen, "hubspot", `listen hubspot`},
		},
		`select 'listen hubspot'`:                      nil,
		`select listen from t`:                         nil,
		`do $$ begin execute 'listen hubspot'; end $$`: nil,
		`listen ` + strings.Repeat("x", 80):            {{sqlstmt.Listen, strings.Repeat("x", 63), `listen ` + strings.Repeat("x", 80)}},
		`listen "` + strings.Repeat("é", 40) + `"`:     {{sqlstmt.Listen, strings.Repeat("é", 31), `listen "` + strings.Repeat("é", 40) + `"`}},
	}
	for text, want := range cases {
		stmts, err := sqlstmt.Listens(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []found
		for _, s := range stmts {
			got = append(got, found{s.Kind, s.Channel, text[s.Start:s.End]})
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(found{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestListensLeavesBadTextsToPostgres(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`listen`, `listen a b`, `listen 'a'`, `listen a; selec`} {
		if found, err := sqlstmt.Listens(text); err == nil {
			t.Errorf("%s: want a parse error, got %v", text, found)
		}
	}
}

func TestListensRefusesTextsThatWouldSinkTheParser(t *testing.T) {
	t.Parallel()
	deep := "listen a; select " + strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000)
	long := "listen a; select '" + strings.Repeat("x", sqlstmt.MaxText) + "'"
	arrays := "listen a; select " + strings.Repeat("array[", 20000)
	for _, text := range []string{deep, long, arrays} {
		if _, err := sqlstmt.Listens(text); !errors.Is(err, sqlstmt.ErrTooComplex) {
			t.Errorf("%.40s…: want ErrTooComplex, got %v", text, err)
		}
	}
}

func TestMayListenNeverMissesALISTEN(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"listen", "LISTEN", "xxLiStEn", "llisten", "lislisten", "listelisten x", "UNLISTEN *", "select 1;listen a"} {
		if !sqlstmt.MayListen([]byte(text)) {
			t.Errorf("missed %q", text)
		}
	}
	for _, text := range []string{"", "liste", "lisTEm", "select abalance from pgbench_accounts where aid = 1"} {
		if sqlstmt.MayListen([]byte(text)) {
			t.Errorf("cried wolf on %q", text)
		}
	}
}

func FuzzListens(f *testing.F) {
	for _, seed := range []string{
		`LISTEN "a"`, "listen a; unlisten *", "/* listen */ select 1;;listen x", "listen \"\xff\"", "unlisten a -- x",
		"listen " + strings.Repeat("é", 40), `listen U&"` + strings.Repeat(`!+01F600`, 16) + `" /* */ uescape '!'`, `listen "` + strings.Repeat(`""`, 64) + `"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found, err := sqlstmt.Listens(text)
		if err != nil {
			return
		}
		last := 0
		for _, s := range found {
			if s.Start < last || s.End < s.Start || s.End > len(text) {
				t.Fatalf("range %d..%d after %d in %q", s.Start, s.End, last, text)
			}
			last = s.End
			head := strings.ToLower(text[s.Start:s.End])
			if !strings.HasPrefix(head, "listen") && !strings.HasPrefix(head, "unlisten") {
				t.Fatalf("range starts with %q in %q", head, text)
			}
			if len(s.Channel) > 63 || s.Cut && len(s.Channel) < 60 {
				t.Fatalf("channel %q, cut %v, of %q", s.Channel, s.Cut, text)
			}
			if !sqlstmt.MayListen([]byte(text)) {
				t.Fatalf("the sieve lost %q", text)
			}
		}
	})
}

func BenchmarkMayListen(b *testing.B) {
	text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 12345;")
	b.ReportAllocs()
	for b.Loop() {
		if sqlstmt.MayListen(text) {
			b.Fatal("found")
		}
	}
}

func TestListensTellsChannelsThatAreCut(t *testing.T) {
	t.Parallel()
	for channel, want := range map[string]bool{
		strings.Repeat("x", 63):                                  false,
		strings.Repeat("X", 64):                                  true,
		`"` + strings.Repeat("x", 63) + `"`:                      false,
		`"` + strings.Repeat("x", 64) + `"`:                      true,
		`"` + strings.Repeat(`""`, 63) + `"`:                     false,
		`"` + strings.Repeat(`""`, 64) + `"`:                     true,
		strings.Repeat("é", 31) + "x":                            false,
		strings.Repeat("é", 32):                                  true,
		`U&"` + strings.Repeat(`\0061`, 63) + `"`:                false,
		`u&"` + strings.Repeat(`\0061`, 64) + `"`:                true,
		`U&"` + strings.Repeat(`\00e9`, 31) + `x"`:               false,
		`U&"` + strings.Repeat(`\00e9`, 32) + `"`:                true,
		`U&"` + strings.Repeat(`!20ac`, 21) + `" uescape '!'`:    false,
		`U&"` + strings.Repeat(`!20ac`, 21) + `x" UESCAPE '!'`:   true,
		`U&"` + strings.Repeat(`\d83d\de00`, 15) + `xyz"`:        false,
		`U&"` + strings.Repeat(`\+01F600`, 16) + `"`:             true,
		`U&"` + strings.Repeat(`\\`, 63) + `"`:                   false,
		`U&"` + strings.Repeat(`\\`, 64) + `"`:                   true,
		`/* ` + strings.Repeat("x", 64) + ` */ y -- and no more`: false,
	} {
		found, err := sqlstmt.Listens("listen " + channel)
		if err != nil || len(found) != 1 || found[0].Cut != want {
			t.Errorf("%s: %+v, %v", channel, found, err)
		}
		if len(found) == 1 && (len(found[0].Channel) > 63 || !utf8.ValidString(found[0].Channel)) {
			t.Errorf("%s is cut to %q", channel, found[0].Channel)
		}
	}
}
