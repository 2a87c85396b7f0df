package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// WideRowError means that a record has more values than fit on a page of the table. [Mapper.Narrow] moves the
// least-used columns into _overflow; after it, load the catalog again and repeat.
type WideRowError struct {
	Table *catalog.Table // as the refused batch had it
	Err   error
}

// Error names the table and the way out.
func (e *WideRowError) Error() string {
	return fmt.Sprintf("a record of %s does not fit into a table row; its least-used columns have to move to _overflow: %v", e.Table.Name, e.Err)
}

// Unwrap returns Postgres's error.
func (e *WideRowError) Unwrap() error { return e.Err }

// Upsert stores a batch. Rows that are not in the table go straight into it by COPY; rows that are there, and older,
// are staged and merged; rows that lose are counted as stale. Unless the batch is quiet, every row of which a kept
// column changed adds one change to the log (updated_at, _read_at and stamps are not kept columns in this sense).
//
// Records that say which others were merged into them take those others' rows out of the table, as [Applier.Merge] does.
func (a *Applier) Upsert(ctx context.Context, tx pgx.Tx, b *Batch) (Result, error) {
	var res Result
	if err := b.check(); err != nil {
		return res, fmt.Errorf("upsert: %w", err)
	}
	if len(b.Rows) == 0 {
		return res, nil
	}
	res, err := a.upsert(ctx, tx, b)
	if err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "54000" { // program_limit_exceeded: row is too big
			err = &WideRowError{Table: b.Table, Err: err}
		}
		return res, fmt.Errorf("upsert into %s: %w", b.Table.Name, err)
	}
	return res, nil
}

func (a *Applier) upsert(ctx context.Context, tx pgx.Tx, b *Batch) (res Result, err error) {
	rows, readAt := b.unique(), stored(b.ReadAt)
	state, err := a.lookUp(ctx, tx, b.Table, rows)
	if err != nil {
		return res, err
	}
	work := state.sort(rows, readAt, b.whole(), b.Force, &res)

	// What records of the batch have swallowed goes first: its unique values are theirs, and nobody took them from it.
	swallowed := b.mergers(slices.Concat(work.fresh, work.newer)...)
	merged, gone, err := a.redirect(ctx, tx, b.Table, swallowed, readAt, b.Source)
	if err != nil {
		return res, err
	}
	work.without(swallowed)
	events, err := a.makeRoom(ctx, tx, b, &work, readAt)
	if err != nil {
		return res, err
	}
	if len(work.fresh) > 0 {
		if err := a.clear(ctx, tx, b.Table, rowIDs(work.fresh)); err != nil {
			return res, err
		}
		count := fmt.Sprintf("update hubpg.objects set row_count = row_count + %d where portal_id = %d and table_name = %s; ",
			len(work.fresh), a.portal, quote(b.Table.Name))
		if err := copyRows(ctx, tx, count, tableIdent(b.Table), b.Columns, work.fresh, readAt); err != nil {
			return res, err
		}
		res.Inserted, res.Restored = len(work.fresh), len(work.restored)
		if !b.Quiet {
			arrivals, err := a.arrivals(ctx, tx, b, work)
			if err != nil {
				return res, err
			}
			events = append(events, arrivals...)
		}
	}
	if len(work.newer) > 0 {
		differences, updated, err := merge(ctx, tx, b, work.newer, readAt)
		if err != nil {
			return res, err
		}
		if !b.Quiet {
			var more int
			if differences, more, err = work.withHeld(b, differences); err != nil {
				return res, err
			}
			updated += more
		}
		res.Updated, res.Plain = updated, plain(b.Table, differences)
		res.Unchanged += len(work.newer) - updated
		events = append(events, differences...)
		slices.SortStableFunc(events, func(x, y changes.Change) int { return compareIDs(x.RecordID, y.RecordID) })
	}
	if len(work.restored) > 0 {
		if err := a.exhume(ctx, tx, b.Table.Name, work.restored); err != nil {
			return res, err
		}
	}
	res.Deleted = gone
	if !b.Quiet {
		events = append(events, merged...)
	}
	return res, a.finish(ctx, tx, b.Table.Name, -gone, events, &res)
}

// plain returns the records of differences in which only columns changed that HubSpot does not set by itself. What else happens
// to a record, such as a new association, it shows in those it does, if it shows it in the record at all.
func plain(t *catalog.Table, differences []changes.Change) (ids []int64) {
	own := map[string]bool{}
	for i := range t.Columns {
		own[t.Columns[i].Name] = !t.Columns[i].Calculated && !t.Columns[i].ReadOnly
	}
	for i := range differences {
		if !slices.ContainsFunc(differences[i].Changed, func(name string) bool { return !own[name] }) {
			ids = append(ids, differences[i].RecordID)
		}
	}
	return ids
}

// tableState is what the database knows about the records of a batch.
type tableState struct {
	rows   map[int64]version
	graves map[int64]time.Time
}

// lookUp locks the table, holds the caller's catalog against the database's, and reads the state of the rows' ids.
func (a *Applier) lookUp(ctx context.Context, tx pgx.Tx, t *catalog.Table, rows []*Row) (*tableState, error) {
	ids := rowIDs(rows)
	state := &tableState{rows: map[int64]version{}, graves: map[int64]time.Time{}}
	batch := &pgx.Batch{}
	enter(batch, t.Schema, t.Name)
	a.expect(batch, t)
	// A client's transaction may have a newer version that it has yet to commit: locking waits for it and sees it.
	batch.Queue("select t.id, t.updated_at, t._read_at from "+tableIdent(t)+" t where t.id = any($1) and "+Live(t)+" for no key update", ids).
		Query(func(found pgx.Rows) error {
			var id int64
			var updated *time.Time
			var read time.Time
			_, err := pgx.ForEachRow(found, []any{&id, &updated, &read}, func() error {
				v := version{read: read}
				if updated != nil {
					v.updated = *updated
				}
				state.rows[id] = v
				return nil
			})
			return err
		})
	batch.Queue("select record_id, read_at from hubpg.tombstones where portal_id = $1 and table_name = $2 and record_id = any($3)",
		a.portal, t.Name, ids).
		Query(func(found pgx.Rows) error {
			var id int64
			var read time.Time
			_, err := pgx.ForEachRow(found, []any{&id, &read}, func() error {
				state.graves[id] = read
				return nil
			})
			return err
		})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	return state, nil
}

// expect queues the check that t is a mirrored table of this account and has the columns that the caller believes.
func (a *Applier) expect(batch *pgx.Batch, t *catalog.Table) {
	batch.Queue("select catalog_version from hubpg.objects where portal_id = $1 and table_name = $2", a.portal, t.Name).
		QueryRow(func(row pgx.Row) error {
			var current int64
			switch err := row.Scan(&current); {
			case errors.Is(err, pgx.ErrNoRows):
				return ErrUnknownTable
			case err != nil:
				return err
			case current != t.Version:
				return fmt.Errorf("%w (has %d, database %d)", ErrStaleCatalog, t.Version, current)
			}
			return nil
		})
}

// workload is a batch sorted by what has to be done with each row.
type workload struct {
	fresh    []*Row  // not in the table
	restored []int64 // of fresh: records with a tombstone
	newer    []*Row  // in the table in an older version
	held     []holding
}

// without takes records off the batch that others have swallowed: a page that was read before shows them still.
func (w *workload) without(swallowed map[int64]merger) {
	if len(swallowed) == 0 {
		return
	}
	old := func(r *Row) bool {
		_, is := swallowed[r.ID]
		return is
	}
	w.fresh, w.newer = slices.DeleteFunc(w.fresh, old), slices.DeleteFunc(w.newer, old)
	w.restored = slices.DeleteFunc(w.restored, func(id int64) bool {
		_, is := swallowed[id]
		return is
	})
}

// sort decides about every row by its version, and counts those that lose.
func (s *tableState) sort(rows []*Row, readAt time.Time, whole, force bool, res *Result) (w workload) {
	refuse := func(id int64) {
		res.Stale++
		res.Refused = append(res.Refused, id)
	}
	for _, r := range rows {
		incoming := version{updated: stored(r.UpdatedAt), read: readAt}
		if r.UpdatedAt.IsZero() {
			incoming.updated = time.Time{}
		}
		have, exists := s.rows[r.ID]
		switch {
		case !exists && !whole:
			refuse(r.ID)
		case !exists:
			grave, buried := s.graves[r.ID]
			if buried && !readAt.After(grave) {
				refuse(r.ID)
				continue
			}
			if buried {
				w.restored = append(w.restored, r.ID)
			}
			w.fresh = append(w.fresh, r)
		case incoming.newerThan(have), force && readAt.After(have.read):
			w.newer = append(w.newer, r)
		case have.newerThan(incoming):
			refuse(r.ID)
		case !whole:
			w.newer = append(w.newer, r)
		default: // the very same read once more
			res.Unchanged++
		}
	}
	return w
}

func rowIDs(rows []*Row) []int64 {
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}

// exhume removes the tombstones of records that came back.
func (a *Applier) exhume(ctx context.Context, tx pgx.Tx, table string, ids []int64) error {
	_, err := tx.Exec(ctx, "delete from hubpg.tombstones where portal_id = $1 and table_name = $2 and record_id = any($3)",
		a.portal, table, ids)
	return err
}
