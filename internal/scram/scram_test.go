package scram_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hubpg/internal/scram"
)

const salt = "0123456789abcdef"

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func derive(t testing.TB, password string) []byte {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, password, []byte(salt), 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// stored is what Postgres would store for a password.
func stored(t testing.TB, password string) string {
	t.Helper()
	salted := derive(t, password)
	key := sha256.Sum256(mac(salted, "Client Key"))
	return fmt.Sprintf("SCRAM-SHA-256$4096:%s$%s:%s", b64([]byte(salt)), b64(key[:]), b64(mac(salted, "Server Key")))
}

func verifier(t testing.TB, password string) scram.Verifier {
	t.Helper()
	v, err := scram.ParseVerifier(stored(t, password))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// prove answers a challenge as a client that knows the password.
func prove(t testing.TB, password, bare, challenge, channel string) string {
	t.Helper()
	nonce, _, _ := strings.Cut(challenge, ",")
	unproven := "c=" + b64([]byte(channel)) + "," + nonce
	clientKey := mac(derive(t, password), "Client Key")
	key := sha256.Sum256(clientKey)
	signature := mac(key[:], bare+","+challenge+","+unproven)
	for i := range signature {
		signature[i] ^= clientKey[i]
	}
	return unproven + ",p=" + b64(signature)
}

// exchange goes through the server's side with a client that knows a password.
func exchange(t testing.TB, v scram.Verifier, password, mechanism, header, binding string) (*scram.Keys, error) {
	t.Helper()
	var bound []byte
	if binding != "" {
		bound = []byte(binding)
	}
	s := scram.NewServer(bound)
	challenge, err := s.First(v, mechanism, []byte(header+"n=,r=abc"))
	if err != nil {
		return nil, err
	}
	channel := header
	if mechanism == scram.MechanismPlus {
		channel += "the certificate"
	}
	_, keys, err := s.Final([]byte(prove(t, password, "n=,r=abc", string(challenge), channel)))
	return keys, err
}

func TestOnlyTheRightPasswordOnTheRightChannelIsAccepted(t *testing.T) {
	t.Parallel()
	const certificate = "the certificate"
	for name, c := range map[string]struct {
		password, mechanism, header, binding string
		want                                 error
	}{
		"right":                        {"right", scram.Mechanism, "n,,", "", nil},
		"right and could bind":         {"right", scram.Mechanism, "y,,", "", nil},
		"right, not bound":             {"right", scram.Mechanism, "n,,", certificate, nil},
		"right, bound":                 {"right", scram.MechanismPlus, "p=tls-server-end-point,,", certificate, nil},
		"wrong":                        {"wrong", scram.Mechanism, "n,,", "", scram.ErrRejected},
		"wrong, bound":                 {"wrong", scram.MechanismPlus, "p=tls-server-end-point,,", certificate, scram.ErrRejected},
		"bound to another certificate": {"right", scram.MechanismPlus, "p=tls-server-end-point,,", "another", scram.ErrBinding},
		"somebody hid the offer":       {"right", scram.Mechanism, "y,,", certificate, scram.ErrBinding},
		"bound without an offer":       {"right", scram.MechanismPlus, "p=tls-server-end-point,,", "", scram.ErrMalformed},
		"bound but not said so":        {"right", scram.Mechanism, "p=tls-server-end-point,,", certificate, scram.ErrMalformed},
		"another kind of binding":      {"right", scram.MechanismPlus, "p=tls-unique,,", certificate, scram.ErrUnsupported},
		"somebody else's identity":     {"right", scram.Mechanism, "n,a=other,", "", scram.ErrUnsupported},
		"another mechanism":            {"right", "SCRAM-SHA-1", "n,,", "", scram.ErrMalformed},
	} {
		keys, err := exchange(t, verifier(t, "right"), c.password, c.mechanism, c.header, c.binding)
		if !errors.Is(err, c.want) || (err == nil) != (keys != nil) {
			t.Errorf("%s: %v, keys %v", name, err, keys)
		}
	}
}

func TestNobodyIsAMock(t *testing.T) {
	t.Parallel()
	a, again, b := scram.Mock([]byte("secret"), "a"), scram.Mock([]byte("secret"), "a"), scram.Mock([]byte("secret"), "b")
	challenge := func(v scram.Verifier) string {
		first, err := scram.NewServer(nil).First(v, scram.Mechanism, []byte("n,,n=,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(first), ",")
		return rest
	}
	if challenge(a) != challenge(again) || challenge(a) == challenge(b) {
		t.Errorf("challenges: %s, %s, %s", challenge(a), challenge(again), challenge(b))
	}
	if known, mock := challenge(verifier(t, "x")), challenge(a); len(known) != len(mock) || !strings.HasSuffix(mock, ",i=4096") {
		t.Errorf("a mock's challenge %s differs in kind from %s", mock, known)
	}
	for _, v := range []scram.Verifier{a, {}} {
		for _, password := range []string{"", "a", "secret"} {
			if _, err := exchange(t, v, password, scram.Mechanism, "n,,", ""); !errors.Is(err, scram.ErrRejected) {
				t.Errorf("password %q: %v", password, err)
			}
		}
	}
}

func TestKeysLogInWhereTheVerifierIsFromOnly(t *testing.T) {
	t.Parallel()
	keys, err := exchange(t, verifier(t, "right"), "right", scram.Mechanism, "n,,", "")
	if err != nil {
		t.Fatal(err)
	}
	login := func(s *scram.Server, v scram.Verifier, binding []byte, offered ...string) error {
		c := scram.NewClient(binding)
		mechanism, first, err := c.First(offered)
		if err != nil {
			return err
		}
		challenge, err := s.First(v, mechanism, first)
		if err != nil {
			return err
		}
		final, err := c.Final(challenge, keys)
		if err != nil {
			return err
		}
		signature, _, err := s.Final(final)
		if err != nil {
			return err
		}
		if err := c.Check(append([]byte(nil), signature[:len(signature)-4]...)); !errors.Is(err, scram.ErrImpostor) {
			t.Errorf("a signature cut short: %v", err)
		}
		return c.Check(signature)
	}
	certificate := []byte("of the server")
	right, other := verifier(t, "right"), scram.Mock([]byte("x"), "y")
	both := []string{scram.MechanismPlus, scram.Mechanism}
	for name, c := range map[string]struct {
		server  *scram.Server
		v       scram.Verifier
		binding []byte
		offered []string
		want    error
	}{
		"plain":                       {scram.NewServer(nil), right, nil, both[1:], nil},
		"bound":                       {scram.NewServer(certificate), right, certificate, both, nil},
		"without binding over TLS":    {scram.NewServer(nil), right, certificate, both[1:], nil},
		"the offer hidden":            {scram.NewServer(certificate), right, certificate, both[1:], scram.ErrBinding},
		"somebody in between":         {scram.NewServer([]byte("of another")), right, certificate, both, scram.ErrBinding},
		"another salt":                {scram.NewServer(nil), other, nil, both[1:], scram.ErrAnotherVerifier},
		"no mechanism":                {scram.NewServer(nil), right, nil, []string{"OAUTHBEARER"}, scram.ErrNotOffered},
		"only one that needs binding": {scram.NewServer(certificate), right, nil, both[:1], scram.ErrNotOffered},
	} {
		if err := login(c.server, c.v, c.binding, c.offered...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStoredPasswordsThatAreNoVerifiersAreToldApart(t *testing.T) {
	t.Parallel()
	good := stored(t, "x")
	for _, text := range []string{
		"", "md5d41d8cd98f00b204e9800998ecf8427e", "plain", "SCRAM-SHA-256$", good[:len(good)-8], good + "=",
		strings.Replace(good, "4096", "0", 1), strings.Replace(good, "4096", "many", 1), strings.Replace(good, "SHA-256", "SHA-1", 1),
		strings.Replace(good, b64([]byte(salt)), "", 1),
	} {
		if _, err := scram.ParseVerifier(text); !errors.Is(err, scram.ErrNoVerifier) || len(text) > 8 && strings.Contains(err.Error(), text[8:]) {
			t.Errorf("%q: %v", text, err)
		}
	}
	keys, err := exchange(t, verifier(t, "x"), "x", scram.Mechanism, "n,,", "")
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(mac(derive(t, "x"), "Client Key"))
	for _, printed := range []string{fmt.Sprint(keys), fmt.Sprintf("%+v %#v", keys, keys), fmt.Sprintf("%v %+v %#v", verifier(t, "x"), verifier(t, "x"), verifier(t, "x"))} {
		if strings.Contains(printed, b64(key[:])) {
			t.Errorf("a key is printed: %s", printed)
		}
	}
}

func FuzzServerSurvivesAnyClient(f *testing.F) {
	f.Add("SCRAM-SHA-256", []byte("n,,n=,r=abc"), []byte("c=biws,r=abc,p="))
	f.Add("SCRAM-SHA-256-PLUS", []byte("p=tls-server-end-point,,n=,r=abc"), []byte("c=,r=,p=AAAA"))
	f.Add("SCRAM-SHA-256", []byte("y,,m=x,n=,r=,"), []byte(",p="))
	v := verifier(f, "right")
	f.Fuzz(func(t *testing.T, mechanism string, first, final []byte) {
		s := scram.NewServer([]byte("binding"))
		_, firstErr := s.First(v, mechanism, first)
		if _, keys, err := s.Final(final); err == nil || keys != nil {
			t.Errorf("accepted %q, %q after %v", first, final, firstErr)
		}
	})
}
