// Package scram speaks SCRAM-SHA-256 (RFC 5802, RFC 7677) on both sides of a proxy that knows no password: as a server
// with the verifier that Postgres stores, and as a client with the key that a client's proof gives away.
//
// Guarantee: a proof is accepted only if it was made with the password of the verifier, for this exchange and, where
// the channel is bound, for this channel; comparisons take the same time whatever differs. No error, and nothing that
// is printed, holds a key.
//
//	client ──proof──▶ Server (Verifier) ──▶ Keys ──▶ Client ──proof──▶ Postgres
//
// The keys open the server whose verifier it is and no other: salt and iterations are part of them. Whoever has read a
// verifier can verify, but only a proof yields the key to log in with.
//
// A [Server] or [Client] is one exchange, used by one goroutine. The package does no I/O and derives no key from a
// password: an exchange costs a few hashes.
package scram
