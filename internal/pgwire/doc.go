// Package pgwire frames the Postgres wire protocol.
//
// Guarantee: no length that came from the wire is ever used to slice or allocate before it was checked against a
// cap, and a message that nobody has to understand is never copied out of the buffer it arrived in.
//
//	ReadStartup   the packets before the first typed message: SSLRequest, GSSENCRequest, CancelRequest, start-up
//	Reader        Peek, Read, Forward: one message at a time, for the handshake
//	Pump          whole buffers of messages from one side to the other, for the life of a session
//	Append…       the few messages that a proxy says itself
//
// Nothing here is safe for concurrent use; a Reader or Pump belongs to one goroutine.
//
// The package is the only importer of pgx's pgproto3, and asks it only to encode and to take apart the few messages
// that are understood. It is the one inside pgx/v5: the stand-alone github.com/jackc/pgproto3/v2 is archived, and
// its last release lets an unauthenticated client panic the reader or make it allocate a gigabyte (CVE-2026-32286).
package pgwire
