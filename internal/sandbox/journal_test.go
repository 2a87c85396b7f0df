package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

const journalPath = "/webhooks-journal/journal/2026-03/"

// developer is a token of the app itself.
func (h *hub) developer() string {
	h.t.Helper()
	scopes := []string{}
	for _, s := range []string{"read", "subscriptions.read", "subscriptions.write", "snapshots.read", "snapshots.write"} {
		scopes = append(scopes, "developer.webhooks_journal."+s)
	}
	return h.token("grant_type", "client_credentials", "scope", strings.Join(scopes, " ")).must(h.t, 200).text("access_token")
}

// fetch gets an address without a token.
func (h *hub) fetch(address string) (status int, body string) {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", address, nil))
	return w.Code, w.Body.String()
}

// events reads the file behind an answer of the journal.
func (h *hub) events(a answer) []obj {
	h.t.Helper()
	status, raw := h.fetch(a.text("url"))
	var file struct {
		Offset string `json:"offset"`
		Events []obj  `json:"journalEvents"`
	}
	if err := json.Unmarshal([]byte(raw), &file); err != nil || status != 200 || file.Offset != a.text("currentOffset") {
		h.t.Fatalf("file %d %s: %v", status, raw, err)
	}
	return file.Events
}

func (h *hub) journalOf(token string, subs ...obj) {
	h.t.Helper()
	for _, sub := range subs {
		if sub["subscriptionType"] != "APP_LIFECYCLE_EVENT" {
			sub["portalId"] = sandbox.DefaultPortalID
		}
		h.as(token, "POST", "/webhooks-journal/subscriptions/2026-03", sub).must(h.t, 201)
	}
}

func TestTheJournalHoldsEveryKindOfChangeInOrder(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	dev := h.developer()
	h.contact(map[string]string{"email": "unseen@example.com"}) // before the subscription
	h.journalOf(dev, obj{"subscriptionType": "OBJECT", "objectTypeId": "0-1", "actions": []string{}, "properties": []string{"email"}},
		obj{"subscriptionType": "ASSOCIATION", "objectTypeId": "0-1", "actions": []string{"ASSOCIATION_ADDED"}},
		obj{"subscriptionType": "LIST_MEMBERSHIP"}, obj{"subscriptionType": "GDPR_PRIVACY_DELETION"},
		obj{"subscriptionType": "APP_LIFECYCLE_EVENT"})
	h.as(dev, "GET", journalPath+"earliest", nil).must(t, 204)

	list, err := h.AddList("contacts", "All", "MANUAL", "", "")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	a := h.contact(map[string]string{"email": "a@example.com"})
	check(h.Update("contacts", a, map[string]string{"phone": "not asked for"}))
	check(h.Update("contacts", a, map[string]string{"email": "b@example.com"}))
	company, err := h.Create("companies", map[string]string{"name": "x"})
	check(err)
	check(h.Associate("contacts", a, "companies", company, 0))
	check(h.Dissociate("contacts", a, "companies", company, 0))
	h.call("PUT", fmt.Sprintf("/crm/v3/lists/%d/memberships/add", list), []string{str(a)}).must(t, 200)
	check(h.Archive("contacts", a))
	check(h.Restore("contacts", a))
	b := h.contact(map[string]string{"email": "c@example.com"})
	merged, err := h.Merge("contacts", a, b)
	check(err)
	check(h.Erase("contacts", merged))
	if _, err := h.Install(sandbox.DefaultClientID); err != nil {
		t.Fatal(err)
	}

	page := h.as(dev, "GET", journalPath+"earliest", nil).must(t, 200)
	var got []string
	for _, e := range h.events(page) {
		got = append(got, e["type"].(string)+" "+e["action"].(string))
		if e["portalId"] != float64(sandbox.DefaultPortalID) || e["occurredAt"] == "" {
			t.Errorf("event %v", e)
		}
	}
	want := []string{
		"crmObject CREATE", "crmObject UPDATE", "association ASSOCIATION_ADDED", "listMembership ADDED_TO_LIST",
		"listMembership REMOVED_FROM_LIST", "crmObject DELETE", "crmObject RESTORE", "crmObject CREATE",
		"crmObject MERGE", "crmObject DELETE", "gdprPrivacyDeletion PRIVACY_DELETION", "app_lifecycle_event INSTALL",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if change := h.events(page)[1]["propertyChanges"].(obj); change["email"] != "b@example.com" || len(change) != 1 {
		t.Errorf("change %v", change)
	}
	h.as(dev, "GET", journalPath+"offset/"+page.text("currentOffset")+"/next", nil).must(t, 204)
}

func TestTheJournalIsWalkedByOffset(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	dev := h.developer()
	h.journalOf(dev, obj{"subscriptionType": "OBJECT", "objectTypeId": "0-1"})
	var offsets []string
	for i := range 5 {
		h.contact(map[string]string{"email": fmt.Sprintf("%d@example.com", i)})
		offsets = append(offsets, h.as(dev, "GET", journalPath+"latest", nil).must(t, 200).text("currentOffset"))
	}
	next := h.as(dev, "GET", journalPath+"offset/"+offsets[1]+"/next", nil).must(t, 200)
	if next.text("currentOffset") != offsets[2] {
		t.Errorf("next of the second: %s", next.raw)
	}
	for path, want := range map[string][]string{
		"batch/earliest/2":                   offsets[:2],
		"batch/latest/2":                     offsets[3:],
		"batch/" + offsets[0] + "/next/3":    offsets[1:4],
		"earliest?installPortalId=44237313":  nil,
		"batch/earliest/9?installPortalId=1": nil,
	} {
		got := h.as(dev, "GET", journalPath+path, nil)
		if len(got.list("results")) != len(want) {
			t.Errorf("%s: %d %s", path, got.status, got.raw)
			continue
		}
		for i, o := range want {
			if got.text("results", i, "currentOffset") != o {
				t.Errorf("%s: %s", path, got.raw)
			}
		}
	}
	read := h.as(dev, "POST", journalPath+"batch/read", obj{"inputs": []string{offsets[4], "none"}}).must(t, 207)
	if read.text("results", 0, "currentOffset") != offsets[4] || read.at("numErrors") != 1.0 {
		t.Errorf("read: %s", read.raw)
	}
	h.as(dev, "GET", journalPath+"offset/none/next", nil).must(t, 404)
	h.as(dev, "GET", journalPath+"batch/earliest/101", nil).must(t, 400)
	h.as(dev, "POST", journalPath+"earliest", obj{}).must(t, 405)
	h.as(dev, "GET", "/webhooks/v4/journal/earliest", nil).must(t, 200)
	h.as(dev, "GET", "/webhooks-journal/journal/2026-09/earliest", nil).must(t, 404)

	// After two days everything is there, after three nothing; links end before.
	first := h.as(dev, "GET", journalPath+"earliest", nil).must(t, 200)
	h.Age(48 * time.Hour)
	if status, _ := h.fetch(first.text("url")); status != 403 {
		t.Errorf("an old link: %d", status)
	}
	dev = h.developer() // the token is old, too
	if got := h.as(dev, "GET", journalPath+"earliest", nil).must(t, 200); got.text("currentOffset") != offsets[0] {
		t.Errorf("after two days: %s", got.raw)
	}
	h.Age(24 * time.Hour)
	dev = h.developer()
	h.as(dev, "GET", journalPath+"earliest", nil).must(t, 204)
	h.as(dev, "GET", journalPath+"offset/"+offsets[4]+"/next", nil).must(t, 404)
}

func TestTheJournalIsForClientCredentialsOnly(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true, Limits: true})
	h.get(journalPath+"earliest").must(t, 403)
	h.as("", "GET", journalPath+"earliest", nil).must(t, 401)
	refresh, err := h.Install(sandbox.DefaultClientID)
	if err != nil {
		t.Fatal(err)
	}
	user := h.token("grant_type", "refresh_token", "refresh_token", refresh).text("access_token")
	h.as(user, "GET", journalPath+"earliest", nil).must(t, 403)
	reader := h.token("grant_type", "client_credentials", "scope", "developer.webhooks_journal.read").text("access_token")
	h.as(reader, "GET", journalPath+"earliest", nil).must(t, 204)
	h.as(reader, "POST", "/webhooks-journal/subscriptions/2026-03", obj{"subscriptionType": "OBJECT"}).must(t, 403)
	limited := 0
	for range 150 {
		if h.as(reader, "GET", journalPath+"earliest", nil).status == 429 {
			limited++
		}
	}
	if st := h.Stats(); limited == 0 || st.DailyUsed > 1 {
		t.Errorf("%d of 150 limited, %d of the day used", limited, st.DailyUsed)
	}
}

func TestJournalSubscriptionsAreChecked(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	dev := h.developer()
	const path = "/webhooks-journal/subscriptions/2026-03"
	portal := sandbox.DefaultPortalID
	for name, sub := range map[string]obj{
		"type":      {"subscriptionType": "OTHER", "portalId": portal},
		"action":    {"subscriptionType": "OBJECT", "portalId": portal, "objectTypeId": "0-1", "actions": []string{"ADDED_TO_LIST"}},
		"portal":    {"subscriptionType": "OBJECT", "portalId": 1, "objectTypeId": "0-1"},
		"object":    {"subscriptionType": "OBJECT", "portalId": portal},
		"name":      {"subscriptionType": "OBJECT", "portalId": portal, "objectTypeId": "contacts"},
		"lifecycle": {"subscriptionType": "APP_LIFECYCLE_EVENT", "portalId": portal},
	} {
		if got := h.as(dev, "POST", path, sub); got.status != 400 {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	h.journalOf(dev, obj{"subscriptionType": "OBJECT", "objectTypeId": "0-1"}, obj{"subscriptionType": "OBJECT", "objectTypeId": "0-2"})
	all := h.as(dev, "GET", path, nil).must(t, 200)
	id := fmt.Sprint(int64(all.at("results", 0, "id").(float64)))
	h.as(dev, "GET", path+"/"+id, nil).must(t, 200)
	h.as(dev, "DELETE", path+"/"+id, nil).must(t, 204)
	h.as(dev, "GET", path+"/"+id, nil).must(t, 404)
	h.as(dev, "DELETE", path+"/portals/44237313", nil).must(t, 204)
	if got := h.as(dev, "GET", path, nil).must(t, 200); len(got.list("results")) != 0 {
		t.Errorf("got %s", got.raw)
	}
}

func TestSnapshotsAppearInTheJournal(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Empty: true})
	dev := h.developer()
	id := h.contact(map[string]string{"email": "a@example.com"})
	asked := h.as(dev, "POST", "/webhooks-journal/snapshots/2026-03/crm", obj{"snapshotRequests": []obj{
		{"portalId": sandbox.DefaultPortalID, "objectTypeId": "0-1", "objectId": id, "properties": []string{"email"}},
	}}).must(t, 200)
	status := asked.text("snapshotResponses", 0, "snapshotStatusId")
	h.as(dev, "GET", "/webhooks-journal/snapshots/2026-03/status/"+status, nil).must(t, 200)
	events := h.events(h.as(dev, "GET", journalPath+"latest", nil).must(t, 200))
	if len(events) != 1 || events[0]["properties"].(obj)["email"] != "a@example.com" || events[0]["snapshotStatusId"] != status {
		t.Errorf("events %v", events)
	}
}
