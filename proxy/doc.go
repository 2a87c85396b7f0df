// Package proxy serves Postgres clients by relaying them to Postgres, one backend per busy session, and answers LISTEN on
// the channels of the change log itself.
//
// Guarantee: a client cannot tell it from Postgres. What it does not have to understand it passes on unread and in
// order; what it must answer itself takes effect exactly where Postgres would let it. No client can harm another
// session: every length, wait and queue is bounded, and a panic ends one session only. A listener hears every change
// of its channels in the order of the log, once, or is told that it cannot.
//
//	client ──front──▶ Postgres      whole buffers; Query and Parse are looked at for LISTEN
//	client ◀──back─── Postgres      whole buffers; ReadyForQuery and errors are counted
//	client ◀─listener─ Hub ◀── hubpg.changes, woken by hubpg_wake
//
// Two things it does in the midst of a session: it has a [Writer] send what a statement changes in mirrored tables before
// the statement may succeed, and it lets statements wait for tables as fresh as hubpg.max_staleness asks for.
//
// [Server] is safe for concurrent use; everything else is inside. DESIGN.md has the states and the failure table.
//
// The package knows nothing of HubSpot and keeps no passwords. A backend serves one session; where [Limits.KeptBackends] says so it may
// serve another one afterwards.
package proxy
