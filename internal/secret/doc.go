// Package secret seals what must not be readable in a database.
//
// Guarantee: what Seal returns can be opened only with the same key and for the same purpose; a bit that changed, or a
// text copied to another row, is an error and never another text. The purpose is authenticated, not hidden.
//
//	sealed text: key id (8 bytes) · nonce (12) · AES-256-GCM of the text · tag (16)
//
// The nonce is random and 96 bits long: a key may seal 2³² texts. Keys are 32 random bytes, given in a variable or kept
// in a file that only its owner may read. A keyring seals with its first key and opens with any, so that a key is
// replaced by putting a new one before it, and dropped when all was sealed again.
//
// A Keyring may be used by any number of goroutines. It keeps its keys in memory as long as it lives and prints none.
package secret
