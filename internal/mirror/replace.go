package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
)

// Snapshot is the whole content of a lookup table, or of one scope of it, or of a range of a scope.
type Snapshot struct {
	Schema string
	Table  string // the name of one of Lookups
	Scope  string // the value of the table's scope column that was read; "" for a table without one
	Range  *Range // the part of the scope that was read; nil for all of it
	Rows   []LookupRow
	ReadAt time.Time
	Source changes.Source
	Quiet  bool
}

// Range is the part of a scope whose range column is greater than After and at most UpTo.
type Range struct{ After, UpTo int64 }

// ErrOlder means that a newer read of the scope is stored. Nothing was changed.
var ErrOlder = errors.New("a newer read of this is stored")

// Replace makes a lookup table, or one scope of it, equal to a snapshot, and logs the differences. A snapshot that is
// not newer than the last one is stale: nothing changes and every row of it counts as such; a part of a scope is refused
// with [ErrOlder], since whoever reads in parts has to begin again.
func (a *Applier) Replace(ctx context.Context, tx pgx.Tx, s *Snapshot) (Result, error) {
	var res Result
	definition, ok := lookupByName(s.Table)
	if !ok {
		return res, fmt.Errorf("replace %s: no such lookup table", s.Table)
	}
	if err := s.check(&definition); err != nil {
		return res, fmt.Errorf("replace %s: %w", s.Table, err)
	}
	res, err := a.replace(ctx, tx, s, &definition)
	if err != nil {
		return res, fmt.Errorf("replace %s: %w", s.Table, err)
	}
	return res, nil
}

// Unchanged reports whether a snapshot says what [Applier.Replace] was told last of the same scope, and notes that it was
// read again. Replacing would then change nothing; to find out costs one small row.
func (a *Applier) Unchanged(ctx context.Context, q Querier, s *Snapshot) (same bool, err error) {
	text, err := s.encode()
	if err != nil {
		return false, fmt.Errorf("recognize %s: %w", s.Table, err)
	}
	err = q.QueryRow(ctx, `
update hubpg.lookup_reads
set read_at = greatest(read_at, $5)
where portal_id = $1 and table_name = $2 and scope = $3 and mark = $4
returning true`, a.portal, s.Table, s.Scope, digest(text), stored(s.ReadAt)).Scan(&same)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("recognize %s: %w", s.Table, err)
	}
	return same, nil
}

// Told reports whether the table, or its scope, was last made equal to what the snapshot says: what differs then was not changed
// by HubSpot.
func Told(ctx context.Context, q Querier, portalID int64, s *Snapshot) (told bool, err error) {
	text, err := s.encode()
	if err == nil {
		err = q.QueryRow(ctx, `
select exists (
	select from hubpg.lookup_reads
	where portal_id = $1 and table_name = $2 and scope = $3 and mark = $4)`, portalID, s.Table, s.Scope, digest(text)).Scan(&told)
	}
	if err != nil {
		return false, fmt.Errorf("recognize %s: %w", s.Table, err)
	}
	return told, nil
}

// digest stands for the rows of a snapshot.
func digest(rows []byte) string {
	sum := sha256.Sum256(rows)
	return hex.EncodeToString(sum[:])
}

// Holds reports whether a lookup table, or one scope of it, has rows.
func Holds(ctx context.Context, q Querier, schema, table, scope string) (held bool, err error) {
	l, ok := lookupByName(table)
	if !ok {
		return false, fmt.Errorf("look into %s: no such lookup table", table)
	}
	sql, args := "select exists (select from "+pgx.Identifier{schema, table}.Sanitize(), []any{}
	if l.Scope != "" {
		sql, args = sql+" where "+pgx.Identifier{l.Scope}.Sanitize()+"::text = $1", []any{scope}
	}
	if err := q.QueryRow(ctx, sql+")", args...).Scan(&held); err != nil {
		return false, fmt.Errorf("look into %s: %w", table, err)
	}
	return held, nil
}

// Compare tells what Replace would change, without changing it: deletes are rows that the snapshot lacks, inserts rows
// that the table lacks.
func Compare(ctx context.Context, q Querier, s *Snapshot) ([]changes.Change, error) {
	definition, ok := lookupByName(s.Table)
	if !ok {
		return nil, fmt.Errorf("compare %s: no such lookup table", s.Table)
	}
	if err := s.check(&definition); err != nil {
		return nil, fmt.Errorf("compare %s: %w", s.Table, err)
	}
	text, err := s.encode()
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", s.Table, err)
	}
	found, err := q.Query(ctx, replaceSQL(s, &definition, false), text, s.Scope)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", s.Table, err)
	}
	list, err := pgx.CollectRows(found, s.difference)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", s.Table, err)
	}
	return list, nil
}

// encode renders the rows as a JSON array that jsonb takes.
func (s *Snapshot) encode() ([]byte, error) {
	rows := s.Rows
	if rows == nil {
		rows = []LookupRow{}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("encode rows: %w", err)
	}
	return withoutNUL(text), nil
}

// difference reads a row of what replaceSQL returns.
func (s *Snapshot) difference(row pgx.CollectableRow) (changes.Change, error) {
	c := changes.Change{Schema: s.Schema, Table: s.Table, Source: s.Source}
	err := row.Scan(&c.RecordID, &c.Op, &c.Changed, &c.Before, &c.After)
	return c, err
}

func (s *Snapshot) check(l *Lookup) error {
	if s.ReadAt.IsZero() {
		return errors.New("no read time")
	}
	if (l.Scope == "") != (s.Scope == "") {
		return fmt.Errorf("scope is %q, the table's scope column %q", s.Scope, l.Scope)
	}
	if s.Range != nil && l.Range == "" {
		return errors.New("the table has no ranges")
	}
	for _, row := range s.Rows {
		if row.lookup() != s.Table {
			return fmt.Errorf("row of %s", row.lookup())
		}
	}
	return nil
}

func (a *Applier) replace(ctx context.Context, tx pgx.Tx, s *Snapshot, l *Lookup) (res Result, err error) {
	text, err := s.encode()
	if err != nil {
		return res, err
	}
	var mark *string // of a part, whoever reads the parts knows it when the last is stored
	if s.Range == nil {
		sum := digest(text)
		mark = &sum
	}
	stale := false
	batch := &pgx.Batch{}
	enter(batch, s.Schema, s.Table)
	batch.Queue(`
insert into hubpg.lookup_reads as r (portal_id, table_name, scope, read_at, mark)
values ($1, $2, $3, $4, $5)
on conflict (portal_id, table_name, scope) do update
set read_at = excluded.read_at, mark = coalesce(excluded.mark, r.mark)
where r.read_at < excluded.read_at
returning true`, a.portal, s.Table, s.Scope, stored(s.ReadAt), mark).
		QueryRow(func(row pgx.Row) error {
			var newer bool
			err := row.Scan(&newer)
			if errors.Is(err, pgx.ErrNoRows) {
				stale = true
				return nil
			}
			return err
		})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return res, err
	}
	if stale && s.Range != nil {
		return res, ErrOlder
	}
	if stale {
		res.Stale = len(s.Rows)
		return res, nil
	}
	found, err := tx.Query(ctx, replaceSQL(s, l, true), text, s.Scope)
	if err != nil {
		return res, err
	}
	events, err := pgx.CollectRows(found, s.difference)
	if err != nil {
		return res, err
	}
	for i := range events {
		switch events[i].Op {
		case changes.Insert:
			res.Inserted++
		case changes.Delete:
			res.Deleted++
		default:
			res.Updated++
		}
	}
	res.Unchanged = len(s.Rows) - res.Inserted - res.Updated
	if s.Quiet {
		events = nil
	}
	return res, a.finish(ctx, tx, s.Table, res.Inserted-res.Deleted, events, &res)
}

// replaceSQL is the one statement that stores a snapshot and tells the differences; all its parts see the table as it
// was. Unless store is set it only tells. Its parameters: rows as a JSON array, scope. An update's before and after hold the key besides the columns that
// differ, because the key is not always the record id.
func replaceSQL(s *Snapshot, l *Lookup, store bool) string {
	table := ident(s.Schema, s.Table)
	scope := "$2::text = ''"
	if l.Scope != "" {
		scope = "t." + ident(l.Scope) + " = $2::text::" + l.kind(l.Scope)
	}
	if s.Range != nil {
		scope += fmt.Sprintf(" and t.%[1]s > %[2]d and t.%[1]s <= %[3]d", ident(l.Range), s.Range.After, s.Range.UpTo)
	}
	match := func(x, y string) string {
		return list(l.Key, " and ", func(k string) string { return x + "." + ident(k) + " = " + y + "." + ident(k) })
	}
	isKey := map[string]bool{}
	for _, k := range l.Key {
		isKey[k] = true
	}
	var all, rest []string
	for _, c := range l.columns {
		all = append(all, c.name)
		if !isKey[c.name] {
			rest = append(rest, c.name)
		}
	}
	columns := list(all, ", ", func(c string) string { return ident(c) })
	keys := list(l.Key, ", ", quote)
	first := ident(l.Key[0])
	record := "0::bigint"
	if l.ID != "" {
		record = "coalesce(n." + ident(l.ID) + ", o." + ident(l.ID) + ")"
	}
	moves := ""
	if store {
		moves = `), gone as (
  delete from ` + table + ` t
  where ` + scope + ` and not exists (select from incoming n where ` + match("n", "t") + `)
), changed as (
  update ` + table + ` t
  set ` + list(rest, ", ", func(c string) string { return ident(c) + " = n." + ident(c) }) + `
  from incoming n
  where ` + match("n", "t") + ` and to_jsonb(t) is distinct from to_jsonb(n)
), put as (
  insert into ` + table + ` (` + columns + `)
  select ` + columns + ` from incoming n
  where not exists (select from old t where ` + match("n", "t") + `)
`
	}
	return `
with incoming as materialized (
  select distinct on (` + list(l.Key, ", ", func(k string) string { return "r." + ident(k) }) + `) r.*
  from jsonb_populate_recordset(null::` + table + `, $1) r
), old as materialized (
  select t.* from ` + table + ` t where ` + scope + `
` + moves + `)
select ` + record + `,
       case when o.` + first + ` is null then 'insert' when n.` + first + ` is null then 'delete' else 'update' end,
       case when o.` + first + ` is null or n.` + first + ` is null then '{}' else d.names end,
       case when o.` + first + ` is null then null when n.` + first + ` is null then jsonb_strip_nulls(to_jsonb(o)) else d.before end,
       case when n.` + first + ` is null then null when o.` + first + ` is null then jsonb_strip_nulls(to_jsonb(n)) else d.after end
from old o
full join incoming n on ` + match("n", "o") + `
cross join lateral (
  select coalesce(array_agg(k order by k) filter (where not k = any(array[` + keys + `])), '{}') as names,
         jsonb_object_agg(k, to_jsonb(o) -> k) as before,
         jsonb_object_agg(k, to_jsonb(n) -> k) as after
  from jsonb_object_keys(coalesce(to_jsonb(n), to_jsonb(o))) k
  where k = any(array[` + keys + `]) or to_jsonb(o) -> k is distinct from to_jsonb(n) -> k
) d
where to_jsonb(o) is distinct from to_jsonb(n)
order by ` + list(l.Key, ", ", func(k string) string { return "coalesce(n." + ident(k) + ", o." + ident(k) + ")" })
}

// kind is the type of a column.
func (l *Lookup) kind(column string) string {
	for _, c := range l.columns {
		if c.name == column {
			kind, _, _ := strings.Cut(c.sql, " ")
			return kind
		}
	}
	return "text"
}

// list renders every item and joins the results.
func list(items []string, separator string, render func(string) string) string {
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = render(item)
	}
	return strings.Join(parts, separator)
}

// withoutNUL removes the escape of the NUL character, which jsonb refuses, from JSON text.
func withoutNUL(text []byte) []byte {
	escape := []byte(`\u0000`)
	if !bytes.Contains(text, escape) {
		return text
	}
	clean := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case bytes.HasPrefix(text[i:], escape):
			i += len(escape) - 1
		case text[i] == '\\' && i+1 < len(text):
			clean = append(clean, text[i], text[i+1])
			i++
		default:
			clean = append(clean, text[i])
		}
	}
	return clean
}
