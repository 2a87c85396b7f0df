package sandbox

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of a search request.
const (
	maxFilterGroups  = 5
	maxGroupFilters  = 6
	maxFilters       = 18
	maxFilterValues  = 100
	maxSearchBody    = 3000
	maxSearchPage    = 200
	maxSearchResults = 10_000
)

type filterBody struct {
	PropertyName string  `json:"propertyName"`
	Operator     string  `json:"operator"`
	Value        loose   `json:"value"`
	HighValue    loose   `json:"highValue"`
	Values       []loose `json:"values"`
}

// span is a closed interval of numbers.
type span struct{ lo, hi int64 }

var everything = span{math.MinInt64, math.MaxInt64}

func (s span) and(o span) span { return span{max(s.lo, o.lo), min(s.hi, o.hi)} }

// filterGroup is AND-ed conditions. Those on the modified time and the id, which the index is ordered
// by, are held as spans.
type filterGroup struct {
	modified span
	id       span
	rest     []func(*record) bool
}

func (g *filterGroup) match(r *record) bool {
	if r.updated < g.modified.lo || r.updated > g.modified.hi || r.id < g.id.lo || r.id > g.id.hi {
		return false
	}
	for _, ok := range g.rest {
		if !ok(r) {
			return false
		}
	}
	return true
}

// filterError is a filter refused; epoch marks one at epoch 0, which HubSpot answers with a 500.
type filterError struct {
	message string
	epoch   bool
}

func (e *filterError) Error() string { return e.message }

func badFilter(format string, args ...any) error {
	return &filterError{message: fmt.Sprintf(format, args...)}
}

// compileGroup translates one filter group for t.
func (a *account) compileGroup(t *table, fs []filterBody) (*filterGroup, error) {
	g := &filterGroup{modified: everything, id: everything}
	for _, f := range fs {
		if to, ok := strings.CutPrefix(f.PropertyName, "associations."); ok {
			cond, err := a.linkedCondition(t, to, f)
			if err != nil {
				return nil, err
			}
			g.rest = append(g.rest, cond)
			continue
		}
		p := t.property(f.PropertyName)
		if p == nil {
			return nil, badFilter("There was a problem with the request. Property %q does not exist", f.PropertyName)
		}
		if err := a.compileFilter(t, g, p, f); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (a *account) compileFilter(t *table, g *filterGroup, p *property, f filterBody) error {
	switch f.Operator {
	case "HAS_PROPERTY", "NOT_HAS_PROPERTY":
		want := f.Operator == "HAS_PROPERTY"
		g.rest = append(g.rest, func(r *record) bool { return (len(t.text(r, p, nil)) > 0) == want })
		return nil
	case "IN", "NOT_IN":
		if len(f.Values) == 0 {
			return badFilter("operator %s requires values", f.Operator)
		}
		if len(f.Values) > maxFilterValues {
			return badFilter("operator %s takes at most %d values", f.Operator, maxFilterValues)
		}
	case "BETWEEN":
		if !f.Value.set || !f.HighValue.set {
			return badFilter("operator BETWEEN requires value and highValue")
		}
	case "EQ", "NEQ", "LT", "LTE", "GT", "GTE", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN":
		if !f.Value.set {
			return badFilter("operator %s requires a value", f.Operator)
		}
	default:
		return badFilter("Invalid operator %q", f.Operator)
	}
	switch {
	case strings.HasSuffix(f.Operator, "CONTAINS_TOKEN"):
		want := f.Operator == "CONTAINS_TOKEN"
		match := tokenMatcher(f.Value.text)
		g.rest = append(g.rest, func(r *record) bool {
			v := t.text(r, p, nil)
			return len(v) > 0 && match(string(v)) == want
		})
		return nil
	case p.from != stored || p.Type == "datetime" || p.Type == "date" || p.Type == "number":
		return compileNumeric(t, g, p, f)
	default:
		g.rest = append(g.rest, textCondition(t, p, f))
		return nil
	}
}

// compileNumeric handles numbers, ids, dates and datetimes, all compared as float64 but for the spans,
// which are exact.
func compileNumeric(t *table, g *filterGroup, p *property, f filterBody) error {
	instant := p.Type == "datetime" || p.Type == "date"
	read := func(l loose) (float64, error) {
		text := l.text
		if !instant {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return 0, badFilter("%s was not a valid number.", text)
			}
			return n, nil
		}
		ms, ok := parseInstant(text)
		if !ok {
			return 0, badFilter("%s was not a valid long.", text)
		}
		if ms == 0 {
			return 0, &filterError{epoch: true}
		}
		return float64(ms), nil
	}
	var values []float64
	for _, l := range append(slices.Clone(f.Values), f.Value, f.HighValue) {
		if !l.set {
			continue
		}
		n, err := read(l)
		if err != nil {
			return err
		}
		values = append(values, n)
	}
	if s, ok := operatorSpan(f.Operator, values); ok {
		switch p.from {
		case derivedModified:
			g.modified = g.modified.and(s)
			return nil
		case derivedID:
			g.id = g.id.and(s)
			return nil
		}
	}
	g.rest = append(g.rest, func(r *record) bool {
		n, ok := numeric(t, r, p)
		return ok && holds(f.Operator, n, values)
	})
	return nil
}

// operatorSpan is the closed interval of whole numbers an operator allows, when it is one.
func operatorSpan(op string, v []float64) (span, bool) {
	up := func(n float64) int64 { return whole(math.Ceil(n)) }
	down := func(n float64) int64 { return whole(math.Floor(n)) }
	switch op {
	case "EQ":
		return span{up(v[0]), down(v[0])}, true
	case "LT":
		return span{everything.lo, up(v[0]) - 1}, true
	case "LTE":
		return span{everything.lo, down(v[0])}, true
	case "GT":
		return span{down(v[0]) + 1, everything.hi}, true
	case "GTE":
		return span{up(v[0]), everything.hi}, true
	case "BETWEEN":
		return span{up(v[0]), down(v[1])}, true
	default:
		return span{}, false
	}
}

// whole converts n within the range that float64 holds exactly.
func whole(n float64) int64 {
	const exact = 1 << 53
	return int64(max(-exact, min(exact, n)))
}

func holds(op string, n float64, v []float64) bool {
	switch op {
	case "EQ":
		return n == v[0]
	case "NEQ":
		return n != v[0]
	case "LT":
		return n < v[0]
	case "LTE":
		return n <= v[0]
	case "GT":
		return n > v[0]
	case "GTE":
		return n >= v[0]
	case "BETWEEN":
		return n >= v[0] && n <= v[1]
	case "IN":
		return slices.Contains(v, n)
	default: // NOT_IN
		return !slices.Contains(v, n)
	}
}

// numeric is the value of p in r as a number: epoch ms for dates.
func numeric(t *table, r *record, p *property) (float64, bool) {
	switch p.from {
	case derivedID:
		return float64(r.id), true
	case derivedCreated:
		return float64(r.created), true
	case derivedModified:
		return float64(r.updated), true
	}
	v := packedValue(r.data, p.slot)
	if len(v) == 0 {
		return 0, false
	}
	if p.Type == "number" {
		n, err := strconv.ParseFloat(string(v), 64)
		return n, err == nil
	}
	ms, ok := parseInstant(string(v))
	return float64(ms), ok
}

// textCondition compares text. Only enumerations mind the case; IN wants lower-case values.
func textCondition(t *table, p *property, f filterBody) func(*record) bool {
	exact := p.Type == "enumeration" || p.Type == "bool"
	fold := func(v []byte) []byte {
		if exact {
			return v
		}
		return bytes.ToLower(v)
	}
	lo, hi := fold([]byte(f.Value.text)), fold([]byte(f.HighValue.text))
	in := map[string]bool{}
	for _, v := range f.Values {
		in[v.text] = true
	}
	multi := p.Type == "enumeration" && p.FieldType == "checkbox"
	return func(r *record) bool {
		v := packedValue(r.data, p.slot)
		if len(v) == 0 {
			return false
		}
		if multi && (f.Operator == "IN" || f.Operator == "NOT_IN") {
			some := slices.ContainsFunc(strings.Split(string(v), ";"), func(one string) bool { return in[one] })
			return some == (f.Operator == "IN")
		}
		v = fold(v)
		switch f.Operator {
		case "EQ":
			return bytes.Equal(v, lo)
		case "NEQ":
			return !bytes.Equal(v, lo)
		case "LT":
			return bytes.Compare(v, lo) < 0
		case "LTE":
			return bytes.Compare(v, lo) <= 0
		case "GT":
			return bytes.Compare(v, lo) > 0
		case "GTE":
			return bytes.Compare(v, lo) >= 0
		case "BETWEEN":
			return bytes.Compare(v, lo) >= 0 && bytes.Compare(v, hi) <= 0
		case "IN":
			return in[string(v)]
		default: // NOT_IN
			return !in[string(v)]
		}
	}
}

// linkedCondition is the pseudo-property associations.{type}.
func (a *account) linkedCondition(t *table, to string, f filterBody) (func(*record) bool, error) {
	other := a.table(to)
	if other == nil || other.kind.custom || a.links.types[direction{t.kind.typeID, other.kind.typeID}] == nil {
		return nil, badFilter("There was a problem with the request. Property %q does not exist", f.PropertyName)
	}
	d := direction{t.kind.typeID, other.kind.typeID}
	vs := f.Values
	if f.Operator == "EQ" {
		vs = []loose{f.Value}
	} else if f.Operator != "IN" {
		return nil, badFilter("operator %q is not supported for associations", f.Operator)
	}
	ids := map[int64]bool{}
	for _, v := range vs {
		n, err := strconv.ParseInt(v.text, 10, 64)
		if err != nil {
			return nil, badFilter("%s was not a valid number.", v.text)
		}
		ids[n] = true
	}
	return func(r *record) bool {
		return slices.ContainsFunc(a.visible(d, other, r.id), func(k link) bool { return ids[k.to] })
	}, nil
}
