package materialize

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// maxGroup is how many rows one transaction of a backfill stores. A range has one page at most on the way, so a process
// that dies repeats at most one page per range.
const maxGroup = 2000

// betweenSteps is the longest pause between two steps that counts as work.
const betweenSteps = 10 * time.Second

// backfillPosition is the cursor of the backfill lane. Without ranges, all has been read.
type backfillPosition struct {
	Ranges  []*span `json:"ranges"`
	Rows    int64   `json:"rows"`             // records read so far
	Worked  float64 `json:"worked,omitempty"` // seconds spent on them
	First   start   `json:"first,omitzero"`
	Seconds float64 `json:"seconds"` // that Rows take without a beginning; rows per second and ETA follow from it
	// At is when the position was stored. The moment between two steps is part of the work, a longer absence is not.
	At   time.Time `json:"at,omitzero"`
	Wide bool      `json:"wide,omitempty"`
	Done bool      `json:"done,omitempty"`
}

// start is what the first pages of a backfill were, and took: the first connections and statements are no measure of the rest,
// and weigh heavily while there is little else.
type start struct {
	Rows   int64   `json:"rows"`
	Worked float64 `json:"worked"`
}

// advance counts rows that have been read after so much work altogether.
func (p *backfillPosition) advance(rows int64, worked float64) {
	if p.Rows == 0 {
		p.First = start{rows, worked}
	}
	p.Rows, p.Worked, p.Seconds = p.Rows+rows, worked, worked
	if since := p.Rows - p.First.Rows; since > 0 {
		p.Seconds = (worked - p.First.Worked) * float64(p.Rows) / float64(since)
	}
}

// backfill reads every record of a table once, in ranges of ids.
func (s *step) backfill(ctx context.Context) (time.Duration, error) {
	t, err := s.target(ctx)
	if err != nil {
		return 0, err
	}
	var p backfillPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if p.Done {
		return 0, errEnded
	}
	if c.revision == 0 {
		if err := s.beginBackfill(ctx, t, c, &p); err != nil {
			return 0, err
		}
	}
	if len(p.Ranges) == 0 {
		return 0, s.completeBackfill(ctx, t, c, &p)
	}
	b := &filling{
		step: s, target: t, cursor: c, position: p, ranges: &ranges{spans: p.Ranges},
		pages: make(chan *idPage), began: time.Now(),
	}
	if time.Since(p.At) < betweenSteps {
		b.began = p.At
	}
	b.began = b.began.Add(-time.Duration(cmp.Or(p.Worked, p.Seconds) * float64(time.Second))) // Seconds: stored by an earlier version
	b.changed = sync.NewCond(&b.mu)
	err = b.run(ctx)
	if _, ok := errors.AsType[*hubapi.TooLargeError](err); ok && !b.position.Wide {
		return 0, s.widen(ctx, t)
	}
	if err != nil {
		return 0, err
	}
	if b.last != nil {
		return 0, s.completeBackfill(ctx, t, c, b.last)
	}
	return 0, nil
}

// completeBackfill tells that every record is in the table. The unique indexes are made before: later than the rows,
// which then come in quicker, and earlier than anybody may count on them.
func (s *step) completeBackfill(ctx context.Context, t *target, c *cursor, p *backfillPosition) error {
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return err
	}
	err = s.e.mapper.EnsureUniques(ctx, s.e.cfg.Pool, cat, t.name())
	if _, ok := errors.AsType[*mirror.OccupiedError](err); ok {
		err = nil // a client keeps the table; its writer makes the indexes when it can
	}
	if err != nil {
		return err
	}
	s.e.tables.forget()
	p.Ranges, p.Done = nil, true
	if err := s.commit(ctx, t.name(), move{cursor: c, position: p, live: true}, nil); err != nil {
		return err
	}
	return errEnded
}

// widen makes the lane list ids and read values in batches from now on, which have no URL to outgrow. It starts from the
// stored position: what this step holds in memory may be ahead of what was committed.
func (s *step) widen(ctx context.Context, t *target) error {
	var p backfillPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return err
	}
	p.Wide = true
	return s.commit(ctx, t.name(), move{cursor: c, position: p}, nil)
}

// beginBackfill stores the first position, and how much there is to expect.
func (s *step) beginBackfill(ctx context.Context, t *target, c *cursor, p *backfillPosition) error {
	total, err := s.e.usage(ctx, s, t)
	if err != nil {
		return err
	}
	p.Ranges = newRanges().spans
	p.Wide = !s.client.FitsURL(t.table.Path, t.projection)
	return s.commit(ctx, t.name(), move{cursor: c, position: p, expected: total}, nil)
}

// filling is one step of a backfill: fetchers read pages of different ranges, one storer commits what has arrived.
type filling struct {
	*step
	target *target
	cursor *cursor
	pages  chan *idPage // owned by the storer from the send on
	began  time.Time    // less what was worked in earlier steps

	mu       sync.Mutex // guards below
	changed  *sync.Cond // a span was given back, or the step is over
	position backfillPosition
	ranges   *ranges
	stopped  bool

	last *backfillPosition // the storer's: set once everything is stored
}

// idPage is one page on its way from a fetcher to the storer.
type idPage struct {
	span    *span
	from    int64 // first id asked for
	upTo    int64 // every live id in [from, upTo) is in the page
	last    bool  // the listing ended
	records []hubapi.Record
	unread  []int64 // listed, but not among records
	readAt  time.Time
	stored  chan struct{} // closed by the storer
}

func (f *filling) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, f.stop)
	defer stop()

	var fetchers sync.WaitGroup
	for range f.e.cfg.Fetchers {
		fetchers.Add(1)
		g.Go(func() error {
			defer fetchers.Done()
			return f.fetch(ctx)
		})
	}
	g.Go(func() error { // ends with the fetchers
		fetchers.Wait()
		close(f.pages)
		return nil
	})
	g.Go(func() error { return f.store(ctx) })
	return g.Wait()
}

// stop wakes fetchers that wait for a range.
func (f *filling) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.changed.Broadcast()
}

// next waits for a span to read from; nil means that the step is over or everything has been handed out and read.
func (f *filling) next() *span {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if f.stopped || f.over() || f.ranges.done() {
			f.changed.Broadcast()
			return nil
		}
		if s := f.ranges.take(); s != nil {
			return s
		}
		f.changed.Wait()
	}
}

func (f *filling) giveBack(s *span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ranges.giveBack(s)
	f.changed.Broadcast()
}

// fetch reads pages until there is nothing left for this fetcher. It has one page on the way at a time.
func (f *filling) fetch(ctx context.Context) error {
	for {
		sp := f.next()
		if sp == nil {
			return nil
		}
		page, err := f.readPage(ctx, f.target, sp.next, f.position.Wide)
		if err != nil {
			return err
		}
		page.span, page.stored = sp, make(chan struct{})
		select {
		case f.pages <- page:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-page.stored:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.giveBack(sp)
	}
}

// readPage reads the live records from an id on.
func (s *step) readPage(ctx context.Context, t *target, from int64, wide bool) (*idPage, error) {
	o := hubapi.ListOptions{Projection: t.projection}
	if wide {
		o.Projection = nil
	}
	if from > 0 {
		o.After = strconv.FormatInt(from, 10)
	}
	list, err := s.list(ctx, t.table.Path, o)
	if err != nil {
		return nil, err
	}
	page := &idPage{from: from, records: list.Records, readAt: list.ReadAt}
	if page.upTo, page.last, err = bounds(from, list); err != nil {
		return nil, fmt.Errorf("list %s: %w", t.name(), err)
	}
	if !wide || len(list.Records) == 0 {
		return page, nil
	}
	ids := make([]int64, len(list.Records))
	for i := range list.Records {
		ids[i] = list.Records[i].ID
	}
	batch, err := s.read(ctx, t.table.Path, ids, t.projection)
	if err != nil {
		return nil, err
	}
	page.records, page.unread, page.readAt = batch.Records, unread(batch), batch.ReadAt
	return page, nil
}

// bounds says which ids a page of a listing covers. HubSpot's cursor is the id of the next record; what contradicts
// that contradicts the reading in ranges, and is refused rather than guessed at.
func bounds(from int64, page *hubapi.Page) (upTo int64, last bool, err error) {
	upTo = from
	for i := range page.Records {
		if page.Records[i].ID < upTo {
			return 0, false, fmt.Errorf("record %d is out of order after %d", page.Records[i].ID, upTo-1)
		}
		upTo = page.Records[i].ID + 1
	}
	if page.After == "" {
		return openEnd, true, nil
	}
	after, err := strconv.ParseInt(page.After, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("cursor %q is not a record id", page.After)
	}
	if after = max(after, upTo); after <= from {
		return 0, false, fmt.Errorf("cursor %q does not go on from %d", page.After, from)
	}
	return after, false, nil
}

// store commits pages in groups of whatever has arrived, and says so to their fetchers.
func (f *filling) store(ctx context.Context) error {
	for first := range f.pages {
		group := []*idPage{first}
		rows := len(first.records)
	gather:
		for rows < maxGroup {
			select {
			case page, ok := <-f.pages:
				if !ok {
					break gather
				}
				group = append(group, page)
				rows += len(page.records)
			default:
				break gather
			}
		}
		if err := f.commitGroup(ctx, group); err != nil {
			return err
		}
		for _, page := range group {
			close(page.stored)
		}
	}
	return nil
}

func (f *filling) commitGroup(ctx context.Context, group []*idPage) error {
	batch, position := f.advance(group)
	var open []int64
	for _, page := range group {
		open = append(open, page.unread...)
	}
	err := f.commit(ctx, f.target.name(), move{cursor: f.cursor, position: position}, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		if err := f.suspect(ctx, tx, f.target, open); err != nil || len(batch.Rows) == 0 {
			return mirror.Result{}, err
		}
		batch.Quiet = quiet
		return f.e.applier.Upsert(ctx, tx, batch)
	})
	if err != nil {
		return err
	}
	if position.Rows == position.First.Rows { // storing them is part of the beginning, too
		f.mu.Lock()
		f.position.First.Worked = time.Since(f.began).Seconds()
		f.mu.Unlock()
	}
	if len(position.Ranges) == 0 {
		f.last = position
	}
	return nil
}

// advance moves the ranges past the pages and returns the rows with the position that covers them.
func (f *filling) advance(group []*idPage) (*mirror.Batch, *backfillPosition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch := f.target.batch(changes.Backfill)
	for _, page := range group {
		for i := range page.records {
			// A fetcher that came later may have taken over the second half of the range.
			if r := &page.records[i]; r.ID < page.span.end {
				batch.Rows = append(batch.Rows, row(r))
			}
		}
		if batch.ReadAt.IsZero() || page.readAt.Before(batch.ReadAt) {
			batch.ReadAt = page.readAt
		}
		first := page.from
		if len(page.records) > 0 {
			first = page.records[0].ID
		}
		page.span.read(first, page.upTo, len(page.records), page.last)
	}
	now := time.Now()
	f.position.advance(int64(len(batch.Rows)), now.Sub(f.began).Seconds())
	p := f.position
	p.At = now
	p.Ranges = nil
	for _, s := range f.ranges.spans {
		if !s.done() {
			c := *s
			p.Ranges = append(p.Ranges, &c)
		}
	}
	return batch, &p
}
