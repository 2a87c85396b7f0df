package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	maxExportsADay         = 30
	exportLinkLife         = 5 * time.Minute
	maxExportFilters       = 3
	maxExportedTypes       = 4
	maxExportAssociations  = 1000
	maxPlainExport         = 2 << 20 // bytes; a larger one is zipped
	exportMemory           = 24 * time.Hour
	exportEnqueued         = "ENQUEUED"
	exportProcessing       = "PROCESSING"
	exportDone             = "DONE"
	exportContentType      = "text/csv"
	zippedExportType       = "application/zip"
	exportNames, exportVal = "NAMES", "VALUES"
)

// exports are the exports of the last day. They run one after the other, each for a fixed time, and need no one to
// run them: what they are doing follows from the clock.
type exports struct {
	mu   sync.Mutex // guards below
	all  []*export  // by id
	last int64
}

// export is one export.
type export struct {
	id       int64
	request  exportBody
	table    *table
	created  time.Time
	begins   time.Time
	ends     time.Time
	rows     int
	content  []byte // nil until it is done and someone asks
	fileType string
}

type exportBody struct {
	ExportType                  string    `json:"exportType"`
	ExportName                  string    `json:"exportName"`
	Format                      string    `json:"format"`
	Language                    string    `json:"language"`
	ObjectType                  string    `json:"objectType"`
	ObjectProperties            []string  `json:"objectProperties"`
	ExportInternalValuesOptions []string  `json:"exportInternalValuesOptions"`
	AssociatedObjectType        oneOrMany `json:"associatedObjectType"`
	ListID                      loose     `json:"listId"`
	AllAssociations             bool      `json:"overrideAssociatedObjectsPerDefinitionPerRowLimit"`
	PublicCrmSearchRequest      *struct {
		Filters []filterBody `json:"filters"`
		Query   string       `json:"query"`
		Sorts   []struct {
			Property string `json:"property"`
			Order    string `json:"order"`
		} `json:"sorts"`
	} `json:"publicCrmSearchRequest"`
}

// state is what an export is doing at a time.
func (e *export) state(now time.Time) string {
	switch {
	case now.Before(e.begins):
		return exportEnqueued
	case now.Before(e.ends):
		return exportProcessing
	default:
		return exportDone
	}
}

// age makes exports older.
func (x *exports) age(by time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.all {
		e.created, e.begins, e.ends = e.created.Add(-by), e.begins.Add(-by), e.ends.Add(-by)
	}
}

// add queues an export behind the others, nil when the day has had enough.
func (x *exports) add(body exportBody, t *table, takes time.Duration) *export {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	x.all = slices.DeleteFunc(x.all, func(e *export) bool { return now.Sub(e.created) >= exportMemory })
	if len(x.all) >= maxExportsADay {
		return nil
	}
	x.last++
	e := &export{id: x.last, request: body, table: t, created: now, begins: now}
	for _, other := range x.all {
		if other.ends.After(e.begins) {
			e.begins = other.ends
		}
	}
	e.ends = e.begins.Add(takes)
	x.all = append(x.all, e)
	return e
}

func (x *exports) find(id string) *export {
	for _, e := range x.all {
		if strconv.FormatInt(e.id, 10) == id {
			return e
		}
	}
	return nil
}

// serveExports answers exports/export/async, its tasks and exports/export/{id}.
func (s *Server) serveExports(c *call) *reply {
	if r := c.needs("crm.export"); r != nil {
		return r
	}
	switch rest := c.rest; {
	case slices.Equal(rest, []string{"export", "async"}):
		if r := c.only(http.MethodPost); r != nil {
			return r
		}
		return s.startExport(c)
	case len(rest) == 5 && rest[0] == "export" && rest[1] == "async" && rest[2] == "tasks" && rest[4] == "status":
		if r := c.only(http.MethodGet); r != nil {
			return r
		}
		return s.exportStatus(c, rest[3])
	case len(rest) == 2 && rest[0] == "export":
		if r := c.only(http.MethodGet); r != nil {
			return r
		}
		return s.exportInfo(c, rest[1])
	default:
		return c.notFound()
	}
}

// checkExport says what is wrong with a request.
func (s *Server) checkExport(c *call, body *exportBody) (*table, *reply) {
	if missing := missingMembers(map[string]string{
		"exportType": body.ExportType, "exportName": body.ExportName, "format": body.Format,
		"language": body.Language, "objectType": body.ObjectType,
	}); len(missing) > 0 {
		return nil, c.missing(missing...)
	}
	switch {
	case body.ExportType != "VIEW" && body.ExportType != "LIST":
		return nil, c.invalid(fmt.Sprintf("Unknown export type %q", body.ExportType))
	case body.Format != "CSV":
		return nil, c.invalid(fmt.Sprintf("Format %q is not simulated: use CSV", body.Format))
	case len(body.ObjectProperties) == 0:
		return nil, c.missing("objectProperties")
	case (body.ExportType == "LIST") != body.ListID.set:
		return nil, c.invalid("listId is required for LIST exports and not allowed for others")
	case len(body.AssociatedObjectType) > maxExportedTypes:
		return nil, c.invalid(fmt.Sprintf("At most %d associated object types can be exported", maxExportedTypes))
	}
	for _, option := range body.ExportInternalValuesOptions {
		if option != exportNames && option != exportVal {
			return nil, c.invalid(fmt.Sprintf("Unknown option %q in exportInternalValuesOptions", option))
		}
	}
	if q := body.PublicCrmSearchRequest; q != nil && (len(q.Filters) > maxExportFilters || len(q.Sorts) > 1) {
		return nil, c.invalid(fmt.Sprintf("At most %d filters and one sort are allowed", maxExportFilters))
	}
	t, r := s.typed(c, body.ObjectType)
	if r != nil {
		return nil, r
	}
	var wrong *reply
	s.account.view(func() {
		for _, name := range body.ObjectProperties {
			if t.property(name) == nil {
				wrong = c.invalid(fmt.Sprintf("Property %q does not exist", name))
				return
			}
		}
		for _, name := range body.AssociatedObjectType {
			if other := s.account.table(name); other == nil {
				wrong = c.unknownType(name)
				return
			}
		}
		if body.ListID.set && s.account.segment(body.ListID.id()) == nil {
			wrong = c.noSegment(body.ListID.id())
			return
		}
		if _, err := s.account.exported(t, body); err != nil {
			wrong = c.invalid(err.Error())
		}
	})
	return t, wrong
}

func (s *Server) startExport(c *call) *reply {
	var body exportBody
	if r := c.decode(&body); r != nil {
		return r
	}
	t, r := s.checkExport(c, &body)
	if r != nil {
		return r
	}
	if r := c.needs(t.kind.readScope()); r != nil {
		return r
	}
	e := s.exports.add(body, t, s.cfg.ExportTime)
	if e == nil {
		return c.fail(failure{
			status: http.StatusTooManyRequests, category: "RATE_LIMITS",
			message: fmt.Sprintf("You have reached the limit of %d exports within 24 hours.", maxExportsADay),
		})
	}
	return c.answer(http.StatusAccepted, map[string]any{
		"id":    strconv.FormatInt(e.id, 10),
		"links": map[string]string{"status": fmt.Sprintf("%s%s/tasks/%d/status", c.origin, c.path, e.id)},
	})
}

// exportStatus tells how far an export is and, each time anew, where its file can be fetched.
func (s *Server) exportStatus(c *call, id string) *reply {
	s.exports.mu.Lock()
	defer s.exports.mu.Unlock()
	e := s.exports.find(id)
	if e == nil {
		return c.notFound()
	}
	now := time.Now()
	body := map[string]any{"startedAt": instantText(e.begins.UnixMilli()), "requestedAt": instantText(e.created.UnixMilli())}
	switch e.state(now) {
	case exportEnqueued:
		body["status"] = "PENDING"
		body["startedAt"] = instantText(e.created.UnixMilli())
		body["completedAt"] = instantText(now.UnixMilli())
	case exportProcessing:
		body["status"] = "PROCESSING"
		body["completedAt"] = instantText(now.UnixMilli())
	default:
		s.finishExport(e)
		address, _ := s.downloads.offer(c.origin, e.content, e.fileType, exportLinkLife)
		body["status"], body["result"] = "COMPLETE", address
		body["completedAt"] = instantText(e.ends.UnixMilli())
	}
	return c.answer(http.StatusOK, body)
}

// finishExport writes the file of an export that is over; the exports are locked.
func (s *Server) finishExport(e *export) {
	if e.content == nil {
		s.account.view(func() { e.content, e.rows = s.account.writeExport(e) })
		e.content, e.fileType = packed(e.request.ExportName, e.content)
	}
}

func (s *Server) exportInfo(c *call, id string) *reply {
	s.exports.mu.Lock()
	defer s.exports.mu.Unlock()
	e := s.exports.find(id)
	if e == nil {
		return c.notFound()
	}
	state := e.state(time.Now())
	body := map[string]any{
		"id": strconv.FormatInt(e.id, 10), "exportName": e.request.ExportName, "exportType": e.request.ExportType,
		"objectType": e.table.kind.typeID, "objectProperties": e.request.ObjectProperties, "exportState": state,
		"createdAt": instantText(e.created.UnixMilli()), "updatedAt": instantText(e.created.UnixMilli()),
	}
	if state == exportDone {
		s.finishExport(e)
		body["recordCount"], body["updatedAt"] = e.rows, instantText(e.ends.UnixMilli())
	}
	return c.answer(http.StatusOK, body)
}

// exported finds the records an export is about.
func (a *account) exported(t *table, body *exportBody) ([]*record, error) {
	if body.ListID.set {
		var rs []*record
		if g := a.segment(body.ListID.id()); g != nil && g.TypeID == t.kind.typeID {
			for _, m := range g.members(false) {
				if e := t.entries[m.id]; e != nil && e.cur.archived == 0 {
					rs = append(rs, e.cur)
				}
			}
		}
		return rs, nil
	}
	in := &inquiry{limit: t.live.len() + 1}
	if q := body.PublicCrmSearchRequest; q != nil {
		if len(q.Filters) > 0 {
			group, err := a.compileGroup(t, q.Filters)
			if err != nil {
				return nil, err
			}
			in.groups = []*filterGroup{group}
		}
		if q.Query != "" {
			in.query = queryMatcher(t, q.Query)
		}
		if len(q.Sorts) == 1 {
			in.order.p, in.order.desc = t.property(q.Sorts[0].Property), cmp.Or(q.Sorts[0].Order, "ASC") == "DESC"
			if in.order.p == nil {
				return nil, badFilter("Property %q does not exist", q.Sorts[0].Property)
			}
		}
	}
	_, rs := t.search(in)
	return rs, nil
}
