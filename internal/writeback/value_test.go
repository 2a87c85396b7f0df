package writeback_test

import "testing"

// TestTextThatLooksLikeAnEscapeIsText holds that a value with the six characters of JSON's escape of NUL is written as it is.
func TestTextThatLooksLikeAnEscapeIsText(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	for _, text := range []string{`\u0000`, `\\u0000`, `"\u0000\"`} {
		s.do("update hubspot.contacts set firstname = $1 where id = $2", text, id)
		if got := a.value("contacts", id, "firstname"); got != text {
			t.Errorf("HubSpot has %q, want %q", got, text)
		}
		a.agree("contacts", "firstname")
	}
}
