package sandbox_test

import (
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

func TestListWalksEveryRecordOnceInIDOrder(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	var walked []int64
	after := ""
	for {
		page := h.get("/crm/v3/objects/contacts?limit=37"+after).must(t, 200)
		for _, id := range page.ids() {
			n, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			walked = append(walked, n)
		}
		cursor := page.text("paging", "next", "after")
		if cursor == "" {
			if page.at("paging") != nil {
				t.Fatal("paging on the last page")
			}
			break
		}
		after = "&after=" + cursor
	}
	if !slices.IsSorted(walked) || len(slices.Compact(walked)) != 200 {
		t.Fatalf("%d ids, sorted %v", len(walked), slices.IsSorted(walked))
	}
	var want []int64
	for _, r := range h.Snapshot("contacts") {
		want = append(want, r.ID)
	}
	if !slices.Equal(walked, want) {
		t.Fatal("the walk differs from the account")
	}
}

func TestListCursorIsTheNextRecordsID(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	all := h.get("/crm/v3/objects/contacts?limit=100").ids()
	page := h.get("/crm/objects/2026-03/contacts?limit=3&after="+all[10]).must(t, 200)
	if got := page.ids(); !slices.Equal(got, all[10:13]) {
		t.Fatalf("got %v, want %v", got, all[10:13])
	}
	if got := page.text("paging", "next", "after"); got != all[13] {
		t.Fatalf("after %s, want %s", got, all[13])
	}
	// A cursor between two ids, or to a record that has gone, goes on behind it.
	n, _ := strconv.ParseInt(all[13], 10, 64)
	if err := h.Archive("contacts", n); err != nil {
		t.Fatal(err)
	}
	if got := h.get("/crm/v3/objects/contacts?limit=1&after=" + all[13]).ids(); got[0] != all[14] {
		t.Fatalf("got %v, want %s", got, all[14])
	}
}

func TestListRefusesWhatHubSpotRefuses(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	for _, target := range []string{
		"/crm/v3/objects/contacts?limit=101", "/crm/v3/objects/contacts?limit=0", "/crm/v3/objects/contacts?limit=x",
		"/crm/v3/objects/contacts?after=x", "/crm/v3/objects/contacts?archived=maybe",
		"/crm/v3/objects/contacts?limit=51&propertiesWithHistory=email",
	} {
		if got := h.get(target); got.status != 400 || got.text("category") != "VALIDATION_ERROR" {
			t.Errorf("%s: %d %s", target, got.status, got.raw)
		}
	}
	if got := h.get("/crm/v3/objects/butterflies").must(t, 400); got.text("message") != "Unable to infer object type from: butterflies" {
		t.Errorf("got %s", got.raw)
	}
	h.get("/crm/v3/nothing/at/all").must(t, 404)
	h.get("/crm/objects/2024-01/contacts").must(t, 404)
	h.get("/crm/v4/objects/contacts").must(t, 404)
	h.call("PUT", "/crm/v3/objects/contacts", nil).must(t, 405)
	h.call("DELETE", "/crm/v3/properties/contacts", nil).must(t, 405)
}

func TestOverlongURLIsAnHTML414(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	got := h.get("/crm/v3/objects/contacts?properties="+strings.Repeat("email,", 1400)).must(t, 414)
	if !strings.Contains(got.raw, "<h1>414 Request-URI Too Large</h1>") {
		t.Fatalf("got %s", got.raw)
	}
	h.get("/crm/v3/objects/contacts?properties="+strings.Repeat("email,", 1200)).must(t, 200)
}

func TestValuesAreTextNullOrCleared(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.contact(map[string]string{"email": "ann@example.com", "loyalty_points": "12", "company": "a\"b\\c\n\u00e9\x01"})
	if err := h.Update("contacts", id, map[string]string{"loyalty_points": ""}); err != nil {
		t.Fatal(err)
	}
	got := h.get("/crm/v3/objects/contacts/"+str(id)+"?properties=fax,loyalty_points,nope,company").must(t, 200)
	props := got.at("properties").(map[string]any)
	if v, ok := props["fax"]; !ok || v != nil {
		t.Errorf("a value never set is %v, want null", v)
	}
	if props["loyalty_points"] != "" {
		t.Errorf("a cleared value is %v, want the empty string", props["loyalty_points"])
	}
	if _, ok := props["nope"]; ok {
		t.Error("an unknown property is shown")
	}
	if props["company"] != "a\"b\\c\n\u00e9\x01" {
		t.Errorf("text came back as %q", props["company"])
	}
	if props["hs_object_id"] != str(id) || props["createdate"] != got.text("createdAt") || props["lastmodifieddate"] != got.text("updatedAt") {
		t.Errorf("id and times are not always there: %s", got.raw)
	}
	i := strings.Index(got.raw, `"company"`)
	if j := strings.Index(got.raw, `"fax"`); i < 0 || j < i {
		t.Error("keys are not in name order")
	}
}

func TestArchivedRecordsLiveInTheirOwnPartition(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.contact(map[string]string{"email": "gone@example.com"})
	before := h.get("/crm/v3/objects/contacts/" + str(id)).text("updatedAt")
	h.call("DELETE", "/crm/v3/objects/contacts/"+str(id), nil).must(t, 204)
	h.call("DELETE", "/crm/v3/objects/contacts/"+str(id), nil).must(t, 204)
	h.get("/crm/v3/objects/contacts/"+str(id)).must(t, 404)
	h.get("/crm/v3/objects/contacts/gone@example.com?idProperty=email").must(t, 404)
	got := h.get("/crm/v3/objects/contacts?archived=true").must(t, 200)
	if ids := got.ids(); len(ids) != 1 || ids[0] != str(id) {
		t.Fatalf("archived: %v", ids)
	}
	if got.at("results", 0, "archived") != true || got.text("results", 0, "archivedAt") == "" {
		t.Fatalf("got %s", got.raw)
	}
	if after := got.text("results", 0, "updatedAt"); after != before {
		t.Fatalf("archiving moved the modified time from %s to %s", before, after)
	}
	if err := h.Restore("contacts", id); err != nil {
		t.Fatal(err)
	}
	h.get("/crm/v3/objects/contacts/gone@example.com?idProperty=email").must(t, 200)
	if n := len(h.get("/crm/v3/objects/contacts?archived=true").ids()); n != 0 {
		t.Fatalf("%d still archived", n)
	}
}

func TestInlineAssociationsAreCutAtAHundred(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	company, err := h.Create("companies", map[string]string{"name": "Big"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 130 {
		c := h.contact(map[string]string{"email": "p" + strconv.Itoa(i) + "@example.com"})
		if err := h.Associate("contacts", c, "companies", company, 0); err != nil {
			t.Fatal(err)
		}
	}
	got := h.get("/crm/v3/objects/companies?associations=contacts,unicorns").must(t, 200)
	if n := len(got.list("results", 0, "associations", "contacts", "results")); n != 100 {
		t.Fatalf("%d inline, want 100", n)
	}
	if got.text("results", 0, "associations", "contacts", "paging", "next", "after") == "" {
		t.Fatal("no cursor to the rest")
	}
	if got := h.get("/crm/v3/objects/companies/" + str(company)).at("associations"); got != nil {
		t.Fatalf("associations not asked for: %v", got)
	}
}

func TestSingleReadFollowsHubSpotsErrors(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	got := h.get("/crm/v3/objects/contacts/abc").must(t, 404)
	if got.text("message") != "Object not found.  objectId are usually numeric." || got.text("context", "id", 0) != "abc" {
		t.Errorf("got %s", got.raw)
	}
	if got := h.get("/crm/v3/objects/contacts/5").must(t, 404); got.text("message") != "resource not found" {
		t.Errorf("got %s", got.raw)
	}
	id := h.contact(map[string]string{"email": "who@example.com"})
	if got := h.get("/crm/v3/objects/contacts/WHO%40example.com?idProperty=email").must(t, 200); got.text("id") != str(id) {
		t.Errorf("got %s", got.raw)
	}
	h.get("/crm/v3/objects/contacts/x?idProperty=firstname").must(t, 400)
}

func TestHistoryHoldsEarlierValuesNewestFirst(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.contact(map[string]string{"firstname": "Ann"})
	for _, name := range []string{"Bea", "Cleo"} {
		if err := h.Update("contacts", id, map[string]string{"firstname": name}); err != nil {
			t.Fatal(err)
		}
	}
	got := h.get("/crm/v3/objects/contacts/"+str(id)+"?propertiesWithHistory=firstname,lastname").must(t, 200)
	var values []string
	for i := range got.list("propertiesWithHistory", "firstname") {
		values = append(values, got.text("propertiesWithHistory", "firstname", i, "value"))
	}
	if !slices.Equal(values, []string{"Cleo", "Bea", "Ann"}) {
		t.Fatalf("history %v", values)
	}
}

func TestSameSeedMakesTheSameAccount(t *testing.T) {
	t.Parallel()
	a, b := start(t, sandbox.Config{Seed: 7, Contacts: 5001}), start(t, sandbox.Config{Seed: 7, Contacts: 5001})
	other := start(t, sandbox.Config{Seed: 8, Contacts: 200})
	for _, objectType := range []string{"contacts", "deals", "machines"} {
		target := "/crm/v3/objects/" + objectType + "?limit=100&associations=companies&properties=" + url.QueryEscape(strings.Join(sixtyProperties, ","))
		if a.get(target).raw != b.get(target).raw {
			t.Errorf("%s differ", objectType)
		}
		if a.get(target).raw == other.get(target).raw {
			t.Errorf("%s do not depend on the seed", objectType)
		}
	}
	for range 300 {
		a.Step()
		b.Step()
	}
	for _, objectType := range a.ObjectTypes() {
		x, y := a.Snapshot(objectType), b.Snapshot(objectType)
		if len(x) != len(y) {
			t.Fatalf("%s: %d and %d records after the same steps", objectType, len(x), len(y))
		}
		for i := range x {
			for name, v := range x[i].Properties {
				p := y[i].Properties[name]
				if p != v && !strings.Contains(name, "date") && !strings.HasPrefix(name, "hs_timestamp") && name != "last_service_at" {
					t.Fatalf("%s %d %s: %q and %q after the same steps", objectType, x[i].ID, name, v, p)
				}
			}
		}
	}
	for _, r := range a.Snapshot("contacts")[:5] {
		if id := str(r.ID); len(id) != 12 {
			t.Errorf("id %s has not twelve digits", id)
		}
	}
}

func TestSeededAccountIsBelievable(t *testing.T) {
	t.Parallel()
	h := &hub{sandbox.New(sandbox.Config{Quiet: true}), t}
	for objectType, want := range map[string]int{"contacts": 2000, "companies": 300, "deals": 500, "tickets": 200, "notes": 400, "machines": 160} {
		if n := h.Count(objectType); n != want {
			t.Errorf("%d %s, want %d", n, objectType, want)
		}
	}
	set, n := 0, 0
	for _, r := range h.Snapshot("contacts") {
		set, n = set+len(r.Properties), n+1
		if v := r.Properties["associatedcompanyid"]; v != "" {
			id, _ := strconv.ParseInt(v, 10, 64)
			if _, ok := h.Lookup("companies", id); !ok {
				t.Fatalf("contact %d is at company %s, which does not exist", r.ID, v)
			}
		}
	}
	if mean := set / n; mean < 60 {
		t.Errorf("a contact has %d values, want at least 60", mean)
	}
	if len(h.Edges("contacts", "companies")) < 3000 || len(h.Edges("deals", "contacts")) < 500 || len(h.Edges("machines", "companies")) < 100 {
		t.Error("too few associations")
	}
}

// Not parallel: it measures the heap.
func TestAMillionContactsWouldFitInFourGiB(t *testing.T) {
	const n = 6000
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	s := sandbox.New(sandbox.Config{Contacts: n, Quiet: true})
	each := (heap() - before) / n
	runtime.KeepAlive(s)
	// This counts nearly two records of other types per contact, whose numbers stop growing long before a million.
	if each > 3072 {
		t.Fatalf("%d bytes per contact, want at most 3072", each)
	}
	t.Logf("%d bytes per contact, associations and other types included", each)
}
