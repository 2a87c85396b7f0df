package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// Bounds of the sweeps.
const (
	// suspectAge is how old a suspicion must be before it is looked into: HubSpot's stores agree with each other only
	// after a moment.
	suspectAge = 2 * time.Second
	// suspectPause is the longest a suspicion waits for the archived lane to come by, and the pause before HubSpot is asked
	// again when it has said nothing. That pause doubles with every try.
	suspectPause     = 15 * time.Second
	longSuspectPause = time.Hour
	// suspectTries is how often a suspect is asked for in vain among others before it is asked for alone, in another way.
	suspectTries = 3
)

// sweepPosition is the cursor of the archived and ids lanes.
type sweepPosition struct {
	rest
	Next  string    `json:"next"`          // cursor of the next page; "" at the beginning
	Bin   int64     `json:"bin,omitempty"` // over 0: all is listed, and rows of deleted records with smaller ids are checked, too
	Began time.Time `json:"began,omitzero"`
}

// begin starts a pass unless one is under way.
func (p *sweepPosition) begin() {
	if p.Next == "" && p.Bin == 0 {
		*p = sweepPosition{Began: time.Now()}
	}
}

func (s *step) finish(p *sweepPosition) { p.Next, p.Bin, p.rest = "", 0, s.ended(p.rest, p.Began) }

// archived walks over the records in HubSpot's recycle bin and removes them from the table. That a record is listed
// there is evidence by itself, so each page is applied as it comes. The lane also settles suspicions of other lanes.
func (s *step) archived(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	t, err := s.liveTarget(ctx)
	if err != nil || t == nil {
		return pace.waitForLife(), err
	}
	if err := s.confirm(ctx, t); err != nil {
		return 0, err
	}
	var p sweepPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if wait, err := s.sweepWait(ctx, p.rest, pace.Archived); err != nil || wait > 0 {
		return min(wait, suspectPause), err
	}
	p.begin()
	for !s.over() {
		page, err := s.list(ctx, t.table.Path, hubapi.ListOptions{After: p.Next, Archived: true})
		if err != nil {
			return 0, err
		}
		ids, at := make([]int64, 0, len(page.Records)), make(map[int64]time.Time, len(page.Records))
		for i := range page.Records {
			if r := &page.Records[i]; r.Archived {
				ids, at[r.ID] = append(ids, r.ID), r.ArchivedAt
			}
		}
		if page.After != "" && page.After == p.Next {
			return 0, fmt.Errorf("list deleted %s: the cursor %s repeats", t.name(), page.After)
		}
		if ids, err = s.held(ctx, t, ids); err != nil {
			return 0, err
		}
		ids, back, err := s.back(ctx, t, ids, at)
		if err != nil {
			return 0, err
		}
		if p.Next = page.After; p.Next == "" {
			s.finish(&p)
		}
		if err := s.commit(ctx, t.name(), move{cursor: c, position: &p}, s.removal(ctx, t, ids, back, page.ReadAt, changes.Delete)); err != nil {
			return 0, err
		}
		if p.Next == "" {
			return min(p.wait(pace.Archived), suspectPause), nil
		}
	}
	return 0, nil
}

// held returns those of archived records that the tables still hold; most of the bin was emptied out of them long ago. A
// record that was archived before its own page was read has no row, but may stand in associations that were read earlier.
func (s *step) held(ctx context.Context, t *target, ids []int64) ([]int64, error) {
	known, err := mirror.Known(ctx, s.e.cfg.Pool, t.table, ids)
	if err != nil {
		return nil, err
	}
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return nil, err
	}
	referred, err := mirror.Referred(ctx, s.e.cfg.Pool, cat.Pairs, t.table, ids)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ids, func(id int64) bool {
		_, here := known[id]
		_, linked := slices.BinarySearch(referred, id)
		return !here && !linked
	}), nil
}

// back takes from ids those records whose row was read, as of a live record, after the instant at which the bin says that they
// were archived: they have been restored, and the listing is late, or archived once more. Asking for them by id tells.
func (s *step) back(ctx context.Context, t *target, ids []int64, at map[int64]time.Time) (gone, back []int64, err error) {
	if len(ids) == 0 {
		return ids, nil, nil
	}
	rows, err := s.e.cfg.Pool.Query(ctx, "select t.id, t._read_at from "+t.ident()+" t where t.id = any ($1) and "+mirror.Live(t.table), ids)
	if err != nil {
		return nil, nil, fmt.Errorf("look when %s were read: %w", t.name(), err)
	}
	var (
		id   int64
		read time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &read}, func() error {
		if archived := at[id]; !archived.IsZero() && read.After(archived) {
			back = append(back, id)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look when %s were read: %w", t.name(), err)
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return slices.Contains(back, id) }), back, nil
}

// removal is the work of a commit that takes records out of the table, and suspects others; nil when there are none.
func (s *step) removal(
	ctx context.Context, t *target, ids, suspects []int64, readAt time.Time, op changes.Op,
) func(pgx.Tx, bool) (mirror.Result, error) {
	if len(ids)+len(suspects) == 0 {
		return nil
	}
	return func(tx pgx.Tx, _ bool) (mirror.Result, error) {
		if err := s.suspect(ctx, tx, t, suspects); err != nil {
			return mirror.Result{}, err
		}
		return s.e.applier.Delete(ctx, tx, t.table, ids, readAt, op, changes.Sweep)
	}
}

// ids walks over the ids and versions of all live records and compares them with the table, range by range: a page of
// the listing says everything about the ids between its cursor and the next. Records that the table lacks, or has in an
// older version, are read. Records that HubSpot did not list are only suspected of being gone; see confirm.
func (s *step) ids(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	t, err := s.liveTarget(ctx)
	if err != nil || t == nil {
		return pace.waitForLife(), err
	}
	var p sweepPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if c.revision == 0 { // a backfill has just done this
		if again, err := s.hastened(ctx, time.Time{}); err != nil {
			return 0, err
		} else if !again {
			p.rest = s.ended(p.rest, time.Now())
			return pace.IDs, s.commit(ctx, t.name(), move{cursor: c, position: &p}, nil)
		}
	}
	if wait, err := s.sweepWait(ctx, p.rest, pace.IDs); err != nil || wait > 0 {
		return wait, err
	}
	p.begin()
	for !s.over() {
		if p.Bin > 0 {
			done, err := s.bin(ctx, t, c, &p)
			if done || err != nil {
				return p.wait(pace.IDs), err
			}
			continue
		}
		var from int64
		if p.Next != "" {
			if from, err = strconv.ParseInt(p.Next, 10, 64); err != nil {
				return 0, fmt.Errorf("sweep cursor %q is not a record id", p.Next)
			}
		}
		page, err := s.list(ctx, t.table.Path, hubapi.ListOptions{After: p.Next})
		if err != nil {
			return 0, err
		}
		upTo, last, err := bounds(from, page)
		if err != nil {
			return 0, fmt.Errorf("list %s: %w", t.name(), err)
		}
		missing, behind, err := s.compare(ctx, t, from, upTo, page)
		if err != nil {
			return 0, err
		}
		loose, err := s.dangling(ctx, t, from, upTo, page)
		if err != nil {
			return 0, err
		}
		if missing = append(missing, loose...); len(missing) > 0 {
			err := s.commit(ctx, t.name(), move{}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
				return mirror.Result{}, s.suspect(ctx, tx, t, missing)
			})
			if err != nil {
				return 0, err
			}
		}
		if p.Next = page.After; last {
			s.listed(t, &p)
		}
		if err := s.refresh(ctx, t, behind, changes.Sweep, move{cursor: c, position: &p}); err != nil {
			return 0, err
		}
		if last && p.Bin == 0 {
			return p.wait(pace.IDs), nil
		}
	}
	return 0, nil
}

// compare holds a page of the listing against the rows with ids in [from, upTo). missing are rows that HubSpot did not
// list, behind are records whose row is absent or older than what HubSpot listed.
func (s *step) compare(
	ctx context.Context, t *target, from, upTo int64, page *hubapi.Page,
) (missing, behind []int64, err error) {
	listed := make(map[int64]int64, len(page.Records))
	for i := range page.Records {
		listed[page.Records[i].ID] = page.Records[i].UpdatedAt.UnixMilli()
	}
	// Rows that came in after the page was read are not on it, and are no news.
	rows, err := s.e.cfg.Pool.Query(ctx, `
select t.id, (extract(epoch from t.updated_at) * 1000)::bigint, t._read_at >= $3
from `+t.ident()+` t
where t.id >= $1 and t.id < $2 and `+mirror.Live(t.table), from, upTo, page.ReadAt)
	if err != nil {
		return nil, nil, fmt.Errorf("compare %s: %w", t.name(), err)
	}
	var (
		id, version int64
		younger     bool
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &version, &younger}, func() error {
		if theirs, ok := listed[id]; !ok && !younger {
			missing = append(missing, id)
		} else if ok && (younger || theirs <= version) {
			delete(listed, id)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("compare %s: %w", t.name(), err)
	}
	for id := range listed {
		behind = append(behind, id)
	}
	slices.Sort(behind)
	return missing, behind, nil
}

// dangling returns ids in [from, upTo) that only associations know: neither has the table a row, nor does the page list
// them. An association may have been read before its far end was erased, and the far end's table only after.
func (s *step) dangling(ctx context.Context, t *target, from, upTo int64, page *hubapi.Page) ([]int64, error) {
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := mirror.Dangling(ctx, s.e.cfg.Pool, cat.Pairs, t.table, from, upTo)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ids, func(id int64) bool {
		return slices.ContainsFunc(page.Records, func(r hubapi.Record) bool { return r.ID == id })
	}), nil
}

// suspect notes records that HubSpot did not show where they should be.
func (s *step) suspect(ctx context.Context, tx pgx.Tx, t *target, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
insert into hubpg.suspects (portal_id, table_name, record_id)
select $1, $2, id
from unnest($3::bigint[]) as id
order by id
on conflict do nothing`, s.args.Portal, t.name(), ids)
	if err != nil {
		return fmt.Errorf("note suspects of %s: %w", t.name(), err)
	}
	return nil
}

// confirm asks HubSpot for each suspect by its id. Only the explicit answer that there is no such record, or that it has
// become another one, removes the row; a record that is found is stored, and one that is not mentioned stays suspected. It is
// asked for ever more rarely, from some tries on by itself.
func (s *step) confirm(ctx context.Context, t *target) error {
	for !s.over() {
		ids, patient, err := s.suspects(ctx, t)
		if err != nil || len(ids) == 0 {
			return err
		}
		got, err := s.ask(ctx, t, ids)
		if err != nil {
			return err
		}
		if err := s.askAlone(ctx, t, got, patient); err != nil {
			return err
		}
		err = s.decide(ctx, t, got, changes.Sweep, func(tx pgx.Tx) error { return s.acquit(ctx, tx, t, ids, got.Unanswered) })
		if err != nil {
			return err
		}
	}
	return nil
}

// ask reads suspects by id. Records of a chain of merges name only the last link, so that an answer to several ids may
// leave open which of them has become what: those are asked for one by one. An answer without records leaves nothing of
// that kind open.
func (s *step) ask(ctx context.Context, t *target, ids []int64) (*hubapi.BatchResult, error) {
	got, err := s.read(ctx, t.table.Path, ids, t.projection)
	if err != nil || len(got.Unanswered) == 0 || len(got.Records) == 0 || len(ids) == 1 {
		return got, err
	}
	open := got.Unanswered
	got.Unanswered = nil
	for _, id := range open {
		one, err := s.read(ctx, t.table.Path, []int64{id}, t.projection)
		if err != nil {
			return nil, err
		}
		got.Add(one)
	}
	return got, nil
}

// askAlone asks for each of the patient suspects that got leaves unanswered in the way in which a single record is read, and
// adds what HubSpot says to got: that it has no such record is as good a word here as there. A failure leaves the rest
// unanswered.
func (s *step) askAlone(ctx context.Context, t *target, got *hubapi.BatchResult, patient []int64) error {
	var open []int64
	failed := false
	for _, id := range got.Unanswered {
		if failed || s.over() || !slices.Contains(patient, id) {
			open = append(open, id)
			continue
		}
		whole := true
		one, err := s.client.GetObject(ctx, t.table.Path, strconv.FormatInt(id, 10), hubapi.GetOptions{Projection: t.projection})
		if _, large := errors.AsType[*hubapi.TooLargeError](err); large {
			whole = false
			one, err = s.client.GetObject(ctx, t.table.Path, strconv.FormatInt(id, 10), hubapi.GetOptions{})
		}
		_, none := errors.AsType[*hubapi.NotFoundError](err)
		switch {
		case none:
			got.Missing = append(got.Missing, id)
		case err != nil && (ctx.Err() != nil || ofTheAccount(err)):
			return err
		case err != nil:
			s.e.log.Warn("a record could not be read by itself", slog.String("object", t.name()), slog.Int64("id", id), slog.String("error", err.Error()))
			failed, open = true, append(open, id)
		case one.Record.ID != id:
			if got.Moved == nil {
				got.Moved = map[int64]int64{}
			}
			got.Moved[id] = one.Record.ID
		case whole:
			got.Records = append(got.Records, one.Record)
		default: // it exists, and its values cannot be had
			open = append(open, id)
		}
	}
	got.Unanswered = open
	return nil
}

// erased returns those of deleted records that HubSpot does not have in its recycle bin. Nobody asks where nothing of
// them is kept anyway.
func (s *step) erased(ctx context.Context, t *target, ids []int64) ([]int64, error) {
	if !t.table.Soft || len(ids) == 0 {
		return nil, nil
	}
	got, err := s.client.BatchReadArchived(ctx, t.table.Path, ids, hubapi.NewProjection(nil))
	if err != nil {
		return nil, err
	}
	return got.Missing, nil
}

// suspects returns the next to be asked for, and which of them have been in vain often enough to be asked for alone.
func (s *step) suspects(ctx context.Context, t *target) (ids, patient []int64, err error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select record_id, tries >= $5
from hubpg.suspects
where portal_id = $1 and table_name = $2 and since < now() - $3::interval
order by since
limit $4`, s.args.Portal, t.name(), suspectAge, hubapi.MaxPage, suspectTries)
	if err != nil {
		return nil, nil, fmt.Errorf("read suspects of %s: %w", t.name(), err)
	}
	var (
		id    int64
		alone bool
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &alone}, func() error {
		if ids = append(ids, id); alone {
			patient = append(patient, id)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read suspects of %s: %w", t.name(), err)
	}
	return ids, patient, nil
}

// acquit takes suspects off the list, and postpones those that HubSpot said nothing about.
func (s *step) acquit(ctx context.Context, tx pgx.Tx, t *target, ids, unanswered []int64) error {
	_, err := tx.Exec(ctx, `
delete from hubpg.suspects
where portal_id = $1 and table_name = $2 and record_id = any ($3) and record_id <> all ($4)`,
		s.args.Portal, t.name(), ids, append([]int64{}, unanswered...))
	if err == nil && len(unanswered) > 0 {
		_, err = tx.Exec(ctx, `
update hubpg.suspects
set tries = tries + 1, since = now() + least($4::interval * 2 ^ least(tries, 20), $5::interval)
where portal_id = $1 and table_name = $2 and record_id = any ($3)`, s.args.Portal, t.name(), unanswered, suspectPause, longSuspectPause)
	}
	if err != nil {
		return fmt.Errorf("settle suspects of %s: %w", t.name(), err)
	}
	return nil
}
