package materialize_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// childJournal, when set, is the token of an app with which a child follows the journal.
const childJournal = "HUBPG_TEST_JOURNAL"

// appToken is a token of the sandbox's app itself, with some of the journal's scopes, all by default.
func (w *world) appToken(scopes ...string) string {
	w.t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"read", "subscriptions.read", "subscriptions.write"}
	}
	for i, s := range scopes {
		scopes[i] = "developer.webhooks_journal." + s
	}
	resp, err := http.PostForm(w.url+"/oauth/2026-09/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.DefaultClientID}, "client_secret": {sandbox.DefaultClientSecret},
		"scope": {strings.Join(scopes, " ")},
	})
	w.must(err)
	defer func() { _ = resp.Body.Close() }()
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || token.Access == "" {
		w.t.Fatalf("token: %s, %v", resp.Status, err)
	}
	return token.Access
}

// journalOf is a client of the journal with a token.
func (w *world) journalOf(token string) *hubapi.Client {
	w.t.Helper()
	c, err := hubapi.New(w.url, hubapi.StaticToken(token), hubapi.WithRetry(hubapi.RetryPolicy{Tries: 2, LimitTries: 1, Initial: 10 * time.Millisecond}))
	w.must(err)
	return c
}

// journaled lets the engine follow the journal.
func journaled(w *world, c *materialize.Config) { c.Journal = w.journalOf(w.appToken()) }

// awaitJournal waits until the journal is followed and tells of contacts and companies.
func (w *world) awaitJournal() {
	w.t.Helper()
	eventually(w.t, time.Minute, func() string {
		if n := w.count(`select count(*) from hubpg.feed_state where feed = 'journal' and read_to is not null and subscribed_at > now() - interval '1 minute'`); n == 0 {
			return "the journal is not followed"
		}
		subs, err := w.journalOf(w.appToken()).Journal(sandbox.DefaultPortalID).Subscriptions(context.Background())
		w.must(err)
		covered := map[string]bool{}
		for _, s := range subs {
			covered[s.Type+s.ObjectTypeID] = true
		}
		for _, want := range []string{"OBJECT0-1", "OBJECT0-2", "ASSOCIATION0-1", "GDPR_PRIVACY_DELETION"} {
			if !covered[want] {
				return "no subscription " + want
			}
		}
		return ""
	})
}

// feed is the journal's row of hubpg.feeds.
type feed struct {
	state, problem, hint string
	events               int64
	lag                  time.Duration
	gap, healed          *time.Time
}

func (w *world) journalFeed() (f feed) {
	w.t.Helper()
	w.must(w.pool.QueryRow(context.Background(), `
select state, coalesce(last_error, ''), coalesce(hint, ''), events, lag, gap_from, healed_at
from hubpg.feeds
where feed = 'journal'`).Scan(&f.state, &f.problem, &f.hint, &f.events, &f.lag, &f.gap, &f.healed))
	return f
}

func TestJournalTellsEveryKindOfChange(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 60}, journaled)
	w.awaitJournal()
	w.told(t, "journal")
	if f := w.journalFeed(); f.state != "live" || f.problem != "" || f.events < 9 || f.lag > time.Minute || f.gap != nil {
		t.Errorf("feed %+v", f)
	}
	subs, err := w.journalOf(w.appToken()).Journal(sandbox.DefaultPortalID).Subscriptions(t.Context())
	w.must(err)
	if len(subs) != 5 {
		t.Errorf("%d subscriptions after several looks, want 5: %+v", len(subs), subs)
	}
}

// Erasures and associations are found by nothing but the journal here, and the process is killed again and again.
func TestJournalIsResumedAtItsOffsetAfterAKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 150})
	token := w.appToken()
	start := func() func() {
		cmd := w.process(childJournal + "=" + token)
		return func() { kill(cmd) }
	}
	stop := start()
	defer func() { stop() }()
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	w.awaitCursor("ids", "ended", 2)
	eventually(t, time.Minute, func() string { // the child looks for new tables every two seconds
		if n := w.count(`select count(*) from hubpg.feed_state where feed = 'journal' and subscribed_at > (select max(backfill_from) from hubpg.objects where kind = 'object')`); n == 0 {
			return "not subscribed since the tables were made"
		}
		return ""
	})
	live, companies := w.live("contacts"), w.live("companies")
	link := func(n int) {
		w.must(w.hub.Associate("contacts", live[100+n%40].ID, "companies", companies[n%len(companies)].ID, 279))
	}
	for round := range 4 {
		for n := range 6 { // with a process, and with one that is being killed
			w.must(w.hub.Erase("contacts", live[round*20+n].ID))
			link(round*20 + n)
			time.Sleep(time.Duration(10+40*round) * time.Millisecond)
		}
		stop()
		for n := range 6 { // without
			w.must(w.hub.Erase("contacts", live[round*20+10+n].ID))
			link(round*20 + 10 + n)
		}
		stop = start()
	}
	w.awaitEqual(time.Minute, "contacts")
	eventually(t, time.Minute, w.edgeDifference)
	if n := w.count(`select count(*) from hubpg.changes where op = 'delete' and table_name = 'contacts' and source = 'journal'`); n != 48 {
		t.Errorf("%d of 48 erasures were told by the journal", n)
	}
	if f := w.journalFeed(); f.gap != nil {
		t.Errorf("a gap since %s", f.gap)
	}
	if d := w.replayDifference(); d != "" {
		t.Error(d)
	}
}

// expire makes the journal four days older than the lane's memory of it.
func (w *world) expire(columns ...string) {
	w.t.Helper()
	for _, c := range columns {
		_, err := w.pool.Exec(context.Background(), `update hubpg.feed_state set `+c+` = `+c+` - interval '4 days' where feed = 'journal'`)
		w.must(err)
	}
	w.hub.Age(4 * 24 * time.Hour)
}

func TestJournalThatHasExpiredIsHealedBySweeps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 80})
	cfg := w.config()
	cfg.Pace, cfg.Objects = rarePolls(), []string{"contacts", "companies"}
	cfg.Pace.Schema = 2 * time.Second
	journaled(w, &cfg)
	stop := w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	w.awaitJournal()
	for lane, n := range map[string]int64{"ids": 2, "archived": 2, "associations": 1} {
		w.awaitCursor(lane, "ended", n)
	}
	live, companies := w.live("contacts"), w.live("companies")
	w.must(w.hub.Update("contacts", live[0].ID, map[string]string{"firstname": "before"}))
	w.awaitEqual(soon, "contacts") // there is an offset
	stop()

	w.must(w.hub.Erase("contacts", live[1].ID))
	w.must(w.hub.Archive("contacts", live[2].ID))
	w.must(w.hub.Associate("contacts", live[3].ID, "companies", companies[1].ID, 279))
	if _, err := w.journalOf(w.appToken()).Journal(0).Latest(t.Context()); err != nil { // a file that will be gone
		t.Fatal(err)
	}
	w.expire("read_to", "written_at")

	w.hub.InjectFault(sandbox.Fault{Method: "GET", Path: "/objects/.*/companies$", Kind: sandbox.FaultInternal}) // sweeps of companies get nowhere
	cfg2 := w.config2(cfg)
	journaled(w, &cfg2) // the old token has aged
	w.start(cfg2)
	eventually(t, soon, func() string {
		if f := w.journalFeed(); f.state != "healing" || !strings.Contains(f.problem, "three days") || f.hint == "" || f.gap == nil {
			return fmt.Sprintf("feed %+v", f)
		}
		return ""
	})
	if hint := w.status("contacts").Hint; !strings.Contains(hint, "journal") {
		t.Errorf("the status of contacts says %q", hint)
	}
	w.awaitEqual(soon, "contacts")
	eventually(t, soon, w.edgeDifference)
	if f := w.journalFeed(); f.state != "healing" || f.healed != nil {
		t.Errorf("healed before companies have been looked through: %+v", f)
	}
	w.hub.ClearFaults()
	eventually(t, 2*time.Minute, func() string {
		if f := w.journalFeed(); f.state != "live" || f.healed == nil || f.problem != "" || w.status("contacts").Hint != "" {
			return fmt.Sprintf("feed %+v", f)
		}
		return ""
	})
	w.must(w.hub.Erase("contacts", live[5].ID)) // the journal is followed again
	w.awaitEqual(soon, "contacts")
}

// An account in which nothing happens for three days has lost nothing.
func TestJournalOfAQuietAccountHasNoGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 40})
	cfg := w.config()
	cfg.Pace, cfg.Objects = rarePolls(), []string{"contacts", "companies"}
	cfg.Pace.Schema = 2 * time.Second
	journaled(w, &cfg)
	stop := w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	w.awaitJournal()
	live := w.live("contacts")
	w.must(w.hub.Update("contacts", live[0].ID, map[string]string{"firstname": "before"}))
	w.awaitEqual(soon, "contacts")
	stop()
	w.expire("written_at")
	cfg2 := w.config2(cfg)
	journaled(w, &cfg2)
	w.start(cfg2)
	w.must(w.hub.Erase("contacts", live[1].ID))
	w.awaitEqual(soon, "contacts")
	if f := w.journalFeed(); f.state != "live" || f.gap != nil {
		t.Errorf("feed %+v", f)
	}
}

func TestCutJournalFileChangesNothing(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 40}, func(w *world, c *materialize.Config) {
		journaled(w, c)
		c.Pace.Schema = 2 * time.Second
	})
	w.awaitJournal()
	live := w.live("contacts")
	position := func() (text string) {
		w.must(w.pool.QueryRow(t.Context(), `select coalesce(position, '') from hubpg.feed_state where feed = 'journal'`).Scan(&text))
		return text
	}
	was := position()
	w.hub.InjectFault(sandbox.Fault{
		Path: "^/_download/", Kind: sandbox.FaultStatus, Status: http.StatusOK,
		Body: fmt.Sprintf(`{"offset":"x","publishedAt":"2026-11-23T00:00:00Z","journalEvents":[{"type":"crmObject","action":"DELETE","portalId":%d,"objectTypeId":"0-1","objectId":%d},{"ty`,
			sandbox.DefaultPortalID, live[0].ID),
	})
	w.must(w.hub.Update("contacts", live[0].ID, map[string]string{"firstname": "behind the cut"}))
	eventually(t, soon, func() string {
		if f := w.journalFeed(); f.state != "failing" || f.problem == "" {
			return fmt.Sprintf("feed %+v", f)
		}
		return ""
	})
	if now := position(); now != was {
		t.Errorf("the position moved from %q to %q", was, now)
	}
	if n := w.count(`select (select count(*) from hubpg.news) + (select count(*) from hubpg.suspects)`); n != 0 {
		t.Errorf("%d records are named by half a file", n)
	}
	w.hub.ClearFaults()
	w.hub.InjectFault(sandbox.Fault{Path: "/webhooks-journal/journal/", Kind: sandbox.FaultRateBurst, RetryAfter: 1, Count: 3})
	w.awaitEqual(soon+time.Minute, "contacts") // a failure that repeats waits for up to a minute
	if f := w.journalFeed(); f.problem != "" {
		t.Errorf("feed %+v", f)
	}
	if n := w.count(`select count(*) from hubpg.changes where source = 'journal' and record_id = $1`, live[0].ID); n != 1 {
		t.Errorf("%d changes were told by the journal", n)
	}
}

func TestJournalWithoutPermissionIsOffAndPollingGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 40})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "companies"}
	tokens := &changing{}
	tokens.text.Store(w.appToken("snapshots.read"))
	var err error
	cfg.Journal, err = hubapi.New(w.url, tokens)
	w.must(err)
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts")
	eventually(t, soon, func() string {
		if w.count(`select count(*) from hubpg.feeds where feed = 'journal'`) == 0 {
			return "no feed"
		}
		if f := w.journalFeed(); f.state != "off" || !strings.Contains(f.hint, "developer.webhooks_journal.read") || f.problem == "" {
			return fmt.Sprintf("feed %+v", f)
		}
		return ""
	})
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "polled"}))
	w.awaitEqual(soon, "contacts")
	if s := w.status("contacts"); s.Phase != "live" || s.LastError != "" {
		t.Errorf("contacts are %s: %s", s.Phase, s.LastError)
	}
	tokens.text.Store(w.appToken()) // the permission comes, and is noticed
	w.awaitJournal()
	eventually(t, soon, func() string {
		if f := w.journalFeed(); f.state != "live" || f.problem != "" {
			return fmt.Sprintf("feed %+v", f)
		}
		return ""
	})
}

// changing is a source of tokens whose permissions change.
type changing struct{ text atomic.Value }

func (c *changing) Token() (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: c.text.Load().(string), TokenType: "Bearer"}, nil
}
