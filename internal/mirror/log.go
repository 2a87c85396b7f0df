package mirror

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// notifyChunk bounds how many notifications one statement rings.
const notifyChunk = 2000

// flat renders a row of a table (under alias t) as the log shows it: columns with values only, those of _overflow
// among the others, hubpg's own bookkeeping and HubSpot's stamps left out.
func flat(t *catalog.Table) string {
	stamps := "array[" + list(t.Stamps(), ", ", quote) + "]::text[]"
	return "jsonb_strip_nulls(((to_jsonb(t) - array['_overflow', '_read_at', 'archived_at']) || coalesce(t._overflow, '{}')" +
		" || jsonb_build_object('_unparsed', nullif(t._unparsed - " + stamps + ", '{}'))) - " + stamps + ")"
}

// arrivals reads the rows just copied as inserts, or as restores where the record had been deleted.
func (a *Applier) arrivals(ctx context.Context, tx pgx.Tx, b *Batch, w workload) ([]changes.Change, error) {
	ids := make([]int64, len(w.fresh))
	for i, r := range w.fresh {
		ids[i] = r.ID
	}
	names := make([]string, 0, len(b.Table.Columns)+1)
	for _, c := range b.Table.Columns {
		names = append(names, c.Name)
	}
	names = append(names, catalog.Unparsed)
	// Materialized, or every name would render its row again.
	found, err := tx.Query(ctx, `
with r as materialized (
  select t.id, `+flat(b.Table)+` as after
  from `+tableIdent(b.Table)+` t
  where t.id = any($1)
)
select r.id,
       case when r.id = any($3) then 'restore' else 'insert' end,
       array(select n from unnest($2::text[]) with ordinality u(n, o) where r.after ? n order by o),
       r.after
from r
order by r.id`, ids, names, append([]int64{}, w.restored...))
	if err != nil {
		return nil, fmt.Errorf("read new rows: %w", err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (changes.Change, error) {
		c := changes.Change{Schema: b.Table.Schema, Table: b.Table.Name, Source: b.Source}
		err := row.Scan(&c.RecordID, &c.Op, &c.Changed, &c.After)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read new rows: %w", err)
	}
	return list, nil
}

// finish ends a call: it moves the table's row count by delta and writes the events. The counter of the log is taken
// last, because every other transaction that writes events waits for it from here to the commit.
func (a *Applier) finish(ctx context.Context, tx pgx.Tx, table string, delta int, events []changes.Change, res *Result) error {
	batch := &pgx.Batch{}
	if delta != 0 {
		batch.Queue("update hubpg.objects set row_count = row_count + $3 where portal_id = $1 and table_name = $2",
			a.portal, table, delta)
	}
	var last int64
	pending := false
	if len(events) > 0 {
		if table != "" {
			batch.Queue(pendingSQL, a.portal, table).QueryRow(func(row pgx.Row) error { return row.Scan(&pending) })
		}
		batch.Queue(setLockTimeout, lockWait)                        // no client's: whoever has the counter is about to commit
		batch.Queue("select pg_notify($1, '')", changes.WakeChannel) // is heard after the commit, like everything that is written below
		batch.Queue("update hubpg.change_counter set last = last + $1 returning last", len(events)).
			QueryRow(func(row pgx.Row) error { return row.Scan(&last) })
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("count rows and changes: %w", err)
	}
	if len(events) == 0 {
		return nil
	}
	if pending { // committed before, so they come before
		earlier, err := a.take(ctx, tx, table)
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "update hubpg.change_counter set last = last + $1 returning last", len(earlier)).Scan(&last); err != nil {
			return fmt.Errorf("count changes: %w", err)
		}
		events = append(earlier, events...)
	}
	for i := range events {
		events[i].Seq = last - int64(len(events)-1-i)
	}
	res.Events += len(events)
	res.LastSeq = last
	return a.write(ctx, tx, events)
}

// write stores the events, which have their numbers, and tells of each where that is wanted.
func (a *Applier) write(ctx context.Context, tx pgx.Tx, events []changes.Change) error {
	columns := []string{"seq", "schema_name", "table_name", "record_id", "op", "changed", "before", "after", "source"}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"hubpg", "changes"}, columns,
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			c := &events[i]
			var id *int64
			if c.RecordID != 0 {
				id = &c.RecordID
			}
			changed := c.Changed
			if changed == nil {
				changed = []string{}
			}
			return []any{c.Seq, c.Schema, c.Table, id, string(c.Op), changed, c.Before, c.After, string(c.Source)}, nil
		}))
	if err != nil {
		return fmt.Errorf("write changes: %w", err)
	}
	if a.notify == NotifyOff {
		return nil
	}
	if err := a.ring(ctx, tx, events); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// ring queues the notifications for every change, which Postgres sends when the transaction commits.
func (a *Applier) ring(ctx context.Context, tx pgx.Tx, events []changes.Change) error {
	var channels, payloads []string
	send := func() error {
		if len(channels) == 0 {
			return nil
		}
		_, err := tx.Exec(ctx, "select pg_notify(c, p) from unnest($1::text[], $2::text[]) u(c, p)", channels, payloads)
		channels, payloads = channels[:0], payloads[:0]
		return err
	}
	for i := range events {
		payload, err := events[i].Payload()
		if err != nil {
			return err
		}
		for _, channel := range events[i].Channels() {
			channels, payloads = append(channels, channel), append(payloads, payload)
		}
		if len(channels) >= notifyChunk {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}
