package materialize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// repairTries bounds how often a store is repeated because the table's columns have changed meanwhile.
const repairTries = 5

// repairs stores what HubSpot says now in tables that are in use. Every store is a transaction of its own through the
// applier, so readers and lanes go on.
type repairs struct {
	pool    *pgxpool.Pool
	client  *hubapi.Client
	applier *mirror.Applier
	mapper  *mirror.Mapper
	changed int64 // rows that were not as HubSpot has them
}

func newRepairs(ctx context.Context, v *VerifyConfig, schema string) (*repairs, error) {
	notify := mirror.NotifyOff
	if v.RowNotify {
		notify = mirror.NotifyRows
	}
	var zone string
	if err := v.Pool.QueryRow(ctx, "select time_zone from hubpg.accounts where portal_id = $1", v.PortalID).Scan(&zone); err != nil {
		return nil, fmt.Errorf("look for account %d: %w", v.PortalID, err)
	}
	return &repairs{
		pool: v.Pool, client: v.Client,
		applier: mirror.NewApplier(mirror.Config{PortalID: v.PortalID, Notify: notify}),
		mapper:  mirror.NewMapper(mirror.MapperConfig{PortalID: v.PortalID, Schema: schema, TimeZone: zone}),
	}, nil
}

// records reads records by id and stores what HubSpot says, also over rows that claim a later version: the row has to
// give way to the record, whatever brought it there. It returns the table as it is now.
func (r *repairs) records(ctx context.Context, t *catalog.Table, ids []int64) (*catalog.Table, error) {
	for chunk := range slices.Chunk(ids, hubapi.MaxPage) {
		var err error
		t, err = r.withColumns(ctx, t, func(t *target) (mirror.Result, error) { return r.readAndStore(ctx, t, chunk) })
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

func (r *repairs) readAndStore(ctx context.Context, t *target, ids []int64) (mirror.Result, error) {
	var sum mirror.Result
	got, err := batchRead(ctx, r.client, t.table.Path, ids, t.projection)
	if err != nil {
		return sum, err
	}
	var erased []int64
	if t.table.Soft && len(got.Missing) > 0 {
		bin, err := r.client.BatchReadArchived(ctx, t.table.Path, got.Missing, hubapi.NewProjection(nil))
		if err != nil {
			return sum, err
		}
		erased = bin.Missing
	}
	batch := t.batch(changes.Repair)
	batch.ReadAt, batch.Force = got.ReadAt, true
	for i := range got.Records {
		batch.Rows = append(batch.Rows, row(&got.Records[i]))
	}
	err = mirror.Store(ctx, r.pool, func(tx pgx.Tx) error {
		sum = mirror.Result{}
		if err := r.applier.Lock(ctx, tx, t.table.Schema, t.name(), mirror.Merges); err != nil {
			return err
		}
		for _, work := range []func() (mirror.Result, error){
			func() (mirror.Result, error) {
				return r.applier.Delete(ctx, tx, t.table, got.Missing, got.ReadAt, changes.Delete, changes.Repair)
			},
			func() (mirror.Result, error) {
				return r.applier.Erase(ctx, tx, t.table, erased, got.ReadAt, changes.Repair)
			},
			func() (mirror.Result, error) {
				return r.applier.Merge(ctx, tx, t.table, got.Moved, got.ReadAt, changes.Repair)
			},
			func() (mirror.Result, error) { return r.applier.Upsert(ctx, tx, batch) },
		} {
			res, err := work()
			if err != nil {
				return err
			}
			sum.Inserted, sum.Updated, sum.Deleted = sum.Inserted+res.Inserted, sum.Updated+res.Updated, sum.Deleted+res.Deleted
		}
		return nil
	})
	return sum, err
}

// withColumns runs a store with the table's columns, once more when they turn out to have changed or not to fit.
func (r *repairs) withColumns(
	ctx context.Context, t *catalog.Table, store func(*target) (mirror.Result, error),
) (*catalog.Table, error) {
	for try := 1; ; try++ {
		res, err := store(newTarget(t, 0))
		wide, isWide := errors.AsType[*mirror.WideRowError](err)
		switch {
		case err == nil:
			r.changed += int64(res.Inserted + res.Updated + res.Deleted)
			return t, nil
		case try == repairTries:
			return t, err
		case isWide:
			if _, err := r.mapper.Narrow(ctx, r.pool, wide.Table); err != nil {
				return t, err
			}
		case !errors.Is(err, mirror.ErrStaleCatalog):
			return t, err
		}
		cat, err := r.mapper.Load(ctx, r.pool)
		if err != nil {
			return t, err
		}
		if t = cat.Named(t.Name); t == nil {
			return nil, mirror.ErrUnknownTable
		}
	}
}

// edges stores the associations that records of A have, which were read since readAt, and returns the records to ask for again
// after [mirror.SilencePause].
func (r *repairs) edges(ctx context.Context, p *catalog.Pair, ids []int64, read *verifyEdges, readAt time.Time) (doubted []int64, err error) {
	batch := &mirror.AssociationBatch{Pair: p, Silent: read.silent, ReadAt: readAt, Source: changes.Repair}
	batch.From = slices.DeleteFunc(slices.Clone(ids), func(id int64) bool { return slices.Contains(read.silent, id) })
	for e, label := range read.labels {
		batch.Edges = append(batch.Edges, mirror.Edge{A: e.A, B: e.B, TypeID: e.TypeID, Category: e.Category, Label: label})
	}
	err = r.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) {
		res, err := r.applier.Associate(ctx, tx, batch)
		doubted = res.Doubted
		return res, err
	})
	return doubted, err
}

// apply stores in a transaction and counts.
func (r *repairs) apply(ctx context.Context, store func(tx pgx.Tx) (mirror.Result, error)) error {
	var res mirror.Result
	err := mirror.Store(ctx, r.pool, func(tx pgx.Tx) (err error) {
		res, err = store(tx)
		return err
	})
	if err == nil {
		r.changed += int64(res.Inserted + res.Updated + res.Deleted)
	}
	return err
}
