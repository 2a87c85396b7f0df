// Package catalog holds the nouns that all parts of hubpg share: tables, columns, kinds of values and their names.
//
// Guarantee: everything here is a pure function of its arguments. The same property always becomes the same kind and,
// among the same neighbours, the same name; a value that [Kind.AppendText] accepts is accepted by Postgres, so one odd
// value never fails the page it came on.
//
//	property type ──KindOf──▶ Kind ──AppendText──▶ text that Postgres reads
//	property name ──Names.Column──▶ column name, at most 63 bytes, unique, usable without quotes
//	two tables    ──NewPair──▶ association table <a>_<b> in catalog order
//
// All functions may be called concurrently; a [Names] belongs to one goroutine. The package knows neither HubSpot's
// API nor a database.
package catalog
