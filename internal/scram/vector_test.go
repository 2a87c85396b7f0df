package scram

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"testing"
)

// TestTheExampleOfTheStandardComesOut needs nonces that are known, which an exchange makes itself.
func TestTheExampleOfTheStandardComesOut(t *testing.T) {
	t.Parallel()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, "pencil", salt, 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	clientKey := sum(salted, []byte("Client Key"))
	stored := sha256.Sum256(clientKey)
	v := Verifier{iterations: 4096, salt: salt, storedKey: stored[:], serverKey: sum(salted, []byte("Server Key"))}

	const (
		bare      = "n=user,r=rOprNGfwEbeRWgbNEkqO"
		challenge = `r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`
		final     = `c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=`
		signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	)
	s := NewServer(nil)
	if _, err := s.First(v, Mechanism, []byte("n,,"+bare)); err != nil {
		t.Fatalf("first: %v", err)
	}
	s.nonce, s.challenge = `rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0`, challenge
	got, keys, err := s.Final([]byte(final))
	if err != nil || string(got) != signature {
		t.Fatalf("final: %s, %v", got, err)
	}
	if string(keys.clientKey) != string(clientKey) {
		t.Error("the proof gave another key away")
	}

	c := NewClient(nil)
	c.header, c.bare, c.nonce = "n,,", bare, "rOprNGfwEbeRWgbNEkqO"
	proof, err := c.Final([]byte(challenge), keys)
	if err != nil || string(proof) != final {
		t.Errorf("client: %s, %v", proof, err)
	}
	if err := c.Check([]byte(signature)); err != nil {
		t.Errorf("check: %v", err)
	}
}
