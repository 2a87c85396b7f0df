package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
			began := p.Began
			p = pairPosition{rest: restAfter(began)}
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

// associate makes the stored associations of records of A with B equal to HubSpot's. It returns the records that HubSpot
// said nothing about, which are left as they are.
func (s *step) associate(
	ctx context.Context, pair *catalog.Pair, ids []int64, source changes.Source, m move,
) (unanswered []int64, err error) {
	got, err := s.edges(ctx, pair.A.Path, pair.B.Path, ids)
	if err != nil {
		return nil, err
	}
	batch := &mirror.AssociationBatch{Pair: pair, ReadAt: got.readAt, Source: source}
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
	return got.unanswered, s.commit(ctx, pair.Name, m, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		batch.Quiet = quiet
		return s.e.applier.Associate(ctx, tx, batch)
	})
}

// edgeList is what HubSpot said about the associations of some records.
type edgeList struct {
	of         map[int64][]hubapi.AssociatedTo // complete, for each record that HubSpot answered for
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
		list.unanswered = append(list.unanswered, res.Unanswered...)
		if len(inputs) == 0 {
			return list, nil
		}
	}
	return nil, fmt.Errorf("associations of record %d have no end after %d pages", inputs[0].ID, maxEdgePages)
}

// queueAssociations notes records whose associations have to be read, because the records changed.
func (s *step) queueAssociations(ctx context.Context, tx pgx.Tx, t *target, ids []int64) error {
	_, err := tx.Exec(ctx, `
insert into hubpg.pending_associations (portal_id, table_name, record_id)
select $1, $2, id
from unnest($3::bigint[]) as id
order by id
on conflict (portal_id, table_name, record_id) do update
set since = clock_timestamp()`, s.args.Portal, t.name(), ids)
	if err != nil {
		return fmt.Errorf("note changed records of %s: %w", t.name(), err)
	}
	return nil
}

// changed is a number of records of one table whose associations are due.
type changed struct {
	table string
	ids   []int64
	since []time.Time
}

// pending reads the associations of changed records, many records in one call per pair.
func (s *step) pending(ctx context.Context) (time.Duration, error) {
	for !s.over() {
		due, err := s.due(ctx)
		if err != nil || len(due.ids) == 0 {
			return s.e.cfg.Pace.Pending, err
		}
		cat, err := s.e.catalog(ctx)
		if err != nil {
			return 0, err
		}
		counts, err := s.rowCounts(ctx)
		if err != nil {
			return 0, err
		}
		postponed, failure, err := s.pendingPairs(ctx, cat.Pairs, due, counts)
		if err != nil {
			return 0, fmt.Errorf("associations of changed %s: %w", due.table, err)
		}
		if err := s.settle(ctx, due, postponed); err != nil {
			return 0, err
		}
		if failure != nil {
			return 0, fmt.Errorf("associations of changed %s: %w", due.table, failure)
		}
	}
	return 0, nil
}

// pendingPairs brings all pairs up to date for changed records. One that fails does not keep the others waiting: failure
// says why it did, and the records are among those postponed.
func (s *step) pendingPairs(
	ctx context.Context, pairs []*catalog.Pair, c changed, counts map[string]int64,
) (postponed []int64, failure, err error) {
	for _, pair := range pairs {
		unanswered, err := s.pendingPair(ctx, pair, c, counts)
		// What is wrong with a pair is shown as the failure of its own lane, which looks again soon.
		if _, ok := errors.AsType[*hubapi.ScopeError](err); ok {
			s.e.showFailure(ctx, laneArgs{s.args.Portal, pair.Name, LanePairs}, err)
			err = s.passAgain(ctx, pair)
		} else if _, ok := errors.AsType[*hubapi.UnavailableError](err); ok {
			s.e.showFailure(ctx, laneArgs{s.args.Portal, pair.Name, LanePairs}, err)
			failure, unanswered, err = err, c.ids, nil
		}
		if err != nil {
			return nil, nil, err
		}
		postponed = append(postponed, unanswered...)
	}
	return postponed, failure, nil
}

// passAgain makes the next pass over a pair due at once. It is for changes that cannot be looked at now, because HubSpot
// does not show one of the types: the pass is tried until it does, and finds them all.
func (s *step) passAgain(ctx context.Context, pair *catalog.Pair) error {
	a := laneArgs{s.args.Portal, pair.Name, LanePairs}
	tag, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.cursors
set position = position - 'ended' - 'took', revision = revision + 1
where portal_id = $1 and table_name = $2 and lane = $3 and key = '' and position ? 'ended'`, a.Portal, a.Table, a.Lane)
	if err == nil && tag.RowsAffected() > 0 {
		_, err = s.e.cfg.Pool.Exec(ctx, `
update hubpg.river_job
set scheduled_at = now()
where kind = $1 and state in ('available', 'scheduled') and args @> $2`, laneKind, a)
	}
	if err != nil {
		return fmt.Errorf("begin another pass over %s: %w", pair.Name, err)
	}
	return nil
}

// due returns the records that have waited longest, of one table, at most as many as one call takes.
func (s *step) due(ctx context.Context) (changed, error) {
	var c changed
	rows, err := s.e.cfg.Pool.Query(ctx, `
select table_name, record_id, since
from hubpg.pending_associations
where portal_id = $1 and table_name = (
	select table_name
	from hubpg.pending_associations
	where portal_id = $1
	order by since
	limit 1)
order by since
limit $2`, s.args.Portal, hubapi.MaxAssociationInputs)
	if err != nil {
		return c, fmt.Errorf("read changed records: %w", err)
	}
	var (
		id    int64
		since time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&c.table, &id, &since}, func() error {
		c.ids, c.since = append(c.ids, id), append(c.since, since)
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("read changed records: %w", err)
	}
	return c, nil
}

// unreadableRows is the number of rows of a table that HubSpot does not show at the moment.
const unreadableRows = -1

// rowCounts returns how many rows each table that can hold associations has; tables without rows have none.
func (s *step) rowCounts(ctx context.Context) (map[string]int64, error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select table_name, case phase when 'live' then row_count when 'degraded' then $2 when 'gone' then 0 else row_count + 1 end
from hubpg.objects
where portal_id = $1`, s.args.Portal, int64(unreadableRows))
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	counts := map[string]int64{}
	var (
		name string
		n    int64
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		counts[name] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	return counts, nil
}

// pendingPair brings one pair up to date for changed records of either end. From B's end, only records of A that
// are linked on one side and not on the other are read again: a label that changed while both links stayed is found
// when A changes, or by the next pass over the pair.
func (s *step) pendingPair(ctx context.Context, pair *catalog.Pair, c changed, counts map[string]int64) ([]int64, error) {
	if pair.A.Name != c.table && pair.B.Name != c.table || counts[pair.A.Name] == 0 || counts[pair.B.Name] == 0 {
		return nil, nil
	}
	if counts[pair.A.Name] == unreadableRows || counts[pair.B.Name] == unreadableRows {
		return nil, s.passAgain(ctx, pair)
	}
	var unanswered []int64
	if pair.A.Name == c.table {
		left, err := s.associate(ctx, pair, c.ids, changes.Follow, move{})
		if err != nil {
			return nil, err
		}
		unanswered = left
	}
	if pair.B.Name != c.table || pair.A.Name == pair.B.Name {
		return unanswered, nil
	}
	got, err := s.edges(ctx, pair.B.Path, pair.A.Path, c.ids)
	if err != nil {
		return nil, err
	}
	differ, err := s.differing(ctx, pair, got)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(differ, hubapi.MaxAssociationInputs) {
		if _, err := s.associate(ctx, pair, part, changes.Follow, move{}); err != nil {
			return nil, err
		}
	}
	return append(unanswered, got.unanswered...), nil
}

// differing returns the records of A that are linked with B's records at HubSpot and not in the table, or the reverse.
func (s *step) differing(ctx context.Context, pair *catalog.Pair, got *edgeList) ([]int64, error) {
	type link struct{ a, b int64 }
	theirs := map[link]bool{}
	asked := make([]int64, 0, len(got.of))
	for b, list := range got.of {
		asked = append(asked, b)
		for _, to := range list {
			theirs[link{to.ToID, b}] = true
		}
	}
	colA, colB := pgx.Identifier{pair.ColumnA()}.Sanitize(), pgx.Identifier{pair.ColumnB()}.Sanitize()
	rows, err := s.e.cfg.Pool.Query(ctx, `
select distinct `+colA+`, `+colB+`
from `+pgx.Identifier{pair.Schema, pair.Name}.Sanitize()+`
where `+colB+` = any ($1)`, asked)
	if err != nil {
		return nil, fmt.Errorf("read links of %s: %w", pair.Name, err)
	}
	differ := map[int64]bool{}
	var l link
	_, err = pgx.ForEachRow(rows, []any{&l.a, &l.b}, func() error {
		if theirs[l] {
			delete(theirs, l)
		} else {
			differ[l.a] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read links of %s: %w", pair.Name, err)
	}
	for l := range theirs {
		differ[l.a] = true
	}
	ids := make([]int64, 0, len(differ))
	for id := range differ {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// settle takes records off the list, unless they have changed again meanwhile, and sends those that HubSpot said nothing
// about to the back of the queue.
func (s *step) settle(ctx context.Context, c changed, postponed []int64) error {
	tag, err := s.e.cfg.Pool.Exec(ctx, `
delete from hubpg.pending_associations p
using unnest($3::bigint[], $4::timestamptz[]) as d (record_id, since)
where p.portal_id = $1 and p.table_name = $2 and p.record_id = d.record_id and p.since = d.since
and p.record_id <> all ($5)`, s.args.Portal, c.table, c.ids, c.since, append([]int64{}, postponed...))
	if err == nil && len(postponed) > 0 {
		_, err = s.e.cfg.Pool.Exec(ctx, `
update hubpg.pending_associations
set since = clock_timestamp()
where portal_id = $1 and table_name = $2 and record_id = any ($3)`, s.args.Portal, c.table, postponed)
	}
	if err != nil {
		return fmt.Errorf("settle changed records: %w", err)
	}
	s.e.log.Debug("associations read", slog.String("object", c.table), slog.Int64("records", tag.RowsAffected()))
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
	return nil, fmt.Errorf("association table %s is not in the catalog", s.args.Table)
}
