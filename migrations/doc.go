// Package migrations brings hubpg's own schema, hubpg, to the version that this binary needs.
//
// Guarantee: [Up] either leaves the schema at exactly the binary's version or returns an error that names the next
// step; it may be called by any number of processes at once and again after it was killed at any point. It works as
// the plain owner of one database: no superuser, no extension.
//
//	Up ── session advisory lock ──▶ create schema hubpg
//	                              ──▶ 001_core.sql, 002_…  (tern; version in hubpg.schema_version)
//	                              ──▶ the job engine's own tables (River; version in hubpg.river_migration)
//	   ── unlock
//
// The numbered files hold hubpg's own state only. The mirrored tables, one schema per account, are made by the
// schema mapper. Nothing here goes backward: an older binary on a newer schema is refused.
package migrations
