// Package pgtest runs private Postgres servers from binaries found on the machine, for tests and for hubpg demo.
//
// Guarantee: a server started here is reachable only from this machine, never runs as root, and does not outlive the
// process that started it (on Linux the kernel stops it even when that process is killed; elsewhere the next start
// over the same data directory stops the orphan).
//
//	FindBinaries ──▶ Start(ClusterConfig) ──▶ Cluster ──▶ URL, Restart, Kill, Stop
//	New(t)       ──▶ the process's shared cluster ──▶ one database per test, cloned from a template
//
// Tests call [Main] from TestMain and [New] or [Migrated] from each test. The database belongs to an ordinary role,
// not to a superuser, because that is all that hubpg may ask of a user's Postgres; [DB.AdminURL] is the way out for a
// test that needs more. The shared cluster keeps no promise about power cuts (fsync is off).
//
// All exported functions and methods may be called concurrently, except that Restart, Kill and Stop of one cluster
// exclude each other.
package pgtest
