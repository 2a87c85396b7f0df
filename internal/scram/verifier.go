package scram

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// Names of the mechanisms.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// mockIterations is what Postgres uses for verifiers that it makes itself.
const mockIterations = 4096

// ErrNoVerifier says that a stored password is not a SCRAM-SHA-256 verifier.
var ErrNoVerifier = errors.New("not a SCRAM-SHA-256 verifier")

// Verifier is what a server stores in the place of a password. Its zero value verifies nobody.
type Verifier struct {
	iterations           int
	salt                 []byte
	storedKey, serverKey []byte
}

// ParseVerifier reads a verifier as it stands in pg_authid.rolpassword:
//
//	SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>
//
// with salt and keys in base64. It returns ErrNoVerifier for anything else.
func ParseVerifier(text string) (Verifier, error) {
	scheme, rest, _ := strings.Cut(text, "$")
	head, keys, ok := strings.Cut(rest, "$")
	count, salt, okHead := strings.Cut(head, ":")
	stored, server, okKeys := strings.Cut(keys, ":")
	if scheme != Mechanism || !ok || !okHead || !okKeys {
		return Verifier{}, ErrNoVerifier
	}
	var v Verifier
	var errs [4]error
	v.iterations, errs[0] = strconv.Atoi(count)
	v.salt, errs[1] = base64.StdEncoding.DecodeString(salt)
	v.storedKey, errs[2] = base64.StdEncoding.DecodeString(stored)
	v.serverKey, errs[3] = base64.StdEncoding.DecodeString(server)
	if errors.Join(errs[:]...) != nil || v.iterations < 1 || len(v.salt) == 0 ||
		len(v.storedKey) != sha256.Size || len(v.serverKey) != sha256.Size {
		return Verifier{}, ErrNoVerifier
	}
	return v, nil
}

// Mock returns the verifier of a user that has none: it looks like any other, is the same each time for the same
// secret and user, and no proof satisfies it.
func Mock(secret []byte, user string) Verifier {
	return Verifier{
		iterations: mockIterations,
		salt:       sum(secret, []byte("salt "), []byte(user))[:16],
		storedKey:  sum(secret, []byte("stored key "), []byte(user)), // the hash of nothing that is known
		serverKey:  sum(secret, []byte("server key "), []byte(user)),
	}
}

// String hides the keys.
func (v Verifier) String() string { return Mechanism + " verifier" }

// GoString hides the keys.
func (v Verifier) GoString() string { return v.String() }

// Keys log in as a user whose proof was accepted, at the server of the verifier.
type Keys struct {
	verifier  Verifier
	clientKey []byte
}

// String hides the keys.
func (k *Keys) String() string { return Mechanism + " keys" }

// GoString hides the keys.
func (k *Keys) GoString() string { return k.String() }

// sameSalt reports whether a server's challenge is for the verifier that the keys belong to.
func (k *Keys) sameSalt(salt []byte, iterations int) bool {
	return iterations == k.verifier.iterations && bytes.Equal(salt, k.verifier.salt)
}

// sum is the HMAC of a message given in parts.
func sum(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// xor returns a ^ b, which are of one length.
func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}
