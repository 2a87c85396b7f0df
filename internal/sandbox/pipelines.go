package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxStages is how many stages a pipeline of deals, tickets or a custom type may have; others have fewer.
const (
	maxStages      = 100
	maxOtherStages = 30
)

// pipelineBody is a pipeline in a request; of a PATCH each member may be missing.
type pipelineBody struct {
	Label        *string     `json:"label"`
	DisplayOrder *int        `json:"displayOrder"`
	Stages       []stageBody `json:"stages"`
}

type stageBody struct {
	StageID      string           `json:"stageId"`
	Label        *string          `json:"label"`
	DisplayOrder *int             `json:"displayOrder"`
	Metadata     map[string]loose `json:"metadata"`
}

// servePipelines answers pipelines/{type}[/{id}[/stages[/{stageId}]]].
func (s *Server) servePipelines(c *call) *reply {
	n := len(c.rest)
	if n == 0 || n > 4 || n > 2 && c.rest[2] != "stages" {
		return c.notFound()
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if c.method == http.MethodGet {
		r = c.needs(t.kind.readScope(), t.kind.schemaScope())
	} else {
		r = c.needs(t.kind.writeScope(), t.kind.schemaWriteScope())
	}
	if r != nil {
		return r
	}
	if n%2 == 1 {
		r = c.only(http.MethodGet, http.MethodPost)
	} else {
		r = c.only(http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete)
	}
	switch {
	case r != nil:
		return r
	case c.method == http.MethodGet:
		return s.readPipelines(c, t)
	case n <= 2:
		return s.writePipeline(c, t)
	default:
		return s.writeStage(c, t)
	}
}

func (a *account) pipeline(t *table, id string) *pipeline {
	for _, p := range a.pipelines[t.kind.typeID] {
		if p.id == id {
			return p
		}
	}
	return nil
}

func (p *pipeline) stage(id string) *stage {
	for _, st := range p.stages {
		if st.id == id {
			return st
		}
	}
	return nil
}

func (s *Server) readPipelines(c *call, t *table) *reply {
	out := c.notFound()
	s.account.view(func() {
		if len(c.rest) == 1 {
			out = c.ok()
			out.body = append(out.body, `{"results":[`...)
			for _, p := range s.account.pipelines[t.kind.typeID] {
				out.body = p.append(appendComma(out.body))
			}
			out.body = append(out.body, ']', '}')
			return
		}
		p := s.account.pipeline(t, c.rest[1])
		if p == nil {
			return
		}
		switch len(c.rest) {
		case 2:
			out = c.ok()
			out.body = p.append(out.body)
		case 3:
			out = c.ok()
			out.body = append(out.body, `{"results":[`...)
			for _, st := range p.stages {
				out.body = st.append(appendComma(out.body))
			}
			out.body = append(out.body, ']', '}')
		default:
			if st := p.stage(c.rest[3]); st != nil {
				out = c.ok()
				out.body = st.append(out.body)
			}
		}
	})
	return out
}

// newStage makes a stage of a request.
func (a *account) newStage(t *table, in stageBody, now int64) (*stage, string) {
	if in.Label == nil || *in.Label == "" || in.DisplayOrder == nil {
		return nil, "Invalid input JSON: some of required attributes are not set [displayOrder, label]"
	}
	a.seq++
	st := &stage{id: in.StageID, created: now}
	if st.id == "" {
		st.id = strconv.FormatUint(900_000_000+a.seq, 10)
	}
	return st, st.change(t, in, now)
}

// change applies a request to the stage and says what is wrong with it.
func (st *stage) change(t *table, in stageBody, now int64) string {
	assign(&st.label, in.Label)
	assign(&st.order, in.DisplayOrder)
	meta := map[string]string{}
	for _, m := range st.metadata {
		meta[m[0]] = m[1]
	}
	for name, v := range in.Metadata {
		meta[name] = v.text
	}
	switch t.kind.typeID {
	case "0-3":
		p, err := strconv.ParseFloat(meta["probability"], 64)
		if err != nil || p < 0 || p > 1 {
			return "metadata.probability must be a number between 0.0 and 1.0"
		}
		st.closed = p == 0 || p == 1
		st.metadata = [][2]string{{"isClosed", strconv.FormatBool(st.closed)}, {"probability", meta["probability"]}}
	default:
		state := cmp.Or(meta["ticketState"], "OPEN")
		if state != "OPEN" && state != "CLOSED" {
			return "metadata.ticketState must be OPEN or CLOSED"
		}
		st.closed = state == "CLOSED"
		st.metadata = [][2]string{{"ticketState", state}, {"isClosed", strconv.FormatBool(st.closed)}}
	}
	st.updated = now
	return ""
}

// writePipeline answers POST pipelines/{type} and PATCH, PUT, DELETE pipelines/{type}/{id}.
func (s *Server) writePipeline(c *call, t *table) *reply {
	var body pipelineBody
	if c.method != http.MethodDelete {
		if r := c.decode(&body); r != nil {
			return r
		}
	}
	whole := c.method == http.MethodPost || c.method == http.MethodPut
	if whole && (body.Label == nil || body.DisplayOrder == nil || body.Stages == nil) {
		return c.missing("displayOrder", "label", "stages")
	}
	validate, r := c.flag("validateReferencesBeforeDelete")
	if r != nil {
		return r
	}
	most := maxOtherStages
	if t.kind.custom || t.kind.typeID == "0-3" || t.kind.typeID == "0-5" {
		most = maxStages
	}
	if len(body.Stages) > most {
		return c.invalid(fmt.Sprintf("A pipeline can have at most %d stages", most))
	}
	out := c.notFound()
	a := s.account
	c.edit(func(now int64) {
		p := &pipeline{created: now}
		if c.method != http.MethodPost {
			if p = a.pipeline(t, c.rest[1]); p == nil {
				return
			}
		}
		if c.method == http.MethodDelete {
			out = a.deletePipeline(c, t, p, validate)
			return
		}
		stages := p.stages
		if whole {
			stages = nil
			for _, in := range body.Stages {
				st, problem := a.newStage(t, in, now)
				if problem != "" {
					out = c.invalid(problem)
					return
				}
				stages = append(stages, st)
			}
		}
		p.stages, p.updated = stages, now
		assign(&p.label, body.Label)
		assign(&p.order, body.DisplayOrder)
		out = c.ok()
		if c.method == http.MethodPost {
			a.seq++
			p.id = strconv.FormatUint(800_000_000+a.seq, 10)
			a.pipelines[t.kind.typeID] = append(a.pipelines[t.kind.typeID], p)
			out.status = http.StatusCreated
		}
		a.offerStages(t, now)
		out.body = p.append(out.body)
	})
	return out
}

func (a *account) deletePipeline(c *call, t *table, p *pipeline, validate bool) *reply {
	var ids []string
	for _, st := range p.stages {
		ids = append(ids, st.id)
	}
	if used := a.recordsInStages(t, ids); validate && len(used) > 0 {
		return stageInUse(c, ids, used)
	}
	a.pipelines[t.kind.typeID] = slices.DeleteFunc(a.pipelines[t.kind.typeID], func(o *pipeline) bool { return o == p })
	a.offerStages(t, nowMS())
	return c.noContent()
}

// writeStage answers POST stages and PATCH, PUT, DELETE stages/{id}.
func (s *Server) writeStage(c *call, t *table) *reply {
	var body stageBody
	if c.method != http.MethodDelete {
		if r := c.decode(&body); r != nil {
			return r
		}
	}
	out := c.notFound()
	a := s.account
	c.edit(func(now int64) {
		p := a.pipeline(t, c.rest[1])
		if p == nil {
			return
		}
		var st *stage
		if c.method == http.MethodPost {
			var problem string
			if st, problem = a.newStage(t, body, now); problem != "" {
				out = c.invalid(problem)
				return
			}
			p.stages = append(p.stages, st)
		} else if st = p.stage(c.rest[3]); st == nil {
			return
		}
		p.updated = now
		switch c.method {
		case http.MethodDelete:
			if used := a.recordsInStages(t, []string{st.id}); len(used) > 0 {
				out = stageInUse(c, []string{st.id}, used)
				return
			}
			p.stages = slices.DeleteFunc(p.stages, func(o *stage) bool { return o == st })
			out = c.noContent()
		case http.MethodPost:
			out = c.ok()
			out.status = http.StatusCreated
			out.body = st.append(out.body)
		default:
			changed := *st
			if problem := changed.change(t, body, now); problem != "" {
				out = c.invalid(problem)
				return
			}
			*st = changed
			out = c.ok()
			out.body = st.append(out.body)
		}
		a.offerStages(t, now)
	})
	return out
}

// stageNames are the properties that hold a pipeline and its stage.
func (t *table) stageNames() (pipelines, stages *property) {
	if t.kind.typeID == "0-3" {
		return t.property("pipeline"), t.property("dealstage")
	}
	return t.property("hs_pipeline"), t.property("hs_pipeline_stage")
}

// recordsInStages are some of the live records in any of the stages.
func (a *account) recordsInStages(t *table, ids []string) []string {
	_, p := t.stageNames()
	if p == nil {
		return nil
	}
	var used []string
	t.live.ascend(place{}, func(e *entry) bool {
		if slices.Contains(ids, string(packedValue(e.cur.data, p.slot))) {
			used = append(used, strconv.FormatInt(e.id, 10))
		}
		return len(used) < 10
	})
	return used
}

func stageInUse(c *call, stages, used []string) *reply {
	return c.fail(failure{
		status: http.StatusBadRequest, category: "VALIDATION_ERROR", subCategory: "PipelineError.STAGE_ID_IN_USE",
		message: "Stage IDs: [" + strings.Join(stages, ", ") + "] are being referenced by object IDs: [" +
			strings.Join(used, ", ") + "]",
		context: append(contextOf("stageIds", stages), contextOf("objectIds", used)...),
	})
}

// offerStages makes the pipelines and stages there are the options of the properties that hold them.
func (a *account) offerStages(t *table, now int64) {
	pipelines, stages := t.stageNames()
	var ps, sts []Option
	for _, p := range a.pipelines[t.kind.typeID] {
		ps = append(ps, Option{Label: p.label, Value: p.id, DisplayOrder: p.order})
		for _, st := range p.stages {
			sts = append(sts, Option{Label: st.label, Value: st.id, DisplayOrder: st.order})
		}
	}
	for p, options := range map[*property][]Option{pipelines: ps, stages: sts} {
		if p != nil {
			d := p.PropertyDef
			d.Options = options
			p.define(d)
			if p.updated != 0 {
				p.updated = now
			}
		}
	}
}
