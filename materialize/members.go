package materialize

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// maxLeavers bounds how many members that a page does not show are looked into at a time.
const maxLeavers = 500

// memberPosition is the cursor of list_memberships.
type memberPosition struct {
	rest
	List   int64     `json:"list,omitempty"`  // being read; lists with smaller ids are done
	After  string    `json:"after,omitempty"` // cursor of the page that comes next
	From   int64     `json:"from,omitempty"`  // members with ids up to this one are compared
	Mark   string    `json:"mark,omitempty"`  // of the list, before its first page
	Rows   int64     `json:"rows"`            // members read in this pass
	Of     int64     `json:"of,omitempty"`    // members there were when it began
	Began  time.Time `json:"began,omitzero"`
	Full   bool      `json:"full,omitempty"` // the pass reads every list, not only those that seem to have changed
	FullAt time.Time `json:"full_at,omitzero"`
}

// memberships walks over the lists and their members. Most passes read only lists whose size or last arrival has changed;
// now and then one reads them all. A member that its page does not show is asked for by its own id.
func (s *step) memberships(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	var p memberPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if wait := p.wait(pace.Lookups); wait > 0 {
		return wait, nil
	}
	lists, err := s.client.ListSegments(ctx)
	if err != nil {
		return 0, err
	}
	w := &memberWalk{step: s, cursor: c, p: &p, lists: make(map[int64]*hubapi.Segment, len(lists))}
	var size int64
	for i := range lists {
		w.lists[lists[i].ID] = &lists[i]
		size += max(lists[i].Size(), 0)
	}
	if p.Began.IsZero() || !p.Ended.IsZero() {
		full, err := s.hastened(ctx, p.FullAt)
		if err != nil {
			return 0, err
		}
		full = full || time.Since(p.FullAt) > pace.Pairs
		p = memberPosition{Began: time.Now(), Full: full, FullAt: p.FullAt, Of: size}
		if full {
			p.FullAt = p.Began
		}
		if err := s.beginLookup(ctx); err != nil {
			return 0, err
		}
	}
	if err := w.known(ctx); err != nil {
		return 0, err
	}
	for !s.over() {
		id, more := w.next()
		if !more {
			began := p.Began
			p.List, p.Began, p.rest = 0, time.Time{}, s.ended(p.rest, began)
			m := move{cursor: c, position: &p, live: true, verified: began, expected: size}
			return p.wait(pace.Lookups), s.commit(ctx, s.args.Table, m, nil)
		}
		if err := w.page(ctx, id); errors.Is(err, mirror.ErrOlder) {
			return 0, errMoved // a repair was here; what it stored is newer than the page
		} else if err != nil {
			return 0, fmt.Errorf("members of list %d: %w", id, err)
		}
	}
	return 0, nil
}

// beginLookup shows that a table is being filled for the first time.
func (s *step) beginLookup(ctx context.Context) error {
	_, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.objects
set phase = 'backfill', backfill_from = now()
where portal_id = $1 and table_name = $2 and phase = 'new'`, s.args.Portal, s.args.Table)
	if err != nil {
		return fmt.Errorf("begin %s: %w", s.args.Table, err)
	}
	return nil
}

// memberWalk is one step of the walk.
type memberWalk struct {
	*step
	cursor *cursor
	p      *memberPosition
	lists  map[int64]*hubapi.Segment // that HubSpot has
	marks  map[int64]string          // of lists that were read to the end, by id
	order  []int64
}

// known reads which lists the table has members of, and orders them among those that HubSpot has.
func (w *memberWalk) known(ctx context.Context) error {
	rows, err := w.e.cfg.Pool.Query(ctx, `
select scope::bigint, coalesce(mark, '')
from hubpg.lookup_reads
where portal_id = $1 and table_name = $2`, w.args.Portal, w.args.Table)
	if err != nil {
		return fmt.Errorf("list known lists: %w", err)
	}
	w.marks = map[int64]string{}
	var (
		id   int64
		mark string
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &mark}, func() error {
		w.marks[id] = mark
		w.order = append(w.order, id)
		return nil
	}); err != nil {
		return fmt.Errorf("list known lists: %w", err)
	}
	for id := range w.lists {
		w.order = append(w.order, id)
	}
	slices.Sort(w.order)
	w.order = slices.Compact(w.order)
	return nil
}

// mark is what HubSpot says about a list's members as a whole: who joined last, and how many there are. Members that come
// change the one, members that go the other.
func (w *memberWalk) mark(id int64) string {
	l := w.lists[id]
	if l == nil || l.Size() < 0 || l.LastAdded() == "" {
		return ""
	}
	return strconv.FormatInt(l.Size(), 10) + "/" + l.LastAdded() + "/" + strconv.FormatInt(l.Version, 10)
}

// next returns the list to go on with.
func (w *memberWalk) next() (int64, bool) {
	for _, id := range w.order {
		if id < w.p.List {
			continue
		}
		begun := id == w.p.List && (w.p.After != "" || w.p.From != 0)
		if mark := w.mark(id); !begun && !w.p.Full && mark != "" && mark == w.marks[id] {
			continue
		}
		if id != w.p.List {
			w.enter(id)
		}
		if !begun {
			w.p.Mark = w.mark(id)
		}
		return id, true
	}
	return 0, false
}

func (w *memberWalk) enter(id int64) { w.p.List, w.p.After, w.p.From, w.p.Mark = id, "", 0, "" }

// page reads one page of a list's members and makes the range of the table that it covers equal to it.
func (w *memberWalk) page(ctx context.Context, id int64) error {
	page, err := w.client.ListMembers(ctx, id, w.p.After)
	listed := w.lists[id]
	switch {
	case nowhere(err) && listed == nil:
		return w.drop(ctx, id)
	case nowhere(err): // it went since it was listed; the next pass sees that
		w.enter(id + 1)
		return w.commit(ctx, w.args.Table, move{cursor: w.cursor, position: w.p}, nil)
	case err != nil:
		return err
	}
	snapshot := &mirror.Snapshot{
		Schema: w.e.cfg.Schema, Table: w.args.Table, Scope: strconv.FormatInt(id, 10), ReadAt: page.ReadAt, Source: changes.Sweep,
		Range: &mirror.Range{After: w.p.From, UpTo: math.MaxInt64},
	}
	last := page.After == ""
	if n := len(page.Members); !last && n > 0 {
		snapshot.Range.UpTo = page.Members[n-1].RecordID
	} else if !last {
		snapshot.Range.UpTo = w.p.From
	}
	if !last && page.After == w.p.After {
		return fmt.Errorf("the cursor %s repeats", page.After)
	}
	if !slices.IsSortedFunc(page.Members, func(a, b hubapi.Member) int { return cmp.Compare(a.RecordID, b.RecordID) }) {
		return errors.New("the page is not in the order of record ids")
	}
	cut, err := w.leavers(ctx, listed, page, snapshot)
	if err != nil {
		return err
	}
	for _, m := range page.Members {
		if m.RecordID > snapshot.Range.After && m.RecordID <= snapshot.Range.UpTo {
			w.p.Rows++
			snapshot.Rows = append(snapshot.Rows, mirror.ListMembership{ListID: id, RecordID: m.RecordID, JoinedAt: instant(m.Since)})
		}
	}
	mark := w.p.Mark
	switch {
	case cut: // the same page again, from where the comparison ended
		w.p.From = snapshot.Range.UpTo
	case last:
		w.enter(id + 1)
	default:
		w.p.From, w.p.After = max(snapshot.Range.UpTo, w.p.From), page.After
	}
	m := move{cursor: w.cursor, position: w.p}
	return w.commit(ctx, w.args.Table, m, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		snapshot.Quiet = quiet
		res, err := w.e.applier.Replace(ctx, tx, snapshot)
		if err != nil || !last || cut {
			return res, err
		}
		_, err = tx.Exec(ctx, `
update hubpg.lookup_reads
set mark = $4
where portal_id = $1 and table_name = $2 and scope = $3`, w.args.Portal, w.args.Table, snapshot.Scope, mark)
		return res, err
	})
}

// leavers looks into the stored members that the page should show and does not. Those that HubSpot does not say to have
// left are added to the snapshot, so that they stay. When there are many, the snapshot's range is cut short.
func (w *memberWalk) leavers(ctx context.Context, listed *hubapi.Segment, page *hubapi.MemberPage, s *mirror.Snapshot) (cut bool, err error) {
	shown := make([]int64, len(page.Members))
	for i := range page.Members {
		shown[i] = page.Members[i].RecordID
	}
	stored, err := lackingMembers(ctx, w.e.cfg.Pool, s, shown, maxLeavers)
	if err != nil {
		return false, err
	}
	if len(stored) == maxLeavers && stored[len(stored)-1].RecordID < s.Range.UpTo {
		s.Range.UpTo, cut = stored[len(stored)-1].RecordID, true
	}
	stay, err := stillMembers(ctx, w.client, listed, stored)
	if err != nil {
		return false, err
	}
	s.Rows = append(s.Rows, stay...)
	return cut, nil
}

// lackingMembers returns stored members in the snapshot's range that are not among shown, by record id, at most limit of
// them; 0 is no limit.
func lackingMembers(ctx context.Context, q mirror.Querier, s *mirror.Snapshot, shown []int64, limit int) ([]mirror.ListMembership, error) {
	rows, err := q.Query(ctx, `
select t.list_id, t.record_id, t.joined_at
from `+pgx.Identifier{s.Schema, s.Table}.Sanitize()+` t
where t.list_id = $1::text::bigint and t.record_id > $2 and t.record_id <= $3
and not exists (select from unnest($4::bigint[]) u where u = t.record_id)
order by t.record_id
limit nullif($5, 0)`, s.Scope, s.Range.After, s.Range.UpTo, shown, limit)
	if err != nil {
		return nil, fmt.Errorf("compare members: %w", err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[mirror.ListMembership])
	if err != nil {
		return nil, fmt.Errorf("compare members: %w", err)
	}
	return stored, nil
}

// stillMembers asks for stored members of a list by their own ids and returns those that HubSpot does not say to have left.
func stillMembers(ctx context.Context, client *hubapi.Client, list *hubapi.Segment, stored []mirror.ListMembership) ([]mirror.LookupRow, error) {
	var stay []mirror.LookupRow
	for part := range slices.Chunk(stored, hubapi.MaxPage) {
		of := map[int64][]int64{}
		if list != nil {
			ids := make([]int64, len(part))
			for i := range part {
				ids[i] = part[i].RecordID
			}
			got, err := client.ListSegmentsOf(ctx, list.ObjectTypeID, ids)
			if err != nil {
				return nil, err
			}
			of = got.Of
		}
		for _, m := range part {
			if lists, told := of[m.RecordID]; !told || slices.Contains(lists, m.ListID) {
				stay = append(stay, m)
			}
		}
	}
	return stay, nil
}

// drop takes out the members of a list that HubSpot does not have any more, a part at a time.
func (w *memberWalk) drop(ctx context.Context, id int64) error {
	readAt := time.Now()
	snapshot := &mirror.Snapshot{
		Schema: w.e.cfg.Schema, Table: w.args.Table, Scope: strconv.FormatInt(id, 10), ReadAt: readAt, Source: changes.Sweep,
		Range: &mirror.Range{After: math.MinInt64 + 1, UpTo: math.MaxInt64},
	}
	gone, err := lackingMembers(ctx, w.e.cfg.Pool, snapshot, []int64{}, maxLeavers)
	if err != nil {
		return err
	}
	end := len(gone) < maxLeavers
	if end {
		w.enter(id + 1)
	} else {
		snapshot.Range.UpTo = gone[len(gone)-1].RecordID
		w.p.From = snapshot.Range.UpTo
	}
	return w.commit(ctx, w.args.Table, move{cursor: w.cursor, position: w.p}, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		snapshot.Quiet = quiet
		res, err := w.e.applier.Replace(ctx, tx, snapshot)
		if err != nil || !end {
			return res, err
		}
		_, err = tx.Exec(ctx, `
delete from hubpg.lookup_reads
where portal_id = $1 and table_name = $2 and scope = $3`, w.args.Portal, w.args.Table, snapshot.Scope)
		return res, err
	})
}
