package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"hubpg/internal/secret"
)

func keyring(t testing.TB, keys ...[]byte) *secret.Keyring {
	t.Helper()
	k, err := secret.NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rawKey(b byte) []byte { return bytes.Repeat([]byte{b}, secret.KeySize) }

func TestSealedTextOpensOnlyForItsPurposeAndKey(t *testing.T) {
	t.Parallel()
	k := keyring(t, rawKey(1))
	sealed := k.Seal([]byte("na1-token"), "refresh token of 1")
	if bytes.Contains(sealed, []byte("na1")) || bytes.Equal(sealed, k.Seal([]byte("na1-token"), "refresh token of 1")) {
		t.Error("sealing shows the text, or is not random")
	}
	if text, err := k.Open(sealed, "refresh token of 1"); err != nil || string(text) != "na1-token" {
		t.Errorf("opened %q, %v", text, err)
	}
	if _, err := k.Open(sealed, "refresh token of 2"); !errors.Is(err, secret.ErrTampered) {
		t.Errorf("another purpose: %v", err)
	}
	if _, err := keyring(t, rawKey(2)).Open(sealed, "refresh token of 1"); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if text, err := k.Open(changed, "refresh token of 1"); err == nil {
			t.Fatalf("byte %d changed: opened %q", i, text)
		}
		if _, err := k.Open(sealed[:i], "refresh token of 1"); err == nil {
			t.Fatalf("%d bytes open", i)
		}
	}
}

func TestKeysAreReplacedWithoutLoss(t *testing.T) {
	t.Parallel()
	old := keyring(t, rawKey(1)).Seal([]byte("text"), "p")
	both := keyring(t, rawKey(2), rawKey(1))
	if text, err := both.Open(old, "p"); err != nil || string(text) != "text" {
		t.Errorf("old text: %q, %v", text, err)
	}
	if text, err := keyring(t, rawKey(2)).Open(both.Seal([]byte("text"), "p"), "p"); err != nil || string(text) != "text" {
		t.Errorf("new text is not sealed with the first key: %q, %v", text, err)
	}
}

func TestKeysAreReadInEveryUsualForm(t *testing.T) {
	t.Parallel()
	raw := rawKey(0xfb)
	text := strings.Join([]string{
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), hex.EncodeToString(raw) + "\n",
	}, ", ")
	keys, err := secret.ParseKeys(text)
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for i, k := range keys {
		if !bytes.Equal(k, raw) {
			t.Errorf("key %d is %x", i, k)
		}
	}
	for _, bad := range []string{"", " ,", "short", base64.StdEncoding.EncodeToString(raw[:31]), "password"} {
		if _, err := secret.ParseKeys(bad); err == nil || (bad != "" && strings.Contains(err.Error(), "password")) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestKeyFileIsMadeOnceAndIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "secret.key")
	var wg sync.WaitGroup
	rings := make([]*secret.Keyring, 8)
	for i := range rings {
		wg.Go(func() {
			k, err := secret.LoadOrCreate(path)
			if err != nil {
				t.Error(err)
			}
			rings[i] = k
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, k := range rings {
		if _, err := k.Open(rings[0].Seal([]byte("x"), "p"), "p"); err != nil {
			t.Fatalf("the processes do not share a key: %v", err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.LoadOrCreate(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}
