package materialize_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// replay is what the change log makes of empty tables: by table, then by key.
type replay map[string]map[string]map[string]any

// keys are the columns that identify a row of the tables that are not object tables.
func keys(cat *mirror.Catalog) map[string][]string {
	keys := map[string][]string{mirror.Merges: {"table_name", "old_id"}}
	for _, l := range mirror.Lookups() {
		keys[l.Name] = l.Key
	}
	for _, p := range cat.Pairs {
		keys[p.Name] = []string{p.ColumnA(), p.ColumnB(), "type_id", "category"}
	}
	return keys
}

func keyOf(row map[string]any, columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = fmt.Sprint(row[c])
	}
	return strings.Join(parts, " ")
}

// add applies the changes of a schema in order. Each must fit the state before it.
func (r replay) add(cat *mirror.Catalog, schema string, list []changes.Change) (problem string) {
	columns := keys(cat)
	for _, t := range cat.Tables {
		columns[t.Name] = []string{catalog.ID}
	}
	for i := range list {
		c := &list[i]
		if schema != "" && c.Schema != schema || columns[c.Table] == nil {
			continue
		}
		if r[c.Table] == nil {
			r[c.Table] = map[string]map[string]any{}
		}
		if problem := apply(r[c.Table], c, columns[c.Table]); problem != "" {
			return fmt.Sprintf("change %d (%s %s %d by %s): %s", c.Seq, c.Op, c.Table, c.RecordID, c.Source, problem)
		}
	}
	return ""
}

func apply(rows map[string]map[string]any, c *changes.Change, columns []string) string {
	var before, after map[string]any
	if len(c.Before) > 0 {
		if err := json.Unmarshal(c.Before, &before); err != nil {
			return err.Error()
		}
	}
	if len(c.After) > 0 {
		if err := json.Unmarshal(c.After, &after); err != nil {
			return err.Error()
		}
	}
	key := fmt.Sprint(c.RecordID)
	switch {
	case slices.Equal(columns, []string{catalog.ID}) && c.RecordID != 0: // owners and teams too
	case after != nil:
		key = keyOf(after, columns)
	default:
		key = keyOf(before, columns)
	}
	row, there := rows[key]
	switch c.Op {
	case changes.Insert, changes.Restore, changes.Associate:
		if there {
			return "the row is there already"
		}
		rows[key] = after
	case changes.Delete, changes.Merge, changes.Dissociate:
		if !there {
			return "the row is not there"
		}
		delete(rows, key)
	case changes.Update:
		if !there {
			return "the row is not there"
		}
		if len(c.Changed) == 0 {
			return "nothing changed"
		}
		for _, name := range c.Changed {
			if fmt.Sprint(row[name]) != fmt.Sprint(before[name]) {
				return fmt.Sprintf("%s was %v, the log says %v", name, row[name], before[name])
			}
			if after[name] == nil {
				delete(row, name)
			} else {
				row[name] = after[name]
			}
		}
	default:
		return "unexpected operation"
	}
	return ""
}

// replayDifference replays the change log from empty and compares the outcome with the tables: those of objects, of
// associations and of lookups. It checks that sequence numbers have no gaps and that each change fits the state before it.
func (w *world) replayDifference() string {
	w.t.Helper()
	ctx := context.Background()
	tx, err := w.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = tx.Rollback(ctx) }()
	cat, err := w.loadCatalog(ctx, tx)
	if err != nil {
		return err.Error()
	}
	all, err := logAfter(ctx, tx, 0)
	if err != nil {
		return err.Error()
	}
	return w.replayedDifference(ctx, tx, cat, replay{}, all)
}

// logAfter reads the change log from behind a number to its end. No number may be missing.
func logAfter(ctx context.Context, q changes.Querier, seq int64) (list []changes.Change, err error) {
	for {
		more, err := changes.Read(ctx, q, seq, 1000)
		if err != nil || len(more) == 0 {
			return list, err
		}
		for i := range more {
			if more[i].Seq != seq+1 {
				return nil, fmt.Errorf("change %d follows %d", more[i].Seq, seq)
			}
			seq = more[i].Seq
		}
		list = append(list, more...)
	}
}

// replayedDifference compares the tables with what r becomes by a list of changes, which begins where those in r end.
func (w *world) replayedDifference(ctx context.Context, tx pgx.Tx, cat *mirror.Catalog, r replay, list []changes.Change) string {
	if problem := r.add(cat, w.in, list); problem != "" {
		return problem
	}
	for _, t := range cat.Tables {
		if d := tableReplayed(ctx, tx, t, r[t.Name]); d != "" {
			return t.Name + " replayed: " + d
		}
	}
	schema := w.in
	if schema == "" && len(cat.Tables) > 0 {
		schema = cat.Tables[0].Schema
	}
	for name, columns := range keys(cat) {
		table := pgx.Identifier{schema, name}.Sanitize()
		var made bool
		if err := tx.QueryRow(ctx, `select to_regclass($1) is not null`, table).Scan(&made); err != nil {
			return err.Error()
		}
		if !made && len(r[name]) == 0 {
			continue
		}
		sql := `
select jsonb_strip_nulls(to_jsonb(t) - '_read_at')
from ` + table + ` t`
		if d := compareReplayed(ctx, tx, r[name], columns, sql); d != "" {
			return name + " replayed: " + d
		}
	}
	return ""
}

func tableReplayed(ctx context.Context, tx pgx.Tx, t *catalog.Table, state map[string]map[string]any) string {
	for _, row := range state {
		delete(row, "updated_at")
	}
	return compareReplayed(ctx, tx, state, []string{catalog.ID}, `
select jsonb_strip_nulls(to_jsonb(t) - array['_overflow', '_read_at', 'updated_at', 'archived_at'] - $1::text[])
from `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+` t
where `+mirror.Live(t), t.Stamps()) // which are in no change
}

func compareReplayed(ctx context.Context, tx pgx.Tx, state map[string]map[string]any, columns []string, sql string, args ...any) string {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err.Error()
	}
	var (
		row     map[string]any
		problem string
		count   int
	)
	_, err = pgx.ForEachRow(rows, []any{&row}, func() error {
		count++
		key := keyOf(row, columns)
		if id, ok := row[catalog.ID].(float64); ok && len(columns) == 1 {
			key = fmt.Sprint(int64(id))
		}
		if want := state[key]; fmt.Sprint(want) != fmt.Sprint(row) && problem == "" {
			problem = fmt.Sprintf("row %s is %v, the log gives %v", key, row, want)
		}
		row = nil
		return nil
	})
	if err != nil {
		return err.Error()
	}
	if problem == "" && count != len(state) {
		problem = fmt.Sprintf("%d rows, the log gives %d", count, len(state))
	}
	return problem
}
