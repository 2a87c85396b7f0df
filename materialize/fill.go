package materialize

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// longestFillWait is how long a new column waits for a clock that is ahead. One that is further ahead is wrong, not fast.
const longestFillWait = time.Hour

// fillPosition is the cursor of the fill lane.
type fillPosition struct {
	Properties string `json:"properties"` // being filled, joined; another set starts over
	Version    int64  `json:"version"`    // of the catalog; with another, they may be due again from the first row on
	Next       int64  `json:"next"`       // rows with smaller ids have their values
	Rows       int64  `json:"rows"`
	// Until is when the last row was read that was there before the fill, by the clock of whoever read it.
	Until time.Time `json:"until"`
}

// fill reads the values of properties that are younger than the table for the rows that were there before them. Only
// those properties are asked for, so nothing else is touched. Rows that are stored anew meanwhile have the values
// already: the applier refuses rows whose columns are not all that the catalog has. Those of before are not to look as if they
// were younger than what is read for them, so it waits where a machine whose clock is ahead has stored some.
//
// Then it reads those again whose definition was changed, because that may have been a return from the archive; what
// differs there is news, and in the change log.
func (s *step) fill(ctx context.Context) (time.Duration, error) {
	t, err := s.liveTarget(ctx)
	if err != nil || t == nil {
		return s.e.cfg.Pace.waitForLife(), err
	}
	columns := t.table.Unfilled()
	if len(columns) == 0 { // the lane may have been started for columns that are younger than this process's catalog
		s.e.tables.forget()
		if t, err = s.target(ctx); err != nil {
			return 0, err
		}
		if columns = t.table.Unfilled(); len(columns) == 0 {
			return 0, errEnded
		}
	}
	columns, news := due(columns)
	var p fillPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if names := joined(columns); p.Properties != names || p.Version != t.table.Version {
		p = fillPosition{Properties: names, Version: t.table.Version}
		if p.Until, err = s.lastRead(ctx, t); err != nil {
			return 0, err
		}
		if ahead := time.Until(p.Until); ahead > longestFillWait {
			s.e.log.Warn("rows were read in the future: new columns of those stay empty until they change; set the clocks of all machines",
				slog.String("object", t.name()), slog.Duration("ahead", ahead))
			p.Until = time.Now().Add(longestFillWait)
		}
	}
	if wait := time.Until(p.Until); wait > 0 {
		return wait, s.commit(ctx, t.name(), move{cursor: c, position: &p}, nil)
	}
	asked := projection(columns)
	for !s.over() {
		ids, err := s.idsAfter(ctx, t.table, p.Next, chunkIDs)
		if err != nil {
			return 0, err
		}
		if len(ids) == 0 {
			return 0, s.filled(ctx, t, c, columns)
		}
		records, open, readAt, err := s.readColumns(ctx, t, ids, asked)
		if err != nil {
			return 0, err
		}
		p.Next = ids[len(ids)-1] + 1
		p.Rows += int64(len(ids))
		batch := &mirror.Batch{
			Table: t.table, Columns: columns, ReadAt: readAt, Source: changes.Schema,
			Quiet: !news && !s.e.cfg.BackfillEvents,
		}
		for i := range records {
			batch.Rows = append(batch.Rows, row(&records[i]))
		}
		err = s.commit(ctx, t.name(), move{cursor: c, position: &p}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
			if err := s.suspect(ctx, tx, t, open); err != nil { // they are read with all columns
				return mirror.Result{}, err
			}
			return s.e.applier.Upsert(ctx, tx, batch)
		})
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// lastRead returns when the youngest row of the table was read.
func (s *step) lastRead(ctx context.Context, t *target) (at time.Time, err error) {
	err = s.e.cfg.Pool.QueryRow(ctx, "select coalesce(max(_read_at), 'epoch') from "+t.ident()).Scan(&at)
	if err != nil {
		return at, fmt.Errorf("look when %s was read: %w", t.name(), err)
	}
	return at, nil
}

// due returns those of columns that are to be read now, and whether they have been read before.
func due(columns []catalog.Column) (first []catalog.Column, again bool) {
	for _, c := range columns {
		if !c.Lapsed {
			first = append(first, c)
		}
	}
	if len(first) == 0 {
		return columns, true
	}
	return first, false
}

// filled records that the columns are complete and ends the lane, unless others are due.
func (s *step) filled(ctx context.Context, t *target, c *cursor, columns []catalog.Column) error {
	err := s.commit(ctx, t.name(), move{cursor: c, position: fillPosition{}}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
		return mirror.Result{}, s.e.mapper.Filled(ctx, tx, t.table, columns)
	})
	if err != nil {
		return err
	}
	s.e.tables.forget()
	if len(columns) < len(t.table.Unfilled()) {
		return nil
	}
	return errEnded
}

// readColumns reads some properties of records in batches, several at a time.
func (s *step) readColumns(
	ctx context.Context, t *target, ids []int64, p *hubapi.Projection,
) (records []hubapi.Record, open []int64, readAt time.Time, err error) {
	batches := slices.Collect(slices.Chunk(ids, hubapi.MaxPage))
	results := make([]*hubapi.BatchResult, len(batches))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsAtOnce)
	for i, part := range batches {
		g.Go(func() (err error) {
			results[i], err = s.read(ctx, t.table.Path, part, p)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("read new properties: %w", err)
	}
	for _, r := range results {
		records, open = append(records, r.Records...), append(open, unread(r)...)
		if readAt.IsZero() || r.ReadAt.Before(readAt) {
			readAt = r.ReadAt
		}
	}
	return records, open, readAt, nil
}

func joined(columns []catalog.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Property
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}
