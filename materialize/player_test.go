package materialize_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"pgregory.net/rapid"

	"hubpg/internal/sandbox"
)

// event is one thing that happens to the account, or to the materializer.
type event struct {
	kind  string
	index int // of the record among the live ones, modulo their number
	other int
	value int
}

// What happens to the account: what the follow lane and the archived lane find by themselves, then everything.
var (
	followed = []string{
		"update", "update", "update", "clear", "create", "create", "archive", "stamp", "fault", "calm", "pause",
	}
	anything = []string{
		"update", "update", "update", "update", "clear", "create", "create", "archive", "restore", "erase", "merge", "merge", "stamp",
		"associate", "associate", "associate", "dissociate", "label", "property", "property", "retire", "retype", "object", "owner",
		"list", "unlist", "join", "join", "join", "submit", "submit",
		"fault", "fault", "calm", "expire", "refuse", "grant", "pause",
	}
	// disasters happen to the materializer.
	disasters = []string{"stop", "second", "kill"}
)

// histories generates what happens, in order.
func histories(kinds []string, least, most int) *rapid.Generator[[]event] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			kind:  rapid.SampledFrom(kinds).Draw(t, "kind"),
			index: rapid.IntRange(0, 1000).Draw(t, "index"),
			other: rapid.IntRange(0, 1000).Draw(t, "other"),
			value: rapid.IntRange(0, 1_000_000).Draw(t, "value"),
		}
	}), least, most)
}

// player does to an account what the events of a history say.
type player struct {
	hub      *sandbox.Server
	url      string  // of the API, for what only the API can do
	archived []int64 // contacts in the recycle bin, the oldest first
	last     int64   // what the last merge has left, 0 before the first
	labels   []int   // association types from contacts to companies
	boats    string  // type id of a custom object, once there is one
	lists    []int64 // that the history has made, the oldest first
	form     string  // that takes submissions
	done     int
}

func newPlayer(hub *sandbox.Server, url string) *player {
	return &player{hub: hub, url: url, labels: []int{1, 279}, form: contactForm(hub)}
}

// contactForm is the id of a form that takes submissions.
func contactForm(hub *sandbox.Server) string {
	req := httptest.NewRequest(http.MethodGet, "/marketing/v3/forms", nil)
	req.Header.Set("Authorization", "Bearer "+sandbox.DefaultToken)
	res := httptest.NewRecorder()
	hub.ServeHTTP(res, req)
	var listed struct {
		Results []struct{ ID, Name string } `json:"results"`
	}
	if err := json.Unmarshal(res.Body.Bytes(), &listed); err != nil {
		return ""
	}
	for _, f := range listed.Results {
		if f.Name == "Contact us" {
			return f.ID
		}
	}
	return ""
}

func living(hub *sandbox.Server, objectType string) []sandbox.Record {
	var live []sandbox.Record
	for _, r := range hub.Snapshot(objectType) {
		if !r.Archived {
			live = append(live, r)
		}
	}
	return live
}

// do makes the event happen. Events that the account cannot have any more are passed over.
func (p *player) do(e event) error {
	p.done++
	table, name := "contacts", "firstname"
	if e.other%5 == 0 {
		table, name = "companies", "name"
	}
	live := living(p.hub, table)
	if len(live) < 5 {
		return nil
	}
	record, other := live[e.index%len(live)].ID, live[e.other%len(live)].ID
	switch e.kind {
	case "update":
		return p.hub.Update(table, record, map[string]string{name: fmt.Sprint("v", e.value)})
	case "clear":
		return p.hub.Update(table, record, map[string]string{name: ""})
	case "create":
		props := map[string]string{name: fmt.Sprint("new ", p.done)}
		if table == "contacts" {
			props["email"] = fmt.Sprintf("h%d.%d@example.com", p.done, e.value)
		}
		_, err := p.hub.Create(table, props)
		return err
	case "archive":
		if table == "contacts" {
			p.archived = append(p.archived, record)
		}
		return p.hub.Archive(table, record)
	case "restore":
		if len(p.archived) == 0 {
			return nil
		}
		id := p.archived[0]
		p.archived = p.archived[1:]
		return p.hub.Restore("contacts", id)
	case "erase":
		return p.hub.Erase(table, record)
	case "merge":
		return p.merge(table, record, other, e.value)
	case "stamp":
		return p.hub.StampAll(table, 1+e.value%len(live), time.Now())
	case "associate", "dissociate", "label":
		return p.associate(e)
	case "property", "retire", "retype", "object":
		return p.define(e, table, record)
	case "list", "unlist", "join", "submit":
		return p.gather(e, table, record)
	case "owner":
		_, err := p.hub.AddOwner(fmt.Sprintf("owner%d@example.com", p.done), "Own", fmt.Sprint("Er", p.done))
		return err
	case "pause":
		time.Sleep(time.Duration(e.value%300) * time.Millisecond)
	default:
		p.spoil(e)
	}
	return nil
}

// merge merges two records; every other time one of them is what the last merge has left.
func (p *player) merge(table string, record, other int64, value int) error {
	if r, ok := p.hub.Lookup(table, p.last); value%2 == 0 && ok && !r.Archived {
		other = r.ID
	}
	if record == other {
		return nil
	}
	id, err := p.hub.Merge(table, record, other)
	p.last = id
	return err
}

func (p *player) associate(e event) error {
	contacts, companies := living(p.hub, "contacts"), living(p.hub, "companies")
	contact, company := contacts[e.index%len(contacts)].ID, companies[e.other%len(companies)].ID
	switch e.kind {
	case "associate":
		return p.hub.Associate("contacts", contact, "companies", company, p.labels[e.value%len(p.labels)])
	case "dissociate":
		if edges := p.hub.Edges("contacts", "companies"); len(edges) > 0 {
			e := edges[e.index%len(edges)]
			return p.hub.Dissociate("contacts", e.From, "companies", e.To, e.TypeID)
		}
		return nil
	}
	return p.label()
}

// gather changes lists, who is in them, and what is submitted to forms.
func (p *player) gather(e event, table string, record int64) error {
	switch {
	case e.kind == "submit":
		return p.hub.SubmitForm(p.form, map[string]string{"email": fmt.Sprintf("h%d@example.com", p.done), "message": fmt.Sprint(e.value)})
	case e.kind == "join" && table == "contacts": // or leave
		return p.hub.Update(table, record, map[string]string{"jobtitle": fmt.Sprint("guest ", e.value%2)})
	case e.kind == "list":
		id, err := p.hub.AddList("contacts", fmt.Sprint("list ", p.done), "DYNAMIC", "jobtitle", fmt.Sprint("guest ", e.value%2))
		p.lists = append(p.lists, id)
		return err
	case e.kind == "unlist" && len(p.lists) > 0:
		req, err := http.NewRequest(http.MethodDelete, fmt.Sprintf("%s/crm/v3/lists/%d", p.url, p.lists[0]), nil)
		if err != nil {
			return err
		}
		p.lists = p.lists[1:]
		req.Header.Set("Authorization", "Bearer "+sandbox.DefaultToken)
		if resp, err := http.DefaultClient.Do(req); err == nil { // else a fault of the account: the list stays
			_ = resp.Body.Close()
		}
	}
	return nil
}

// label defines one more label, unless there are many, by the API as an administrator would.
func (p *player) label() error {
	if len(p.labels) > 4 {
		return nil
	}
	body := fmt.Sprintf(`{"label":"Label %d","name":"label_%[1]d","inverseLabel":"Inverse %[1]d"}`, len(p.labels))
	req, err := http.NewRequest(http.MethodPost, p.url+"/crm/v4/associations/contacts/companies/labels", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+sandbox.DefaultToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil //nolint:nilerr // a fault of the account, which does not keep the history from going on
	}
	defer func() { _ = resp.Body.Close() }()
	var made struct {
		Results []struct {
			TypeID int `json:"typeId"`
		} `json:"results"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&made); err == nil && resp.StatusCode/100 == 2 && len(made.Results) > 0 {
		p.labels = append(p.labels, made.Results[0].TypeID)
	}
	return nil
}

// define changes what the account consists of.
func (p *player) define(e event, table string, record int64) error {
	property := fmt.Sprintf("extra_%d", e.value%3)
	def := sandbox.PropertyDef{Name: property, Label: fmt.Sprint("Extra ", e.value%7), Type: "string", FieldType: "text"}
	switch e.kind {
	case "property":
		if err := p.hub.AddProperty(table, def); err != nil { // it is there
			return p.hub.Update(table, record, map[string]string{property: fmt.Sprint(e.value)})
		}
		// Shown without a change of the modified time, so that only a fill can bring it.
		return p.hub.SetCalculated(table, record, property, fmt.Sprint("c", e.value))
	case "retire":
		_ = p.hub.ArchiveProperty(table, property) // may not be there
	case "retype":
		if e.value%2 == 0 {
			def.Type, def.FieldType = "number", "number"
		}
		_ = p.hub.ChangeProperty(table, def) // may not be there
	case "object":
		if p.boats == "" {
			id, err := p.hub.AddObjectType(sandbox.SchemaDef{
				Name: "boats", SingularLabel: "Boat", PluralLabel: "Boats", PrimaryDisplayProperty: "name",
				Properties:        []sandbox.PropertyDef{{Name: "name", Label: "Name", Type: "string", FieldType: "text"}},
				AssociatedObjects: []string{"contacts"},
			})
			p.boats = id
			return err
		}
		_, err := p.hub.Create(p.boats, map[string]string{"name": fmt.Sprint("boat ", p.done)})
		return err
	}
	return nil
}

// spoil makes HubSpot fail, or well again.
func (p *player) spoil(e event) {
	switch e.kind {
	case "fault":
		kinds := []sandbox.FaultKind{
			sandbox.FaultInternal, sandbox.FaultBadGateway, sandbox.FaultCut, sandbox.FaultDrop, sandbox.FaultRateBurst,
			sandbox.FaultRateSearch, sandbox.FaultEmptyPage,
		}
		p.hub.InjectFault(sandbox.Fault{Kind: kinds[e.value%len(kinds)], Path: "^/crm/", Probability: 0.2})
	case "calm":
		p.hub.ClearFaults()
	case "expire":
		p.hub.ExpireTokens()
		p.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultExpiredToken, Path: "^/crm/", OAuth: true, Skip: e.value % 5, Count: 1})
	case "refuse":
		p.hub.WithholdScopes("crm.objects.companies.read")
	case "grant":
		p.hub.WithholdScopes()
	}
}

// peace ends everything that keeps the account from being read.
func (p *player) peace() {
	p.hub.ClearFaults()
	p.hub.WithholdScopes()
}
