package materialize

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// What HubSpot says in any language can be shown: Postgres takes no half of a letter, and no NUL.
func TestMessagesAreCutBetweenLetters(t *testing.T) {
	t.Parallel()
	for lead := range 4 {
		text := cut(strings.Repeat("x", lead) + strings.Repeat("€", maxMessage))
		if !utf8.ValidString(text) || len(text) < maxMessage-utf8.UTFMax || len(text) > maxMessage {
			t.Errorf("%d bytes, valid is %t", len(text), utf8.ValidString(text))
		}
	}
	if text := cut("a\x00b\xff"); text != "ab?" {
		t.Errorf("got %q", text)
	}
}
