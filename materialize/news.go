package materialize

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// LaneNews is of the account: records and associations that webhooks or the journal have named.
const LaneNews Lane = "news"

// newsPause is the pause between two looks for news.
const newsPause = 500 * time.Millisecond

// quietNews is the pause between two looks for news where neither webhooks nor the journal have ever told any.
const quietNews = 2 * time.Second

// newsMargin is how far the clocks of machines may be apart without a read, which one of them dates, counting as later than
// the news that it is not. What this one's and Postgres's, which dates the news, are apart is known.
const newsMargin = time.Second

// noteMentions is the beginning of a statement that stores mentions: records to read in hubpg.news, ends of associations
// with records of another table in hubpg.pending_pairs, those of which HubSpot does not say with what in
// hubpg.pending_associations. Its parameters are the account, the feed, and the mentions as arrays; known are those of
// types that have a table. What is noted already gets a new instant, so that a read under way does not settle it. The news
// lane looks at once.
const noteMentions = `
with said as (
	select m.*
	from unnest($3::text[], $4::bigint[], $5::text[], $6::boolean[]) as m (object_type, record_id, links_with, gone)
), types as (
	select object_type, table_name
	from hubpg.objects
	where portal_id = $1 and kind = 'object' and phase <> 'gone'
), known as (
	select t.table_name, m.record_id, m.links_with is not null as links, m.gone, coalesce(o.table_name, '') as other_table
	from said m
	join types t on t.object_type = m.object_type
	left join types o on o.object_type = m.links_with
), noted as (
	insert into hubpg.news as n (portal_id, table_name, record_id, feed, gone)
	select $1::bigint, table_name, record_id, $2::text, gone
	from known
	where not links
	order by table_name, record_id
	on conflict (portal_id, table_name, record_id) do update
	set feed = excluded.feed, gone = n.gone or excluded.gone, since = clock_timestamp()
), queued as (
	insert into hubpg.pending_associations (portal_id, table_name, record_id)
	select distinct $1::bigint, table_name, record_id
	from known
	where links and other_table = ''
	order by table_name, record_id
	on conflict (portal_id, table_name, record_id) do update
	set since = clock_timestamp(), tries = 0, other_table = ''
), paired as (
	insert into hubpg.pending_pairs (portal_id, table_name, record_id, other_table)
	select $1::bigint, table_name, record_id, other_table
	from known
	where links and other_table <> ''
	order by table_name, record_id, other_table
	on conflict (portal_id, table_name, record_id, other_table) do update
	set since = clock_timestamp(), tries = 0
), hastened as (
	update hubpg.river_job
	set scheduled_at = clock_timestamp()
	where kind = '` + laneKind + `' and state = 'available' and scheduled_at > clock_timestamp()
	and args @> jsonb_build_object('portal', $1::bigint, 'lane', '` + string(LaneNews) + `')
	and exists (select from known where not links or other_table <> '')
)`

// arguments are the first six parameters of a statement that begins with noteMentions.
func (m *mentions) arguments(portal int64, feed changes.Source) []any {
	list := m.sorted()
	types, ids := make([]string, len(list)), make([]int64, len(list))
	linksWith, gone := make([]*string, len(list)), make([]bool, len(list))
	for i, key := range list {
		types[i], ids[i], gone[i] = key.objectType, key.id, m.gone[key]
		if key.links {
			linksWith[i] = &key.other
		}
	}
	return []any{portal, string(feed), types, ids, linksWith, gone}
}

// tidings are records of one table that HubSpot has spoken of.
type tidings struct {
	table string
	feed  changes.Source
	ids   []int64
	since []time.Time
	gone  map[int64]bool // HubSpot said that they are gone
}

// news reads the records that webhooks and the journal have named, and their associations, each in the pair of which was told.
// What has waited longest is read first. Records that have merely changed are the pending lane's: what is read in every
// pair of a table holds up nothing that is told.
func (s *step) news(ctx context.Context) (time.Duration, error) {
	err := s.spread(newsPause, func(inHand []string) (string, func() error, error) {
		n, err := s.tidings(ctx, inHand)
		if err != nil {
			return "", nil, err
		}
		c, err := s.duePairs(ctx, inHand)
		switch {
		case err != nil:
			return "", nil, err
		case len(c.ids) > 0 && (len(n.ids) == 0 || c.since[0].Before(n.since[0])):
			return c.table + " " + c.other, func() error { return s.pendingOf(ctx, c) }, nil
		case len(n.ids) > 0:
			return n.table, func() error { return s.hearOrPostpone(ctx, n) }, nil
		}
		return "", nil, nil
	})
	if err != nil || s.over() {
		return 0, err
	}
	return s.nextNews(ctx)
}

// hearOrPostpone hears what is named of one table. What is wrong with a table its own lanes show; the news of the others do
// not wait for it.
func (s *step) hearOrPostpone(ctx context.Context, n *tidings) error {
	err := s.hear(ctx, n)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || ofTheAccount(err) {
		return fmt.Errorf("read records of %s that HubSpot named: %w", n.table, err)
	}
	s.e.log.Warn("records that HubSpot named were not read", slog.String("object", n.table), slog.String("error", err.Error()))
	return s.postponeNews(ctx, n)
}

// nextNews is the pause before the next look.
func (s *step) nextNews(ctx context.Context) (time.Duration, error) {
	var told bool
	err := s.e.cfg.Pool.QueryRow(ctx, `select exists (select from hubpg.feed_state where portal_id = $1)`, s.args.Portal).Scan(&told)
	if err != nil {
		return 0, fmt.Errorf("look for feeds: %w", err)
	}
	if !told {
		return quietNews, nil
	}
	return newsPause, nil
}

// tidings returns what has waited longest, of one table and feed, at most as many records as one call takes. It leaves out
// the tables that are in hand.
func (s *step) tidings(ctx context.Context, inHand []string) (*tidings, error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select table_name, feed, record_id, gone, since
from hubpg.news
where portal_id = $1 and (table_name, feed) = (
	select table_name, feed
	from hubpg.news
	where portal_id = $1 and since <= clock_timestamp() and table_name <> all ($3)
	order by since
	limit 1)
and since <= clock_timestamp()
order by since
limit $2`, s.args.Portal, hubapi.MaxPage, inHand)
	if err != nil {
		return nil, fmt.Errorf("read news: %w", err)
	}
	n := &tidings{gone: map[int64]bool{}}
	var (
		id    int64
		gone  bool
		since time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&n.table, &n.feed, &id, &gone, &since}, func() error {
		n.ids, n.since = append(n.ids, id), append(n.since, since)
		if gone {
			n.gone[id] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read news: %w", err)
	}
	return n, nil
}

// hear asks HubSpot for the records and stores what it says now.
//
// A record that is not found is removed at once if HubSpot has also said that it is gone. Otherwise HubSpot has
// contradicted itself, for a moment or for good, and the record is a suspect like any other.
func (s *step) hear(ctx context.Context, n *tidings) error {
	t, err := s.e.target(ctx, n.table)
	if err != nil {
		return err
	}
	known, err := s.readSince(ctx, t, n)
	if err != nil {
		return err
	}
	ids := slices.DeleteFunc(slices.Clone(n.ids), func(id int64) bool { return known[id] })
	if len(ids) == 0 {
		return s.dropNews(ctx, n)
	}
	got, err := s.ask(ctx, t, ids)
	if unreadable(err) { // its own lanes say why, and find what changed when it can be read again
		s.e.log.Debug("news of a table that cannot be read", slog.String("object", t.name()), slog.String("error", err.Error()))
		return s.dropNews(ctx, n)
	}
	if err != nil {
		return err
	}
	suspects := got.Unanswered
	doubt := func(id int64) bool {
		if n.gone[id] {
			return false
		}
		suspects = append(suspects, id)
		return true
	}
	got.Missing = slices.DeleteFunc(got.Missing, doubt)
	for id := range got.Moved {
		if doubt(id) {
			delete(got.Moved, id)
		}
	}
	return s.decide(ctx, t, got, n.feed, func(tx pgx.Tx) error {
		if err := s.suspect(ctx, tx, t, suspects); err != nil {
			return err
		}
		return s.settleNews(ctx, tx, n)
	})
}

// readSince returns those of the records whose row was read after HubSpot had spoken of them, by some other lane: the
// news are in it. A record that is said to be gone is always asked for.
func (s *step) readSince(ctx context.Context, t *target, n *tidings) (map[int64]bool, error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select t.id
from `+t.ident()+` t
join unnest($1::bigint[], $2::timestamptz[]) as n (id, since) on n.id = t.id
where t._read_at > n.since + $3::interval and `+mirror.Live(t.table), n.ids, n.since, newsMargin-s.e.clock.lead())
	if err != nil {
		return nil, fmt.Errorf("look for rows of %s that were read since: %w", t.name(), err)
	}
	known := map[int64]bool{}
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		known[id] = !n.gone[id]
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for rows of %s that were read since: %w", t.name(), err)
	}
	return known, nil
}

// settleNews takes records off the list unless HubSpot has spoken of them again meanwhile.
func (s *step) settleNews(ctx context.Context, tx pgx.Tx, n *tidings) error {
	_, err := tx.Exec(ctx, `
with settled as (
	select n.record_id
	from hubpg.news n
	join unnest($3::bigint[], $4::timestamptz[]) as d (record_id, since) on d.record_id = n.record_id and d.since = n.since
	where n.portal_id = $1 and n.table_name = $2
	order by n.record_id -- as they are noted
	for update of n)
delete from hubpg.news n
using settled
where n.portal_id = $1 and n.table_name = $2 and n.record_id = settled.record_id`,
		s.args.Portal, n.table, n.ids, n.since)
	if err != nil {
		return fmt.Errorf("settle news: %w", err)
	}
	return nil
}

func (s *step) dropNews(ctx context.Context, n *tidings) error {
	return pgx.BeginFunc(ctx, s.e.cfg.Pool, func(tx pgx.Tx) error { return s.settleNews(ctx, tx, n) })
}

// failedNews is the pause before records are read again whose read failed.
const failedNews = 10 * time.Second

// postponeNews puts off records whose read failed, so that one table does not hold up the others.
func (s *step) postponeNews(ctx context.Context, n *tidings) error {
	_, err := s.e.cfg.Pool.Exec(ctx, `
with failed as (
	select record_id
	from hubpg.news
	where portal_id = $1 and table_name = $2 and record_id = any ($3)
	order by record_id
	for update)
update hubpg.news n
set since = clock_timestamp() + $4::interval
from failed
where n.portal_id = $1 and n.table_name = $2 and n.record_id = failed.record_id`, s.args.Portal, n.table, n.ids, failedNews)
	if err != nil {
		return fmt.Errorf("postpone news: %w", err)
	}
	return nil
}

// decide stores what HubSpot said about records that were asked for by id: those that were found as they are now; those
// that do not exist, or have become others, leave. first is what else the transaction does.
func (s *step) decide(ctx context.Context, t *target, got *hubapi.BatchResult, source changes.Source, first func(tx pgx.Tx) error) error {
	erased, err := s.erased(ctx, t, got.Missing)
	if err != nil {
		return err
	}
	batch := t.batch(source)
	batch.ReadAt = got.ReadAt
	found := make([]int64, 0, len(got.Records))
	for i := range got.Records {
		batch.Rows = append(batch.Rows, row(&got.Records[i]))
		found = append(found, got.Records[i].ID)
	}
	gather, err := s.gather(ctx)
	if err != nil {
		return err
	}
	told := source == changes.Webhook || source == changes.Journal
	err = s.commit(ctx, t.name(), move{told: told}, func(tx pgx.Tx, quiet bool) (sum mirror.Result, err error) {
		if err := first(tx); err != nil {
			return sum, err
		}
		if err := s.e.applier.Lock(ctx, tx, s.e.cfg.Schema, t.name(), mirror.Merges); err != nil {
			return sum, err
		}
		deleted, err := s.e.applier.Delete(ctx, tx, t.table, got.Missing, got.ReadAt, changes.Delete, source)
		if err != nil {
			return sum, err
		}
		if _, err := s.e.applier.Erase(ctx, tx, t.table, erased, got.ReadAt, source); err != nil {
			return sum, err
		}
		became, err := s.e.applier.Merge(ctx, tx, t.table, got.Moved, got.ReadAt, source)
		if err != nil {
			return sum, err
		}
		sum.Deleted = deleted.Deleted + became.Deleted
		if len(batch.Rows) == 0 {
			return sum, nil
		}
		batch.Quiet = quiet
		stored, err := s.e.applier.Upsert(ctx, tx, batch)
		sum.Inserted, sum.Updated = stored.Inserted, stored.Updated
		sum.Deleted += stored.Deleted
		if err != nil {
			return sum, err
		}
		return sum, s.queueAssociations(ctx, tx, t, found, stored.Plain, gather)
	})
	if err != nil {
		return err
	}
	for i := range got.Records {
		s.e.seen.add(t.number, got.Records[i].ID, got.Records[i].UpdatedAt.UnixMilli())
	}
	return nil
}
