package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// changed is a number of records of one table whose associations are due, all of them (of hubpg.pending_associations) or
// those with records of one other table (of hubpg.pending_pairs).
type changed struct {
	table string
	other string // "" for all
	ids   []int64
	since []time.Time
}

// concerns says whether the records may have associations of a pair that are due.
func (c changed) concerns(p *catalog.Pair) bool {
	ends := [2]string{p.A.Name, p.B.Name}
	return slices.Contains(ends[:], c.table) && (c.other == "" || ends == [2]string{c.table, c.other} || ends == [2]string{c.other, c.table})
}

// list is the table in which the records wait.
func (c changed) list() string {
	if c.other == "" {
		return "hubpg.pending_associations"
	}
	return "hubpg.pending_pairs"
}

// pending reads the associations of changed records, many records in one call per pair.
func (s *step) pending(ctx context.Context) (time.Duration, error) {
	err := s.spread(s.e.cfg.Pace.Pending, func(inHand []string) (string, func() error, error) {
		due, err := s.due(ctx, inHand)
		if err != nil || len(due.ids) == 0 {
			return "", nil, err
		}
		return due.table, func() error { return s.pendingOf(ctx, due) }, nil
	})
	if err != nil || s.over() {
		return 0, err
	}
	return s.e.cfg.Pace.Pending, nil
}

// pendingOf reads the associations of changed records of one table.
func (s *step) pendingOf(ctx context.Context, c changed) error {
	counts, names, err := s.rowCounts(ctx)
	if err != nil {
		return err
	}
	pairs, err := s.pairsNamed(ctx, names)
	if err != nil {
		return err
	}
	left, failing, err := s.pendingPairs(ctx, pairs, c, counts)
	if err != nil {
		return fmt.Errorf("associations of changed %s: %w", c.table, err)
	}
	given, err := s.settle(ctx, c, left)
	if err != nil {
		return err
	}
	for _, pair := range failing {
		if !given {
			break
		}
		if err := s.passAgain(ctx, pair); err != nil {
			return err
		}
	}
	return nil
}

// pendingPairs brings all pairs up to date for changed records. What is wrong with a pair is shown as the failure of its own
// lane, and does not keep the others waiting: the records of one that fails are among those postponed, and one that HubSpot
// does not show is passed over when it does.
func (s *step) pendingPairs(
	ctx context.Context, pairs []*catalog.Pair, c changed, counts map[string]int64,
) (left open, failing []*catalog.Pair, err error) {
	for _, pair := range pairs {
		of, err := s.pendingPair(ctx, pair, c, counts)
		switch {
		case err == nil:
		case unreadable(err):
			s.e.showFailure(ctx, laneArgs{s.args.Portal, pair.Name, LanePairs}, err)
			if err := s.passAgain(ctx, pair); err != nil {
				return left, nil, err
			}
		case ctx.Err() != nil || ofTheAccount(err):
			return left, nil, err
		default:
			s.e.showFailure(ctx, laneArgs{s.args.Portal, pair.Name, LanePairs}, err)
			of, failing = open{unanswered: c.ids}, append(failing, pair)
		}
		left.add(of)
	}
	return left, failing, nil
}

// ofTheAccount says that an error is not about what was asked for, but about the quota, the token or the database.
func ofTheAccount(err error) bool {
	if _, ok := errors.AsType[*hubapi.RateError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*hubapi.AuthError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return !strings.HasPrefix(pg.Code, "42") // of a table that is not there, or not ours
	}
	return away(err) || errors.Is(err, errMoved) || errors.Is(err, errSchemaMoved)
}

// passAgain makes the next pass over a pair due at once. It is for changes that cannot be looked at now, because HubSpot
// does not show one of the types: the pass is tried until it does, and finds them all. One that is under way may have gone by them:
// another follows it.
func (s *step) passAgain(ctx context.Context, pair *catalog.Pair) error {
	a := laneArgs{s.args.Portal, pair.Name, LanePairs}
	tag, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.cursors
set position = case when position ? 'ended' then position - 'ended' - 'took' else position || '{"again": true}' end, revision = revision + 1
where portal_id = $1 and table_name = $2 and lane = $3 and key = ''
and (position ? 'ended' or position ? 'began' and not position ? 'again')`, a.Portal, a.Table, a.Lane)
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

// due returns the records that have waited longest, of one table that is not in hand, at most as many as one call takes. Those
// that were to wait for others go with them.
func (s *step) due(ctx context.Context, inHand []string) (changed, error) {
	return s.waiting(ctx, `
select table_name, '', record_id, since
from hubpg.pending_associations
where portal_id = $1 and table_name = (
	select table_name
	from hubpg.pending_associations
	where portal_id = $1 and since <= clock_timestamp() and table_name <> all ($3)
	order by since
	limit 1)
and (since <= clock_timestamp() or tries = 0)
order by since
limit $2`, inHand)
}

// duePairs is due for what waits to be read in one pair. What is in hand is named after both tables.
func (s *step) duePairs(ctx context.Context, inHand []string) (changed, error) {
	return s.waiting(ctx, `
select table_name, other_table, record_id, since
from hubpg.pending_pairs
where portal_id = $1 and (table_name, other_table) = (
	select table_name, other_table
	from hubpg.pending_pairs
	where portal_id = $1 and since <= clock_timestamp() and table_name || ' ' || other_table <> all ($3)
	order by since
	limit 1)
and since <= clock_timestamp()
order by since
limit $2`, inHand)
}

func (s *step) waiting(ctx context.Context, sql string, inHand []string) (c changed, err error) {
	rows, err := s.e.cfg.Pool.Query(ctx, sql, s.args.Portal, hubapi.MaxAssociationInputs, inHand)
	if err != nil {
		return c, fmt.Errorf("read changed records: %w", err)
	}
	var (
		id    int64
		since time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&c.table, &c.other, &id, &since}, func() error {
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

// rowCounts returns how many rows each table has, none where no associations can be read, and which are of associations.
func (s *step) rowCounts(ctx context.Context) (counts map[string]int64, pairs []string, err error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select table_name, kind = 'association',
       case phase when 'live' then row_count when 'degraded' then $2 when 'gone' then 0 else row_count + 1 end
from hubpg.objects
where portal_id = $1`, s.args.Portal, int64(unreadableRows))
	if err != nil {
		return nil, nil, fmt.Errorf("count rows: %w", err)
	}
	counts = map[string]int64{}
	var (
		name string
		pair bool
		n    int64
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &pair, &n}, func() error {
		if counts[name] = n; pair {
			pairs = append(pairs, name)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("count rows: %w", err)
	}
	return counts, pairs, nil
}

// pairsNamed returns all association tables. Those named are among them even if another process has just made one: its first
// pass may have gone by a record before that changed, so that the record must not be taken off the list without it.
func (s *step) pairsNamed(ctx context.Context, names []string) ([]*catalog.Pair, error) {
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(cat.Pairs, func(p *catalog.Pair) bool { return p.Name == name }) {
			s.e.tables.forget()
			if cat, err = s.e.catalog(ctx); err != nil {
				return nil, err
			}
			break
		}
	}
	return cat.Pairs, nil
}

// pendingPair brings one pair up to date for changed records of either end. From B's end, only records of A that
// are linked on one side and not on the other are read again: a label that changed while both links stayed is found
// when A changes, or by the next pass over the pair.
func (s *step) pendingPair(ctx context.Context, pair *catalog.Pair, c changed, counts map[string]int64) (left open, err error) {
	if !c.concerns(pair) || counts[pair.A.Name] == 0 || counts[pair.B.Name] == 0 {
		return left, nil
	}
	if counts[pair.A.Name] == unreadableRows || counts[pair.B.Name] == unreadableRows {
		return left, s.passAgain(ctx, pair)
	}
	if pair.A.Name == c.table {
		if left, err = s.associate(ctx, pair, c.ids, changes.Follow, move{}); err != nil {
			return left, err
		}
	}
	if pair.B.Name != c.table || pair.A.Name == pair.B.Name {
		return left, nil
	}
	got, err := s.edges(ctx, pair.B.Path, pair.A.Path, c.ids)
	if err != nil {
		return left, err
	}
	left.unanswered = append(left.unanswered, got.unanswered...)
	differ, err := s.differing(ctx, pair, got)
	if err != nil {
		return left, err
	}
	for part := range slices.Chunk(differ, hubapi.MaxAssociationInputs) {
		far, err := s.associate(ctx, pair, part, changes.Follow, move{})
		if err == nil && len(far.unanswered)+len(far.silent) > 0 {
			err = pgx.BeginFunc(ctx, s.e.cfg.Pool, func(tx pgx.Tx) error {
				return s.askAgain(ctx, tx, pair, slices.Concat(far.unanswered, far.silent))
			})
		}
		if err != nil {
			return left, err
		}
	}
	return left, nil
}

// differing returns the records of A that are linked with B's records at HubSpot and not in the table, or the reverse.
func (s *step) differing(ctx context.Context, pair *catalog.Pair, got *edgeList) ([]int64, error) {
	type link struct{ a, b int64 }
	theirs := map[link]bool{}
	asked := slices.Clone(got.silent) // which may have none: what is stored of them is asked of the other end
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

// Records whose associations could not be read are tried again after a pause that doubles, from Pace.Pending on, and given
// up after so many tries: the next pass over the pair asks for every record.
const (
	pendingTries     = 10
	longPendingPause = 10 * time.Minute
)

// settle takes records off the list, unless they have changed again meanwhile, and postpones those that HubSpot said nothing
// about. It says whether any of these were given up.
func (s *step) settle(ctx context.Context, c changed, left open) (given bool, err error) {
	var settled int64
	err = s.e.cfg.Pool.QueryRow(ctx, `
with seen as (
	select p.record_id, p.record_id = any ($5) as open, case when p.record_id = any ($9) then $10::interval end as pause, p.tries
	from `+c.list()+` p
	join unnest($3::bigint[], $4::timestamptz[]) as d (record_id, since) on d.record_id = p.record_id and d.since = p.since
	where p.portal_id = $1 and p.table_name = $2 and ($11 = '' or p.other_table = $11)
	order by p.record_id
	for update of p
), postponed as (
	update `+c.list()+` p
	set tries = p.tries + 1, since = clock_timestamp() + greatest(least($7::interval * 2 ^ p.tries, $8::interval), seen.pause)
	from seen
	where p.portal_id = $1 and p.table_name = $2 and p.record_id = seen.record_id and ($11 = '' or p.other_table = $11)
	and seen.open and seen.tries < $6
), settled as (
	delete from `+c.list()+` p
	using seen
	where p.portal_id = $1 and p.table_name = $2 and p.record_id = seen.record_id and ($11 = '' or p.other_table = $11)
	and not (seen.open and seen.tries < $6)
	returning seen.open)
select count(*), coalesce(bool_or(open), false)
from settled`, s.args.Portal, c.table, c.ids, c.since, append(append([]int64{}, left.unanswered...), left.silent...), pendingTries,
		s.e.cfg.Pace.Pending, longPendingPause, append([]int64{}, left.silent...), mirror.SilencePause, c.other).Scan(&settled, &given)
	if err != nil {
		return false, fmt.Errorf("settle changed records: %w", err)
	}
	s.e.log.Debug("associations read", slog.String("object", c.table), slog.Int64("records", settled))
	return given, nil
}
