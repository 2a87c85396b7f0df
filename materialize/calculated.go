package materialize

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// calculatedPosition is the cursor of the calculated lane.
type calculatedPosition struct {
	rest
	Next  int64     `json:"next"` // rows with smaller ids have been compared
	Rows  int64     `json:"rows"`
	Began time.Time `json:"began,omitzero"`
}

// calculated walks over the records in the table and reads the values that HubSpot sets by itself: it computes them anew
// without the record counting as modified, so no poll hears of it. Nothing else is asked for, so nothing else is touched;
// a row that was read later than the page keeps what it has.
func (s *step) calculated(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	t, err := s.liveTarget(ctx)
	if err != nil || t == nil {
		return pace.waitForLife(), err
	}
	var p calculatedPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if c.revision == 0 { // a backfill has just done this
		if again, err := s.hastened(ctx, time.Time{}); err != nil {
			return 0, err
		} else if !again {
			p.rest = s.ended(p.rest, time.Now())
			return pace.Calculated, s.commit(ctx, t.name(), move{cursor: c, position: &p}, nil)
		}
	}
	if wait, err := s.sweepWait(ctx, p.rest, pace.Calculated); err != nil || wait > 0 {
		return wait, err
	}
	if p.Began.IsZero() || !p.Ended.IsZero() {
		p = calculatedPosition{Began: time.Now()}
	}
	columns := unbumped(t.table)
	part := &target{table: t.table, columns: columns, projection: projection(columns), number: t.number}
	for !s.over() {
		var ids []int64
		if len(columns) > 0 {
			if ids, err = s.idsAfter(ctx, t.table, p.Next, readsAtOnce*hubapi.MaxPage); err != nil {
				return 0, err
			}
		}
		if len(ids) == 0 {
			p.Next, p.rest = 0, s.ended(p.rest, p.Began)
			return p.wait(pace.Calculated), s.commit(ctx, t.name(), move{cursor: c, position: &p}, nil)
		}
		p.Next = ids[len(ids)-1] + 1
		p.Rows += int64(len(ids))
		if err := s.recalculate(ctx, part, ids, move{cursor: c, position: &p}); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// recalculate reads some columns of records and stores what differs.
func (s *step) recalculate(ctx context.Context, t *target, ids []int64, m move) error {
	got, err := s.readAll(ctx, t, ids)
	if err != nil {
		return err
	}
	batch := t.batch(changes.Sweep)
	batch.ReadAt = got.ReadAt
	for i := range got.Records {
		batch.Rows = append(batch.Rows, row(&got.Records[i]))
	}
	return s.commit(ctx, t.name(), m, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		if err := s.suspect(ctx, tx, t, unread(got)); err != nil {
			return mirror.Result{}, err
		}
		batch.Quiet = quiet
		return s.e.applier.Upsert(ctx, tx, batch)
	})
}

// unbumped lists the columns whose values change without the record being modified: those that HubSpot calculates and
// those that only HubSpot may write. A column that is still being filled is the fill lane's.
func unbumped(t *catalog.Table) []catalog.Column {
	return slices.DeleteFunc(t.Readable(), func(c catalog.Column) bool {
		return !c.Calculated && !c.ReadOnly || !c.Filled || t.Stamp(c.Property)
	})
}
