package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// keyIDSize is the length of the prefix that says which key a text was sealed with.
const keyIDSize = 8

// Errors of Open. A caller can mend the first by giving the key, the second not at all.
var (
	ErrUnknownKey = errors.New("sealed with a key that is not in the keyring")
	ErrTampered   = errors.New("sealed text does not belong here, or was changed")
)

// Keyring seals and opens texts.
type Keyring struct{ keys []key }

type key struct {
	id   string
	aead cipher.AEAD
}

// NewKeyring returns a keyring that seals with the first key and opens with all.
func NewKeyring(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("make keyring: no key given")
	}
	k := &Keyring{keys: make([]key, len(keys))}
	for i, raw := range keys {
		if len(raw) != KeySize {
			return nil, fmt.Errorf("make keyring: key %d has %d bytes, want %d", i+1, len(raw), KeySize)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, fmt.Errorf("make keyring: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("make keyring: %w", err)
		}
		sum := sha256.Sum256(append([]byte("hubpg key id\x00"), raw...))
		k.keys[i] = key{id: string(sum[:keyIDSize]), aead: aead}
	}
	return k, nil
}

// ParseKeys reads keys from text: 32 bytes each in base64 or hexadecimal, the one to seal with first, separated by commas
// or white space.
func ParseKeys(text string) ([][]byte, error) {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n' })
	if len(words) == 0 {
		return nil, errors.New("read secret key: nothing given")
	}
	keys := make([][]byte, len(words))
	for i, word := range words {
		if keys[i] = decodeKey(word); keys[i] == nil {
			return nil, fmt.Errorf("read secret key %d: want %d bytes in base64 or hexadecimal", i+1, KeySize)
		}
	}
	return keys, nil
}

func decodeKey(word string) []byte {
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if raw, err := decode(word); err == nil && len(raw) == KeySize {
			return raw
		}
	}
	return nil
}

// Seal hides text for a purpose: what the text is and whom it belongs to, such as "refresh token of 123".
func (k *Keyring) Seal(text []byte, purpose string) []byte {
	current := k.keys[0]
	sealed := make([]byte, 0, keyIDSize+len(text)+current.aead.Overhead())
	return current.aead.Seal(append(sealed, current.id...), nil, text, []byte(purpose)) //nolint:gosec // the AEAD makes its own nonce
}

// Open returns what was sealed for the purpose. It fails with ErrUnknownKey or ErrTampered.
func (k *Keyring) Open(sealed []byte, purpose string) ([]byte, error) {
	if len(sealed) < keyIDSize {
		return nil, fmt.Errorf("open sealed text: %w", ErrTampered)
	}
	for _, key := range k.keys {
		if key.id != string(sealed[:keyIDSize]) {
			continue
		}
		text, err := key.aead.Open(nil, nil, sealed[keyIDSize:], []byte(purpose))
		if err != nil {
			return nil, fmt.Errorf("open sealed text: %w", ErrTampered)
		}
		return text, nil
	}
	return nil, fmt.Errorf("open sealed text: %w", ErrUnknownKey)
}
