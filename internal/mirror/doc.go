// Package mirror is the one way into a mirrored table: it makes and alters the tables, stores rows, removes them, and
// writes the change log.
//
// Guarantee: a table always holds, for each record, the newest version it was ever given, and hubpg.changes holds every
// difference that was stored, once, in commit order and without gaps in seq. Everything happens in the caller's
// transaction: rows, counts, log and bell commit together or not at all.
//
//	definitions ──▶ Mapper ──DDL──▶ hubspot.<table>, hubpg.objects, hubpg.columns ──Load──▶ Catalog
//	pages       ──▶ Applier.Upsert    ──▶ rows   ┐
//	deletions   ──▶ Applier.Delete    ──▶ graves ├──▶ row counts ──▶ change_counter ──▶ hubpg.changes ──▶ NOTIFY
//	edges       ──▶ Applier.Associate ──▶ pairs  │
//	lookups     ──▶ Applier.Replace   ──▶ rows   │
//	submissions ──▶ Applier.Submit    ──▶ rows   ┘
//
// # Versions
//
// A row's version is (updated_at, _read_at): what HubSpot says, then when it was asked. A batch whose columns are all
// that the catalog can read is whole: it wins over a stored row exactly when its version is greater, and then sets it.
// A batch with fewer columns is partial: it changes rows that are not newer than it, never inserts, and leaves the
// row's version alone, because the columns that were not asked for may be older than that version. Ids that a batch
// could not be stored for are in [Result.Refused]. A deletion leaves a tombstone that wins over every read begun before it.
//
// # What is news
//
// HubSpot's own jobs touch whole accounts: a pipeline that is edited stamps every deal in it. Nothing a user keeps is
// then different. The type's modified property and hs_lastmodifieddate ([catalog.Table.Stamps]) are therefore
// bookkeeping, like updated_at: always stored, never in changed, before or after, and never an event of their own.
//
// # Concurrency
//
// Each call locks its table with an advisory lock until the transaction ends, so appliers of one table take turns;
// behind it, where needed, [Merges], then the association tables of the type. The counter row of the log is locked last.
// A transaction that makes several calls must lock all their tables first with [Applier.Lock], [Merges] included where
// they store records; must delete and merge before it does anything else, which locks the association tables too; and
// must not touch the table's row of hubpg.objects before it has the table's lock. The isolation level must be read
// committed.
// An [Applier] and a [Mapper] have no state of their own and may be used concurrently.
//
// # Clients' writes
//
// Every table has triggers that refuse changes by anybody but an applier, which is the tables' owner with hubpg.applier
// set, and a client whose statement the proxy performs (migrations/004_writes.sql has the protocol). Clients share the
// tables' locks from the call to HubSpot to the end of the performance; appliers wait for them at most ten seconds, and
// a fifth of a second for a row that a client has written and not committed, whose next statement may need the table that the
// applier has. The call then fails, and [Store], in which callers make it, repeats it for some seconds. The
// differences that clients commit wait in hubpg.write_changes until [Applier.Publish], or an applier of the table, moves
// them into the log ahead of its own.
//
// # Speed
//
// Contacts with 60 typed columns into a fresh table, a transaction per page, against one COPY of the same rows into a
// table without an index (2 shared cores, Postgres 15, fsync off, November 2026): 0.36 to 0.47 of its rows per second at
// 100 rows a page, 0.52 to 0.75 from 500 on. BenchmarkApplierAgainstCopy measures it:
//
//	go test ./internal/mirror -run '^$' -bench AgainstCopy -benchtime 3x
//
// # Limits
//
// The package does not read HubSpot, keep cursors, or decide when anything is due.
package mirror
