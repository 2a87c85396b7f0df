package sandbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

func TestBadValuesAreNamedWithTheirCodes(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	for value, c := range map[string]struct{ name, value, code, message string }{
		"unknown":    {"color", "x", "PROPERTY_DOESNT_EXIST", `Property "color" does not exist`},
		"email":      {"email", "example.lcom", "INVALID_EMAIL", "Email address example.lcom is invalid"},
		"option":     {"hs_lead_status", "Maybe", "INVALID_OPTION", "Maybe was not one of the allowed options: [NEW, OPEN"},
		"options":    {"interests", "leasing;flying", "INVALID_OPTION", "flying was not one of the allowed options"},
		"bool":       {"newsletter", "perhaps", "INVALID_OPTION", "perhaps was not one of"},
		"number":     {"loyalty_points", "many", "INVALID_INTEGER", "loyalty_points was not a valid number"},
		"datetime":   {"next_review_at", "1/1/1", "INVALID_LONG", "1/1/1 was not a valid long."},
		"date":       {"date_of_birth", "1700000000001", "INVALID_DATE", "is not at midnight UTC"},
		"read only":  {"hs_object_source", "x", "READ_ONLY_VALUE", `"hs_object_source" is a read only property; its value cannot be set.`},
		"calculated": {"hubspotscore", "1", "READ_ONLY_VALUE", `"hubspotscore" is a calculated property; its value cannot be set.`},
		"owner":      {"hubspot_owner_id", "1", "INVALID_OWNER_ID", "1 was not a valid owner id."},
	} {
		got := h.post("/crm/v3/objects/contacts", obj{"properties": obj{"firstname": "A", c.name: c.value}}).must(t, 400)
		if got.text("category") != "VALIDATION_ERROR" || got.text("errors", 0, "code") != c.code ||
			got.text("errors", 0, "context", "propertyName", 0) != c.name || !strings.Contains(got.text("errors", 0, "message"), c.message) {
			t.Errorf("%s: %s", value, got.raw)
		}
		if !strings.HasPrefix(got.text("message"), `Property values were not valid: [{"isValid":false,"message":`) {
			t.Errorf("%s: message %s", value, got.text("message"))
		}
	}
	both := h.post("/crm/v3/objects/contacts", obj{"properties": obj{"color": "x", "email": "y"}}).must(t, 400)
	if n := len(both.list("errors")); n != 2 {
		t.Errorf("%d errors, want all bad values", n)
	}
}

func TestWritesNormalizeAsHubSpotDoes(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	got := h.post("/crm/v3/objects/contacts", obj{"properties": obj{
		"email": "Mixed@Example.COM", "loyalty_points": 7, "newsletter": true, "date_of_birth": "631238400000",
		"next_review_at": "1700000000000", "interests": "training;leasing", "fax": nil,
	}}).must(t, 201)
	want := map[string]any{
		"email": "mixed@example.com", "loyalty_points": "7", "newsletter": "true", "date_of_birth": "1990-01-02",
		"next_review_at": "2023-11-14T22:13:20Z", "interests": "leasing;training", "lifecyclestage": "lead",
		"hs_email_domain": "example.com",
	}
	for name, v := range want {
		if p := got.at("properties", name); p != v {
			t.Errorf("%s is %v, want %v", name, p, v)
		}
	}
	if got.header.Get("Location") == "" || got.at("associations") != nil {
		t.Errorf("headers %v, body %s", got.header, got.raw)
	}
	id := got.text("id")
	patched := h.call("PATCH", "/crm/v3/objects/contacts/"+id, obj{"properties": obj{
		"interests": ";spare_parts", "loyalty_points": "", "newsletter": nil, "lifecyclestage": "subscriber",
	}}).must(t, 200)
	if v := patched.at("properties", "interests"); v != "leasing;spare_parts;training" {
		t.Errorf("appending gave %v", v)
	}
	if v := patched.at("properties", "loyalty_points"); v != "" {
		t.Errorf("clearing gave %v", v)
	}
	if v := patched.at("properties", "newsletter"); v != "true" {
		t.Errorf("null changed the value to %v", v)
	}
	if v := patched.at("properties", "lifecyclestage"); v != "lead" {
		t.Errorf("the stage went back to %v", v)
	}
	byEmail := h.call("PATCH", "/crm/v3/objects/contacts/mixed@example.com?idProperty=email", obj{"properties": obj{"city": "Kiel"}}).must(t, 200)
	if byEmail.text("id") != id {
		t.Errorf("got %s", byEmail.raw)
	}
}

func TestRequiredPropertiesAreRequired(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	for objectType, props := range map[string]obj{
		"contacts": {"city": "Kiel"}, "companies": {"city": "Kiel"}, "deals": {"dealname": "x", "pipeline": "default"},
		"tickets": {"subject": "x"}, "notes": {"hs_note_body": "x"}, "machines": {"model": "MX100"},
	} {
		got := h.post("/crm/v3/objects/"+objectType, obj{"properties": props}).must(t, 400)
		if got.text("errors", 0, "code") != "MISSING_REQUIRED_PROPERTY" {
			t.Errorf("%s: %s", objectType, got.raw)
		}
	}
	got := h.post("/crm/v3/objects/contacts", obj{}).must(t, 400)
	if got.text("message") != "Invalid input JSON: some of required attributes are not set [properties]" {
		t.Errorf("got %s", got.raw)
	}
	h.post("/crm/v3/objects/feedback_submissions", obj{"properties": obj{}}).must(t, 405)
}

func TestUniqueValuesConflict(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.contact(map[string]string{"email": "a@example.com", "erp_number": "E-1"})
	got := h.post("/crm/v3/objects/contacts", obj{"properties": obj{"email": "A@example.com"}}).must(t, 409)
	if got.text("message") != fmt.Sprintf("Contact already exists. Existing ID: %d", id) || got.text("category") != "CONFLICT" {
		t.Errorf("got %s", got.raw)
	}
	got = h.post("/crm/v3/objects/contacts", obj{"properties": obj{"email": "b@example.com", "erp_number": "e-1"}}).must(t, 400)
	if got.text("errors", 0, "code") != "CONFLICTING_UNIQUE_VALUE" {
		t.Errorf("got %s", got.raw)
	}
	h.call("PATCH", "/crm/v3/objects/contacts/"+str(id), obj{"properties": obj{"email": "a@example.com"}}).must(t, 200)
	if err := h.Archive("contacts", id); err != nil {
		t.Fatal(err)
	}
	h.post("/crm/v3/objects/contacts", obj{"properties": obj{"email": "a@example.com"}}).must(t, 201)
}

func TestCreateCanAssociate(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	company := h.get("/crm/v3/objects/companies?limit=1").ids()[0]
	types := func(id int) []obj {
		return []obj{{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": id}}
	}
	with := func(id int, to string) answer {
		return h.post("/crm/v3/objects/contacts", obj{
			"properties": obj{"firstname": "A"}, "associations": []obj{{"to": obj{"id": to}, "types": types(id)}},
		})
	}
	made := with(279, company).must(t, 201)
	linked := h.get("/crm/v4/objects/contacts/"+made.text("id")+"/associations/companies").must(t, 200)
	if fmt.Sprintf("%.0f", linked.at("results", 0, "toObjectId")) != company {
		t.Errorf("got %s", linked.raw)
	}
	if got := with(279, "5").must(t, 400); got.text("message") != "One or more associations are invalid" {
		t.Errorf("got %s", got.raw)
	}
	if got := with(5, company).must(t, 400); !strings.HasPrefix(got.text("message"), "invalid from object type 0-1 for associations to be created.") {
		t.Errorf("got %s", got.raw)
	}
}

func TestBatchReadShufflesAndNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	ids := h.get("/crm/v3/objects/contacts?limit=50").ids()
	read := func(path string, ids ...string) answer {
		inputs := []obj{}
		for _, id := range ids {
			inputs = append(inputs, obj{"id": id})
		}
		return h.post(path, obj{"inputs": inputs, "properties": []string{"email"}})
	}
	got := read("/crm/v3/objects/contacts/batch/read", ids...).must(t, 200)
	if slices.Equal(got.ids(), ids) {
		t.Error("the results are in the order of the inputs")
	}
	sorted := got.ids()
	slices.Sort(sorted)
	if !slices.Equal(sorted, ids) {
		t.Errorf("got %d of %d", len(sorted), len(ids))
	}
	missing := read("/crm/v3/objects/contacts/batch/read", ids[0], "5", "abc").must(t, 207)
	if len(missing.ids()) != 1 || missing.text("errors", 0, "category") != "OBJECT_NOT_FOUND" ||
		len(missing.list("errors", 0, "context", "ids")) != 2 || !strings.Contains(missing.text("errors", 0, "message"), "some CONTACT objects") {
		t.Errorf("got %s", missing.raw)
	}
	if got := read("/crm/objects/2026-09/contacts/batch/read", "5").must(t, 200); got.at("numErrors") != 1.0 {
		t.Errorf("2026-09 answers %s", got.raw)
	}
	read("/crm/v3/objects/contacts/batch/read", slices.Repeat(ids, 3)...).must(t, 400)
	read("/crm/v3/objects/contacts/batch/read").must(t, 400)
	email := "by-email@example.com"
	h.contact(map[string]string{"email": email})
	byEmail := h.post("/crm/v3/objects/contacts/batch/read", obj{"idProperty": "email", "inputs": []obj{{"id": email}}}).must(t, 200)
	if len(byEmail.ids()) != 1 {
		t.Errorf("got %s", byEmail.raw)
	}
}

func TestBatchCreateFailsPartlyOnlyWithTraceIDs(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	old := h.contact(map[string]string{"email": "old@example.com"})
	inputs := func(trace bool) obj {
		var in []obj
		for i, email := range []string{"n1@example.com", "old@example.com", "bad"} {
			o := obj{"properties": obj{"email": email}}
			if trace {
				o["objectWriteTraceId"] = fmt.Sprint("t", i)
			}
			in = append(in, o)
		}
		return obj{"inputs": in}
	}
	before := h.Count("contacts")
	whole := h.post("/crm/v3/objects/contacts/batch/create", inputs(false)).must(t, 409)
	if whole.text("message") != "Contact already exists" || h.Count("contacts") != before {
		t.Errorf("%s, %d records made", whole.raw, h.Count("contacts")-before)
	}
	part := h.post("/crm/v3/objects/contacts/batch/create", inputs(true)).must(t, 207)
	if len(part.ids()) != 1 || part.at("numErrors") != 2.0 || h.Count("contacts") != before+1 {
		t.Fatalf("got %s", part.raw)
	}
	if part.text("errors", 0, "category") != "CONFLICT" || part.text("errors", 0, "context", "objectWriteTraceId", 0) != "t1" ||
		part.text("errors", 0, "context", "existingId", 0) != str(old) {
		t.Errorf("got %s", part.raw)
	}
	if part.text("errors", 1, "category") != "VALIDATION_ERROR" || part.text("errors", 1, "context", "objectWriteTraceId", 0) != "t2" {
		t.Errorf("got %s", part.raw)
	}
	twins := obj{"inputs": []obj{{"properties": obj{"email": "x@example.com"}}, {"properties": obj{"email": "X@example.com"}}}}
	h.post("/crm/v3/objects/contacts/batch/create", twins).must(t, 409)
	all := obj{"inputs": []obj{{"properties": obj{"firstname": "A"}}, {"properties": obj{"firstname": "B"}}}}
	h.post("/crm/v3/objects/contacts/batch/create", all).must(t, 201)
}

func TestBatchUpdateRefusesDuplicatesAndReportsMissing(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	a, b := h.contact(map[string]string{"email": "a@example.com"}), h.contact(map[string]string{"email": "b@example.com"})
	in := func(id any) obj { return obj{"id": id, "properties": obj{"city": "Kiel"}} }
	twice := h.post("/crm/v3/objects/contacts/batch/update", obj{"inputs": []obj{in(str(a)), in(str(a))}}).must(t, 400)
	if twice.text("message") != fmt.Sprintf("Duplicate IDs found in batch input: [%d]. IDs must be unique", a) ||
		twice.text("context", "ids", 0) != str(a) {
		t.Errorf("got %s", twice.raw)
	}
	got := h.post("/crm/v3/objects/contacts/batch/update", obj{"inputs": []obj{in(a), in("5"), in(str(b))}}).must(t, 207)
	if len(got.ids()) != 2 || got.text("errors", 0, "context", "ids", 0) != "5" {
		t.Errorf("got %s", got.raw)
	}
	bad := obj{"id": str(b), "properties": obj{"color": "x"}}
	h.post("/crm/v3/objects/contacts/batch/update", obj{"inputs": []obj{in(str(a)), bad}}).must(t, 400)
	byEmail := obj{"id": "b@example.com", "idProperty": "email", "properties": obj{"city": "Ulm"}}
	h.post("/crm/v3/objects/contacts/batch/update", obj{"inputs": []obj{byEmail}}).must(t, 200)
	if r, _ := h.Lookup("contacts", b); r.Properties["city"] != "Ulm" {
		t.Errorf("city %q", r.Properties["city"])
	}
}

func TestBatchUpsertTellsWhatIsNew(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	old := h.contact(map[string]string{"email": "old@example.com"})
	in := func(email string) obj {
		return obj{"id": email, "idProperty": "email", "properties": obj{"city": "Kiel"}}
	}
	got := h.post("/crm/v3/objects/contacts/batch/upsert", obj{"inputs": []obj{in("old@example.com"), in("new@example.com")}}).must(t, 200)
	for i, id := range got.ids() {
		if isNew := got.at("results", i, "new"); isNew != (id != str(old)) {
			t.Errorf("%s: new is %v", id, isNew)
		}
	}
	h.get("/crm/v3/objects/contacts/new@example.com?idProperty=email").must(t, 200)
	h.post("/crm/v3/objects/contacts/batch/upsert", obj{"inputs": []obj{{"id": "1", "properties": obj{}}}}).must(t, 400)
	h.post("/crm/v3/objects/contacts/batch/upsert", obj{"inputs": []obj{{"id": "x", "idProperty": "city", "properties": obj{}}}}).must(t, 400)
}

func TestBatchArchiveAlwaysAnswers204(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	a := h.contact(map[string]string{"email": "a@example.com"})
	h.post("/crm/v3/objects/contacts/batch/archive", obj{"inputs": []obj{{"id": str(a)}, {"id": "5"}}}).must(t, 204)
	if r, ok := h.Lookup("contacts", a); !ok || !r.Archived {
		t.Errorf("record %+v", r)
	}
}

func TestMergeMakesANewRecordAndAliases(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	a := h.contact(map[string]string{"email": "a@example.com", "firstname": "Ann"})
	b := h.contact(map[string]string{"email": "b@example.com", "firstname": "Bea", "city": "Kiel"})
	company := h.Snapshot("companies")[0].ID
	if err := h.Associate("contacts", b, "companies", company, 1); err != nil {
		t.Fatal(err)
	}
	got := h.post("/crm/v3/objects/contacts/merge", obj{"primaryObjectId": str(a), "objectIdToMerge": str(b)}).must(t, 200)
	id := got.text("id")
	if id == str(a) || id == str(b) {
		t.Fatalf("the survivor kept id %s", id)
	}
	for _, old := range []int64{a, b} {
		read := h.get("/crm/v3/objects/contacts/"+str(old)+"?properties=email,firstname,city,hs_merged_object_ids,hs_additional_emails,hs_calculated_merged_vids,hs_all_contact_vids").must(t, 200)
		if read.text("id") != id || read.at("properties", "firstname") != "Ann" || read.at("properties", "city") != "Kiel" ||
			read.at("properties", "hs_merged_object_ids") != fmt.Sprintf("%d;%d", a, b) || read.at("properties", "hs_additional_emails") != "b@example.com" {
			t.Errorf("%d reads %s", old, read.raw)
		}
		h.call("PATCH", "/crm/v3/objects/contacts/"+str(old), obj{"properties": obj{"zip": "1"}}).must(t, 200)
		batch := h.post("/crm/v3/objects/contacts/batch/update", obj{"inputs": []obj{{"id": str(old), "properties": obj{"city": "x"}}}}).must(t, 207)
		if len(batch.ids()) != 0 {
			t.Error("batch/update accepted a merged id")
		}
	}
	for _, target := range []string{"/crm/v3/objects/contacts?limit=100&after=" + str(a), "/crm/v3/objects/contacts?archived=true"} {
		if ids := h.get(target).ids(); slices.Contains(ids, str(a)) || slices.Contains(ids, str(b)) {
			t.Errorf("%s lists a loser", target)
		}
	}
	found := h.post(contactSearch, where(filter("hs_object_id", "IN", []string{str(a), str(b), id}))).ids()
	if !slices.Equal(found, []string{id}) {
		t.Errorf("search finds %v", found)
	}
	if h.get("/crm/v3/objects/contacts/b@example.com?idProperty=email").text("id") != id {
		t.Error("the second email does not lead to the survivor")
	}
	edges := h.get("/crm/v4/objects/contacts/"+id+"/associations/companies").must(t, 200)
	if len(edges.list("results")) != 1 {
		t.Errorf("associations %s", edges.raw)
	}
	h.post("/crm/v3/objects/contacts/merge", obj{"primaryObjectId": str(a), "objectIdToMerge": str(b)}).must(t, 400)
	h.post("/crm/v3/objects/notes/merge", obj{"primaryObjectId": "1", "objectIdToMerge": "2"}).must(t, 404)
}

func TestErasedRecordsLeaveNoTrace(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{})
	id := h.contact(map[string]string{"email": "a@example.com"})
	company := h.Snapshot("companies")[0].ID
	if err := h.Associate("contacts", id, "companies", company, 0); err != nil {
		t.Fatal(err)
	}
	h.post("/crm/v3/objects/contacts/gdpr-delete", obj{"objectId": "a@example.com", "idProperty": "email"}).must(t, 204)
	h.get("/crm/v3/objects/contacts/"+str(id)).must(t, 404)
	h.get("/crm/v3/objects/contacts/"+str(id)+"?archived=true").must(t, 404)
	for _, e := range h.Edges("companies", "contacts") {
		if e.To == id {
			t.Error("an association is left")
		}
	}
	h.post("/crm/v3/objects/contacts/gdpr-delete", obj{"objectId": "nobody@example.com", "idProperty": "email"}).must(t, 204)
	h.post("/crm/v3/objects/contacts/gdpr-delete", obj{"objectId": "5"}).must(t, 404)
	h.post("/crm/v3/objects/deals/gdpr-delete", obj{"objectId": "5"}).must(t, 404)
}
