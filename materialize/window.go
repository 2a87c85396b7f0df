package materialize

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"hubpg/hubapi"
)

// window is a half-open interval of modification times in epoch milliseconds, the resolution of HubSpot's index.
type window struct{ from, to int64 }

func (w window) width() int64 { return w.to - w.from }

// split halves a window at a millisecond.
func (w window) split() (older, newer window) {
	middle := w.from + w.width()/2
	return window{w.from, middle}, window{middle, w.to}
}

// hit is a record that a search found: its id, and the version that the index knows.
type hit struct {
	id      int64
	updated int64 // epoch milliseconds
}

// part is a piece of a window that has been searched to the end.
type part struct {
	window
	tie int64 // not 0: of the window's one millisecond, only ids up to this one
}

// errUnsteady says that the rows of a walk do not add up, because the index changed underneath.
var errUnsteady = errors.New("search results changed during the walk")

// Bounds of a walk.
const (
	// tieTries is how often the rows of one millisecond are walked before the lane gives up until later.
	tieTries = 3
	// tieRows is how many rows of one millisecond are handed over at a time.
	tieRows = 2000
	// maxPages ends a walk whose pages are short or empty, and never the last.
	maxPages = 200
)

// walk finds every record modified in w and hands the ids over part by part, oldest first. Each part is verified: it
// fitted one page, or the pages of a walk by offset had the same total and as many different ids, or a walk by id was
// complete. What cannot be verified is cut in halves by time. Neither the order of rows nor the length of a page is
// trusted; the end of a walk is the absence of a next page. visit is told when a part is the last. The walk ends early,
// without an error, when the step has had its time. A tie other than 0 resumes the first millisecond of w behind that id.
func (s *step) walk(ctx context.Context, t *target, w window, tie int64, visit func(p part, hits []hit, last bool) error) error {
	todo := []part{{window: w}}
	if tie > 0 {
		todo = []part{{window: window{w.from + 1, w.to}}, {window: window{w.from, w.from + 1}, tie: tie}}
	}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if p.width() <= 0 {
			continue
		}
		var (
			hits []hit
			err  = errUnsteady
		)
		if p.tie == 0 {
			hits, err = s.find(ctx, t, p.window)
		}
		if errors.Is(err, errUnsteady) {
			if p.width() > 1 {
				older, newer := p.split()
				todo = append(todo, part{window: newer}, part{window: older})
				continue
			}
			hits, p.tie, err = s.findTies(ctx, t, p.from, p.tie)
			if p.tie > 0 {
				todo = append(todo, p)
			}
		}
		if err != nil {
			return fmt.Errorf("search %s from %d to %d: %w", t.name(), p.from, p.to, err)
		}
		if err := visit(p, hits, len(todo) == 0); err != nil {
			return err
		}
		if s.over() {
			return nil
		}
	}
	return nil
}

// find returns the records of a window that one query can show, or errUnsteady when it cannot or does not add up.
func (s *step) find(ctx context.Context, t *target, w window) ([]hit, error) {
	request := hubapi.SearchRequest{
		Groups: [][]hubapi.Filter{{between(t.table.ModifiedProperty, w)}},
		Sorts:  []hubapi.Sort{{Property: t.table.ModifiedProperty}},
	}
	var (
		hits  []hit
		seen  = map[int64]struct{}{}
		total int
	)
	for page := range maxPages {
		res, err := s.search(ctx, t.table.Path, request)
		if errors.Is(err, hubapi.ErrSearchWindow) {
			return nil, errUnsteady
		}
		if err != nil {
			return nil, err
		}
		if page == 0 {
			total = res.Total
		}
		if res.Total > hubapi.MaxSearchRows || res.Total != total {
			return nil, errUnsteady
		}
		for i := range res.Records {
			r := &res.Records[i]
			if _, twice := seen[r.ID]; !twice {
				seen[r.ID] = struct{}{}
				hits = append(hits, hit{r.ID, r.UpdatedAt.UnixMilli()})
			}
		}
		if res.After == "" {
			if len(hits) != total && (page > 0 || len(hits) < total) {
				return nil, errUnsteady
			}
			return hits, nil
		}
		request.After = res.After
	}
	return nil, errUnsteady
}

// findTies returns records modified in one millisecond, of which there may be more than a query shows: each page begins
// behind the largest id of the page before. It returns some of those with ids after the given one, and the id from which
// to go on, 0 after the last.
func (s *step) findTies(ctx context.Context, t *target, ms, after int64) (hits []hit, next int64, err error) {
	for range tieTries {
		hits, next, err = s.walkTies(ctx, t, ms, after)
		if !errors.Is(err, errUnsteady) {
			return hits, next, err
		}
	}
	short, ok := errors.AsType[*shortError](err)
	if ok && s.accept(t, moment{t.name(), ms, after}, &short.shortfall) {
		return hits, 0, nil
	}
	return nil, 0, fmt.Errorf("walk the records of one millisecond by id: %w", err)
}

// walkTies is one try. A walk that came to its end and lacks some of what HubSpot counts returns what it has with a [shortError].
func (s *step) walkTies(ctx context.Context, t *target, ms, last int64) (hits []hit, next int64, err error) {
	var (
		left   = -1 // rows that the query for ids after last must have at most
		offset string
	)
	for range maxPages {
		res, err := s.search(ctx, t.table.Path, hubapi.SearchRequest{
			Groups: [][]hubapi.Filter{{
				between(t.table.ModifiedProperty, window{ms, ms + 1}),
				{Property: "hs_object_id", Operator: hubapi.OpGT, Value: strconv.FormatInt(last, 10)},
			}},
			Sorts: []hubapi.Sort{{Property: "hs_object_id"}},
			After: offset,
		})
		if errors.Is(err, hubapi.ErrSearchWindow) {
			return nil, 0, errUnsteady
		}
		if err != nil {
			return nil, 0, err
		}
		// More rows than were left means that a page skipped some, or that the index has just learnt of one.
		if left >= 0 && res.Total > left {
			return nil, 0, errUnsteady
		}
		left = res.Total
		for i := range res.Records {
			r := &res.Records[i]
			if r.ID <= last {
				return nil, 0, errUnsteady
			}
			last = r.ID
			hits = append(hits, hit{r.ID, r.UpdatedAt.UnixMilli()})
		}
		left -= len(res.Records)
		switch {
		case res.After == "" && left > 0:
			return hits, 0, shortOf(hits, left)
		case res.After == "":
			return hits, 0, nil
		case len(hits) >= tieRows:
			return hits, last, nil
		}
		if offset = ""; len(res.Records) == 0 {
			offset = res.After // a page that is empty although there are more
		}
	}
	return nil, 0, errUnsteady
}

// between is the filter of a window. BETWEEN includes both ends.
func between(property string, w window) hubapi.Filter {
	return hubapi.Filter{
		Property: property, Operator: hubapi.OpBetween,
		Value: strconv.FormatInt(w.from, 10), HighValue: strconv.FormatInt(w.to-1, 10),
	}
}
