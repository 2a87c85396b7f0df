package materialize_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/internal/status"
)

// Somebody else's tables under the names of lookup and association tables cost those tables only.
func TestForeignTablesDegradeOnlyThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	held := []string{"owners", "merges", "contacts_companies", "campaigns"}
	for _, sql := range []string{
		`create schema hubspot`, `create table hubspot.owners (mine int)`, `create table hubspot.merges (mine int)`,
		`create view hubspot.contacts_companies as select 1 as mine`, `create table hubspot.campaigns (mine int)`,
	} {
		_, err := w.pool.Exec(t.Context(), sql)
		w.must(err)
	}
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies", "deals", "campaigns", "marketing_emails"}
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "companies", "deals", "teams", "properties", "deals_contacts", "marketing_emails")
	kinds := map[string]string{"owners": "lookup", "merges": "lookup", "campaigns": "lookup", "contacts_companies": "association"}
	for _, table := range held {
		eventually(t, 120*time.Second, func() string {
			s := w.status(table)
			if s.Phase != "degraded" || s.Kind != kinds[table] || !strings.Contains(s.LastError, "was not made by hubpg") || s.Hint == "" {
				return fmt.Sprintf("%s is %s %s: %s (%s)", table, s.Kind, s.Phase, s.LastError, s.Hint)
			}
			return ""
		})
	}
	eventually(t, 120*time.Second, func() string {
		report, err := status.Read(t.Context(), w.pool)
		w.must(err)
		if !report.Ready {
			return "not ready: " + report.Reason
		}
		return ""
	})
	live := w.live("contacts")
	_, err := w.hub.Merge("contacts", live[1].ID, live[2].ID) // which nobody can note in merges
	w.must(err)
	w.must(w.hub.Update("contacts", live[5].ID, map[string]string{"firstname": "goes on"}))
	w.awaitEqual(120*time.Second, "contacts", "companies", "deals")
	if report := w.verify(); !report.Equal() {
		t.Errorf("verify finds %+v", report.Tables)
	}
	for _, name := range []string{"table hubspot.owners", "table hubspot.merges", "view hubspot.contacts_companies", "table hubspot.campaigns"} {
		_, err := w.pool.Exec(t.Context(), "drop "+name)
		w.must(err)
	}
	w.awaitLive(120*time.Second, held...)
	if n := w.count(`select count(*) from hubpg.absent`); n != 0 {
		t.Errorf("%d tables are still shown as absent", n)
	}
}

// An association table cannot be filled before its first end is. While that end cannot be read, the table says so.
func TestPairOfAnEndThatCannotBeReadSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	// Its properties can be read, so that there is a table; its records cannot.
	w.hub.InjectFault(sandbox.Fault{Method: "GET", Path: "/objects/([^/]+/)?(deals|0-3)$", Kind: sandbox.FaultMissingScopes})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies", "deals"}
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts", "companies", "contacts_companies")
	for _, table := range []string{"deals", "deals_contacts", "deals_companies"} {
		eventually(t, 120*time.Second, func() string {
			s := w.status(table)
			if s.Phase != "degraded" || s.LastError == "" || s.Hint == "" {
				return fmt.Sprintf("%s is %s: %s (%s)", table, s.Phase, s.LastError, s.Hint)
			}
			return ""
		})
	}
	if s := w.status("deals_contacts"); s.Hint != w.status("deals").Hint || !strings.Contains(s.LastError, "deals") {
		t.Errorf("deals_contacts says %q (%s)", s.LastError, s.Hint)
	}
	w.hub.ClearFaults()
	w.awaitLive(120*time.Second, "deals", "deals_contacts", "deals_companies")
	eventually(t, 120*time.Second, w.edgeDifference)
	if s := w.status("deals_contacts"); s.LastError != "" || s.Hint != "" {
		t.Errorf("the error stays: %s (%s)", s.LastError, s.Hint)
	}
}

// Somebody else's table under the name of an object type is a warning in the log, once, and costs that type only.
func TestForeignTableOfAnObjectTypeIsLoggedOnceWithTheRemedy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 20})
	for _, sql := range []string{`create schema hubspot`, `create table hubspot.deals (mine int)`} {
		_, err := w.pool.Exec(t.Context(), sql)
		w.must(err)
	}
	var log lockedText
	cfg := w.config()
	cfg.Objects = []string{"contacts", "deals"}
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w.start(cfg)
	w.awaitLive(120*time.Second, "contacts")
	rounds := `select count(*) from hubpg.lane_calls where lane = 'schema' and total > 20`
	eventually(t, 120*time.Second, func() string { // several rounds of the schema lane
		if w.count(rounds) == 0 || w.status("deals").Phase != "degraded" {
			return "no second look at the schema"
		}
		return ""
	})
	const said = `level=WARN msg="object type has no table" object=deals hint="rename or drop it`
	if n := strings.Count(log.String(), said); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}

// lockedText is text that many goroutines write.
type lockedText struct {
	mu   sync.Mutex // guards below
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
