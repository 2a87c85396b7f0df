package writeback

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Permit returns what lets the session of that backend use the functions of the protocol. It is worth nothing to any
// other backend and ends with it.
func (w *Writer) Permit(ctx context.Context, pid uint32, _ string) (string, error) {
	key, err := w.secret(ctx)
	if err != nil {
		return "", fmt.Errorf("issue permit: %w", err)
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	head := hex.EncodeToString(nonce[:])
	inner := sha256.Sum256(append(append([]byte{}, key...), head+":"+strconv.FormatUint(uint64(pid), 10)...))
	outer := sha256.Sum256(append(append([]byte{}, key...), inner[:]...))
	return head + hex.EncodeToString(outer[:]), nil
}

// Revoke is called when a session ends. Its backend ends too, and the permit with it.
func (w *Writer) Revoke(context.Context, string) {}

// secret reads the key of permits once.
func (w *Writer) secret(ctx context.Context) ([]byte, error) {
	w.mu.Lock()
	key := w.key
	w.mu.Unlock()
	if key != nil {
		return key, nil
	}
	if err := w.reserve.with(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select key from hubpg.write_secret").Scan(&key)
	}); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.key = key
	w.mu.Unlock()
	return key, nil
}
