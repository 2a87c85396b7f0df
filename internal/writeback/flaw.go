package writeback

import (
	"errors"
	"fmt"
	"strings"

	"hubpg/hubapi"
)

// maxLines bounds how many rows an error describes.
const maxLines = 100

// flaw is one reason why a row was not written.
type flaw struct {
	code        string
	column      string
	message     string
	hint        string
	correlation string
	existing    int64 // the record that has the value already; 0 if none has, or it is not known
	gone        bool  // HubSpot does not have the record; the table may
}

func (f *flaw) text() string {
	if f.correlation == "" {
		return f.message
	}
	return f.message + " [correlation " + f.correlation + "]"
}

// open says that nobody has refused the row.
func (f *flaw) open() bool { return f.code == CodeUnknown || f.code == codeCancelled }

// flawsOf turns the refusal of a row into its reasons, one a property.
func flawsOf(err error, def *definition) []*flaw {
	api, _ := errors.AsType[*hubapi.APIError](err)
	f := &flaw{code: CodeRefused, message: err.Error(), hint: hubapi.Hint(err)}
	if api != nil {
		f.message, f.correlation = api.Message, api.CorrelationID
	}
	switch {
	case isA[*hubapi.AmbiguousError](err):
		f.code = CodeUnknown
		f.hint = "look in HubSpot whether the record is there before repeating the statement"
	case isA[*hubapi.ConflictError](err):
		conflict, _ := errors.AsType[*hubapi.ConflictError](err)
		f.code, f.existing, f.hint = codeUnique, conflict.ExistingID, inTheWay(conflict.ExistingID)
	case isA[*hubapi.NotFoundError](err):
		f.code, f.gone, f.hint = CodeGone, true, "the record was deleted or merged in HubSpot; the table follows within a minute"
	case isA[*hubapi.ScopeError](err):
		f.code = "42501"
		if f.hint == "" {
			f.hint = "grant the app the write scope of this object in HubSpot"
		}
	case isA[*hubapi.RateError](err):
		f.code = "53400"
	case isA[*hubapi.AuthError](err):
		f.code = "28000"
	case isA[*hubapi.UnavailableError](err):
		f.code = CodeUnavailable
	case isA[*hubapi.ValidationError](err) && len(api.Details) > 0:
		list := make([]*flaw, 0, len(api.Details))
		for i := range api.Details {
			d := &api.Details[i]
			f := &flaw{code: codeOf(d.Code), column: columnOf(def, d.Property), message: d.Message, correlation: api.CorrelationID}
			if f.code == codeUnique {
				f.hint = inTheWay(0)
			}
			list = append(list, f)
		}
		return list
	case isA[*hubapi.ValidationError](err):
		if strings.Contains(api.Message, "required propert") {
			f.code = "23502"
		}
	default:
		if api == nil {
			f.code = CodeUnavailable
		}
	}
	return []*flaw{f}
}

// withoutEnd turns the reasons why an association was not made into those of a foreign key, which it is to an application.
func withoutEnd(flaws []*flaw) []*flaw {
	for _, f := range flaws {
		if f.gone {
			f.code = "23503"
			f.hint = "an association needs both its records: create the missing one first, or see whether it was deleted or merged in HubSpot"
		}
	}
	return flaws
}

// inTheWay is what to do about a unique value that another record has; 0 is one that is not known. ON CONFLICT may not have
// found it, since Postgres compares byte by byte.
func inTheWay(id int64) string {
	who := "a record"
	if id != 0 {
		who = fmt.Sprintf("record %d", id)
	}
	return who + " has this value already, perhaps in another letter case or as a second address, which HubSpot takes for the same; " +
		"update that record by its id, or use ON CONFLICT with the value as the record has it"
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// codeOf is the SQLSTATE of HubSpot's code of a bad property.
func codeOf(code string) string {
	switch {
	case code == "PROPERTY_DOESNT_EXIST":
		return "42703"
	case code == "READ_ONLY_VALUE":
		return "428C9"
	case strings.HasPrefix(code, "MISSING_"):
		return "23502"
	case strings.Contains(code, "UNIQUE"):
		return codeUnique
	case strings.HasPrefix(code, "INVALID_"):
		return "22P02"
	}
	return CodeRefused
}

func columnOf(def *definition, property string) string {
	if def != nil {
		for name, c := range def.columns {
			if c.Property == property {
				return name
			}
		}
	}
	return property
}

// failure is the error of a statement of which rows were not written. Where bad rows are skipped, it did not fail for those.
func (p *plan) failure(id int64, skip bool) *Error {
	e := &Error{ID: id}
	var lines, kept []string
	bad, taken, unsent := 0, 0, 0
	led := false // e tells why the statement was not finished
	for _, c := range p.changes {
		switch {
		case c.accepted():
			taken++
			if len(kept) < maxLines && !c.idle() {
				kept = append(kept, c.name())
			}
		case len(c.flaws) == 0:
			unsent++
		default:
			bad++
			for _, f := range c.flaws {
				if cut := skip && f.open(); e.Code == "" || cut && !led {
					led = cut
					e.Code, e.Hint, e.Column, e.Schema, e.Table, e.Message = f.code, f.hint, f.column, c.schema(), c.table(), f.message
				}
				if len(lines) < maxLines {
					lines = append(lines, line(c, f))
				}
			}
		}
	}
	total := len(p.changes)
	switch {
	case id == 0 && bad == 1 && total == 1:
	case id == 0:
		e.Message = fmt.Sprintf("%d of %d rows cannot be sent to HubSpot: %s", bad, total, e.Message)
	case bad == 1 && total == 1:
		e.Message = "HubSpot refused the row: " + e.Message
	default:
		e.Message = fmt.Sprintf("HubSpot refused %d of %d rows: %s", bad, total, e.Message)
	}
	if taken > 0 && id != 0 {
		lines = append(lines, fmt.Sprintf("accepted by HubSpot all the same, %d: %s", taken, strings.Join(kept, ", ")))
	}
	if unsent > 0 && id != 0 {
		lines = append(lines, fmt.Sprintf("not sent, %d", unsent))
	}
	e.Detail = strings.Join(lines, "\n")
	return e
}

func line(c *change, f *flaw) string {
	if f.column == "" {
		return c.name() + ": " + f.text()
	}
	return c.name() + ", " + f.column + ": " + f.text()
}

// warnings tells about the rows that were skipped.
func (p *plan) warnings() []Notice {
	var list []Notice
	for _, c := range p.changes {
		for _, f := range c.flaws {
			if len(list) == maxLines {
				return append(list, Notice{Severity: "WARNING", Code: "01000", Message: "more rows were skipped", Hint: "hubpg.writes has them all"})
			}
			list = append(list, Notice{
				Severity: "WARNING", Code: f.code, Message: "row skipped: " + line(c, f), Hint: f.hint,
			})
		}
	}
	return list
}
