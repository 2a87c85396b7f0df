package materialize_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

var (
	iso    = regexp.MustCompile(`"20\d\d-\d\d-\d\dT[0-9:.]+Z"`)
	millis = regexp.MustCompile(`"1[0-9]{12}"`)
)

// aheadBy is how HubSpot looks to a machine whose clock is ahead: everything there happens earlier.
func aheadBy(d time.Duration) *bent {
	return &bent{
		behind: d,
		request: func(r *http.Request, body []byte) []byte {
			if !strings.HasSuffix(r.URL.Path, "/search") {
				return body
			}
			return millis.ReplaceAllFunc(body, func(m []byte) []byte {
				n, _ := strconv.ParseInt(string(m[1:len(m)-1]), 10, 64)
				return []byte(`"` + strconv.FormatInt(n+d.Milliseconds(), 10) + `"`)
			})
		},
		answer: func(r *http.Request, _, body []byte) []byte {
			return iso.ReplaceAllFunc(body, func(m []byte) []byte {
				at, err := time.Parse(time.RFC3339Nano, string(m[1:len(m)-1]))
				if err != nil {
					return m
				}
				return []byte(`"` + at.Add(-d).UTC().Format("2006-01-02T15:04:05.000Z") + `"`)
			})
		},
	}
}

// TestAClockAheadOfHubSpotPassesNothingBy: half a minute is well within what the follow lane bears.
func TestAClockAheadOfHubSpotPassesNothingBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 50})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	cfg.Client = w.by(aheadBy(30 * time.Second))
	w.start(cfg)
	w.awaitLive(3*time.Minute, "contacts")
	w.awaitCursor("trailing", "ended", 1)
	time.Sleep(6 * time.Second) // the first polls look further back
	id := w.live("contacts")[0].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "ahead"}))
	changed := time.Now()
	eventually(t, 20*time.Second, func() string {
		if w.count(`select count(*) from hubspot.contacts where firstname = 'ahead'`) == 1 {
			return ""
		}
		return fmt.Sprintf("not stored; verified %s after the change", w.status("contacts").VerifiedAt.Sub(changed))
	})
}

// TestANewColumnIsFilledBesideAFasterClock: rows that a machine with a faster clock has read just before a column was added get its value.
func TestANewColumnIsFilledBesideAFasterClock(t *testing.T) {
	t.Parallel()
	w, stop := liveContacts(t, sandbox.Config{Contacts: 50}, nil)
	w.awaitEqual(20*time.Second, "contacts")
	stop()
	w.must(w.hub.AddProperty("contacts", sandbox.PropertyDef{Name: "score_of_old", Label: "Score", Type: "string", FieldType: "text"}))
	for _, r := range w.live("contacts") {
		w.must(w.hub.SetCalculated("contacts", r.ID, "score_of_old", "high"))
	}
	w.exec(`update hubspot.contacts set _read_at = now() + interval '15 seconds' where id in (select id from hubspot.contacts order by id limit 10)`)
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	w.start(cfg)
	eventually(t, 60*time.Second, func() string {
		if w.count(`select count(*) from hubpg.columns where property = 'score_of_old' and filled_at is not null`) == 0 {
			return "not filled"
		}
		return ""
	})
	if n := w.count(`select count(*) from hubspot.contacts where score_of_old is null`); n > 0 {
		t.Errorf("the column counts as filled, and %d rows lack its value", n)
	}
	w.awaitEqual(20*time.Second, "contacts")
}

// A table is opened by HubSpot's clock: what changes next is behind the cursor by any amount that this machine's may be ahead.
func TestATableIsOpenedByHubSpotsClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 50})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
	cfg.Client = w.by(aheadBy(10 * time.Minute))
	w.start(cfg)
	w.awaitLive(time.Minute, "contacts")
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "ahead"}))
	eventually(t, 20*time.Second, func() string {
		if w.count(`select count(*) from hubspot.contacts where firstname = 'ahead'`) == 1 {
			return ""
		}
		return "the change is not stored"
	})
}
