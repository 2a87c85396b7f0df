package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type batchBody struct {
	Inputs []recordBody `json:"inputs"`
}

// batch is a batch write on its way: what was written and what was refused.
type batch struct {
	c       *call
	t       *table
	inputs  []recordBody
	traced  bool // each input has its own trace id, so each may fail alone
	started int64
	written []writtenRecord
	errors  []byte
	nErrors int
}

type writtenRecord struct {
	e     *entry
	p     *plan
	isNew *bool // batch/upsert only
}

// openBatch reads and checks what all batch writes share.
func (s *Server) openBatch(c *call) (*batch, *reply) {
	if r := c.only(http.MethodPost); r != nil {
		return nil, r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return nil, r
	}
	if r := s.mayWrite(c, t); r != nil {
		return nil, r
	}
	var body batchBody
	if r := c.decode(&body); r != nil {
		return nil, r
	}
	if r := c.batchSize(len(body.Inputs), maxBatch); r != nil {
		return nil, r
	}
	b := &batch{c: c, t: t, inputs: body.Inputs, started: nowMS(), traced: true}
	seen := map[string]bool{}
	for _, in := range b.inputs {
		if in.TraceID == "" || seen[in.TraceID] {
			b.traced = false
		}
		seen[in.TraceID] = true
	}
	return b, nil
}

// unique refuses inputs that name one record twice.
func (b *batch) unique() *reply {
	seen := map[string]bool{}
	var twice []string
	for _, in := range b.inputs {
		key := strings.ToLower(in.ID.text)
		if seen[key] && !slices.Contains(twice, in.ID.text) {
			twice = append(twice, in.ID.text)
		}
		seen[key] = true
	}
	if len(twice) == 0 {
		return nil
	}
	return b.c.fail(failure{
		status: http.StatusBadRequest, category: "VALIDATION_ERROR",
		message: fmt.Sprintf("Duplicate IDs found in batch input: [%s]. IDs must be unique", strings.Join(twice, ", ")),
		context: contextOf("ids", twice),
	})
}

// refuse notes that one input failed.
func (b *batch) refuse(in recordBody, f *failure) {
	e := batchError{category: f.category, message: f.message}
	if in.TraceID != "" {
		e.context = append(e.context, [2]string{"objectWriteTraceId", in.TraceID})
	}
	e.context = append(e.context, f.context...)
	b.errors = appendBatchError(b.errors, e)
	b.nErrors++
}

// whole is the failure of an untraced batch: the first conflict, without its id, or every bad value.
func (b *batch) whole(fs []*failure) *reply {
	all := *fs[0]
	all.context = nil
	if all.category == "CONFLICT" {
		all.message = "Contact already exists"
		return b.c.fail(all)
	}
	var lists []string
	all.errors = nil
	for _, f := range fs {
		all.errors = append(all.errors, f.errors...)
		if list, ok := strings.CutPrefix(f.message, "Property values were not valid: ["); ok {
			lists = append(lists, strings.TrimSuffix(list, "]"))
		}
	}
	if len(lists) > 0 {
		all.message = "Property values were not valid: [" + strings.Join(lists, ",") + "]"
	}
	return b.c.fail(all)
}

// answer renders the batch; the results are not in the order of the inputs.
func (b *batch) answer(a *account, status int) *reply {
	out := b.c.ok()
	out.status = status
	slices.SortFunc(b.written, func(x, y writtenRecord) int {
		if mix(uint64(x.e.id)) < mix(uint64(y.e.id)) {
			return -1
		}
		return 1
	})
	out.body = append(out.body, `{"status":"COMPLETE","results":[`...)
	for i, w := range b.written {
		if i > 0 {
			out.body = append(out.body, ',')
		}
		out.body = a.answerOf(b.t, w.p).appendOpen(out.body, w.e, w.e.cur)
		if w.isNew != nil {
			out.body = appendBool(appendMember(out.body, "new"), *w.isNew)
		}
		out.body = append(out.body, '}')
	}
	out.body = append(out.body, ']')
	if b.nErrors > 0 {
		b.c.partial(out)
		out.body = appendInt(appendMember(out.body, "numErrors"), int64(b.nErrors))
		out.body = append(out.body, `,"errors":[`...)
		out.body = append(out.body, b.errors...)
		out.body = append(out.body, ']')
	}
	out.body = append(appendSpan(out.body, b.started), '}')
	return out
}

func (s *Server) serveBatchCreate(c *call) *reply {
	b, r := s.openBatch(c)
	if r != nil {
		return r
	}
	a := s.account
	var out *reply
	c.edit(func(now int64) {
		if b.traced {
			for _, in := range b.inputs {
				p, f := a.planCreate(b.t, in)
				if f != nil {
					b.refuse(in, f)
					continue
				}
				b.written = append(b.written, writtenRecord{e: a.create(b.t, p, now), p: p})
			}
			out = b.answer(a, http.StatusCreated)
			return
		}
		var plans []*plan
		var fs []*failure
		taken := map[string]bool{}
		for _, in := range b.inputs {
			p, f := a.planCreate(b.t, in)
			if f == nil && b.takes(p, taken) {
				f = &failure{status: http.StatusConflict, category: "CONFLICT"}
			}
			if f != nil {
				fs = append(fs, f)
				continue
			}
			plans = append(plans, p)
		}
		if len(fs) > 0 {
			out = b.whole(fs)
			return
		}
		for _, p := range plans {
			b.written = append(b.written, writtenRecord{e: a.create(b.t, p, now), p: p})
		}
		out = b.answer(a, http.StatusCreated)
	})
	return out
}

// takes notes a plan's unique values and tells whether an earlier input has one of them.
func (b *batch) takes(p *plan, taken map[string]bool) bool {
	clash := false
	for _, ch := range p.cs {
		if b.t.unique[ch.p] == nil || len(ch.text) == 0 {
			continue
		}
		key := ch.p.Name + "\x00" + strings.ToLower(string(ch.text))
		clash = clash || taken[key]
		taken[key] = true
	}
	return clash
}

func (s *Server) serveBatchUpdate(c *call) *reply {
	b, r := s.openBatch(c)
	if r != nil {
		return r
	}
	if r := b.unique(); r != nil {
		return r
	}
	a := s.account
	var out *reply
	c.edit(func(now int64) {
		var plans []writtenRecord
		var fs []*failure
		for _, in := range b.inputs {
			e, refused := b.target(a, in)
			if refused != nil {
				out = refused
				return
			}
			if e == nil {
				b.refuse(in, &failure{
					category: "OBJECT_NOT_FOUND", context: [][2]string{{"ids", in.ID.text}},
					message: fmt.Sprintf("Could not get some %s objects, they may be deleted or not exist. Check that ids are valid.",
						strings.ToUpper(b.t.kind.singular)),
				})
				continue
			}
			p, f := a.planUpdate(b.t, e, in)
			switch {
			case f != nil && b.traced:
				b.refuse(in, f)
			case f != nil:
				fs = append(fs, f)
			default:
				plans = append(plans, writtenRecord{e: e, p: p})
			}
		}
		if len(fs) > 0 {
			out = b.whole(fs)
			return
		}
		for _, w := range plans {
			a.update(b.t, w.e, w.p, now, "INTEGRATION")
		}
		b.written = plans
		out = b.answer(a, http.StatusOK)
	})
	return out
}

// target finds the record of an update input. Merged-away ids are not accepted here.
func (b *batch) target(a *account, in recordBody) (*entry, *reply) {
	var e *entry
	if in.IDProperty == "" || in.IDProperty == "hs_object_id" {
		e = b.t.lookup(in.ID.id(), false)
	} else {
		find, r := b.c.finder(a, b.t, in.IDProperty)
		if r != nil {
			return nil, r
		}
		e = find(in.ID.text)
	}
	if e == nil || e.cur.archived != 0 {
		return nil, nil
	}
	return e, nil
}

func (s *Server) serveBatchUpsert(c *call) *reply {
	b, r := s.openBatch(c)
	if r != nil {
		return r
	}
	idProperty := b.inputs[0].IDProperty
	for _, in := range b.inputs {
		if in.IDProperty == "" || !in.ID.set {
			return c.missing("id", "idProperty")
		}
		if in.IDProperty != idProperty {
			return c.invalid("All inputs must have the same idProperty")
		}
	}
	if r := b.unique(); r != nil {
		return r
	}
	a := s.account
	var out *reply
	c.edit(func(now int64) {
		var plans []writtenRecord
		var fs []*failure
		for _, in := range b.inputs {
			e, refused := b.target(a, in)
			if refused != nil {
				out = refused
				return
			}
			if in.Properties == nil {
				in.Properties = map[string]loose{}
			}
			var p *plan
			var f *failure
			if e != nil {
				p, f = a.planUpdate(b.t, e, in)
			} else {
				if _, given := in.Properties[idProperty]; !given {
					in.Properties[idProperty] = in.ID
				}
				p, f = a.planCreate(b.t, in)
			}
			switch {
			case f != nil && b.traced:
				b.refuse(in, f)
			case f != nil:
				fs = append(fs, f)
			default:
				isNew := e == nil
				plans = append(plans, writtenRecord{e: e, p: p, isNew: &isNew})
			}
		}
		if len(fs) > 0 {
			out = b.whole(fs)
			return
		}
		for _, w := range plans {
			if w.e == nil {
				w.e = a.create(b.t, w.p, now)
			} else {
				a.update(b.t, w.e, w.p, now, "INTEGRATION")
			}
			b.written = append(b.written, w)
		}
		out = b.answer(a, http.StatusOK)
	})
	return out
}

func (s *Server) serveBatchArchive(c *call) *reply {
	b, r := s.openBatch(c)
	if r != nil {
		return r
	}
	a := s.account
	c.edit(func(now int64) {
		for _, in := range b.inputs {
			n, err := strconv.ParseInt(in.ID.text, 10, 64)
			if err != nil {
				continue
			}
			if e := b.t.lookup(n, true); e != nil {
				a.archive(b.t, e, now)
			}
		}
	})
	return c.noContent()
}
