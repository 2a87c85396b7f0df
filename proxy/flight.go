package proxy

import "slices"

// flight is what the client has said and Postgres has not answered, in order. CopyData is not in it: where a COPY begins
// and ends is told by what is.
type flight struct {
	said   []stretch
	first  int // those before it are answered
	rounds int // messages in it that are answered by a ReadyForQuery of their own
}

// stretch is some messages of one kind in a row.
type stretch struct {
	kind  saying
	n     uint32
	round uint64 // of the first, for those that end one
}

// saying is a kind of message of the client, as far as answers go.
type saying uint8

const (
	saidNothing saying = iota
	saidStep           // Parse, Bind, Describe, Execute, Close: answered within the round, or skipped
	saidQuery          // Query, FunctionCall: a round of its own; skipped after an error in a step
	saidSync           // a round; ignored amid COPY data
	saidEnd            // CopyDone, CopyFail; ignored outside of a COPY
)

// ends reports whether it ends a round.
func (s saying) ends() bool { return s == saidQuery || s == saidSync }

// maxFlight is how many runs of messages may be in flight between rounds; then their answers are waited for. With twice as
// many in one round it is found out later what was answered.
const maxFlight = 4 << 10

// full reports whether answers have to be waited for.
func (f *flight) full() bool { return f.runs() >= maxFlight }

// overfull reports whether no more is to be added.
func (f *flight) overfull() bool { return f.runs() >= 2*maxFlight }

func (f *flight) runs() int { return len(f.said) - f.first }

func (f *flight) empty() bool { return f.first == len(f.said) }

func (f *flight) add(kind saying, round uint64) {
	if kind.ends() {
		f.rounds++
	}
	if !f.empty() {
		last := &f.said[len(f.said)-1]
		if last.kind == kind && (!kind.ends() || last.round+uint64(last.n) == round) {
			last.n++
			return
		}
	}
	if f.first > 0 && len(f.said) == cap(f.said) {
		f.said, f.first = f.said[:copy(f.said, f.said[f.first:])], 0
	}
	f.said = append(f.said, stretch{kind, 1, round})
}

// head is what Postgres answers next.
func (f *flight) head() saying {
	for ; !f.empty(); f.first++ {
		if kind := f.said[f.first].kind; kind != saidEnd {
			return kind
		}
	}
	f.clear()
	return saidNothing
}

// take takes the first message out, which was answered.
func (f *flight) take() {
	s := &f.said[f.first]
	if s.kind.ends() {
		f.rounds--
	}
	s.round++
	if s.n--; s.n > 0 {
		return
	}
	if f.first++; f.empty() {
		f.clear()
	}
}

// skip takes out what Postgres does not look at after an error in a step, and reports whether the Sync at which it goes on
// is there.
func (f *flight) skip() bool {
	for !f.empty() && f.said[f.first].kind != saidSync {
		f.pass(f.first)
		f.first++
	}
	if f.empty() {
		f.clear()
		return false
	}
	return true
}

// endCopy takes out what was said from behind the statement that copies to the end of its data, and reports whether a Sync
// was among that.
func (f *flight) endCopy() (synced bool) {
	from := f.first + 1
	to := from
	for ; to < len(f.said); to++ {
		s := &f.said[to]
		if s.kind == saidEnd {
			if s.n--; s.n == 0 {
				to++
			}
			break
		}
		if s.kind != saidSync { // Postgres ends the session
			break
		}
		synced = true
		f.pass(to)
	}
	f.said = slices.Delete(f.said, from, to)
	return synced
}

// fed reports whether the end of some COPY data is in it.
func (f *flight) fed() bool {
	return slices.ContainsFunc(f.said[f.first:], func(s stretch) bool { return s.kind == saidEnd })
}

// pass notes that the rounds at i will not be answered.
func (f *flight) pass(i int) {
	if s := &f.said[i]; s.kind.ends() {
		f.rounds -= int(s.n)
	}
}

// round is the number of the round that is answered next, and false if there is none.
func (f *flight) round() (uint64, bool) {
	for i := f.first; i < len(f.said); i++ {
		if s := &f.said[i]; s.kind.ends() {
			return s.round, true
		}
	}
	return 0, false
}

// answer takes out the first round that ends, which was answered, and what is before it.
func (f *flight) answer() (round uint64, ok bool) {
	for !f.empty() {
		if s := &f.said[f.first]; s.kind.ends() {
			round = s.round
			f.take()
			return round, true
		}
		f.first++
	}
	f.clear()
	return 0, false
}

// clear empties it.
func (f *flight) clear() {
	f.said, f.first, f.rounds = f.said[:0], 0, 0
	if cap(f.said) > 64 {
		f.said = nil
	}
}
