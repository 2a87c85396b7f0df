package materialize_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// bent is a way to HubSpot on which requests and answers are changed.
type bent struct {
	request func(r *http.Request, body []byte) []byte
	answer  func(r *http.Request, asked, body []byte) []byte
	behind  time.Duration // of HubSpot's clock
}

func (b *bent) RoundTrip(r *http.Request) (*http.Response, error) {
	var asked []byte
	if r.Body != nil {
		asked, _ = io.ReadAll(r.Body)
		sent := asked
		if b.request != nil {
			sent = b.request(r, asked)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || b.answer == nil {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	body = b.answer(r, asked, body)
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		resp.Header.Set("Date", at.Add(-b.behind).UTC().Format(http.TimeFormat))
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

func (w *world) by(b *bent, more ...hubapi.Option) *hubapi.Client {
	w.t.Helper()
	client, err := hubapi.New(w.url, hubapi.StaticToken("sandbox"), append(more, hubapi.WithTransport(b))...)
	w.must(err)
	return client
}

// TestWhatAFailoverLosesIsReadAgain: a replica is promoted that lacks the last second; what it lacks is read again.
func TestWhatAFailoverLosesIsReadAgain(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 50}, func(c *materialize.Config) { c.Pace.Overlap = 10 * time.Second })
	w.awaitEqual(20*time.Second, "contacts")
	time.Sleep(3 * time.Second)
	id := w.live("contacts")[0].ID
	w.exec(`create table kept as select * from hubspot.contacts where id = ` + strconv.FormatInt(id, 10))
	w.exec(`create table keptc as select * from hubpg.cursors where lane = 'follow'`)
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "lost"}))
	w.awaitEqual(20*time.Second, "contacts")
	time.Sleep(200 * time.Millisecond)
	w.exec(`
with a as (delete from hubspot.contacts where id in (select id from kept)), b as (
	update hubpg.cursors c set position = k.position, revision = k.revision from keptc k
	where k.portal_id = c.portal_id and k.table_name = c.table_name and k.lane = c.lane)
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`)
	w.exec(`insert into hubspot.contacts select * from kept`)
	w.awaitEqual(20*time.Second, "contacts")
}

// TestAnswersThatAreTooLargeAreReadInHalves: a hundred records may be more than an answer may have, and more than HubSpot makes in time.
func TestAnswersThatAreTooLargeAreReadInHalves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 300})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	cfg.Client = w.by(&bent{}, hubapi.WithMaxBody(150<<10))
	w.start(cfg)
	eventually(t, 3*time.Minute, func() string {
		s := w.status("contacts")
		if s.Phase != "live" {
			return s.Phase + " " + s.LastError
		}
		return ""
	})
	for _, r := range w.live("contacts") {
		w.must(w.hub.Update("contacts", r.ID, map[string]string{"firstname": "large"}))
	}
	eventually(t, 30*time.Second, func() string {
		if d := w.difference("contacts"); d != "" {
			return d + "; " + w.status("contacts").LastError
		}
		return ""
	})
}

// TestARecordThatIsCountedAndNeverShownKeepsNothingUp: the number of rows that a search has found need not be that of those it shows.
func TestARecordThatIsCountedAndNeverShownKeepsNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 50})
	var ghost atomic.Int64 // the millisecond of a record that is in every count and in no answer
	total := regexp.MustCompile(`"total":\d+`)
	counted := func(asked []byte) bool {
		var search struct {
			FilterGroups []struct{ Filters []hubapi.Filter }
		}
		if json.Unmarshal(asked, &search) != nil || len(search.FilterGroups) == 0 {
			return false
		}
		for _, f := range search.FilterGroups[0].Filters {
			from, _ := strconv.ParseInt(f.Value, 10, 64)
			to, _ := strconv.ParseInt(f.HighValue, 10, 64)
			if f.Operator == hubapi.OpBetween && from <= ghost.Load() && ghost.Load() <= to {
				return true
			}
		}
		return false
	}
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	cfg.Client = w.by(&bent{answer: func(r *http.Request, asked, body []byte) []byte {
		if !strings.HasSuffix(r.URL.Path, "/search") || !counted(asked) {
			return body
		}
		return total.ReplaceAllFunc(body, func(m []byte) []byte {
			n, _ := strconv.Atoi(string(m[len(`"total":`):]))
			return fmt.Appendf(nil, `"total":%d`, n+1)
		})
	}})
	var log lockedText
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w.start(cfg)
	w.awaitLive(2*time.Minute, "contacts")
	w.awaitCursor("trailing", "ended", 1)
	id := w.live("contacts")[0].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "beside it"}))
	r, _ := w.hub.Lookup("contacts", id)
	ghost.Store(r.UpdatedAt.UnixMilli())
	time.Sleep(time.Second)
	w.must(w.hub.Update("contacts", w.live("contacts")[1].ID, map[string]string{"firstname": "younger"}))
	w.awaitEqual(time.Minute, "contacts")
	eventually(t, time.Minute, func() string {
		if s := w.status("contacts"); s.LastError != "" || s.VerifiedAt.UnixMilli() <= ghost.Load() {
			return fmt.Sprintf("verified %s: %s", s.VerifiedAt, s.LastError)
		}
		return ""
	})
	const said = `level=WARN msg="hubspot counts records that it does not show" object=contacts`
	if n := strings.Count(log.String(), said); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

// TestARestoredRecordStaysWhileTheBinIsLate: a record that was restored stands in the listing of the recycle bin for a while.
func TestARestoredRecordStaysWhileTheBinIsLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 50})
	var late atomic.Pointer[[]byte]
	var keep atomic.Bool
	var gone atomic.Int64
	cfg := w.config()
	cfg.Objects = []string{"contacts"}
	cfg.Client = w.by(&bent{answer: func(r *http.Request, _, body []byte) []byte {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.RawQuery, "archived=true") || !strings.Contains(r.URL.Path, "/objects/contacts") && !strings.Contains(r.URL.Path, "/contacts") {
			return body
		}
		if old := late.Load(); old != nil && keep.Load() {
			return *old
		}
		if id := gone.Load(); id > 0 && bytes.Contains(body, []byte(fmt.Sprintf(`"id":"%d"`, id))) {
			late.Store(&body)
		}
		return body
	}})
	w.start(cfg)
	w.awaitLive(3*time.Minute, "contacts")
	id := w.live("contacts")[0].ID
	gone.Store(id)
	w.must(w.hub.Archive("contacts", id))
	eventually(t, 20*time.Second, func() string {
		if w.count(`select count(*) from hubspot.contacts where id = $1`, id) == 1 || late.Load() == nil {
			return "still there"
		}
		return ""
	})
	keep.Store(true)
	w.must(w.hub.Restore("contacts", id))
	eventually(t, 20*time.Second, func() string {
		if w.count(`select count(*) from hubpg.changes where record_id = $1 and op = 'restore'`, id) == 0 {
			return "not restored"
		}
		return ""
	})
	before := w.count(`select revision from hubpg.cursors where lane = 'archived' and table_name = 'contacts'`)
	eventually(t, 2*time.Minute, func() string {
		if n := w.count(`select revision from hubpg.cursors where lane = 'archived' and table_name = 'contacts'`); n < before+2 {
			return "the bin was not listed again"
		}
		return ""
	})
	if n := w.count(`select count(*) from hubpg.changes where record_id = $1 and op = 'delete' and table_name = 'contacts'`, id); n != 1 {
		t.Errorf("the log has %d deletions of a record that was deleted once", n)
	}
	if n := w.count(`select count(*) from hubspot.contacts where id = $1`, id); n != 1 {
		t.Errorf("%d rows", n)
	}
}
