package sandbox_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

func TestPropertyDefinitionsHaveEveryTypeAndFlag(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	got := h.get("/crm/v3/properties/contacts").must(t, 200)
	types, calculated, readOnly, names := map[string]int{}, 0, 0, []string{}
	for i := range got.list("results") {
		types[got.text("results", i, "type")]++
		names = append(names, got.text("results", i, "name"))
		if got.at("results", i, "calculated") == true {
			calculated++
		}
		if got.at("results", i, "modificationMetadata", "readOnlyValue") == true {
			readOnly++
		}
		if got.text("results", i, "label") == "" || got.text("results", i, "description") == "" {
			t.Errorf("%s has no label or description", names[i])
		}
	}
	for _, want := range []string{"string", "number", "bool", "enumeration", "date", "datetime", "phone_number"} {
		if types[want] == 0 {
			t.Errorf("no property of type %s", want)
		}
	}
	if len(names) < 75 || calculated < 5 || readOnly < 20 || !slices.IsSorted(names) {
		t.Errorf("%d properties, %d calculated, %d read-only", len(names), calculated, readOnly)
	}
	for _, name := range append([]string{"hs_lastmodifieddate", "lastmodifieddate"}, sixtyProperties...) {
		if !slices.Contains(names, name) {
			t.Errorf("no property %s", name)
		}
	}
}

func TestPropertiesAreCreatedArchivedAndRestored(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.contact(map[string]string{"email": "a@example.com"})
	def := obj{"name": "shoe_size", "label": "Shoe size", "type": "number", "fieldType": "number", "groupName": "contactinformation"}
	h.post("/crm/v3/properties/contacts", def).must(t, 201)
	again := h.post("/crm/v3/properties/contacts", def).must(t, 409)
	if again.text("subCategory") != "Properties.PROPERTY_WITH_NAME_EXISTS" || again.text("message") != "A property named 'shoe_size' already exists." {
		t.Errorf("got %s", again.raw)
	}
	if err := h.Update("contacts", id, map[string]string{"shoe_size": "43"}); err != nil {
		t.Fatal(err)
	}
	shown := func() any {
		return h.get("/crm/v3/objects/contacts/"+str(id)+"?properties=shoe_size").must(t, 200).at("properties").(map[string]any)["shoe_size"]
	}
	if shown() != "43" {
		t.Fatalf("value %v", shown())
	}
	h.call("DELETE", "/crm/v3/properties/contacts/shoe_size", nil).must(t, 204)
	h.get("/crm/v3/properties/contacts/shoe_size").must(t, 404)
	h.get("/crm/v3/properties/contacts/shoe_size?archived=true").must(t, 200)
	if shown() != nil {
		t.Errorf("an archived property shows %v", shown())
	}
	if got := h.get("/crm/v3/properties/contacts?archived=true"); len(got.list("results")) != 1 {
		t.Errorf("archived: %s", got.raw)
	}
	h.post("/crm/v3/objects/contacts", obj{"properties": obj{"firstname": "A", "shoe_size": "1"}}).must(t, 400)
	h.post("/crm/v3/properties/contacts", def).must(t, 201)
	if shown() != "43" {
		t.Errorf("restored value %v", shown())
	}
	options := []obj{{"label": "Big", "value": "big", "displayOrder": 0, "hidden": false}}
	h.call("PATCH", "/crm/v3/properties/contacts/shoe_size", obj{"type": "enumeration", "fieldType": "select", "options": options}).must(t, 200)
	h.call("PATCH", "/crm/v3/objects/contacts/"+str(id), obj{"properties": obj{"shoe_size": "44"}}).must(t, 400)
	if shown() != "43" {
		t.Errorf("after a change of type the old value is %v", shown())
	}
	h.call("DELETE", "/crm/v3/properties/contacts/email", nil).must(t, 400)
	h.get("/crm/v3/properties/contacts/groups").must(t, 200)
	batch := h.post("/crm/v3/properties/contacts/batch/read", obj{"inputs": []obj{{"name": "email"}, {"name": "nope"}}}).must(t, 207)
	if len(batch.list("results")) != 1 {
		t.Errorf("got %s", batch.raw)
	}
}

func TestBadPropertyDefinitionsAreRefused(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	for name, change := range map[string]obj{
		"no label":       {"label": ""},
		"upper case":     {"name": "Shoe"},
		"json type":      {"type": "json", "fieldType": "text"},
		"type mismatch":  {"fieldType": "date"},
		"no options":     {"type": "enumeration", "fieldType": "select"},
		"no such group":  {"groupName": "nope"},
		"a long name":    {"name": strings.Repeat("x", 101)},
		"a digit before": {"name": "1x"},
	} {
		def := obj{"name": "shoe_size", "label": "Shoe size", "type": "number", "fieldType": "number", "groupName": "contactinformation"}
		maps.Copy(def, change)
		if got := h.post("/crm/v3/properties/contacts", def); got.status != 400 {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
	}
}

func TestSchemasDescribeCustomAndStandardTypes(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	list := h.get("/crm/v3/schemas").must(t, 200)
	if n := len(list.list("results")); n != 1 {
		t.Fatalf("%d custom types", n)
	}
	one := h.get("/crm-object-schemas/2026-03/schemas/machines").must(t, 200)
	if one.text("fullyQualifiedName") != "p44237313_machines" || one.text("objectTypeId") != "2-143967026" ||
		len(one.list("properties")) < 12 || len(one.list("associations")) != 4 || one.text("requiredProperties", 0) != "serial_number" {
		t.Errorf("got %s", one.raw)
	}
	contacts := h.get("/crm/v3/schemas/contacts").must(t, 200)
	if contacts.text("objectTypeId") != "0-1" || len(contacts.list("associations")) < 10 {
		t.Errorf("got %.300s", contacts.raw)
	}
	made := h.post("/crm/v3/schemas", obj{
		"name": "boats", "labels": obj{"singular": "Boat", "plural": "Boats"}, "primaryDisplayProperty": "name",
		"requiredProperties": []string{"name"}, "searchableProperties": []string{"name"}, "associatedObjects": []string{"CONTACT"},
		"properties": []obj{{"name": "name", "label": "Name", "type": "string", "fieldType": "text"}},
	}).must(t, 201)
	h.post("/crm/v3/objects/"+made.text("objectTypeId"), obj{"properties": obj{"name": "Argo"}}).must(t, 201)
	if got := h.post("/crm/v3/objects/boats/search", obj{"query": "argo"}).must(t, 200); got.at("total") != 1.0 {
		t.Errorf("got %s", got.raw)
	}
	labels := h.get("/crm/v4/associations/boats/contacts/labels").must(t, 200)
	if labels.text("results", 0, "category") != "USER_DEFINED" || labels.at("results", 0, "label") != nil {
		t.Errorf("got %s", labels.raw)
	}
	h.post("/crm/v3/schemas", obj{"name": "x"}).must(t, 400)
}

func TestOwnersComeInTwoPasses(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	var ids []string
	for after := ""; ; {
		page := h.get("/crm/v3/owners?limit=3"+after).must(t, 200)
		ids = append(ids, page.ids()...)
		next := page.text("paging", "next", "after")
		if next == "" {
			break
		}
		after = "&after=" + next
	}
	if len(slices.Compact(ids)) != 8 {
		t.Errorf("owners %v", ids)
	}
	gone := h.get("/crm/v3/owners?archived=true").must(t, 200)
	if len(gone.ids()) != 1 || gone.at("results", 0, "userId") != nil || gone.at("results", 0, "userIdIncludingInactive") == nil {
		t.Errorf("got %s", gone.raw)
	}
	h.get("/crm/v3/owners/"+ids[0]).must(t, 200)
	h.get("/crm/v3/owners/5").must(t, 404)
}

func TestPipelinesHaveStagesWithMetadata(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	deals := h.get("/crm/v3/pipelines/deals").must(t, 200)
	if deals.text("results", 0, "id") != "default" || deals.text("results", 0, "createdAt") != "1970-01-01T00:00:00Z" ||
		deals.text("results", 0, "stages", 0, "metadata", "probability") != "0.2" {
		t.Errorf("got %s", deals.raw)
	}
	tickets := h.get("/crm/pipelines/2026-09/tickets").must(t, 200)
	if tickets.text("results", 0, "stages", 3, "metadata", "ticketState") != "CLOSED" {
		t.Errorf("got %s", tickets.raw)
	}
	if got := h.get("/crm/v3/pipelines/contacts").must(t, 200); len(got.list("results")) != 0 {
		t.Errorf("got %s", got.raw)
	}
	h.get("/crm/v3/pipelines/deals/default/stages").must(t, 200)
	h.get("/crm/v3/pipelines/deals/nope").must(t, 404)
}

func TestAccountAndRecordLimitsAgreeWithTheAccount(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{PortalID: 77})
	if got := h.get("/account-info/2026-09/details").must(t, 200); got.at("portalId") != 77.0 {
		t.Errorf("got %s", got.raw)
	}
	limits := h.get("/crm/limits/2026-09/records").must(t, 200)
	if limits.text("hubspotDefinedObjectTypes", 0, "objectTypeId") != "0-1" || limits.at("hubspotDefinedObjectTypes", 0, "usage") != 200.0 {
		t.Errorf("got %s", limits.raw)
	}
	if n := limits.at("customObjectTypes", "byObjectType", 0, "usage"); n != float64(h.Count("machines")) {
		t.Errorf("machines %v", n)
	}
	library := h.get("/crm/object-library/2026-09/enablement").must(t, 200)
	if library.at("enablementByObjectTypeId", "0-421") != true || library.at("enablementByObjectTypeId", "0-162") != false ||
		library.at("enablementByObjectTypeId", "0-1") != nil {
		t.Errorf("got %s", library.raw)
	}
	h.get("/crm/v3/objects/services").must(t, 403)
	usage := h.get("/account-info/2026-09/api-usage/daily/private-apps").must(t, 200)
	if usage.at("results", 0, "usageLimit") != 1e6 || fmt.Sprint(usage.at("results", 0, "currentUsage")) == "0" {
		t.Errorf("got %s", usage.raw)
	}
}
