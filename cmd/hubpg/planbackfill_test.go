package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/internal/status"
)

// turnstile counts what a backfill costs as HubSpot sees it. Listings without properties are those of the sweep of ids, or
// the first half of reading the wide table, whose second half is a batch of all properties; other batches are those of lanes
// that begin when a table is full, before the last one is.
type turnstile struct {
	account              http.Handler
	pages, batches, ends atomic.Int64
}

func (m *turnstile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/crm/associations/") && strings.HasSuffix(path, "/batch/read"):
		m.ends.Add(1)
	case strings.HasPrefix(path, "/crm/objects/") && strings.HasSuffix(path, "/batch/read"):
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte(lastSensor)) {
			m.batches.Add(1)
		}
	case strings.HasPrefix(path, "/crm/objects/") && r.Method == http.MethodGet && r.URL.Query().Has("properties") && !r.URL.Query().Has("archived"):
		m.pages.Add(1)
	}
	m.account.ServeHTTP(w, r)
}

// spent is what a backfill has cost.
func (m *turnstile) spent() (objects, associations int64) {
	return m.pages.Load() + 2*m.batches.Load(), m.ends.Load()
}

// The wide table has so many properties besides its own.
const (
	sensors    = 300
	lastSensor = "reading_of_sensor_299"
)

func TestPlanForetellsWhatTheBackfillCosts(t *testing.T) {
	t.Parallel()
	// Large enough that a range more or less of each table, which depends on how busy the machine is, is no tenth of it.
	account := sandbox.New(sandbox.Config{Seed: 1, Contacts: 16_000, Quiet: true})
	for i := range sensors { // too many for a URL
		if err := account.AddProperty("companies", sandbox.PropertyDef{
			Name: fmt.Sprintf("reading_of_sensor_%03d", i), Type: "number", FieldType: "number", GroupName: "companyinformation",
		}); err != nil {
			t.Fatal(err)
		}
	}
	m := &turnstile{account: account}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	env := settings(t)
	env["HUBPG_HUBSPOT_URL"], env["HUBPG_LOG_LEVEL"] = server.URL, "info"

	r := run(t, map[string]string{"HUBPG_HUBSPOT_URL": server.URL, "HUBPG_HUBSPOT_TOKEN": sandbox.DefaultToken}, "plan", "--json", "--changes", "0")
	var foretold plan
	if err := json.Unmarshal([]byte(r.stdout), &foretold); err != nil || r.status != exitDone {
		t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
	}
	wide := 0
	for _, table := range foretold.Tables {
		if table.Wide {
			wide++
		}
	}
	if wide != 1 {
		t.Errorf("%d wide tables", wide)
	}

	s := &served{start(t, env, "serve"), account, env}
	_, web := s.addresses(t)
	for deadline := time.Now().Add(8 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, body := get(t, web+"/status.json")
		var report status.Report
		if err := json.Unmarshal([]byte(body), &report); err != nil {
			t.Fatal(err)
		}
		waiting := []string{}
		for _, table := range report.Tables {
			if table.Phase != "live" {
				waiting = append(waiting, table.Name+" is "+table.Phase)
			}
		}
		// A pair comes with the type that has it: what is there may be live before everything is there.
		objects, associations := m.spent()
		if len(waiting) == 0 && objects > foretold.Backfill.ObjectCalls*9/10 && associations > foretold.Backfill.AssociationCalls*9/10 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("not filled: %q", waiting)
			break
		}
	}
	s.interrupt()
	if r := s.wait(t, time.Minute); r.status != exitDone {
		t.Errorf("interrupted: %+v", r)
	}
	objects, associations := m.spent()
	t.Logf("%d calls for records, %d were foretold; %d for associations, %d were foretold",
		objects, foretold.Backfill.ObjectCalls, associations, foretold.Backfill.AssociationCalls)
	for what, c := range map[string]struct{ made, foretold int64 }{
		"records":      {objects, foretold.Backfill.ObjectCalls},
		"associations": {associations, foretold.Backfill.AssociationCalls},
	} {
		if off := math.Abs(float64(c.made-c.foretold)) / float64(c.made); off > 0.1 {
			t.Errorf("%d calls for %s, %d were foretold: %.0f %% off", c.made, what, c.foretold, 100*off)
		}
	}
}
