package sandbox_test

import (
	"bytes"
	"slices"
	"strconv"
	"testing"

	"hubpg/internal/sandbox"
)

func parseID(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// walk reads all pages of a list.
func (h *hub) walk(target, separator string) []any {
	h.t.Helper()
	var all []any
	after := ""
	for range 100 {
		page := h.get(target+separator+"after="+after).must(h.t, 200)
		all = append(all, page.list("results")...)
		if after = page.text("paging", "next", "after"); after == "" {
			return all
		}
	}
	h.t.Fatal("the pages do not end")
	return nil
}

func TestFormsHideTypesUnlessAllAreAskedFor(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	if n := len(h.walk("/marketing/v3/forms?limit=1", "&")); n != 2 {
		t.Errorf("%d forms by default", n)
	}
	forms := h.walk("/marketing/v3/forms?formTypes=all&limit=2", "&")
	if len(forms) != 5 {
		t.Errorf("%d forms of all types", len(forms))
	}
	if n := len(h.walk("/marketing/forms/2026-09-beta?formTypes=all&archived=true", "&")); n != 1 {
		t.Errorf("%d archived forms", n)
	}
	h.get("/marketing/v3/forms?formTypes=other").must(t, 400)
	h.get("/marketing/v3/forms?limit=501").must(t, 400)
	for _, f := range forms {
		id, kind := f.(obj)["id"].(string), f.(obj)["formType"].(string)
		h.get("/marketing/v3/forms/"+id).must(t, 200)
		want := 200
		if kind == "blog_comment" {
			want = 400
		}
		h.get("/form-integrations/v1/submissions/forms/"+id).must(t, want)
	}
}

func TestSubmissionsComeNewestFirst(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.get("/marketing/v3/forms").text("results", 0, "id")
	before := len(h.walk("/form-integrations/v1/submissions/forms/"+id+"?limit=5", "&"))
	if err := h.SubmitForm(id, map[string]string{"email": "new@example.com"}); err != nil {
		t.Fatal(err)
	}
	all := h.walk("/form-integrations/v1/submissions/forms/"+id+"?limit=50", "&")
	if len(all) != before+1 || before == 0 {
		t.Fatalf("%d submissions, were %d", len(all), before)
	}
	last := 1e18
	for _, s := range all {
		at := s.(obj)["submittedAt"].(float64)
		if at > last {
			t.Error("not newest first")
		}
		last = at
	}
	h.get("/form-integrations/v1/submissions/forms/"+id+"?limit=51").must(t, 400)
}

func TestMarketingEmailsWithStatsLeaveSomeOut(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	plain := h.walk("/marketing/v3/emails?limit=10", "&")
	stats := h.walk("/marketing/emails/2026-09?limit=10&includeStats=true", "&")
	archived := h.walk("/marketing/v3/emails?archived=true", "&")
	if len(plain) != 24 || len(stats) >= len(plain) || len(archived) != 2 {
		t.Errorf("%d emails, %d with stats, %d archived", len(plain), len(stats), len(archived))
	}
	var updated []string
	for _, e := range h.walk("/marketing/v3/emails?sort=-updatedAt&limit=7", "&") {
		updated = append(updated, e.(obj)["updatedAt"].(string))
	}
	if !slices.IsSortedFunc(updated, func(a, b string) int { return -cmpText(a, b) }) {
		t.Errorf("order %v", updated)
	}
	bound := updated[5]
	for _, e := range h.walk("/marketing/v3/emails?limit=100&updatedBefore="+bound, "&") {
		if e.(obj)["updatedAt"].(string) >= bound {
			t.Errorf("%v is not before %s", e.(obj)["updatedAt"], bound)
		}
	}
	h.get("/marketing/v3/emails?sort=-colour").must(t, 400)
	h.get("/marketing/v3/emails?limit=101").must(t, 400)
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func TestCampaignsShowPropertiesAskedForAndForbidIDs(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	if n := len(h.walk("/marketing/campaigns/2026-09?limit=3", "&")); n != 4 {
		t.Errorf("%d campaigns", n)
	}
	got := h.get("/marketing/v3/campaigns?properties=hs_name").must(t, 200)
	if got.text("results", 0, "properties", "hs_name") == "" || got.at("results", 0, "properties", "hs_start_date") != nil {
		t.Errorf("got %s", got.raw)
	}
	if bad := h.get("/marketing/v3/campaigns?properties=id").must(t, 400); bad.text("message") != "Forbidden properties: [id]" {
		t.Errorf("got %s", bad.raw)
	}
}

func TestUsersAreNotPartOfTheNewestVersion(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	users := h.walk("/settings/users/2026-03?limit=3", "&")
	if len(users) != 8 {
		t.Errorf("%d users", len(users))
	}
	h.get("/settings/users/2026-03/"+users[0].(obj)["id"].(string)).must(t, 200)
	if got := h.get("/settings/v3/users/teams").must(t, 200); len(got.list("results")) != 2 || len(got.list("results", 0, "userIds")) == 0 {
		t.Errorf("teams: %s", got.raw)
	}
	h.get("/settings/users/2026-03/roles").must(t, 200)
	h.get("/settings/users/2026-09").must(t, 404)
	h.post("/settings/users/2026-03", obj{}).must(t, 405)
}

func TestOwnersComeAndGo(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	id, err := h.AddOwner("new@northbeam.example", "New", "Owner")
	if err != nil {
		t.Fatal(err)
	}
	path := "/crm/v3/owners/" + str(id)
	h.get(path).must(t, 200)
	if err := h.ArchiveOwner(id); err != nil {
		t.Fatal(err)
	}
	h.get(path).must(t, 404)
	if got := h.get(path+"?archived=true").must(t, 200); got.at("userId") != nil || got.at("userIdIncludingInactive") == nil {
		t.Errorf("got %s", got.raw)
	}
}

func TestSurfacesOutliveSaving(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	var saved bytes.Buffer
	if err := h.Save(&saved); err != nil {
		t.Fatal(err)
	}
	again, err := sandbox.Restore(sandbox.Config{Quiet: true}, &saved)
	if err != nil {
		t.Fatal(err)
	}
	other := &hub{again, t}
	for _, path := range []string{
		"/marketing/v3/forms?formTypes=all", "/marketing/v3/emails?limit=100", "/marketing/v3/campaigns",
		"/settings/users/2026-03/teams", "/crm/v3/lists/2/memberships?limit=250", "/crm/v3/lists/1?includeFilters=true",
	} {
		if got, want := other.get(path).must(t, 200).raw, h.get(path).must(t, 200).raw; got != want {
			t.Errorf("%s: got %s\nwant %s", path, got, want)
		}
	}
}

func TestPipelinesCanBeChangedUnlessTheirStagesAreUsed(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	made := h.post("/crm/v3/pipelines/deals", obj{"label": "Rentals", "displayOrder": 3, "stages": []obj{
		{"label": "Asked", "displayOrder": 0, "metadata": obj{"probability": "0.3"}},
		{"label": "Rented", "displayOrder": 1, "metadata": obj{"probability": 1.0}},
	}}).must(t, 201)
	id, asked := made.text("id"), made.text("stages", 0, "id")
	if made.text("stages", 1, "metadata", "isClosed") != "true" {
		t.Errorf("made %s", made.raw)
	}
	deal, err := h.Create("deals", map[string]string{"dealname": "Crane", "pipeline": id, "dealstage": asked})
	if err != nil {
		t.Fatal(err)
	}
	// The new stage is a valid value.
	h.call("PATCH", "/crm/v3/objects/deals/"+str(deal), obj{"properties": obj{"dealstage": asked}}).must(t, 200)
	path := "/crm/v3/pipelines/deals/" + id
	used := h.call("DELETE", path+"?validateReferencesBeforeDelete=true", nil).must(t, 400)
	if used.text("subCategory") != "PipelineError.STAGE_ID_IN_USE" || used.at("context", "objectIds", 0) != str(deal) {
		t.Errorf("in use: %s", used.raw)
	}
	h.call("DELETE", path+"/stages/"+asked, nil).must(t, 400)
	h.call("PATCH", path+"/stages/"+asked, obj{"label": "Requested"}).must(t, 200)
	if got := h.get(path+"/stages/"+asked).must(t, 200); got.text("label") != "Requested" || got.text("metadata", "probability") != "0.3" {
		t.Errorf("changed: %s", got.raw)
	}
	h.post(path+"/stages", obj{"label": "No probability", "displayOrder": 9}).must(t, 400)
	h.post(path+"/stages", obj{"label": "Signed", "displayOrder": 2, "metadata": obj{"probability": "0.9"}}).must(t, 201)
	if err := h.Archive("deals", deal); err != nil {
		t.Fatal(err)
	}
	h.call("DELETE", path+"?validateReferencesBeforeDelete=true", nil).must(t, 204)
	h.get(path).must(t, 404)
	h.post("/crm/v3/pipelines/deals", obj{"label": "x"}).must(t, 400)
	h.call("POST", path, obj{}).must(t, 405)
}

func TestPropertyGroupsAndBatches(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	groups := "/crm/v3/properties/contacts/groups"
	h.post(groups, obj{"name": "rentals", "label": "Rentals"}).must(t, 201)
	h.post(groups, obj{"name": "rentals", "label": "Rentals"}).must(t, 409)
	property := func(name string) obj {
		return obj{"name": name, "label": name, "type": "string", "fieldType": "text", "groupName": "rentals"}
	}
	got := h.post("/crm/v3/properties/contacts/batch/create", obj{"inputs": []obj{property("one"), property("email"), property("two")}}).
		must(t, 207)
	if len(got.list("results")) != 2 || got.text("errors", 0, "subCategory") != "Properties.PROPERTY_WITH_NAME_EXISTS" {
		t.Errorf("batch create: %s", got.raw)
	}
	if bad := h.call("DELETE", groups+"/rentals", nil).must(t, 400); bad.text("subCategory") != "PropertyGroupError.GROUP_WITH_ACTIVE_PROPERTIES" {
		t.Errorf("group in use: %s", bad.raw)
	}
	h.post("/crm/v3/properties/contacts/batch/archive", obj{"inputs": []obj{{"name": "one"}, {"name": "two"}, {"name": "none"}}}).must(t, 204)
	h.get("/crm/v3/properties/contacts/one").must(t, 404)
	h.call("PATCH", groups+"/rentals", obj{"label": "Hire"}).must(t, 200)
	h.call("DELETE", groups+"/rentals", nil).must(t, 204)
	h.get(groups+"/rentals").must(t, 404)
	used := h.call("DELETE", "/crm/v3/properties/machines/serial_number", nil).must(t, 400)
	if used.text("subCategory") != "PropertyValidationError.CANNOT_DELETE_PROPERTY_IN_USE" {
		t.Errorf("property in use: %s", used.raw)
	}
	for i := range 9 { // one is seeded
		p := property("unique" + strconv.Itoa(i))
		p["hasUniqueValue"], p["groupName"] = true, "contactinformation"
		h.post("/crm/v3/properties/contacts", p).must(t, 201)
	}
	p := property("unique11")
	p["hasUniqueValue"], p["groupName"] = true, "contactinformation"
	h.post("/crm/v3/properties/contacts", p).must(t, 400)
}
