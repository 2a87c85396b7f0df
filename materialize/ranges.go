package materialize

import (
	"encoding/json"
	"math"
)

// openEnd is the end of the last range: nobody knows the largest id there will be.
const openEnd = math.MaxInt64

// Bounds of splitting. A range is halved only where at least minSplit rows are expected, or when nothing is known about
// it yet, where it is at least as wide: ids are whole numbers, so a narrower range cannot hold more rows.
const minSplit = 400

// gallop is how many rows the near half of the last range is given when nobody knows where ids end.
const gallop = 20 * minSplit

// span is the part of a range of ids that has not been read: [next, end).
type span struct {
	next, end int64
	density   float64 // rows per id where the range has been read; 0 when nothing has been read
	busy      bool    // a fetcher has a page of it on the way
}

// MarshalJSON writes [next, end], or [next] for the last range.
func (s *span) MarshalJSON() ([]byte, error) {
	if s.end == openEnd {
		return json.Marshal([]int64{s.next})
	}
	return json.Marshal([]int64{s.next, s.end})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *span) UnmarshalJSON(text []byte) error {
	var ends []int64
	if err := json.Unmarshal(text, &ends); err != nil {
		return err
	}
	*s = span{end: openEnd}
	if len(ends) > 0 {
		s.next = ends[0]
	}
	if len(ends) > 1 {
		s.end = ends[1]
	}
	return nil
}

// expected is how many rows the rest of the span may hold; a guess that only decides what is worth splitting.
func (s *span) expected() float64 {
	if s.end == openEnd {
		return 0
	}
	width := float64(s.end - s.next)
	if s.density > 0 {
		return width * s.density
	}
	return width
}

// read moves the span past a page: every id of the page is in [first, upTo), and first was the smallest from the span's
// next on. When last is set, the page was the listing's last.
func (s *span) read(first, upTo int64, rows int, last bool) {
	if width := upTo - first; rows > 0 && width > 0 && upTo != openEnd {
		s.density = float64(rows) / float64(width)
	}
	if s.next = upTo; last || upTo >= s.end {
		s.next = s.end
	}
}

func (s *span) done() bool { return s.next >= s.end }

// ranges is what a walk over all ids of a table still has to read, cut so that several pages can be on the way at once.
// It is not safe for concurrent use.
type ranges struct {
	spans []*span
}

// newRanges begins a walk: one range of all ids, which is split as soon as its first page shows how dense they are.
func newRanges() *ranges { return &ranges{spans: []*span{{end: openEnd}}} }

// take hands out a span to read a page of: one that nobody reads, else the second half of the one that has most left.
// It returns nil when there is nothing worth another fetcher. The span is busy until it is given back.
func (r *ranges) take() *span {
	var largest *span
	for _, s := range r.spans {
		switch {
		case s.done():
		case !s.busy:
			s.busy = true
			return s
		case largest == nil || s.expected() > largest.expected():
			largest = s
		}
	}
	if largest == nil {
		return nil
	}
	middle, ok := largest.middle()
	if !ok {
		return nil
	}
	half := &span{next: middle, end: largest.end, density: largest.density, busy: true}
	largest.end = middle
	r.spans = append(r.spans, half)
	return half
}

// middle is where a busy span is cut.
func (s *span) middle() (int64, bool) {
	if s.end == openEnd {
		// Galloping: a far half that turns out empty costs one page and gives the near half its end.
		ahead := gallop / s.density
		if s.density == 0 || ahead > math.MaxInt64/2-float64(s.next) {
			return 0, false
		}
		return s.next + int64(ahead) + 1, true
	}
	if s.expected() < minSplit {
		return 0, false
	}
	return s.next + (s.end-s.next)/2, true
}

// giveBack ends the reading of a span and forgets spans that are finished.
func (r *ranges) giveBack(s *span) {
	s.busy = false
	kept := r.spans[:0]
	for _, s := range r.spans {
		if !s.done() || s.busy {
			kept = append(kept, s)
		}
	}
	r.spans = kept
}

func (r *ranges) done() bool {
	for _, s := range r.spans {
		if !s.done() {
			return false
		}
	}
	return true
}
