package sandbox

import "slices"

// Bounds of a sorted's chunks. A full chunk splits in two.
const (
	chunkMax  = 1024
	chunkFill = 768
)

// sorted is an ordered list in chunks: insertion, removal and seeking cost O(log n) plus a move within
// one chunk; ranks cost one addition per chunk. Elements must be distinct under compare.
type sorted[T any] struct {
	compare func(a, b T) int
	chunks  [][]T // none is empty
	n       int
}

// place is a position in a sorted: an element, or the end.
type place struct{ chunk, i int }

// fill replaces the content by vs, which must be in order.
func (s *sorted[T]) fill(vs []T) {
	s.chunks = s.chunks[:0]
	s.n = len(vs)
	for len(vs) > 0 {
		k := min(chunkFill, len(vs))
		s.chunks = append(s.chunks, slices.Clone(vs[:k]))
		vs = vs[k:]
	}
}

func (s *sorted[T]) len() int { return s.n }

// seek returns the place of the first element for which reached is true; reached must be false on a
// prefix and true on the rest.
func (s *sorted[T]) seek(reached func(T) bool) place {
	lo, hi := 0, len(s.chunks)
	for lo < hi {
		m := (lo + hi) / 2
		if c := s.chunks[m]; reached(c[len(c)-1]) {
			hi = m
		} else {
			lo = m + 1
		}
	}
	if lo == len(s.chunks) {
		return place{lo, 0}
	}
	c := s.chunks[lo]
	a, b := 0, len(c)-1
	for a < b {
		m := (a + b) / 2
		if reached(c[m]) {
			b = m
		} else {
			a = m + 1
		}
	}
	return place{lo, a}
}

func (s *sorted[T]) find(v T) place {
	return s.seek(func(e T) bool { return s.compare(e, v) >= 0 })
}

// rank is the number of elements before p.
func (s *sorted[T]) rank(p place) int {
	n := p.i
	for _, c := range s.chunks[:p.chunk] {
		n += len(c)
	}
	return n
}

// at is the place of the element of rank n, the end when there is none.
func (s *sorted[T]) at(n int) place {
	for k, c := range s.chunks {
		if n < len(c) {
			return place{k, n}
		}
		n -= len(c)
	}
	return place{len(s.chunks), 0}
}

// ascend calls yield for the element at p and those after it until it returns false.
func (s *sorted[T]) ascend(p place, yield func(T) bool) {
	for k := p.chunk; k < len(s.chunks); k++ {
		from := 0
		if k == p.chunk {
			from = p.i
		}
		for _, v := range s.chunks[k][from:] {
			if !yield(v) {
				return
			}
		}
	}
}

// insert adds v; it replaces an equal element.
func (s *sorted[T]) insert(v T) {
	p := s.find(v)
	if p.chunk == len(s.chunks) {
		if p.chunk == 0 {
			s.chunks = append(s.chunks, []T{v})
			s.n = 1
			return
		}
		p.chunk--
		p.i = len(s.chunks[p.chunk])
	} else if s.compare(s.chunks[p.chunk][p.i], v) == 0 {
		s.chunks[p.chunk][p.i] = v
		return
	}
	c := slices.Insert(s.chunks[p.chunk], p.i, v)
	s.n++
	s.chunks[p.chunk] = c
	if len(c) > chunkMax {
		half := len(c) / 2
		tail := slices.Clone(c[half:])
		clear(c[half:])
		s.chunks[p.chunk] = c[:half]
		s.chunks = slices.Insert(s.chunks, p.chunk+1, tail)
	}
}

// remove deletes the element equal to v and tells whether there was one.
func (s *sorted[T]) remove(v T) bool {
	p := s.find(v)
	if p.chunk == len(s.chunks) || s.compare(s.chunks[p.chunk][p.i], v) != 0 {
		return false
	}
	s.n--
	s.chunks[p.chunk] = slices.Delete(s.chunks[p.chunk], p.i, p.i+1)
	if len(s.chunks[p.chunk]) == 0 {
		s.chunks = slices.Delete(s.chunks, p.chunk, p.chunk+1)
	}
	return true
}
