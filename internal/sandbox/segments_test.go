package sandbox_test

import (
	"slices"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

const day = 24 * time.Hour

func TestListsAreFoundBySearchInPages(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	first := h.post("/crm/v3/lists/search", obj{"count": 3}).must(t, 200)
	if first.at("hasMore") != true || first.at("offset") != 3.0 || first.at("total") != 4.0 || len(first.list("lists")) != 3 {
		t.Errorf("first page: %s", first.raw)
	}
	rest := h.post("/crm/lists/2026-09/search", obj{"count": 3, "offset": 3}).must(t, 200)
	if rest.at("hasMore") != false || len(rest.list("lists")) != 1 {
		t.Errorf("second page: %s", rest.raw)
	}
	one := h.post("/crm/v3/lists/search", obj{"query": "custom", "processingTypes": []string{"DYNAMIC"}}).must(t, 200)
	if one.text("lists", 0, "name") != "Customers" || one.text("lists", 0, "additionalProperties", "hs_list_size") == "" {
		t.Errorf("by name: %s", one.raw)
	}
	h.post("/crm/v3/lists/search", obj{"count": 501}).must(t, 400)
	h.post("/crm/v3/lists/search", obj{"offset": 10_001}).must(t, 400)
	if got := h.get("/crm/v3/lists/99").must(t, 404); got.text("category") != "OBJECT_NOT_FOUND" {
		t.Errorf("unknown list: %s", got.raw)
	}
	if got := h.get("/crm/v3/lists/1?includeFilters=true").must(t, 200); got.at("list", "filterBranch") == nil {
		t.Errorf("no filters: %s", got.raw)
	}
	h.WithholdScopes("crm.lists.read")
	h.get("/crm/v3/lists/1").must(t, 403)
}

func TestMembershipsPageByRecordID(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	want := h.ListMembers(2)
	if len(want) < 15 {
		t.Fatalf("only %d members", len(want))
	}
	var got []int64
	after := ""
	for {
		page := h.get("/crm/v3/lists/2/memberships?limit=7&after="+after).must(t, 200)
		if page.at("total") != float64(len(want)) {
			t.Errorf("total %v, want %d", page.at("total"), len(want))
		}
		for _, m := range page.list("results") {
			got = append(got, parseID(t, m.(obj)["recordId"].(string)))
		}
		if after = page.text("paging", "next", "after"); after == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	h.get("/crm/v3/lists/2/memberships?limit=251").must(t, 400)
	h.get("/crm/v3/lists/2/memberships/join-order?limit=250").must(t, 200)
	h.call("PATCH", "/crm/v3/lists/2/memberships", nil).must(t, 405)
}

func TestOnlyManualListsTakeMembers(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	id := h.contact(map[string]string{"email": "a@example.com", "lifecyclestage": "customer"})
	manual, err := h.AddList("contacts", "By hand", "MANUAL", "", "")
	if err != nil {
		t.Fatal(err)
	}
	dynamic, err := h.AddList("contacts", "Customers", "DYNAMIC", "lifecyclestage", "customer")
	if err != nil {
		t.Fatal(err)
	}
	path := "/crm/v3/lists/" + str(manual) + "/memberships/"
	got := h.call("PUT", path+"add", []string{str(id), "999"}).must(t, 200)
	if got.text("recordsIdsAdded", 0) != str(id) || got.text("recordIdsMissing", 0) != "999" {
		t.Errorf("add: %s", got.raw)
	}
	of := h.get("/crm/v3/lists/records/0-1/"+str(id)+"/memberships").must(t, 200)
	if len(of.list("results")) != 2 {
		t.Errorf("memberships of the record: %s", of.raw)
	}
	if got := h.call("PUT", "/crm/v3/lists/"+str(dynamic)+"/memberships/add", []string{str(id)}).must(t, 400); got.text("subCategory") == "" {
		t.Errorf("dynamic: %s", got.raw)
	}
	h.call("PUT", path+"remove", []string{str(id)}).must(t, 200)
	if ids := h.ListMembers(manual); len(ids) != 0 {
		t.Errorf("still members: %v", ids)
	}
	h.call("DELETE", "/crm/v3/lists/"+str(manual), nil).must(t, 204)
	h.get("/crm/v3/lists/"+str(manual)).must(t, 404)
	h.call("PUT", "/crm/v3/lists/"+str(manual)+"/restore", nil).must(t, 204)
	h.get("/crm/v3/lists/"+str(manual)).must(t, 200)
}

func TestDynamicListsFollowTheirFilter(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	list, err := h.AddList("contacts", "Customers", "DYNAMIC", "lifecyclestage", "customer")
	if err != nil {
		t.Fatal(err)
	}
	a := h.contact(map[string]string{"email": "a@example.com", "lifecyclestage": "customer"})
	b := h.contact(map[string]string{"email": "b@example.com", "lifecyclestage": "lead"})
	expect := func(want ...int64) {
		t.Helper()
		if got := h.ListMembers(list); !slices.Equal(got, want) {
			t.Errorf("members %v, want %v", got, want)
		}
	}
	expect(a)
	if err := h.Update("contacts", b, map[string]string{"lifecyclestage": "customer"}); err != nil {
		t.Fatal(err)
	}
	expect(a, b)
	if err := h.Archive("contacts", a); err != nil {
		t.Fatal(err)
	}
	expect(b)
	if err := h.Restore("contacts", a); err != nil {
		t.Fatal(err)
	}
	expect(a, b)
	merged, err := h.Merge("contacts", a, b)
	if err != nil {
		t.Fatal(err)
	}
	expect(merged)
}

func TestTheArchiveIsPurgedAfterNinetyDays(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	old := h.contact(map[string]string{"email": "old@example.com"})
	if err := h.Archive("contacts", old); err != nil {
		t.Fatal(err)
	}
	h.Age(60 * day)
	young := h.contact(map[string]string{"email": "young@example.com"})
	if err := h.Archive("contacts", young); err != nil {
		t.Fatal(err)
	}
	archived := "/crm/v3/objects/contacts?archived=true"
	if got := h.get(archived).ids(); !slices.Equal(got, []string{str(old), str(young)}) {
		t.Errorf("after 60 days: %v", got)
	}
	h.Age(31 * day)
	if got := h.get(archived).ids(); !slices.Equal(got, []string{str(young)}) {
		t.Errorf("after 91 days: %v", got)
	}
	h.get("/crm/v3/objects/contacts/"+str(old)+"?archived=true").must(t, 404)
	if err := h.Restore("contacts", old); err == nil {
		t.Error("a purged record came back")
	}
}
