package materialize

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestRangesCoverEveryIDOnce walks random sets of ids with fetchers that take, split and give back in any order.
func TestRangesCoverEveryIDOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		gap := rapid.SampledFrom([]int64{1, 3, 50, 1 << 30}).Draw(t, "gap")
		count := rapid.SampledFrom([]int{0, 1, 40, 2000}).Draw(t, "count")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		ids := make([]int64, count)
		last := random.Int64N(1 << 40)
		for i := range ids {
			last += 1 + random.Int64N(gap)
			ids[i] = last
		}
		page := rapid.IntRange(1, 20).Draw(t, "page")
		r := newRanges()
		read := map[int64]int{}
		type fetch struct {
			span *span
			from int64
		}
		var busy []fetch
		for steps := 0; !r.done() || len(busy) > 0; steps++ {
			if steps > 100_000 {
				t.Fatal("the walk does not end")
			}
			if len(busy) < 8 && (len(busy) == 0 || rapid.IntRange(0, 2).Draw(t, "take") > 0) {
				if s := r.take(); s != nil {
					busy = append(busy, fetch{s, s.next})
					continue
				}
			}
			if len(busy) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(busy)-1).Draw(t, "finish")
			f := busy[i]
			busy = append(busy[:i], busy[i+1:]...)
			got, upTo, last := listFrom(ids, f.from, page)
			for _, id := range got {
				if id < f.span.end {
					read[id]++
				}
			}
			first := f.from
			if len(got) > 0 {
				first = got[0]
			}
			f.span.read(first, upTo, len(got), last)
			if rapid.IntRange(0, 15).Draw(t, "crash") == 0 { // positions survive as JSON; work on the way does not
				text, err := json.Marshal(r.spans)
				if err != nil {
					t.Fatal(err)
				}
				r = &ranges{}
				if err := json.Unmarshal(text, &r.spans); err != nil {
					t.Fatal(err)
				}
				busy = nil
				continue
			}
			r.giveBack(f.span)
		}
		want := map[int64]int{}
		for _, id := range ids {
			want[id] = 1
		}
		if diff := cmp.Diff(want, read); diff != "" {
			t.Fatalf("ids read (-want +got):\n%s", diff)
		}
	})
}

// TestUnknownIDsAreReadByAllFetchers: without knowing where ids begin or end, a few pages are enough to busy everyone.
func TestUnknownIDsAreReadByAllFetchers(t *testing.T) {
	t.Parallel()
	const (
		fetchers, page = 8, 100
		first, step    = int64(884_000_000_000), int64(37)
		count          = 100_000
	)
	r := newRanges()
	rounds, calls, read := 0, 0, 0
	for ; !r.done(); rounds++ { // in each round every fetcher reads one page
		var busy []*span
		for range fetchers {
			if s := r.take(); s != nil {
				busy = append(busy, s)
			}
		}
		for _, s := range busy {
			calls++
			i := max(0, (s.next-first+step-1)/step)
			n := min(page, count-i)
			if n <= 0 {
				s.read(s.next, openEnd, 0, true)
			} else {
				upTo, from := first+(i+n)*step, first+i*step
				for id := from; id < min(upTo, s.end); id += step {
					read++
				}
				s.read(from, upTo, int(n), i+n == count)
			}
			r.giveBack(s)
		}
	}
	if read != count {
		t.Fatalf("read %d of %d", read, count)
	}
	if best := count / page / fetchers; rounds > best*11/10+5 {
		t.Errorf("%d rounds, %d are possible", rounds, best)
	}
	if calls > count/page*105/100+fetchers {
		t.Errorf("%d calls for %d pages", calls, count/page)
	}
}

func listFrom(ids []int64, from int64, limit int) (page []int64, upTo int64, last bool) {
	i, _ := slices.BinarySearch(ids, from)
	if len(ids)-i > limit {
		return ids[i : i+limit], ids[i+limit], false
	}
	return ids[i:], openEnd, true
}

func TestSpanSplitsOnlyWhatIsWorthIt(t *testing.T) {
	t.Parallel()
	r := &ranges{spans: []*span{{next: 0, end: 1000}}}
	first := r.take()
	second := r.take()
	if first == nil || second == nil {
		t.Fatal("a range of 1,000 unread ids is worth two fetchers")
	}
	if first.end != 500 || second.next != 500 || second.end != 1000 {
		t.Fatalf("halves are [%d,%d) and [%d,%d)", first.next, first.end, second.next, second.end)
	}
	if third := r.take(); third == nil {
		t.Fatal("a range of 500 unread ids is worth two fetchers")
	}
	for range 10 {
		if s := r.take(); s != nil && s.end-s.next < minSplit/2 {
			t.Fatalf("range [%d,%d) is too small for a fetcher of its own", s.next, s.end)
		}
	}
}

// TestPaceOfAFillingLeavesOutItsBeginning: until there is something else, its beginning is all there is to go by.
func TestPaceOfAFillingLeavesOutItsBeginning(t *testing.T) {
	t.Parallel()
	var p backfillPosition
	p.advance(100, 5)
	if p.Seconds != 5 {
		t.Errorf("100 rows in 5 s are %v s of work", p.Seconds)
	}
	p.First.Worked = 6 // when they were stored
	p.advance(100, 7)
	p.advance(200, 9)
	if p.Rows != 400 || p.Seconds != 4 {
		t.Errorf("%d rows at 100 a second are %v s of work", p.Rows, p.Seconds)
	}
}
