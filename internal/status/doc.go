// Package status tells how true the mirrored tables are: to people as a page and a table, to programs as JSON and as
// answers to health checks.
//
// Guarantee: it only reads, every question to Postgres has a deadline, and what it shows is what is stored, so every
// process of an installation, and a user's own query of hubpg.status, gives the same answer. The one exception is
// /readyz, which is about the process asked too: it is not ready either while that has yet to reach what it serves.
//
//	hubpg.status ──Read──▶ Report ──▶ hubpg status · / (page) · /status.json · /readyz
//	Postgres ──ping──▶ /healthz, while a process is starting as well
//
// The handlers may be called concurrently. The page needs nothing from outside the binary.
package status
