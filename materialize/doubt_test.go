package materialize_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// HubSpot has been seen to answer an empty list with status 200.
func TestAnEmptyListEmptiesATableOnlyWhenItIsHeardAgainAndAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		table, nothing string
		calls          int // of two passes
	}{
		{"campaigns", `{"results":[],"total":0}`, 2},
		{"owners", `{"results":[]}`, 4},
	} {
		t.Run(c.table, func(t *testing.T) {
			t.Parallel()
			w := surfaced(t, sandbox.Config{Contacts: 5}, func(cfg *materialize.Config) {
				cfg.Pace.Lookups, cfg.Pace.Schema = 3*time.Second, time.Second
				cfg.Objects = []string{"contacts", "campaigns"}
			})
			w.awaitLive(time.Minute, "contacts", c.table)
			had := w.count("select count(*) from hubspot." + c.table)
			if had == 0 {
				t.Fatal("there is nothing to lose")
			}
			nothing := sandbox.Fault{Method: http.MethodGet, Path: c.table, Kind: sandbox.FaultStatus, Status: http.StatusOK, Body: c.nothing}

			nothing.Count = c.calls
			w.hub.InjectFault(nothing)
			eventually(t, time.Minute, func() string {
				if s := w.status(c.table); !strings.Contains(s.LastError, "lists no "+c.table) || !strings.Contains(s.Hint, "stays as it is") {
					return fmt.Sprintf("the status says %q, hint %q", s.LastError, s.Hint)
				}
				return ""
			})
			if n := w.count("select count(*) from hubspot." + c.table); n != had {
				t.Errorf("one empty list has left %d of %d rows", n, had)
			}
			eventually(t, time.Minute, func() string {
				if s := w.status(c.table); s.LastError != "" {
					return "the status still says " + s.LastError
				}
				return ""
			})
			if n := w.count("select count(*) from hubpg.changes where op = 'delete' and table_name = $1", c.table); n != 0 {
				t.Errorf("the log has %d deletions", n)
			}

			nothing.Count = 0
			w.hub.InjectFault(nothing)
			eventually(t, time.Minute, func() string {
				if n := w.count("select count(*) from hubspot." + c.table); n > 0 {
					return fmt.Sprintf("%d rows are left", n)
				}
				return ""
			})
			w.hub.ClearFaults()
			eventually(t, time.Minute, func() string {
				if n := w.count("select count(*) from hubspot." + c.table); n != had {
					return fmt.Sprintf("%d of %d rows have come back", n, had)
				}
				return ""
			})
		})
	}
}

func TestAnEmptyListOfPropertiesChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 5})
	cfg := w.config()
	cfg.Objects, cfg.Pace.Schema = []string{"contacts"}, 200*time.Millisecond
	w.start(cfg)
	w.awaitLive(time.Minute, "contacts")
	columns := w.count("select count(*) from hubpg.columns where archived_at is null")
	before := w.hub.Stats().ByFamily["properties"]
	w.hub.InjectFault(sandbox.Fault{
		Method: http.MethodGet, Path: "/properties/", Kind: sandbox.FaultStatus, Status: http.StatusOK, Body: `{"results":[]}`,
	})
	eventually(t, time.Minute, func() string {
		if w.hub.Stats().ByFamily["properties"] < before+2 {
			return "nobody has asked again"
		}
		return ""
	})
	if n := w.count("select count(*) from hubpg.columns where archived_at is null"); n != columns {
		t.Errorf("%d of %d columns are left", n, columns)
	}
	w.hub.ClearFaults()
	w.must(w.hub.AddProperty("contacts", sandbox.PropertyDef{Name: "later", Label: "Later", Type: "string", FieldType: "text"}))
	eventually(t, time.Minute, func() string {
		if w.count("select count(*) from hubpg.columns where property = 'later'") == 0 {
			return "the schema is not followed any more"
		}
		return ""
	})
}
