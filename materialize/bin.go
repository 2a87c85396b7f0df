package materialize

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// binLife is for how long after hubpg learned of a deletion the record must be in HubSpot's recycle bin, unless it was
// erased. HubSpot empties the bin 90 days after the deletion; what remains is how late hubpg may have learned of it.
const binLife = 60 * 24 * time.Hour

// listed ends the part of a pass in which live records are listed. Where rows of deleted records stay, those are next.
func (s *step) listed(t *target, p *sweepPosition) {
	if t.table.Soft {
		p.Next, p.Bin = "", 1
		return
	}
	s.finish(p)
}

// bin looks whether the next of the deleted records whose rows have stayed are still in HubSpot's recycle bin. Those that
// are not may have been erased, with or without a request to forget the person, or restored, or merged: they are suspects.
func (s *step) bin(ctx context.Context, t *target, c *cursor, p *sweepPosition) (done bool, err error) {
	archivedAt := pgx.Identifier{catalog.ArchivedAt}.Sanitize()
	rows, err := s.e.cfg.Pool.Query(ctx, `
select t.id
from `+t.ident()+` t
where t.id >= $1 and not (`+mirror.Live(t.table)+`) and t.`+archivedAt+` > now() - $2::interval
order by t.id
limit $3`, p.Bin, binLife, hubapi.MaxPage)
	if err != nil {
		return false, fmt.Errorf("list deleted records of %s: %w", t.name(), err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return false, fmt.Errorf("list deleted records of %s: %w", t.name(), err)
	}
	if len(ids) == 0 {
		s.finish(p)
		return true, s.commit(ctx, t.name(), move{cursor: c, position: p}, nil)
	}
	got, err := s.client.BatchReadArchived(ctx, t.table.Path, ids, hubapi.NewProjection(nil))
	if err != nil {
		return false, err
	}
	p.Bin = ids[len(ids)-1] + 1
	return false, s.commit(ctx, t.name(), move{cursor: c, position: p}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
		return mirror.Result{}, s.suspect(ctx, tx, t, unread(got))
	})
}
