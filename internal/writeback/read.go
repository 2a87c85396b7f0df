package writeback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// edgesRead are all associations of some records with another table.
type edgesRead struct {
	from   []int64 // records that exist and were read to the end
	silent []int64 // records that HubSpot left out of two answers
	to     map[int64][]hubapi.AssociatedTo
	readAt time.Time // of the first call
}

func (r *edgesRead) of(a, b int64) []hubapi.AssociationType {
	for _, to := range r.to[a] {
		if to.ToID == b {
			return to.Types
		}
	}
	return nil
}

// readEdges reads the associations of records to the end.
func (w *Writer) readEdges(ctx context.Context, p *catalog.Pair, from []int64) (*edgesRead, error) {
	out := &edgesRead{to: map[int64][]hubapi.AssociatedTo{}}
	for chunk := range slices.Chunk(from, hubapi.MaxAssociationInputs) {
		open := make([]hubapi.AssociationInput, len(chunk))
		for i, id := range chunk {
			open[i].ID = id
		}
		var quiet map[int64]bool // records that the first answer left out
		for len(open) > 0 {
			res, err := w.client.BatchReadAssociations(ctx, p.A.Path, p.B.Path, open)
			if err != nil {
				return nil, fmt.Errorf("read associations of %s: %w", p.Name, err)
			}
			if len(res.Unanswered) > 0 {
				return nil, fmt.Errorf("read associations of %s: %d records were not answered", p.Name, len(res.Unanswered))
			}
			if out.readAt.IsZero() {
				out.readAt = res.ReadAt
			}
			open = open[:0]
			for _, r := range res.Results {
				out.to[r.FromID] = append(out.to[r.FromID], r.To...)
				if r.After != "" {
					open = append(open, hubapi.AssociationInput{ID: r.FromID, After: r.After})
				} else {
					out.from = append(out.from, r.FromID)
				}
			}
			for _, id := range res.Unmentioned {
				if quiet[id] {
					out.silent = append(out.silent, id)
					continue
				}
				if quiet == nil {
					quiet = map[int64]bool{}
				}
				quiet[id] = true
				open = append(open, hubapi.AssociationInput{ID: id})
			}
		}
	}
	return out, nil
}

// refreshRecords makes the rows of records what HubSpot says now.
func (w *Writer) refreshRecords(ctx context.Context, table string, ids []int64) error {
	slices.Sort(ids)
	for _, again := range []bool{true, false} {
		cat, err := w.catalog(ctx)
		if err != nil {
			return err
		}
		t := cat.Named(table)
		if t == nil {
			return nil // retired meanwhile
		}
		err = w.refresh(ctx, t, slices.Compact(ids))
		if !again || !errors.Is(err, mirror.ErrStaleCatalog) {
			return err
		}
		w.forget()
	}
	return nil
}

func (w *Writer) refresh(ctx context.Context, t *catalog.Table, ids []int64) error {
	columns := t.Readable()
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Property
	}
	projection := hubapi.NewProjection(names)
	for chunk := range slices.Chunk(ids, hubapi.MaxPage) {
		found, err := w.client.BatchRead(ctx, t.Path, chunk, projection)
		if err != nil {
			return fmt.Errorf("read %s again: %w", t.Name, err)
		}
		b := &mirror.Batch{Table: t, Columns: columns, ReadAt: found.ReadAt, Source: changes.Write}
		for _, r := range found.Records {
			b.Rows = append(b.Rows, mirror.Row{ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Values: r.Values})
		}
		merged := make([]int64, 0, len(found.Moved))
		for old := range found.Moved {
			merged = append(merged, old)
		}
		if err := w.store(ctx, func(tx pgx.Tx) error {
			if _, err := w.applier.Delete(ctx, tx, t, found.Missing, found.ReadAt, changes.Delete, changes.Write); err != nil {
				return err
			}
			if _, err := w.applier.Delete(ctx, tx, t, merged, found.ReadAt, changes.Merge, changes.Write); err != nil {
				return err
			}
			_, err := w.applier.Upsert(ctx, tx, b)
			return err
		}); err != nil {
			return fmt.Errorf("store %s again: %w", t.Name, err)
		}
		if len(found.Unanswered) > 0 {
			return fmt.Errorf("read %s again: %d records were not answered", t.Name, len(found.Unanswered))
		}
	}
	return nil
}

// store runs f in a transaction of its own, as [mirror.Store] does. It may wait, through an applier, for a client's write, which asks
// for quota by a connection of the same pool: so not all of those may wait here.
func (w *Writer) store(ctx context.Context, f func(pgx.Tx) error) error {
	select {
	case w.storing <- struct{}{}:
		defer func() { <-w.storing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return mirror.Store(ctx, w.pool, f)
}

// refreshEdges makes the associations of records what HubSpot says now.
func (w *Writer) refreshEdges(ctx context.Context, table string, from []int64) error {
	cat, err := w.catalog(ctx)
	if err != nil {
		return err
	}
	p := pairNamed(cat, table)
	if p == nil {
		return nil
	}
	slices.Sort(from)
	read, err := w.readEdges(ctx, p, slices.Compact(from))
	if err != nil {
		return err
	}
	b := &mirror.AssociationBatch{Pair: p, From: read.from, Silent: read.silent, ReadAt: read.readAt, Source: changes.Write}
	for _, a := range read.from {
		for _, to := range read.to[a] {
			for _, t := range to.Types {
				b.Edges = append(b.Edges, mirror.Edge{A: a, B: to.ToID, TypeID: t.TypeID, Category: t.Category, Label: t.Label})
			}
		}
	}
	var doubted []int64
	if err := w.store(ctx, func(tx pgx.Tx) error {
		res, err := w.applier.Associate(ctx, tx, b)
		doubted = res.Doubted
		return err
	}); err != nil {
		return fmt.Errorf("store associations of %s again: %w", table, err)
	}
	if len(doubted) > 0 { // the settling is tried again
		return fmt.Errorf("read associations of %s again: %d records were left out of the answer", table, len(doubted))
	}
	return nil
}
