package sandbox_test

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

const exportPath = "/crm/v3/exports/export/async"

func exportOf(objectType string, more obj) obj {
	body := obj{
		"exportType": "VIEW", "exportName": "all", "format": "CSV", "language": "EN", "objectType": objectType,
		"objectProperties": []string{"email", "lifecyclestage", "createdate"},
	}
	maps.Copy(body, more)
	return body
}

// exported waits for an export and returns its rows.
func (h *hub) exported(body obj) [][]string {
	h.t.Helper()
	id := h.post(exportPath, body).must(h.t, 202).text("id")
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := h.get(exportPath+"/tasks/"+id+"/status").must(h.t, 200)
		if got.text("status") == "COMPLETE" {
			status, raw := h.fetch(got.text("result"))
			if status != 200 {
				h.t.Fatalf("file: %d %s", status, raw)
			}
			if strings.HasPrefix(raw, "PK") {
				raw = unzip(h.t, raw)
			}
			rows, err := csv.NewReader(strings.NewReader(raw)).ReadAll()
			if err != nil {
				h.t.Fatal(err)
			}
			return rows
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("export %s: %s", id, got.raw)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func unzip(t *testing.T, raw string) string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader([]byte(raw)), int64(len(raw)))
	if err != nil || len(z.File) != 1 {
		t.Fatalf("zip: %v", err)
	}
	f, err := z.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExportsHaveEveryRecordAsPeopleOrTheAPIReadIt(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{ExportTime: time.Millisecond})
	human := h.exported(exportOf("CONTACT", obj{"associatedObjectType": "COMPANY"}))
	if len(human) != 1+h.Count("contacts") || strings.Join(human[0], ",") != "Record ID,Email,Lifecycle Stage,Create Date,Associated Company IDs" {
		t.Errorf("%d rows, header %v", len(human), human[0])
	}
	internal := h.exported(exportOf("0-1", obj{"exportInternalValuesOptions": []string{"NAMES", "VALUES"}}))
	if strings.Join(internal[0], ",") != "hs_object_id,email,lifecyclestage,createdate" {
		t.Errorf("header %v", internal[0])
	}
	for i, row := range internal[1:] {
		truth, ok := h.Lookup("contacts", parseID(t, row[0]))
		if !ok || row[1] != truth.Properties["email"] || row[2] != truth.Properties["lifecyclestage"] ||
			parseID(t, row[3]) != truth.CreatedAt.UnixMilli() {
			t.Fatalf("row %d: %v, truth %v", i, row, truth.Properties)
		}
		if human[i+1][2] == row[2] && row[2] != "" || human[i+1][3] != truth.CreatedAt.Format("2006-01-02 15:04") {
			t.Fatalf("row %d has no labels: %v", i, human[i+1])
		}
	}
	some := h.exported(exportOf("CONTACT", obj{"publicCrmSearchRequest": obj{
		"filters": []obj{{"propertyName": "lifecyclestage", "operator": "EQ", "value": "customer"}},
	}}))
	if len(some)-1 != len(h.ListMembers(1)) || len(some) < 2 {
		t.Errorf("%d filtered rows, want %d", len(some)-1, len(h.ListMembers(1)))
	}
	if list := h.exported(exportOf("CONTACT", obj{"exportType": "LIST", "listId": "1"})); len(list) != len(some) {
		t.Errorf("%d rows of the list", len(list)-1)
	}
}

func TestLargeExportsAreZipped(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, ExportTime: time.Millisecond})
	for range 40 {
		h.contact(map[string]string{"firstname": strings.Repeat("x", 60_000)})
	}
	if rows := h.exported(exportOf("CONTACT", obj{"objectProperties": []string{"firstname"}})); len(rows) != 41 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestExportsRunOneAfterTheOtherAndThirtyADay(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, ExportTime: time.Hour})
	first := h.post(exportPath, exportOf("CONTACT", nil)).must(t, 202)
	second := h.post(exportPath, exportOf("CONTACT", nil)).must(t, 202)
	state := func(a answer) string { return h.get("/crm/v3/exports/export/" + a.text("id")).text("exportState") }
	if state(first) != "PROCESSING" || state(second) != "ENQUEUED" {
		t.Errorf("states %s and %s", state(first), state(second))
	}
	if got := h.get(exportPath + "/tasks/" + second.text("id") + "/status"); got.text("status") != "PENDING" || got.text("result") != "" {
		t.Errorf("second: %s", got.raw)
	}
	for range 28 {
		h.post(exportPath, exportOf("CONTACT", nil)).must(t, 202)
	}
	h.post(exportPath, exportOf("CONTACT", nil)).must(t, 429)
	h.Age(90 * time.Minute)
	if state(first) != "DONE" || state(second) != "PROCESSING" {
		t.Errorf("90 minutes later: %s and %s", state(first), state(second))
	}
	link := h.get(exportPath + "/tasks/" + first.text("id") + "/status").text("result")
	if status, _ := h.fetch(link); status != 200 {
		t.Errorf("a fresh link: %d", status)
	}
	h.Age(5 * time.Minute)
	if status, _ := h.fetch(link); status != 403 {
		t.Errorf("a link of five minutes: %d", status)
	}
	if again := h.get(exportPath + "/tasks/" + first.text("id") + "/status").text("result"); again == link {
		t.Error("no new link")
	}
	h.Age(23 * time.Hour)
	h.post(exportPath, exportOf("CONTACT", nil)).must(t, 202)
}

func TestWrongExportsAreRefused(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	for name, more := range map[string]obj{
		"type": {"exportType": "OTHER"}, "format": {"format": "PDF"}, "object": {"objectType": "UNICORN"},
		"property": {"objectProperties": []string{"nope"}}, "no properties": {"objectProperties": []string{}},
		"list": {"exportType": "LIST"}, "option": {"exportInternalValuesOptions": []string{"X"}},
		"associations": {"associatedObjectType": []string{"0-2", "0-3", "0-5", "0-7", "0-8"}},
		"filter":       {"publicCrmSearchRequest": obj{"filters": []obj{{"propertyName": "nope", "operator": "EQ", "value": "1"}}}},
	} {
		if got := h.post(exportPath, exportOf("CONTACT", more)); got.status != 400 {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
	}
	h.get(exportPath).must(t, 405)
	h.WithholdScopes("crm.export")
	h.post(exportPath, exportOf("CONTACT", nil)).must(t, 403)
}
