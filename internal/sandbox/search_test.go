package sandbox_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/sandbox"
)

const contactSearch = "/crm/v3/objects/contacts/search"

func filter(name, op string, value any) obj {
	f := obj{"propertyName": name, "operator": op}
	switch v := value.(type) {
	case []string:
		f["values"] = v
	case [2]string:
		f["value"], f["highValue"] = v[0], v[1]
	case nil:
	default:
		f["value"] = v
	}
	return f
}

// where is a search body of one group.
func where(filters ...obj) obj {
	return obj{"filterGroups": []obj{{"filters": filters}}, "limit": 200}
}

func ascending(body obj, name string) obj {
	body["sorts"] = []obj{{"propertyName": name, "direction": "ASCENDING"}}
	return body
}

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func TestWindowSearchAgreesWithTheRecords(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 3000})
	all := h.Snapshot("contacts")
	slices.SortFunc(all, func(a, b sandbox.Record) int { return a.UpdatedAt.Compare(b.UpdatedAt) })
	lo, hi := all[700].UpdatedAt, all[1900].UpdatedAt
	var want []string
	for _, r := range all {
		if !r.UpdatedAt.Before(lo) && !r.UpdatedAt.After(hi) {
			want = append(want, str(r.ID))
		}
	}
	body := ascending(where(filter("lastmodifieddate", "BETWEEN", [2]string{ms(lo), hi.Format(time.RFC3339Nano)})), "lastmodifieddate")
	walk := func(body obj) []string {
		var got []string
		for {
			page := h.post(contactSearch, body).must(t, 200)
			if n := page.at("total"); n != float64(len(want)) {
				t.Fatalf("total %v, want %d", n, len(want))
			}
			got = append(got, page.ids()...)
			after := page.text("paging", "next", "after")
			if after == "" {
				return got
			}
			body["after"] = after
		}
	}
	if got := walk(body); !slices.Equal(got, want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	// The same window through a scan: another condition that all rows meet.
	delete(body, "after")
	scan := ascending(where(filter("lastmodifieddate", "BETWEEN", [2]string{ms(lo), ms(hi)}), filter("hs_object_id", "GT", "0"),
		filter("hs_object_source", "HAS_PROPERTY", nil)), "lastmodifieddate")
	if got := walk(scan); !slices.Equal(got, want) {
		t.Fatalf("scan: %d rows, want %d", len(got), len(want))
	}
	// Descending, and by id.
	delete(body, "after")
	body["sorts"] = []string{"-lastmodifieddate"}
	got := walk(body)
	slices.Reverse(got)
	if !slices.Equal(got, want) {
		t.Fatal("descending differs")
	}
	delete(body, "after")
	if got := walk(ascending(body, "hs_object_id")); !slices.IsSorted(got) || len(got) != len(want) {
		t.Fatal("not in id order")
	}
}

func TestOneMillisecondCanBeWalkedByID(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	for range 11_500 {
		h.contact(nil)
	}
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	if err := h.StampAll("contacts", 11_000, at); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	last := "0"
	for {
		page := h.post(contactSearch, ascending(where(filter("lastmodifieddate", "EQ", ms(at)), filter("hs_object_id", "GT", last)), "hs_object_id")).must(t, 200)
		ids := page.ids()
		if len(ids) == 0 {
			break
		}
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
		last = ids[len(ids)-1]
	}
	if len(seen) != 11_000 {
		t.Fatalf("%d of 11000", len(seen))
	}
}

func TestSearchEndsAtTenThousandRows(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	for range 10_100 {
		h.contact(nil)
	}
	body := ascending(where(filter("lastmodifieddate", "GT", "1")), "lastmodifieddate")
	body["after"] = "9800"
	page := h.post(contactSearch, body).must(t, 200)
	if page.at("total") != 10_100.0 || len(page.ids()) != 200 || page.text("paging", "next", "after") != "10000" {
		t.Fatalf("total %v, %d rows, paging %v", page.at("total"), len(page.ids()), page.at("paging"))
	}
	body["after"] = "10000"
	if got := h.post(contactSearch, body).must(t, 400); got.text("message") != "There was a problem with the request." {
		t.Fatalf("got %s", got.raw)
	}
	body["after"] = "9900"
	h.post(contactSearch, body).must(t, 400)
}

func TestSearchRefusesWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	f := filter("email", "HAS_PROPERTY", nil)
	group := func(n int) obj { return obj{"filters": slices.Repeat([]obj{f}, n)} }
	for name, body := range map[string]any{
		"six groups":          obj{"filterGroups": slices.Repeat([]obj{group(1)}, 6)},
		"seven filters":       obj{"filterGroups": []obj{group(7)}},
		"nineteen filters":    obj{"filterGroups": []obj{group(5), group(5), group(5), group(4)}},
		"two sorts":           obj{"sorts": []string{"email", "phone"}},
		"a page of 201":       obj{"limit": 201},
		"a cursor of letters": obj{"after": "abc"},
		"a long body":         obj{"query": strings.Repeat("x", 3000)},
		"a bad operator":      where(filter("email", "LIKE", "x")),
		"an unknown property": where(filter("nope", "EQ", "x")),
		"EQ without a value":  where(filter("email", "EQ", nil)),
		"an empty IN":         where(filter("email", "IN", []string{})),
		"101 values":          where(filter("numemployees", "IN", slices.Repeat([]string{"1"}, 101))),
		"a bad number":        where(filter("loyalty_points", "GT", "many")),
		"a bad date":          where(filter("createdate", "GT", "yesterday")),
		"broken JSON":         `{"limit": 1,`,
		"a bad direction":     obj{"sorts": []obj{{"propertyName": "email", "direction": "UP"}}},
		"an unknown sort":     obj{"sorts": []string{"nope"}},
	} {
		if got := h.post(contactSearch, body); got.status != 400 {
			t.Errorf("%s: status %d: %s", name, got.status, got.raw)
		}
	}
	h.post(contactSearch, where(filter("lastmodifieddate", "GTE", "0"))).must(t, 500)
	h.post("/crm/v3/objects/butterflies/search", obj{}).must(t, 400)
	if got := h.post(contactSearch, `{"limit": }`).must(t, 400); !strings.HasPrefix(got.text("message"), "Invalid input JSON on line 1, column ") {
		t.Errorf("got %s", got.raw)
	}
}

func TestOperatorsMeanWhatTheyMeanInHubSpot(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	ann := h.contact(map[string]string{
		"email": "ann@acme.example", "firstname": "Ann", "loyalty_points": "5", "hs_lead_status": "NEW",
		"interests": "leasing;training", "date_of_birth": "1990-01-02", "company": "Acme Foods",
	})
	bob := h.contact(map[string]string{"email": "bob@beta.example", "firstname": "Bob", "loyalty_points": "10", "hs_lead_status": "OPEN"})
	none := h.contact(map[string]string{"email": "c@gamma.example"})
	company, err := h.Create("companies", map[string]string{"name": "Acme"})
	if err == nil {
		err = h.Associate("contacts", ann, "companies", company, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body any
		want []int64
	}{
		"EQ ignores case of text":          {where(filter("firstname", "EQ", "aNN")), []int64{ann}},
		"EQ minds the case of options":     {where(filter("hs_lead_status", "EQ", "new")), nil},
		"EQ of an option":                  {where(filter("hs_lead_status", "EQ", "NEW")), []int64{ann}},
		"NEQ":                              {where(filter("firstname", "NEQ", "ann")), []int64{bob}},
		"numbers compare as numbers":       {where(filter("loyalty_points", "GT", "9")), []int64{bob}},
		"LTE":                              {where(filter("loyalty_points", "LTE", 5)), []int64{ann}},
		"BETWEEN":                          {where(filter("loyalty_points", "BETWEEN", [2]string{"5", "10"})), []int64{ann, bob}},
		"IN wants lower case":              {where(filter("firstname", "IN", []string{"Ann", "bob"})), []int64{bob}},
		"NOT_IN":                           {where(filter("firstname", "NOT_IN", []string{"bob"})), []int64{ann}},
		"IN on a multi-select":             {where(filter("interests", "IN", []string{"training", "leasing"})), []int64{ann}},
		"HAS_PROPERTY":                     {where(filter("firstname", "HAS_PROPERTY", nil)), []int64{ann, bob}},
		"NOT_HAS_PROPERTY":                 {where(filter("firstname", "NOT_HAS_PROPERTY", nil)), []int64{none}},
		"CONTAINS_TOKEN":                   {where(filter("company", "CONTAINS_TOKEN", "foods")), []int64{ann}},
		"CONTAINS_TOKEN with a wildcard":   {where(filter("email", "CONTAINS_TOKEN", "be*")), []int64{bob}},
		"NOT_CONTAINS_TOKEN":               {where(filter("email", "NOT_CONTAINS_TOKEN", "be*")), []int64{ann, none}},
		"dates by day":                     {where(filter("date_of_birth", "EQ", "1990-01-02")), []int64{ann}},
		"ids":                              {where(filter("hs_object_id", "IN", []string{str(bob), str(none)})), []int64{bob, none}},
		"associations":                     {where(filter("associations.company", "EQ", str(company))), []int64{ann}},
		"filters are and-ed":               {where(filter("firstname", "HAS_PROPERTY", nil), filter("loyalty_points", "LT", "6")), []int64{ann}},
		"groups are or-ed":                 {obj{"filterGroups": []obj{{"filters": []obj{filter("firstname", "EQ", "ann")}}, {"filters": []obj{filter("email", "EQ", "c@gamma.example")}}}}, []int64{ann, none}},
		"top-level filters are a group":    {obj{"filters": []obj{filter("firstname", "EQ", "bob")}}, []int64{bob}},
		"free text":                        {obj{"query": "acme"}, []int64{ann}},
		"oldest first without a sort":      {obj{}, []int64{ann, bob, none}},
		"the modified property of others":  {where(filter("hs_lastmodifieddate", "GT", "1")), nil},
		"the modified property of contact": {where(filter("lastmodifieddate", "GT", "1")), []int64{ann, bob, none}},
	} {
		got := h.post(contactSearch, c.body).must(t, 200)
		var want []string
		for _, id := range c.want {
			want = append(want, str(id))
		}
		ids := got.ids()
		slices.Sort(ids)
		if !slices.Equal(ids, want) || got.at("total") != float64(len(want)) {
			t.Errorf("%s: got %v (total %v), want %v", name, ids, got.at("total"), want)
		}
	}
}

func TestSearchTrailsByTheIndexLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, IndexLag: 10 * time.Second})
		id := h.contact(map[string]string{"email": "a@example.com", "firstname": "Old"})
		found := func() []string {
			var names []string
			page := h.post(contactSearch, obj{}).must(t, 200)
			for i := range page.ids() {
				names = append(names, page.text("results", i, "properties", "firstname"))
			}
			return names
		}
		if got := found(); len(got) != 0 {
			t.Fatalf("found %v at once", got)
		}
		h.get("/crm/v3/objects/contacts/"+str(id)).must(t, 200) // the object API does not lag
		time.Sleep(10 * time.Second)
		if got := found(); !slices.Equal(got, []string{"Old"}) {
			t.Fatalf("found %v after the lag", got)
		}
		if err := h.Update("contacts", id, map[string]string{"firstname": "New"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if got := found(); !slices.Equal(got, []string{"Old"}) {
			t.Fatalf("found %v, want the older value", got)
		}
		time.Sleep(time.Second)
		if got := found(); !slices.Equal(got, []string{"New"}) {
			t.Fatalf("found %v", got)
		}
		if err := h.Archive("contacts", id); err != nil {
			t.Fatal(err)
		}
		if got := found(); len(got) != 0 {
			t.Fatalf("found archived %v", got)
		}
	})
}

func TestDisorderMixesRecentRowsAndSettles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, IndexLag: 8 * time.Second, Disorder: true})
		for i := range 150 {
			h.contact(map[string]string{"email": fmt.Sprintf("p%d@example.com", i)})
			time.Sleep(10 * time.Millisecond)
		}
		search := func() []string {
			return h.post(contactSearch, ascending(where(filter("lastmodifieddate", "GT", "1")), "lastmodifieddate")).must(t, 200).ids()
		}
		time.Sleep(3 * time.Second)
		if n := len(search()); n == 0 || n == 150 {
			t.Fatalf("%d rows: nothing arrives late", n)
		}
		time.Sleep(8 * time.Second)
		if ids := search(); len(ids) != 150 || slices.IsSorted(ids) {
			t.Fatalf("%d rows, sorted %v: near now the order should be wrong", len(ids), slices.IsSorted(ids))
		}
		time.Sleep(time.Minute)
		if ids := search(); !slices.IsSorted(ids) {
			t.Fatal("the order does not settle")
		}
	})
}

func TestNewRecordsAreBumpedOnceMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, SecondBump: 500 * time.Millisecond})
		id := h.contact(map[string]string{"email": "a@example.com"})
		made, _ := h.Lookup("contacts", id)
		time.Sleep(600 * time.Millisecond)
		later, _ := h.Lookup("contacts", id)
		if got := later.UpdatedAt.Sub(made.UpdatedAt); got != 500*time.Millisecond {
			t.Fatalf("moved by %v", got)
		}
		time.Sleep(time.Minute)
		if again, _ := h.Lookup("contacts", id); !again.UpdatedAt.Equal(later.UpdatedAt) {
			t.Fatal("moved twice")
		}
	})
}

func TestQuietChangesDoNotMoveTheModifiedTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, sandbox.Config{Empty: true, Rollups: true})
		id := h.contact(map[string]string{"email": "a@example.com"})
		company, err := h.Create("companies", map[string]string{"name": "Acme"})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := h.Lookup("contacts", id)
		time.Sleep(time.Second)
		if err := h.SetCalculated("contacts", id, "hubspotscore", "99"); err != nil {
			t.Fatal(err)
		}
		if err := h.Associate("contacts", id, "companies", company, 1); err != nil {
			t.Fatal(err)
		}
		after, _ := h.Lookup("contacts", id)
		if !after.UpdatedAt.Equal(before.UpdatedAt) {
			t.Fatal("the modified time moved")
		}
		if after.Properties["hubspotscore"] != "99" || after.Properties["associatedcompanyid"] != str(company) {
			t.Fatalf("values %v", after.Properties)
		}
		if c, _ := h.Lookup("companies", company); c.Properties["num_associated_contacts"] != "1" {
			t.Fatalf("the company counts %q contacts", c.Properties["num_associated_contacts"])
		}
		if got := h.post(contactSearch, obj{"properties": []string{"hubspotscore"}}); got.text("results", 0, "properties", "hubspotscore") != "99" {
			t.Fatalf("search shows %s", got.raw)
		}
	})
}
