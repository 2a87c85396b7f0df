package materialize

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// maxEdgePages bounds how long the associations of one record are followed: 500 a page.
const maxEdgePages = 2000

// pairPosition is the cursor of the associations lane of a pair.
type pairPosition struct {
	rest
	Next  int64     `json:"next"` // associations of records of A with smaller ids have been read
	Rows  int64     `json:"rows"` // records of A read so far in this pass
	Of    int64     `json:"of"`   // records of A when the pass began
	Began time.Time `json:"began,omitzero"`
	Again bool      `json:"again,omitempty"` // another pass is due behind this one
}

// pairs walks over the records of A in the table and reads their associations with B, again and again: HubSpot does not
// tell reliably when an association changes.
func (s *step) pairs(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	if s.e.gone(ctx, s.args.Table) {
		return 0, errEnded
	}
	pair, err := s.pair(ctx)
	if err != nil {
		return 0, err
	}
	var p pairPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if wait := p.wait(pace.Pairs); wait > 0 {
		return wait, nil
	}
	if p.Began.IsZero() {
		ready, err := s.beginPair(ctx, pair, &p)
		if err == nil && !ready {
			err = s.stuck(ctx, pair)
		}
		if err != nil || !ready {
			return pace.waitForLife(), err
		}
	}
	for !s.over() {
		ids, err := s.idsAfter(ctx, pair.A, p.Next, hubapi.MaxAssociationInputs)
		if err != nil {
			return 0, err
		}
		if len(ids) == 0 {
			began, again := p.Began, p.Again
			if p = (pairPosition{rest: s.ended(p.rest, began)}); again {
				p = pairPosition{}
			}
			m := move{cursor: c, position: &p, live: true, verified: began}
			return p.wait(pace.Pairs), s.commit(ctx, pair.Name, m, nil)
		}
		p.Next = ids[len(ids)-1] + 1
		p.Rows += int64(len(ids))
		if _, err := s.associate(ctx, pair, ids, changes.Sweep, move{cursor: c, position: &p}); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// beginPair starts a pass once A is complete.
func (s *step) beginPair(ctx context.Context, pair *catalog.Pair, p *pairPosition) (ready bool, err error) {
	err = s.e.cfg.Pool.QueryRow(ctx, `
with begun as (
	update hubpg.objects p
	set phase = 'backfill', backfill_from = now()
	from hubpg.objects a
	where p.portal_id = $1 and p.table_name = $2 and (p.phase = 'new' or p.backfill_from is null)
	and a.portal_id = $1 and a.table_name = $3 and a.backfill_done_at is not null)
select backfill_done_at is not null, row_count
from hubpg.objects
where portal_id = $1 and table_name = $3`, s.args.Portal, pair.Name, pair.A.Name).Scan(&ready, &p.Of)
	if err != nil {
		return false, fmt.Errorf("begin %s: %w", pair.Name, err)
	}
	p.Began, p.rest = time.Now(), rest{}
	return ready, nil
}

// idsAfter returns the next ids of a table in order.
func (s *step) idsAfter(ctx context.Context, t *catalog.Table, from int64, limit int) ([]int64, error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select t.id
from `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+` t
where t.id >= $1 and `+mirror.Live(t)+`
order by t.id
limit $2`, from, limit)
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", t.Name, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", t.Name, err)
	}
	return ids, nil
}

// associate makes the stored associations of records of A with B equal to HubSpot's. It returns the records that are left as
// they are and have to be asked for again.
func (s *step) associate(
	ctx context.Context, pair *catalog.Pair, ids []int64, source changes.Source, m move,
) (open open, err error) {
	got, err := s.edges(ctx, pair.A.Path, pair.B.Path, ids)
	if err != nil {
		return open, err
	}
	open.unanswered = got.unanswered
	batch := &mirror.AssociationBatch{Pair: pair, ReadAt: got.readAt, Source: source, Silent: got.silent}
	for from, list := range got.of {
		batch.From = append(batch.From, from)
		for _, to := range list {
			for _, kind := range to.Types {
				batch.Edges = append(batch.Edges, mirror.Edge{
					A: from, B: to.ToID, TypeID: kind.TypeID, Category: kind.Category, Label: kind.Label,
				})
			}
		}
	}
	slices.Sort(batch.From)
	err = s.commit(ctx, pair.Name, m, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		batch.Quiet = quiet
		res, err := s.e.applier.Associate(ctx, tx, batch)
		if open.silent = res.Doubted; err != nil || s.args.Lane != LanePairs {
			return res, err
		}
		return res, s.askAgain(ctx, tx, pair, res.Doubted)
	})
	return open, err
}

// open are records whose associations are not known.
type open struct {
	unanswered []int64
	silent     []int64 // have associations that HubSpot's answer left out, for the first time
}

func (o *open) add(more open) {
	o.unanswered, o.silent = append(o.unanswered, more.unanswered...), append(o.silent, more.silent...)
}

// askAgain has records of A read again in a while.
func (s *step) askAgain(ctx context.Context, tx pgx.Tx, pair *catalog.Pair, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
insert into hubpg.pending_pairs (portal_id, table_name, record_id, other_table, since)
select $1, $2, id, $3, clock_timestamp() + $5::interval
from unnest($4::bigint[]) as id
order by id
on conflict do nothing`, s.args.Portal, pair.A.Name, pair.B.Name, ids, mirror.SilencePause)
	if err != nil {
		return fmt.Errorf("note records to be asked for again: %w", err)
	}
	return nil
}

// edgeList is what HubSpot said about the associations of some records.
type edgeList struct {
	of         map[int64][]hubapi.AssociatedTo // complete, for each record that HubSpot answered for
	silent     []int64                         // left out of an answer that is complete otherwise
	unanswered []int64
	readAt     time.Time // before the first request
}

// edges reads the associations of records to the end. A record whose last page did not arrive is unanswered.
func (s *step) edges(ctx context.Context, from, to string, ids []int64) (*edgeList, error) {
	list := &edgeList{of: make(map[int64][]hubapi.AssociatedTo, len(ids))}
	inputs := make([]hubapi.AssociationInput, len(ids))
	for i, id := range ids {
		inputs[i].ID = id
	}
	for range maxEdgePages {
		res, err := s.client.BatchReadAssociations(ctx, from, to, inputs)
		if err != nil {
			return nil, err
		}
		if list.readAt.IsZero() {
			list.readAt = res.ReadAt
		}
		inputs = inputs[:0:0]
		for _, r := range res.Results {
			list.of[r.FromID] = append(list.of[r.FromID], r.To...)
			if r.After != "" {
				inputs = append(inputs, hubapi.AssociationInput{ID: r.FromID, After: r.After})
			}
		}
		for _, id := range append(res.Missing, res.Unanswered...) {
			delete(list.of, id) // also when its first pages did arrive
		}
		list.silent = append(list.silent, res.Unmentioned...)
		list.unanswered = append(list.unanswered, res.Unanswered...)
		if len(inputs) == 0 {
			return list, nil
		}
	}
	return nil, fmt.Errorf("associations of record %d have no end after %d pages", inputs[0].ID, maxEdgePages)
}

// queueAssociations notes records whose associations have to be read, because the records changed. Those that changed
// plainly, which tells nothing of associations, may wait for others.
//
// A record that waits gets a new instant with every change, so that a read under way does not settle it, but never a later
// one, so that it is read however often it changes.
func (s *step) queueAssociations(ctx context.Context, tx pgx.Tx, t *target, ids, plain []int64, gather time.Duration) error {
	if gather <= s.e.cfg.Pace.Pending {
		plain = nil
	}
	_, err := tx.Exec(ctx, `
insert into hubpg.pending_associations as p (portal_id, table_name, record_id, since)
select $1, $2, id, clock_timestamp() + case when id = any ($4) then $5::interval else '0' end
from unnest($3::bigint[]) as id
order by id
on conflict (portal_id, table_name, record_id) do update
set tries = 0, other_table = '' /* where an earlier version has set it */, since = case
	when p.since > clock_timestamp() then least(p.since, excluded.since) - interval '1 microsecond'
	else clock_timestamp()
end`, s.args.Portal, t.name(), ids, append([]int64{}, plain...), gather)
	if err != nil {
		return fmt.Errorf("note changed records of %s: %w", t.name(), err)
	}
	return nil
}

// pair returns the association table of the lane.
func (s *step) pair(ctx context.Context) (*catalog.Pair, error) {
	for range 2 {
		cat, err := s.e.catalog(ctx)
		if err != nil {
			return nil, err
		}
		for _, pair := range cat.Pairs {
			if pair.Name == s.args.Table {
				return pair, nil
			}
		}
		s.e.tables.forget() // another process may have just made it
	}
	var known bool
	err := s.e.cfg.Pool.QueryRow(ctx, "select exists (select from hubpg.objects where portal_id = $1 and table_name = $2)",
		s.args.Portal, s.args.Table).Scan(&known)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", s.args.Table, err)
	}
	if !known {
		return nil, errEnded // it was dropped when it was gone
	}
	return nil, errMisshapen
}
