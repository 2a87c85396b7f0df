package materialize

import (
	"context"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// Bounds of a refresh.
const (
	readsAtOnce = 4                   // batches on the way at a time
	chunkIDs    = 10 * hubapi.MaxPage // records that one transaction stores
)

// unseen returns the ids of hits whose version is not stored yet.
func (s *step) unseen(ctx context.Context, t *target, hits []hit) ([]int64, error) {
	var open []hit
	for _, h := range hits {
		if !s.e.seen.has(t.number, h) {
			open = append(open, h)
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	ids := make([]int64, len(open))
	for i, h := range open {
		ids[i] = h.id
	}
	known, err := mirror.Known(ctx, s.e.cfg.Pool, t.table, ids)
	if err != nil {
		return nil, err
	}
	ids = ids[:0]
	for _, h := range open {
		if version, ok := known[h.id]; ok && version.UnixMilli() >= h.updated {
			s.e.seen.add(t.number, h.id, version.UnixMilli())
			continue
		}
		ids = append(ids, h.id)
	}
	return ids, nil
}

// refresh reads records by id and stores what HubSpot says now. The cursor of m moves with the last of them; earlier
// chunks are stored without it, which a repeated step finds stored already.
func (s *step) refresh(ctx context.Context, t *target, ids []int64, source changes.Source, m move) error {
	for len(ids) > chunkIDs {
		if err := s.refreshChunk(ctx, t, ids[:chunkIDs], source, move{}); err != nil {
			return err
		}
		ids = ids[chunkIDs:]
	}
	return s.refreshChunk(ctx, t, ids, source, m)
}

func (s *step) refreshChunk(ctx context.Context, t *target, ids []int64, source changes.Source, m move) error {
	if len(ids) == 0 {
		return s.commit(ctx, t.name(), m, nil)
	}
	got, err := s.readAll(ctx, t, ids)
	if err != nil {
		return err
	}
	batch := t.batch(source)
	batch.ReadAt = got.ReadAt
	stored := make([]int64, 0, len(got.Records))
	for i := range got.Records {
		batch.Rows = append(batch.Rows, row(&got.Records[i]))
		stored = append(stored, got.Records[i].ID)
	}
	gather, err := s.gather(ctx)
	if err != nil {
		return err
	}
	err = s.commit(ctx, t.name(), m, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		if err := s.suspect(ctx, tx, t, unread(got)); err != nil {
			return mirror.Result{}, err
		}
		if len(batch.Rows) == 0 {
			return mirror.Result{}, nil
		}
		batch.Quiet = quiet
		res, err := s.e.applier.Upsert(ctx, tx, batch)
		if err != nil {
			return res, err
		}
		return res, s.queueAssociations(ctx, tx, t, stored, res.Plain, gather)
	})
	if err != nil {
		return err
	}
	for i := range got.Records {
		s.e.seen.add(t.number, got.Records[i].ID, got.Records[i].UpdatedAt.UnixMilli())
	}
	return nil
}

// readAll reads records by id in batches, several at a time. ReadAt is that of the earliest.
func (s *step) readAll(ctx context.Context, t *target, ids []int64) (*hubapi.BatchResult, error) {
	batches := make([]*hubapi.BatchResult, (len(ids)+hubapi.MaxPage-1)/hubapi.MaxPage)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsAtOnce)
	for i := range batches {
		part := ids[i*hubapi.MaxPage : min((i+1)*hubapi.MaxPage, len(ids))]
		g.Go(func() (err error) {
			batches[i], err = s.read(ctx, t.table.Path, part, t.projection)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := batches[0]
	for _, b := range batches[1:] {
		all.Add(b)
	}
	return all, nil
}

// unread lists the ids for which a read did not return a record: they are suspects.
func unread(b *hubapi.BatchResult) []int64 { return append(gone(b), b.Unanswered...) }

// gone lists the ids that a read did not find under their own id.
func gone(b *hubapi.BatchResult) []int64 {
	ids := append([]int64(nil), b.Missing...)
	for id := range b.Moved {
		ids = append(ids, id)
	}
	return ids
}
