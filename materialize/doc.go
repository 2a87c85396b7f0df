// Package materialize keeps a HubSpot account's tables true.
//
// Guarantee: once a table is live, every change that HubSpot's API shows is in it after a bounded time, and nothing is in
// it that HubSpot did not say; the change log holds exactly the differences that were stored. Killing any process at any
// instruction loses, doubles and skips nothing. See DESIGN.md for the argument, law by law.
//
//	                  ┌ schema ─────── types, properties, pipelines, owners ──▶ tables, lookups
//	                  ├ backfill ───── GET list, ranges of ids ───────────────▶ rows (silent)
//	HubSpot ──hubapi──┼ follow ─────── search for ids, batch/read for values ─▶ rows ─▶ pending associations
//	                  ├ trailing ───── the last hour again ───────────────────▶ rows
//	                  ├ pending, associations ── batch/read of edges ─────────▶ association tables
//	                  ├ archived, ids ─ what is gone, what was missed ────────▶ deletions, rows
//	                  ├ fill ───────── properties younger than the table ─────▶ columns
//	                  └ news ───────── records that webhooks or journal name ─▶ rows
//
// Each lane of each table is one River job that does a bounded step and snoozes until it is due. A step reads
// HubSpot first and then runs one transaction: the lane's cursor moves by compare-and-set, rows and change log follow,
// all or nothing. Two processes on one lane are therefore harmless, and a lane may be taken over at any time.
//
// An [Engine] serves one account with one token. Any number of Engines in any number of processes may share the work of
// an account through Postgres; none of them has state that matters. Engine.Run owns every goroutine it starts.
//
// What HubSpot tells by itself only hastens reads: a [Receiver] takes its webhooks, the journal lane follows its journal,
// and both queue records for the news lane, which asks HubSpot what they are now.
//
// The package does not decide how much of the quota it gets (that is the Limiter of its client), does not write to
// HubSpot, and does not serve readers.
package materialize
