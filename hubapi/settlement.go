package hubapi

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errNotAccounted says that a whole answer names a row neither among its results nor among its errors.
var errNotAccounted = errors.New("the answer accounts for fewer rows than were sent")

// settlement gives the results and errors of a batch write to the inputs that they belong to.
type settlement struct {
	w    *recordWrite
	r    *request
	b    *WriteBatch
	open map[int]bool // inputs without an outcome
}

func newSettlement(w *recordWrite, r *request, b *WriteBatch) *settlement {
	s := &settlement{w: w, r: r, b: b, open: make(map[int]bool, len(w.inputs))}
	for i := range w.inputs {
		s.open[i] = true
	}
	return s
}

// settle accounts for every input. A nil answer is HubSpot's 204.
func (s *settlement) settle(out *recordsBody) {
	if out == nil {
		out = &recordsBody{}
	}
	general := s.errors(out.errs)
	s.results(out)
	if s.w.archives && len(general) == 0 && out.numErrors <= len(out.errs) {
		for i := range s.open { // errors name their rows; the others were archived
			id, _ := strconv.ParseInt(s.w.inputs[i].ID, 10, 64)
			s.done(i, Record{ID: id, Archived: true}, false)
		}
	}
	for _, i := range slices.Sorted(maps.Keys(s.open)) {
		general, s.b.Results[i].Err = s.r.leftover(general)
	}
}

// leftover is the outcome of a row that is neither among the results nor named by an error: one of the errors that name
// no row, or nothing known.
func (r *request) leftover(general []error) (rest []error, err error) {
	switch len(general) {
	case 0:
		return nil, &AmbiguousError{Err: errNotAccounted, CorrelationID: r.correlation, SentAt: r.readAt}
	case 1:
		return general, general[0]
	}
	return general[1:], general[0]
}

func (s *settlement) done(i int, rec Record, isNew bool) {
	rec.Values = rec.Values[:s.w.wanted.Len():s.w.wanted.Len()]
	s.b.Results[i] = WriteResult{Record: rec, New: isNew || s.w.creates}
	delete(s.open, i)
}

// errors gives refusals to the rows that they name and returns those that name none.
func (s *settlement) errors(errs []errorEntry) []error {
	byTrace, byID := make(map[string]int, len(s.w.inputs)), make(map[string]int, len(s.w.inputs))
	for i, in := range s.w.inputs {
		if in.Trace != "" {
			byTrace[in.Trace] = i
		}
		if in.ID != "" {
			byID[fold(in.ID)] = i
		}
	}
	var general []error
	for i := range errs {
		lists := errs[i].Context.lists()
		err := errs[i].rowError(s.r)
		named := false
		refuse := func(row int, ok bool) {
			if ok {
				named = true
				if s.open[row] {
					s.b.Results[row].Err = err
					delete(s.open, row)
				}
			}
		}
		for _, trace := range lists["objectWriteTraceId"] {
			row, ok := byTrace[trace]
			refuse(row, ok)
		}
		for _, key := range []string{"ids", "id"} {
			if named {
				break
			}
			for _, id := range lists[key] {
				row, ok := byID[fold(id)]
				refuse(row, ok)
			}
		}
		if !named {
			general = append(general, err)
		}
	}
	return general
}

// results gives records to their inputs: by trace, by id or key, and for creates by content, first to the letter, then
// as HubSpot may have normalised it, and the last one to the last.
func (s *settlement) results(out *recordsBody) {
	recs := make([]int, 0, len(out.records))
	byTrace := make(map[string]int, len(s.w.inputs))
	for i, in := range s.w.inputs {
		if in.Trace != "" {
			byTrace[in.Trace] = i
		}
	}
	seen := make(map[int64]bool, len(out.records))
	for k := range out.records {
		id := out.records[k].ID
		if seen[id] && s.w.keyProperty == "" { // one record answers one input; two keys may be of one record
			continue
		}
		seen[id] = true
		i, ok := byTrace[out.extras[k].trace]
		if ok && s.open[i] {
			s.done(i, out.records[k], out.extras[k].isNew)
			continue
		}
		recs = append(recs, k)
	}
	// Records sent alike keep the order of their ids, whatever the order of the answer.
	slices.SortFunc(recs, func(x, y int) int { return cmp.Compare(out.records[x].ID, out.records[y].ID) })
	for _, key := range s.keys() {
		recs = s.join(out, recs, key)
	}
	if len(recs) == 1 && len(s.open) == 1 && !s.w.byID && out.numErrors <= len(out.errs) {
		for i := range s.open {
			s.done(i, out.records[recs[0]], out.extras[recs[0]].isNew)
		}
	}
}

// matchKey is one way to recognise an input in the answer; "" recognises nothing.
type matchKey struct {
	input  func(in *writeInput) string
	record func(rec *Record) string
}

func (s *settlement) keys() []matchKey {
	switch {
	case s.w.byID:
		return []matchKey{{
			input:  func(in *writeInput) string { return in.ID },
			record: func(rec *Record) string { return strconv.FormatInt(rec.ID, 10) },
		}}
	case s.w.keyProperty != "":
		return []matchKey{{
			input:  func(in *writeInput) string { return fold(in.ID) },
			record: func(rec *Record) string { return fold(s.value(rec, s.w.keyProperty)) },
		}, s.content(strings.Clone), s.content(normal)}
	}
	return []matchKey{s.content(strings.Clone), s.content(normal)}
}

// content recognises a record by all the values that were sent in any row of the batch.
func (s *settlement) content(norm func(string) string) matchKey {
	sent := map[string]bool{}
	for i := range s.w.inputs {
		for name := range s.w.inputs[i].Properties {
			sent[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(sent))
	write := func(b *strings.Builder, v string) {
		v = norm(v)
		b.WriteString(strconv.Itoa(len(v)))
		b.WriteByte(':')
		b.WriteString(v)
	}
	return matchKey{
		input: func(in *writeInput) string {
			var b strings.Builder
			for _, name := range names {
				write(&b, in.Properties[name])
			}
			return b.String()
		},
		record: func(rec *Record) string {
			var b strings.Builder
			for _, name := range names {
				write(&b, s.value(rec, name))
			}
			return b.String()
		},
	}
}

// join settles inputs and records of equal key, and returns the records that are left. Inputs that were sent alike but
// are to be associated differently cannot be told apart: they stay open.
func (s *settlement) join(out *recordsBody, recs []int, key matchKey) []int {
	inputs := map[string][]int{}
	for _, i := range slices.Sorted(maps.Keys(s.open)) {
		k := key.input(&s.w.inputs[i])
		inputs[k] = append(inputs[k], i)
	}
	var rest []int
	for _, k := range recs {
		at := key.record(&out.records[k])
		rows := inputs[at]
		if at == "" || len(rows) == 0 || (len(rows) > 1 && !s.alike(rows)) {
			rest = append(rest, k)
			continue
		}
		inputs[at] = rows[1:]
		s.done(rows[0], out.records[k], out.extras[k].isNew)
	}
	return rest
}

func (s *settlement) alike(rows []int) bool {
	for _, i := range rows {
		if len(s.w.inputs[i].Associations) > 0 {
			return false
		}
	}
	return true
}

func (s *settlement) value(rec *Record, name string) string {
	if slot, ok := s.w.p.Slot(name); ok {
		return string(rec.Values[slot])
	}
	return ""
}

// projection is what has to be decoded: what the caller wants, then what recognises the rows.
func (w *recordWrite) projection() *Projection {
	names := w.wanted.Names()
	sent := map[string]bool{}
	if !w.byID {
		for _, in := range w.inputs {
			for name := range in.Properties {
				sent[name] = true
			}
		}
		if w.keyProperty != "" {
			sent[w.keyProperty] = true
		}
	}
	return NewProjection(append(names, slices.Sorted(maps.Keys(sent))...))
}

// fold compares ids and unique values as HubSpot does.
func fold(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// normal undoes what HubSpot does to values that it stores: case and space, the form of numbers and of times.
func normal(v string) string {
	v = fold(v)
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, strings.ToUpper(v)); err == nil {
			return strconv.FormatFloat(float64(t.UnixMilli()), 'g', -1, 64)
		}
	}
	return v
}
