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

// errUnsteady says that the rows of a walk do not add up, because the index changed underneath.
var errUnsteady = errors.New("search results changed during the walk")

// tieTries is how often the rows of one millisecond are walked before the lane gives up until later.
const tieTries = 3

// walk finds every record modified in w and hands the ids over part by part, oldest first. Each part is verified: it
// fitted one page, or the pages of a walk by offset had the same total and as many different ids, or a walk by id was
// complete. What cannot be verified is cut in halves by time. Neither the order of rows nor the length of a page is
// trusted; the end of a walk is the absence of a next page. visit is told when a part is the last. The walk ends early,
// without an error, when the step has had its time.
func (s *step) walk(ctx context.Context, t *target, w window, visit func(part window, hits []hit, last bool) error) error {
	todo := []window{w}
	for len(todo) > 0 {
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		hits, err := s.find(ctx, t, part)
		if errors.Is(err, errUnsteady) {
			if part.width() > 1 {
				older, newer := part.split()
				todo = append(todo, newer, older)
				continue
			}
			hits, err = s.findTies(ctx, t, part.from)
		}
		if err != nil {
			return fmt.Errorf("search %s from %d to %d: %w", t.name(), part.from, part.to, err)
		}
		if err := visit(part, hits, len(todo) == 0); err != nil {
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
	for page := 0; ; page++ {
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
}

// findTies returns the records modified in one millisecond, of which there may be more than a query shows: each page
// begins behind the largest id of the page before.
func (s *step) findTies(ctx context.Context, t *target, ms int64) ([]hit, error) {
	for range tieTries {
		hits, err := s.walkTies(ctx, t, ms)
		if !errors.Is(err, errUnsteady) {
			return hits, err
		}
	}
	return nil, fmt.Errorf("walk the records of one millisecond by id: %w", errUnsteady)
}

func (s *step) walkTies(ctx context.Context, t *target, ms int64) ([]hit, error) {
	var (
		hits []hit
		last int64
		left = -1 // rows that the query for ids after last must have at most
		// after is only needed for a page that is empty although there are more.
		after string
	)
	for {
		res, err := s.search(ctx, t.table.Path, hubapi.SearchRequest{
			Groups: [][]hubapi.Filter{{
				between(t.table.ModifiedProperty, window{ms, ms + 1}),
				{Property: "hs_object_id", Operator: hubapi.OpGT, Value: strconv.FormatInt(last, 10)},
			}},
			Sorts: []hubapi.Sort{{Property: "hs_object_id"}},
			After: after,
		})
		if errors.Is(err, hubapi.ErrSearchWindow) {
			return nil, errUnsteady
		}
		if err != nil {
			return nil, err
		}
		// More rows than were left means that a page skipped some, or that the index has just learnt of one.
		if left >= 0 && res.Total > left {
			return nil, errUnsteady
		}
		if left < 0 || res.Total < left {
			left = res.Total
		}
		for i := range res.Records {
			r := &res.Records[i]
			if r.ID <= last {
				return nil, errUnsteady
			}
			last = r.ID
			hits = append(hits, hit{r.ID, r.UpdatedAt.UnixMilli()})
		}
		left -= len(res.Records)
		if res.After == "" {
			if left > 0 {
				return nil, errUnsteady
			}
			return hits, nil
		}
		if after = ""; len(res.Records) == 0 {
			after = res.After
		}
	}
}

// between is the filter of a window. BETWEEN includes both ends.
func between(property string, w window) hubapi.Filter {
	return hubapi.Filter{
		Property: property, Operator: hubapi.OpBetween,
		Value: strconv.FormatInt(w.from, 10), HighValue: strconv.FormatInt(w.to-1, 10),
	}
}
