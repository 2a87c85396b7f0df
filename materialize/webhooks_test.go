package materialize_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
	"hubpg/migrations"
)

// rarePolls is a pace at which nothing but what HubSpot tells by itself can bring a change within a test.
func rarePolls() materialize.Pace {
	p := slowSweeps()
	p.Busy, p.Idle, p.Schema = 10*time.Minute, 10*time.Minute, 10*time.Minute
	return p
}

// soon bounds how late a change may be that HubSpot tells by itself; a poll would take ten minutes.
const soon = 40 * time.Second

// receiver serves webhooks of the account.
func (w *world) receiver(change func(*materialize.ReceiverConfig)) (*materialize.Receiver, *httptest.Server) {
	w.t.Helper()
	cfg := materialize.ReceiverConfig{Pool: w.newPool(), Secret: sandbox.DefaultClientSecret, Logger: logger(w.t)}
	if change != nil {
		change(&cfg)
	}
	r, err := materialize.NewReceiver(cfg)
	w.must(err)
	srv := httptest.NewServer(r)
	w.t.Cleanup(srv.Close)
	return r, srv
}

// deliver has the account send webhooks to an address while the test runs.
func (w *world) deliver(address string, types ...sandbox.WebhookSubscription) {
	w.t.Helper()
	w.must(w.hub.SetWebhookTarget(sandbox.DefaultClientID, address, 10))
	for _, sub := range types {
		sub.Active = true
		_, err := w.hub.Subscribe(sandbox.DefaultClientID, sub)
		w.must(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.hub.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

func contactWebhooks() []sandbox.WebhookSubscription {
	return []sandbox.WebhookSubscription{
		{EventType: "contact.creation"},
		{EventType: "contact.deletion"},
		{EventType: "contact.restore"},
		{EventType: "contact.merge"},
		{EventType: "contact.privacyDeletion"},
		{EventType: "contact.propertyChange", PropertyName: "firstname"},
		{EventType: "contact.associationChange"},
		{EventType: "object.propertyChange", ObjectTypeID: "0-2", PropertyName: "name"},
	}
}

// told says how every kind of change reaches the tables of contacts and companies while nobody polls.
func (w *world) told(t *testing.T, source string) {
	t.Helper()
	live, companies := w.live("contacts"), w.live("companies")
	var took []string
	change := func(what string, do func() error, arrived func() string) {
		t.Helper()
		start := time.Now()
		w.must(do())
		eventually(t, soon, arrived)
		took = append(took, fmt.Sprintf("%s %s", what, time.Since(start).Round(10*time.Millisecond)))
	}
	equal := func() string { return w.difference("contacts", "companies") }
	update := func(id int64) func() error {
		return func() error { return w.hub.Update("contacts", id, map[string]string{"firstname": "told"}) }
	}
	change("update", update(live[0].ID), equal)
	change("creation", func() error {
		_, err := w.hub.Create("contacts", map[string]string{"email": "told@example.com", "firstname": "new"})
		return err
	}, equal)
	change("company", func() error {
		return w.hub.Update("companies", companies[0].ID, map[string]string{"name": "told"})
	}, equal)
	change("deletion", func() error { return w.hub.Archive("contacts", live[1].ID) }, equal)
	change("restore", func() error { return w.hub.Restore("contacts", live[1].ID) }, equal)
	var merged int64
	change("merge", func() (err error) {
		merged, err = w.hub.Merge("contacts", live[2].ID, live[3].ID)
		return err
	}, equal)
	change("erasure", func() error { return w.hub.Erase("contacts", live[4].ID) }, equal)
	change("association", func() error { return w.hub.Associate("contacts", live[5].ID, "companies", companies[1].ID, 279) }, w.edgeDifference)
	change("dissociation", func() error {
		return w.hub.Dissociate("contacts", live[5].ID, "companies", companies[1].ID, 279)
	}, w.edgeDifference)
	t.Log(strings.Join(took, ", "))
	if n := w.count(`select count(*) from hubspot.merges where table_name = 'contacts' and new_id = $1 and old_id = any ($2)`,
		merged, []int64{live[2].ID, live[3].ID}); n != 2 {
		t.Errorf("%d of 2 merged records lead to the one that is left", n)
	}
	if n := w.count(`select count(*) from hubpg.changes where source = $1`, source); n < 7 {
		t.Errorf("%d changes were told by %s: others have found them", n, source)
	}
	if d := w.replayDifference(); d != "" {
		t.Error(d)
	}
}

// hearing is an account whose contacts and companies are complete and are polled every ten minutes only.
func hearing(t *testing.T, cfg sandbox.Config, tune func(w *world, c *materialize.Config)) *world {
	t.Helper()
	w := newWorld(t, cfg)
	mc := w.config()
	mc.Pace, mc.Objects, mc.RowNotify = rarePolls(), []string{"contacts", "companies"}, true
	if tune != nil {
		tune(w, &mc)
	}
	w.start(mc)
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	w.awaitCursor("trailing", "ended", 2)
	return w
}

func TestWebhooksHastenEveryKindOfChange(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 60, Webhooks: sandbox.Webhooks{Shuffle: true, Duplicates: 0.5}}, nil)
	_, srv := w.receiver(nil)
	w.deliver(srv.URL+"/webhooks/hubspot?a=%40b", contactWebhooks()...)
	listener, err := pgx.Connect(t.Context(), w.db.URL)
	w.must(err)
	defer listener.Close(context.Background())
	_, err = listener.Exec(t.Context(), `listen hubspot_contacts`)
	w.must(err)

	w.told(t, "webhook")

	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	rang, err := listener.WaitForNotification(ctx)
	if err != nil || !strings.Contains(rang.Payload, `"firstname":"told"`) {
		t.Errorf("notification %+v, %v", rang, err)
	}
	var state string
	var events, waiting int64
	var heard *time.Time
	w.must(w.pool.QueryRow(t.Context(), `select state, events, waiting, heard_at from hubpg.feeds where feed = 'webhook'`).
		Scan(&state, &events, &waiting, &heard))
	if state != "live" || events < 9 || waiting != 0 || heard == nil {
		t.Errorf("feed is %s with %d events, %d waiting, heard at %v", state, events, waiting, heard)
	}
}

// sign3 signs as HubSpot does with version 3.
func sign3(req *http.Request, address, body string, at time.Time) {
	stamp := strconv.FormatInt(at.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(sandbox.DefaultClientSecret))
	mac.Write([]byte(req.Method + address + body + stamp))
	req.Header.Set("X-HubSpot-Request-Timestamp", stamp)
	req.Header.Set("X-HubSpot-Signature-v3", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// sign1 signs as HubSpot does with version 1, or 2 if an address is given.
func sign1(req *http.Request, address, body string) {
	version, text := "v1", sandbox.DefaultClientSecret+body
	if address != "" {
		version, text = "v2", sandbox.DefaultClientSecret+req.Method+address+body
	}
	sum := sha256.Sum256([]byte(text))
	req.Header.Set("X-HubSpot-Signature-Version", version)
	req.Header.Set("X-HubSpot-Signature", hex.EncodeToString(sum[:]))
}

// storedAccount is a database with one table and no engine.
func storedAccount(t *testing.T) *world {
	t.Helper()
	db := pgtest.Migrated(t, migrations.Up)
	w := &world{t: t, db: db, dbURL: sized(db.URL, 4)}
	w.pool = w.newPool()
	for _, sql := range []string{
		`insert into hubpg.accounts (portal_id, schema_name) values (7, 'hubspot')`,
		`insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular, phase) values
			(7, 'contacts', 'object', '0-1', 'contacts', 'contact', 'live'), (7, 'companies', 'object', '0-2', 'companies', 'company', 'live')`,
	} {
		_, err := w.pool.Exec(t.Context(), sql)
		w.must(err)
	}
	return w
}

// noted says what is stored of deliveries.
func (w *world) noted() string {
	w.t.Helper()
	var text string
	w.must(w.pool.QueryRow(context.Background(), `
select concat_ws(' | ',
	(select string_agg(concat_ws(' ', table_name, record_id, case when gone then 'gone' end), ', ' order by table_name, record_id) from hubpg.news),
	(select string_agg(concat_ws(' ', 'links of', table_name, record_id), ', ' order by table_name, record_id)
		from (select table_name, record_id from hubpg.pending_associations union all select table_name, record_id from hubpg.pending_pairs) p),
	(select events || ' events, ' || ignored || ' ignored' from hubpg.feed_state where heard_at is not null))`).Scan(&text))
	return text
}

const (
	propertyEvent = `[{"portalId":7,"subscriptionType":"contact.propertyChange","objectId":5,"propertyName":"firstname","propertyValue":"x","occurredAt":1752613920733,"eventId":1}]`
	hookPath      = "/webhooks/hubspot"
)

// post is postOnce by a sender that comes again, as HubSpot does, when the receiver was too busy to store anything.
func post(t *testing.T, srv *httptest.Server, method, body string, sign func(req *http.Request, address string)) (status int) {
	t.Helper()
	for range 5 {
		if status = postOnce(t, srv, method, body, sign); status != http.StatusServiceUnavailable {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return status
}

// postOnce sends a body, signed by sign, and returns the status.
func postOnce(t *testing.T, srv *httptest.Server, method, body string, sign func(req *http.Request, address string)) int {
	t.Helper()
	address := srv.URL + hookPath
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if sign != nil {
		sign(req, address)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestRefusedWebhooksChangeNothing(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	r, srv := w.receiver(nil)
	now := func(body string) func(*http.Request, string) {
		return func(req *http.Request, address string) { sign3(req, address, body, time.Now()) }
	}
	hundredOne := "[" + strings.TrimSuffix(strings.Repeat(strings.Trim(propertyEvent, "[]")+",", 101), ",") + "]"
	large := "[" + strings.Repeat(" ", 9<<20) + "]"
	for name, test := range map[string]struct {
		method, body string
		sign         func(*http.Request, string)
		want         int
		reason       string
	}{
		"unsigned":      {"POST", propertyEvent, nil, http.StatusUnauthorized, "signature"},
		"another body":  {"POST", propertyEvent, now("[]"), http.StatusUnauthorized, "signature"},
		"other address": {"POST", propertyEvent, func(req *http.Request, a string) { sign3(req, a+"x", propertyEvent, time.Now()) }, http.StatusUnauthorized, "signature"},
		"replayed": {"POST", propertyEvent, func(req *http.Request, a string) {
			sign3(req, a, propertyEvent, time.Now().Add(-6*time.Minute))
		}, http.StatusUnauthorized, "signature"},
		"from the future": {"POST", propertyEvent, func(req *http.Request, a string) {
			sign3(req, a, propertyEvent, time.Now().Add(6*time.Minute))
		}, http.StatusUnauthorized, "signature"},
		"version 1":  {"POST", propertyEvent, func(req *http.Request, _ string) { sign1(req, "", propertyEvent) }, http.StatusUnauthorized, "signature"},
		"too large":  {"POST", large, now(large), http.StatusRequestEntityTooLarge, "size"},
		"too many":   {"POST", hundredOne, now(hundredOne), http.StatusBadRequest, "malformed"},
		"no list":    {"POST", `{"objectId":5}`, now(`{"objectId":5}`), http.StatusBadRequest, "malformed"},
		"cut":        {"POST", propertyEvent[:60], now(propertyEvent[:60]), http.StatusBadRequest, "malformed"},
		"not posted": {"PUT", propertyEvent, now(propertyEvent), http.StatusMethodNotAllowed, "method"},
	} {
		before := r.Stats().Refused[test.reason]
		if got := post(t, srv, test.method, test.body, test.sign); got != test.want {
			t.Errorf("%s: status %d, want %d", name, got, test.want)
		}
		if after := r.Stats().Refused[test.reason]; after != before+1 {
			t.Errorf("%s: %d refusals for %s after %d", name, after, test.reason, before)
		}
		if got := w.noted(); got != "" {
			t.Errorf("%s: stored %s", name, got)
		}
	}
	var problem, hint string
	w.must(w.pool.QueryRow(t.Context(), `select last_error, hint from hubpg.feeds where feed = 'webhook' and state = 'failing'`).Scan(&problem, &hint))
	if !strings.Contains(hint, "hubspot.client_secret") || strings.Contains(problem+hint, sandbox.DefaultClientSecret) {
		t.Errorf("%s: %s", problem, hint)
	}
	// The same bytes, signed, are stored, and take the complaint back.
	if got := post(t, srv, "POST", propertyEvent, now(propertyEvent)); got != http.StatusNoContent {
		t.Errorf("status %d", got)
	}
	if got := w.noted(); got != "contacts 5 | 1 events, 0 ignored" {
		t.Errorf("stored %s", got)
	}
	if n := w.count(`select count(*) from hubpg.feeds where state = 'live'`); n != 1 {
		t.Error("the complaint stays")
	}
}

func TestWebhookSignaturesOfOlderVersionsNeedConsent(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	_, srv := w.receiver(func(c *materialize.ReceiverConfig) { c.Legacy = true })
	for version, sign := range map[string]func(*http.Request, string){
		"1": func(req *http.Request, _ string) { sign1(req, "", propertyEvent) },
		"2": func(req *http.Request, address string) { sign1(req, address, propertyEvent) },
	} {
		if got := post(t, srv, "POST", propertyEvent, sign); got != http.StatusNoContent {
			t.Errorf("version %s: status %d", version, got)
		}
	}
	// A wrong version 3 is not saved by a right version 1.
	if got := post(t, srv, "POST", propertyEvent, func(req *http.Request, address string) {
		sign3(req, address, "other", time.Now())
		sign1(req, "", propertyEvent)
	}); got != http.StatusUnauthorized {
		t.Errorf("status %d", got)
	}
}

func TestWebhooksBehindAProxyAreSignedForTheAddressThatHubSpotCalls(t *testing.T) {
	t.Parallel()
	const public = "https://hubpg.example.com/in"
	w := storedAccount(t)
	_, told := w.receiver(func(c *materialize.ReceiverConfig) { c.URL = public })
	if got := post(t, told, "POST", propertyEvent, func(req *http.Request, _ string) {
		sign3(req, public, propertyEvent, time.Now())
	}); got != http.StatusNoContent {
		t.Errorf("configured address: status %d", got)
	}
	_, guessing := w.receiver(nil)
	if got := post(t, guessing, "POST", propertyEvent, func(req *http.Request, _ string) {
		req.Host = "hubpg.example.com"
		req.Header.Set("X-Forwarded-Proto", "https")
		sign3(req, "https://hubpg.example.com"+hookPath, propertyEvent, time.Now())
	}); got != http.StatusNoContent {
		t.Errorf("forwarded address: status %d", got)
	}
}

func TestWebhooksNameWhatIsToBeRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ events, want string }{
		"creation":         {`{"subscriptionType":"contact.creation","objectId":5}`, "contacts 5 | 1 events, 0 ignored"},
		"deletion":         {`{"subscriptionType":"company.deletion","objectId":5}`, "companies 5 gone | 1 events, 0 ignored"},
		"privacy deletion": {`{"subscriptionType":"contact.privacyDeletion","objectId":5}`, "contacts 5 gone | 1 events, 0 ignored"},
		"generic":          {`{"subscriptionType":"object.restore","objectTypeId":"0-2","objectId":5}`, "companies 5 | 1 events, 0 ignored"},
		"twice, and gone": {
			`{"subscriptionType":"contact.deletion","objectId":5},{"subscriptionType":"contact.propertyChange","objectId":5}`,
			"contacts 5 gone | 2 events, 0 ignored",
		},
		"merge": {
			`{"subscriptionType":"contact.merge","objectId":9,"primaryObjectId":5,"mergedObjectIds":[6],"newObjectId":9}`,
			"contacts 5 gone, contacts 6 gone, contacts 9 | 1 events, 0 ignored",
		},
		"association": {
			`{"subscriptionType":"contact.associationChange","associationType":"CONTACT_TO_COMPANY","fromObjectId":5,"toObjectId":8,"associationRemoved":true}`,
			"links of companies 8, links of contacts 5 | 1 events, 0 ignored",
		},
		"generic association": {
			`{"subscriptionType":"object.associationChange","objectTypeId":"0-2","fromObjectTypeId":"0-2","toObjectTypeId":"0-1","fromObjectId":8,"toObjectId":5}`,
			"links of companies 8, links of contacts 5 | 1 events, 0 ignored",
		},
		"kept by nobody":   {`{"subscriptionType":"deal.creation","objectId":5}`, "1 events, 1 ignored"},
		"unknown type":     {`{"subscriptionType":"object.creation","objectTypeId":"2-999","objectId":5}`, "1 events, 1 ignored"},
		"unknown subject":  {`{"subscriptionType":"conversation.newMessage","objectId":5}`, "1 events, 1 ignored"},
		"unknown event":    {`{"subscriptionType":"contact.sneezed","objectId":5}`, "1 events, 1 ignored"},
		"no record":        {`{"subscriptionType":"contact.creation"}`, "1 events, 1 ignored"},
		"another account":  {`{"subscriptionType":"contact.creation","objectId":5,"portalId":8}`, "1 events, 1 ignored"},
		"nothing":          {``, "0 events, 0 ignored"},
		"mixed with known": {`{"subscriptionType":"deal.creation","objectId":1},{"subscriptionType":"contact.creation","objectId":2}`, "contacts 2 | 2 events, 1 ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := storedAccount(t)
			_, srv := w.receiver(nil)
			body := "[" + test.events + "]"
			if !strings.Contains(body, "portalId") {
				body = strings.ReplaceAll(body, `{"sub`, `{"portalId":7,"sub`)
			}
			if got := post(t, srv, "POST", body, func(req *http.Request, a string) { sign3(req, a, body, time.Now()) }); got != http.StatusNoContent {
				t.Errorf("status %d", got)
			}
			if got := w.noted(); got != test.want {
				t.Errorf("stored %q, want %q", got, test.want)
			}
		})
	}
}

func TestWebhooksAreAnsweredOnlyOnceTheyAreStored(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	_, err := w.pool.Exec(t.Context(), `delete from hubpg.accounts`)
	w.must(err)
	r, srv := w.receiver(nil)
	sign := func(req *http.Request, a string) { sign3(req, a, propertyEvent, time.Now()) }
	if got := postOnce(t, srv, "POST", propertyEvent, sign); got != http.StatusServiceUnavailable || r.Stats().Refused["storage"] != 1 {
		t.Errorf("status %d, %+v", got, r.Stats())
	}
	if r.Stats().Deliveries != 0 {
		t.Error("counted as stored")
	}
}

// Deliveries come ten at a time, again, and in any order, and name the same records.
func TestOverlappingWebhooksAreStoredOnce(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	_, srv := w.receiver(nil)
	var wg sync.WaitGroup
	for n := range 10 {
		events := make([]map[string]any, 100)
		for i := range events {
			events[i] = map[string]any{"portalId": 7, "subscriptionType": "contact.propertyChange", "objectId": 1 + (i*7+n*13)%100, "occurredAt": i}
			if i%2 == n%2 {
				events[i]["subscriptionType"], events[i]["fromObjectId"], events[i]["toObjectId"] = "contact.associationChange", 1+(i*3+n)%100, 1+i%10
				events[i]["associationType"] = "CONTACT_TO_COMPANY"
			}
		}
		body, err := json.Marshal(events)
		w.must(err)
		wg.Go(func() {
			for range 3 {
				if got := post(t, srv, "POST", string(body), func(req *http.Request, a string) { sign3(req, a, string(body), time.Now()) }); got != http.StatusNoContent {
					t.Errorf("status %d", got)
				}
			}
		})
	}
	wg.Wait()
	if n := w.count(`select events from hubpg.feed_state`); n < 3000 {
		t.Errorf("%d events", n)
	}
	if n := w.count(`select count(*) from hubpg.news`); n == 0 || n > 100 {
		t.Errorf("%d records to read", n)
	}
}

// What a delivery says of a record is never what the table gets, even if it is signed.
func TestWebhooksAreNeverTheTruth(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 40}, nil)
	_, srv := w.receiver(nil)
	live := w.live("contacts")
	event := func(kind string, id int64, more string) string {
		return fmt.Sprintf(`{"portalId":%d,"occurredAt":%d,"subscriptionType":"contact.%s","objectId":%d%s}`,
			sandbox.DefaultPortalID, time.Now().Add(time.Hour).UnixMilli(), kind, id, more)
	}
	changes := w.count(`select last from hubpg.change_counter`)
	body := "[" + strings.Join([]string{
		event("propertyChange", live[0].ID, `,"propertyName":"firstname","propertyValue":"forged"`),
		event("deletion", live[1].ID, ""),
		event("privacyDeletion", live[2].ID, ""),
		event("merge", live[3].ID, fmt.Sprintf(`,"primaryObjectId":%d,"mergedObjectIds":[%d],"newObjectId":%d`, live[3].ID, live[4].ID, live[5].ID)),
		event("creation", 1, ""),
		event("restore", 2, ""),
		fmt.Sprintf(`{"portalId":%d,"subscriptionType":"contact.associationChange","associationType":"CONTACT_TO_COMPANY","fromObjectId":%d,"toObjectId":3}`,
			sandbox.DefaultPortalID, live[6].ID),
	}, ",") + "]"
	if got := post(t, srv, "POST", body, func(req *http.Request, a string) { sign3(req, a, body, time.Now()) }); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	eventually(t, soon, func() string {
		var left string
		w.must(w.pool.QueryRow(t.Context(), `
select coalesce(string_agg(what || ' ' || record_id, ', '), '')
from (select 'news of ' || table_name, record_id from hubpg.news
	union all select 'links of ' || table_name, record_id from hubpg.pending_associations
	union all select 'links of ' || table_name, record_id from hubpg.pending_pairs) as q (what, record_id)`).Scan(&left))
		return left
	})
	if d := w.difference("contacts", "companies"); d != "" {
		t.Error(d)
	}
	if d := w.edgeDifference(); d != "" {
		t.Error(d)
	}
	if n := w.count(`select last from hubpg.change_counter`); n != changes {
		t.Errorf("%d changes were logged", n-changes)
	}
}

// What is heard while a record is on its way here may be younger than what is on its way.
func TestRecordNamedAgainWhileItIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 40}, nil)
	_, srv := w.receiver(nil)
	id := w.live("contacts")[0].ID
	name := func() {
		body := fmt.Sprintf(`[{"portalId":%d,"subscriptionType":"contact.propertyChange","objectId":%d}]`, sandbox.DefaultPortalID, id)
		if got := post(t, srv, "POST", body, func(req *http.Request, a string) { sign3(req, a, body, time.Now()) }); got != http.StatusNoContent {
			t.Fatalf("status %d", got)
		}
	}
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "first"}))
	w.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "/contacts/batch/read$", Kind: sandbox.FaultSlow, Delay: 5 * time.Second, Count: 1})
	name()
	eventually(t, soon, func() string {
		if n := w.count(`
select count(*)
from hubpg.river_job
where state = 'running' and args ->> 'lane' = 'news' and attempted_at < now() - interval '1 second'`); n == 0 {
			return "nothing is being read"
		}
		return ""
	})
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "second"}))
	name()
	w.awaitEqual(soon, "contacts")
	if n := w.count(`select count(*) from hubpg.changes where record_id = $1 and after ->> 'firstname' = 'first'`, id); n != 1 {
		t.Error("the first read did not end before the second began; the test does not show what it says")
	}
}
