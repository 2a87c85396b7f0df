// Package sqlstmt says what a SQL text would do, without running it. It is the only user of a SQL parser.
//
// Guarantee: an answer that costs nothing for the texts that matter most, those that do not listen, and a bounded
// cost for all others. The parser recurses without limit, so no text longer than [MaxText] or nested deeper than
// [MaxDepth] ever reaches it.
//
// The package has no state; everything in it may be used concurrently. It does not validate SQL: what the parser does
// not understand is Postgres's to judge.
package sqlstmt
