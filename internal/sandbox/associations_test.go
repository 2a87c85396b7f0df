package sandbox_test

import (
	"fmt"
	"slices"
	"testing"

	"hubpg/internal/sandbox"
)

const linkRead = "/crm/v4/associations/contacts/companies/batch/read"

// pair is a contact and two companies.
func pair(t *testing.T, h *hub) (contact int64, companies [2]int64) {
	t.Helper()
	contact = h.contact(map[string]string{"email": "a@example.com"})
	for i := range companies {
		id, err := h.Create("companies", map[string]string{"name": fmt.Sprint("Acme ", i)})
		if err != nil {
			t.Fatal(err)
		}
		companies[i] = id
	}
	return contact, companies
}

// types are the type ids of a pair as the API shows them, 0 when it is not there.
func (h *hub) types(from string, x int64, to string, y int64) []int {
	h.t.Helper()
	var ids []int
	got := h.get(fmt.Sprintf("/crm/v4/objects/%s/%d/associations/%s", from, x, to)).must(h.t, 200)
	for i := range got.list("results") {
		if int64(got.at("results", i, "toObjectId").(float64)) != y {
			continue
		}
		for j := range got.list("results", i, "associationTypes") {
			ids = append(ids, int(got.at("results", i, "associationTypes", j, "typeId").(float64)))
		}
	}
	return ids
}

func TestAssociationsAreSeenFromBothSides(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	contact, companies := pair(t, h)
	path := fmt.Sprintf("/crm/v4/objects/contacts/%d/associations/companies/%d", contact, companies[0])
	h.call("PUT", path, []obj{{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}}).must(t, 201)
	if got := h.types("contacts", contact, "companies", companies[0]); !slices.Equal(got, []int{1, 279}) {
		t.Errorf("contact side %v", got)
	}
	if got := h.types("companies", companies[0], "contacts", contact); !slices.Equal(got, []int{2, 280}) {
		t.Errorf("company side %v", got)
	}
	// There is one primary: a second one takes it away from the first.
	second := fmt.Sprintf("/crm/objects/2026-03/contacts/%d/associations/companies/%d", contact, companies[1])
	h.call("PUT", second, []obj{{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}}).must(t, 201)
	if got := h.types("contacts", contact, "companies", companies[0]); !slices.Equal(got, []int{279}) {
		t.Errorf("the first company has %v", got)
	}
	// Types are replaced, and the unlabeled one stays.
	h.call("PUT", second, []obj{{"associationCategory": "USER_DEFINED", "associationTypeId": h.label("Decision maker")}}).must(t, 201)
	if got := h.types("contacts", contact, "companies", companies[1]); !slices.Equal(got, []int{279, h.label("Decision maker")}) {
		t.Errorf("the second company has %v", got)
	}
	h.call("DELETE", second, nil).must(t, 204)
	if got := h.types("contacts", contact, "companies", companies[1]); got != nil {
		t.Errorf("left: %v", got)
	}
	byDefault := fmt.Sprintf("/crm/v4/objects/contacts/%d/associations/default/companies/%d", contact, companies[1])
	h.call("PUT", byDefault, nil).must(t, 200)
	if got := h.types("contacts", contact, "companies", companies[1]); !slices.Equal(got, []int{279}) {
		t.Errorf("by default: %v", got)
	}
	h.get(fmt.Sprintf("/crm/objects/2026-09/contacts/%d/associations/companies", contact)).must(t, 404)
}

// label is the type id of a contact-to-company label.
func (h *hub) label(name string) int {
	got := h.get("/crm/v4/associations/contacts/companies/labels").must(h.t, 200)
	for i := range got.list("results") {
		if got.text("results", i, "label") == name {
			return int(got.at("results", i, "typeId").(float64))
		}
	}
	h.t.Fatalf("no label %s", name)
	return 0
}

func TestBatchReadOfAssociationsTellsWhatHasNone(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	contact, companies := pair(t, h)
	lonely := h.contact(map[string]string{"email": "b@example.com"})
	if err := h.Associate("contacts", contact, "companies", companies[0], 1); err != nil {
		t.Fatal(err)
	}
	in := obj{"inputs": []obj{{"id": str(contact)}, {"id": str(lonely)}, {"id": "5"}, {"id": "x"}}}
	got := h.post(linkRead, in).must(t, 207)
	if got.text("results", 0, "from", "id") != str(contact) || got.at("results", 0, "to", 0, "toObjectId") != float64(companies[0]) ||
		got.text("results", 0, "to", 0, "associationTypes", 0, "label") != "Primary" || got.at("results", 0, "to", 0, "associationTypes", 1, "label") != nil {
		t.Errorf("got %s", got.raw)
	}
	var subs []string
	for i := range got.list("errors") {
		subs = append(subs, got.text("errors", i, "subCategory"))
	}
	slices.Sort(subs)
	if !slices.Equal(subs, []string{"crm.associations.FROM_OBJECT_NOT_FOUND", "crm.associations.INVALID_IDENTIFIER", "crm.associations.NO_ASSOCIATIONS_FOUND"}) || got.at("numErrors") != 3.0 {
		t.Errorf("got %s", got.raw)
	}
	h.post("/crm/associations/2026-09/contacts/companies/batch/read", in).must(t, 200)
	h.post(linkRead, obj{"inputs": slices.Repeat([]obj{{"id": "1"}}, 1001)}).must(t, 400)
	if err := h.Archive("companies", companies[0]); err != nil {
		t.Fatal(err)
	}
	if got := h.post(linkRead, obj{"inputs": []obj{{"id": str(contact)}}}).must(t, 207); len(got.list("results")) != 0 {
		t.Errorf("an archived company is still shown: %s", got.raw)
	}
	if err := h.Restore("companies", companies[0]); err != nil {
		t.Fatal(err)
	}
	h.post(linkRead, obj{"inputs": []obj{{"id": str(contact)}}}).must(t, 200)
}

func TestAssociationsArePagedByFiveHundred(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	_, companies := pair(t, h)
	var inputs []obj
	want := map[int64]bool{}
	for i := range 1100 {
		c := h.contact(map[string]string{"firstname": fmt.Sprint("P", i)})
		want[c] = true
		inputs = append(inputs, obj{"from": obj{"id": str(c)}, "to": obj{"id": str(companies[0])}})
	}
	h.post("/crm/v4/associations/contacts/companies/batch/associate/default", obj{"inputs": inputs}).must(t, 200)
	after := any(nil)
	for pages := 1; ; pages++ {
		got := h.post("/crm/v4/associations/companies/contacts/batch/read", obj{"inputs": []obj{{"id": str(companies[0]), "after": after}}}).must(t, 200)
		for i := range got.list("results", 0, "to") {
			id := int64(got.at("results", 0, "to", i, "toObjectId").(float64))
			if !want[id] {
				t.Fatalf("%d twice or wrong", id)
			}
			delete(want, id)
		}
		if after = got.at("results", 0, "paging", "next", "after"); after == nil {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(want) != 0 {
		t.Errorf("%d not seen", len(want))
	}
}

func TestBatchWritesOfAssociations(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	contact, companies := pair(t, h)
	in := func(to any, typeID int) obj {
		return obj{
			"from": obj{"id": str(contact)}, "to": obj{"id": to},
			"types": []obj{{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": typeID}},
		}
	}
	made := h.post("/crm/v4/associations/contacts/companies/batch/create", obj{"inputs": []obj{in(companies[0], 1), in(str(companies[1]), 279)}}).must(t, 201)
	if made.at("results", 0, "fromObjectId") != float64(contact) || made.text("results", 0, "labels", 0) != "Primary" {
		t.Errorf("got %s", made.raw)
	}
	part := h.post("/crm/v4/associations/contacts/companies/batch/create", obj{"inputs": []obj{in(companies[0], 4711), in("5", 279)}}).must(t, 207)
	if part.text("errors", 0, "subCategory") != "crm.associations.INVALID_ASSOCIATION_TYPE" || part.at("numErrors") != 2.0 {
		t.Errorf("got %s", part.raw)
	}
	h.post("/crm/v4/associations/contacts/companies/batch/labels/archive", obj{"inputs": []obj{in(companies[0], 1)}}).must(t, 204)
	if got := h.types("contacts", contact, "companies", companies[0]); !slices.Equal(got, []int{279}) {
		t.Errorf("left: %v", got)
	}
	h.post("/crm/associations/2026-03/contacts/companies/batch/archive", obj{"inputs": []obj{
		{"from": obj{"id": str(contact)}, "to": []obj{{"id": str(companies[0])}, {"id": str(companies[1])}}},
	}}).must(t, 200)
	if n := len(h.Edges("contacts", "companies")); n != 0 {
		t.Errorf("%d edges left", n)
	}
	self := fmt.Sprintf("/crm/v4/objects/contacts/%d/associations/default/contacts/%d", contact, contact)
	if got := h.call("PUT", self, nil).must(t, 400); got.text("message") != fmt.Sprintf("Object %d cannot be associated to itself (%d)", contact, contact) {
		t.Errorf("got %s", got.raw)
	}
}

func TestParentsAndChildrenAreDifferentSides(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	_, companies := pair(t, h)
	if err := h.Associate("companies", companies[0], "companies", companies[1], 13); err != nil {
		t.Fatal(err)
	}
	if got := h.types("companies", companies[0], "companies", companies[1]); !slices.Equal(got, []int{13}) {
		t.Errorf("parent to child %v", got)
	}
	if got := h.types("companies", companies[1], "companies", companies[0]); !slices.Equal(got, []int{14}) {
		t.Errorf("child to parent %v", got)
	}
}

func TestLabelsCanBeDefined(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	made := h.post("/crm/v4/associations/contacts/companies/labels", obj{"label": "Advisor", "name": "advisor", "inverseLabel": "Advised by"}).must(t, 200)
	if len(made.list("results")) != 2 {
		t.Fatalf("got %s", made.raw)
	}
	contact, companies := pair(t, h)
	if err := h.Associate("contacts", contact, "companies", companies[0], h.label("Advisor")); err != nil {
		t.Fatal(err)
	}
	edges := h.Edges("companies", "contacts")
	if len(edges) != 2 || edges[1].Label != "Advised by" || edges[1].Category != "USER_DEFINED" {
		t.Errorf("edges %+v", edges)
	}
	h.post("/crm/v4/associations/contacts/companies/labels", obj{"label": "Advisor", "name": "advisor"}).must(t, 409)
}
