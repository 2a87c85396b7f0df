package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// maxKey is the longest value, in bytes, that a unique index surely takes.
const maxKey = 2600

// EnsureUniques gives a table the unique indexes that ON CONFLICT needs: one on each column of a property whose values
// HubSpot keeps unique. Without a name it sees to all tables that are complete. See [Mapper.EnsureUnique] for what may
// put an index off; calling again is cheap.
func (m *Mapper) EnsureUniques(ctx context.Context, db DB, known *Catalog, table string) error {
	definitions, err := m.uniqueDefinitions(ctx, db)
	if err != nil {
		return err
	}
	rows, err := db.Query(ctx, `
select c.table_name, c.column_name
from hubpg.columns c
join hubpg.objects o using (portal_id, table_name)
left join `+definitions+` p on p.object_table = c.table_name and p.name = c.property
where c.portal_id = $1 and case when $2 = '' then o.phase = 'live' else c.table_name = $2 end
and o.deletes = 'hard' and c.kind = 'text' and c.placement = 'column' and c.archived_at is null
and (p.unique_value or o.object_type = '0-1' and c.property = 'email')
order by 1, 2`, m.c.PortalID, table)
	if err != nil {
		return fmt.Errorf("list unique columns: %w", err)
	}
	type place struct{ Table, Column string }
	wanted, err := pgx.CollectRows(rows, pgx.RowToStructByPos[place])
	if err != nil {
		return fmt.Errorf("list unique columns: %w", err)
	}
	for _, p := range wanted {
		if t := known.Named(p.Table); t != nil {
			if _, err := m.EnsureUnique(ctx, db, t, p.Column); err != nil {
				return err
			}
		}
	}
	return nil
}

// uniqueDefinitions is where it stands which properties are unique. Where somebody else has the name of that table, or has put something
// in its place, nothing is known of any but the contacts' email, which is unique in every account.
func (m *Mapper) uniqueDefinitions(ctx context.Context, q Querier) (from string, err error) {
	table, known := ident(m.c.Schema, "properties"), false
	err = q.QueryRow(ctx, `
select array_agg(attname::text) @> '{object_table,name,unique_value}' is true
from pg_attribute
where attrelid = to_regclass($1) and not attisdropped`, table).Scan(&known)
	if err != nil {
		return "", fmt.Errorf("look for the definitions of properties: %w", err)
	}
	if !known {
		return "(select null::text as object_table, null::text as name, false as unique_value)", nil
	}
	return table, nil
}

// EnsureUnique gives a column a unique index, which ON CONFLICT needs, and reports whether it is there now. Values that
// are not unique in the table, because it has seen a value's new holder and not yet that the old one lost it, put it off:
// their records become suspects, which are read again.
//
// Only text columns of tables with hard deletes can have one: the kept row of a deleted record would hold its value.
// Writers wait while the index is built; readers do not.
func (m *Mapper) EnsureUnique(ctx context.Context, db DB, t *catalog.Table, column string) (bool, error) {
	i := slices.IndexFunc(t.Columns, func(c catalog.Column) bool { return c.Name == column })
	if i < 0 || t.Soft || t.Columns[i].Overflow || t.Columns[i].Kind != catalog.Text {
		return false, nil
	}
	if slices.Contains(t.Unique, column) {
		return true, nil
	}
	duplicates := "select id from (select id, count(*) over (partition by " + ident(column) + ") n from " + tableIdent(t) +
		" where " + ident(column) + " is not null) u where n > 1"
	err := m.locked(ctx, db, t.Name, func(tx pgx.Tx) error {
		if index, err := uniqueIndex(ctx, tx, t, column); err != nil || index != nil {
			return err // another process was first
		}
		var long bool
		if err := tx.QueryRow(ctx, "select exists (select from "+tableIdent(t)+" where octet_length("+ident(column)+") > $1)", maxKey).
			Scan(&long); err != nil {
			return err
		}
		if long {
			return errLongKey
		}
		if err := script(ctx, tx, "create unique index on "+tableIdent(t)+" ("+ident(column)+")"); err != nil {
			return err
		}
		return m.bump(ctx, tx, t.Name)
	})
	if errors.Is(err, errLongKey) {
		return false, nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `
insert into hubpg.suspects (portal_id, table_name, record_id)
select $1, $2, id from (`+duplicates+`) d
on conflict do nothing`, m.c.PortalID, t.Name)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("suspect duplicates of %s.%s: %w", t.Name, column, err)
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make %s.%s unique: %w", t.Name, column, err)
	}
	return true, nil
}

// errLongKey says that a column has values that no index takes.
var errLongKey = errors.New("value too long for an index")

// makeRoom lets rows with values of unique columns be stored. HubSpot keeps such values unique at each instant, the table
// is filled from reads of different instants: when a value has moved from one record to another, the row that was read
// earlier is known not to hold it any more. That row gives the value up, and becomes a suspect, so that it is soon read
// for what it holds now. The same goes for the row about to be stored, if the holder was read later.
func (a *Applier) makeRoom(ctx context.Context, tx pgx.Tx, b *Batch, w *workload, readAt time.Time) (events []changes.Change, err error) {
	for i := range b.Columns {
		if c := &b.Columns[i]; slices.Contains(b.Table.Unique, c.Name) {
			list, err := a.makeRoomIn(ctx, tx, b, w, readAt, i)
			if err != nil {
				return nil, fmt.Errorf("make room in %s: %w", c.Name, err)
			}
			events = append(events, list...)
		}
	}
	return events, nil
}

func (a *Applier) makeRoomIn(ctx context.Context, tx pgx.Tx, b *Batch, w *workload, readAt time.Time, i int) ([]changes.Change, error) {
	c := &b.Columns[i]
	table, column := tableIdent(b.Table), ident(c.Name)
	wanted, mine, long := w.claims(c, i)
	if long {
		// The one value that the index cannot hold is worth more than the index.
		return nil, a.dropUnique(ctx, tx, b.Table, c)
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	values := make([]string, 0, len(wanted))
	var suspects []int64
	for value, claims := range wanted {
		values = append(values, value)
		for _, r := range claims[1:] { // of two in one answer the newer one holds it
			w.withdraw(r, i)
			suspects = append(suspects, r.ID)
		}
	}
	found, err := tx.Query(ctx, "select id, "+column+", _read_at from "+table+" where "+column+" = any($1)", values)
	if err != nil {
		return nil, err
	}
	var holders []int64
	var events []changes.Change
	var id int64
	var value string
	var read time.Time
	_, err = pgx.ForEachRow(found, []any{&id, &value, &read}, func() error {
		claim := wanted[value][0]
		switch {
		case claim.ID == id:
		case mine[id]: // its new value is in this batch, and so is the event
			holders = append(holders, id)
			before, err := json.Marshal(value)
			if err != nil {
				return err
			}
			w.held = append(w.held, holding{id, c.Name, before})
		case read.After(readAt):
			w.withdraw(claim, i)
			suspects = append(suspects, claim.ID)
		default:
			holders, suspects = append(holders, id), append(suspects, id)
			before, err := json.Marshal(map[string]string{c.Name: value})
			if err != nil {
				return err
			}
			after, err := json.Marshal(map[string]any{c.Name: nil})
			if err != nil {
				return err
			}
			events = append(events, changes.Change{
				Schema: b.Table.Schema, Table: b.Table.Name, RecordID: id, Op: changes.Update,
				Changed: []string{c.Name}, Before: before, After: after, Source: b.Source,
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(holders) > 0 {
		if _, err := tx.Exec(ctx, "update "+table+" set "+column+" = null where id = any($1)", holders); err != nil {
			return nil, err
		}
	}
	if len(suspects) > 0 {
		if _, err := tx.Exec(ctx, `
insert into hubpg.suspects (portal_id, table_name, record_id)
select $1, $2, id from unnest($3::bigint[]) id
on conflict do nothing`, a.portal, b.Table.Name, suspects); err != nil {
			return nil, err
		}
	}
	if b.Quiet {
		return nil, nil
	}
	return events, nil
}

// holding is a unique value that a row about to be stored had, and has been cleared of to make room.
type holding struct {
	id     int64
	column string
	value  json.RawMessage
}

// withHeld completes differences, which are in the order of their ids, by the values that rows had before they made room. It returns
// how many rows differ by nothing else.
func (w *workload) withHeld(b *Batch, differences []changes.Change) (complete []changes.Change, more int, err error) {
	for _, h := range w.held {
		i, found := slices.BinarySearchFunc(differences, h.id, func(c changes.Change, id int64) int { return compareIDs(c.RecordID, id) })
		if !found {
			differences = slices.Insert(differences, i, changes.Change{
				Schema: b.Table.Schema, Table: b.Table.Name, RecordID: h.id, Op: changes.Update, Source: b.Source,
				Before: json.RawMessage("{}"), After: json.RawMessage("{}"),
			})
			more++
		}
		c := &differences[i]
		if !slices.Contains(c.Changed, h.column) {
			c.Changed = slices.DeleteFunc(columnNames(b.Columns), func(name string) bool {
				return name != h.column && !slices.Contains(c.Changed, name)
			})
			if c.After, err = with(c.After, h.column, json.RawMessage("null")); err != nil {
				return nil, 0, err
			}
		}
		if c.Before, err = with(c.Before, h.column, h.value); err != nil {
			return nil, 0, err
		}
	}
	return differences, more, nil
}

// with returns a JSON object with one member set.
func with(object json.RawMessage, name string, value json.RawMessage) (json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, fmt.Errorf("read a difference: %w", err)
	}
	members[name] = value
	return json.Marshal(members)
}

// claims lists the rows that want each value, the newest first, and the ids of all rows about to be stored.
func (w *workload) claims(c *catalog.Column, i int) (wanted map[string][]*Row, mine map[int64]bool, long bool) {
	wanted, mine = map[string][]*Row{}, map[int64]bool{}
	for _, list := range [][]*Row{w.fresh, w.newer} {
		for _, r := range list {
			mine[r.ID] = true
			if len(r.Values[i]) == 0 {
				continue
			}
			text, ok := c.Kind.AppendText(nil, r.Values[i])
			if !ok {
				continue
			}
			if len(text) > maxKey {
				return nil, nil, true
			}
			wanted[string(text)] = append(wanted[string(text)], r)
		}
	}
	for _, claims := range wanted {
		slices.SortStableFunc(claims, func(x, y *Row) int { return y.UpdatedAt.Compare(x.UpdatedAt) })
	}
	return wanted, mine, false
}

// withdraw takes a value from a row about to be stored. The batch is the caller's, so the row is replaced by a copy.
func (w *workload) withdraw(r *Row, i int) {
	for _, list := range [][]*Row{w.fresh, w.newer} {
		for k := range list {
			if list[k].ID == r.ID {
				row := *list[k]
				row.Values = slices.Clone(row.Values)
				row.Values[i] = nil
				list[k] = &row
			}
		}
	}
}

// dropUnique gives up a column's unique index.
func (a *Applier) dropUnique(ctx context.Context, tx pgx.Tx, t *catalog.Table, c *catalog.Column) error {
	index, err := uniqueIndex(ctx, tx, t, c.Name)
	if err != nil || index == nil {
		return err
	}
	if err := script(ctx, tx, "drop index "+*index); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "update hubpg.objects set catalog_version = catalog_version + 1 where portal_id = $1 and table_name = $2",
		a.portal, t.Name)
	return err
}

// uniqueIndex names the unique index of a column, quoted; nil if there is none.
func uniqueIndex(ctx context.Context, tx pgx.Tx, t *catalog.Table, column string) (index *string, err error) {
	err = tx.QueryRow(ctx, `
select (select format('%I.%I', n.nspname, r.relname)
        from pg_index i
        join pg_class r on r.oid = i.indexrelid
        join pg_namespace n on n.oid = r.relnamespace
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = $1::text::regclass and i.indisunique and not i.indisprimary and i.indnkeyatts = 1 and i.indpred is null
        and a.attname = $2
        order by i.indexrelid
        limit 1)`, tableIdent(t), column).Scan(&index)
	return index, err
}
