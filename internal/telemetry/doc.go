// Package telemetry is everything that hubpg tells Prometheus, and the one place that imports it.
//
// Guarantee: observing never blocks or fails the work that is observed, and label values come from fixed, small sets
// (tables of the account, lanes, kinds of call), so the number of series is bounded by the account's schema.
//
//	calls, lane steps ──Observe──▶ ┐
//	                               ├─▶ Metrics ──Handler──▶ /metrics
//	proxy, budget, tables ◀──ask── ┘      (snapshots, taken when scraped)
//
// The names follow hubpg_subsystem_noun_unit; each help text says what a bad value means. All methods may be called
// concurrently. The package knows no other package of hubpg: the composition root translates.
package telemetry
