package materialize_test

import (
	"net/http"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// A suspect about which batch reads say nothing is asked for by itself, and a gateway that knows no such address answers.
func TestAGatewaysPageTakesNoRecordAway(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 30}, nil)
	id := w.live("contacts")[3].ID
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: `/objects/([^/]+/)?(contacts|0-1)/batch/read$`})
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultStatus, Status: http.StatusNotFound, Body: "<html><h1>404 Not Found</h1></html>",
		Path: `/objects/([^/]+/)?(contacts|0-1)/[0-9]+$`,
	})
	w.exec(`
insert into hubpg.suspects (portal_id, table_name, record_id, tries, since)
select portal_id, 'contacts', $1, 3, now() - interval '1 minute' from hubpg.accounts`, id)
	eventually(t, 60*time.Second, func() string {
		w.exec(`update hubpg.river_job set scheduled_at = now() where args ->> 'lane' = 'archived' and state in ('available', 'scheduled')`)
		if w.count(`select count(*) from hubpg.suspects where record_id = $1 and tries = 3`, id) > 0 {
			return "nobody has asked for the suspect"
		}
		return ""
	})
	if w.count(`select count(*) from hubspot.contacts where id = $1`, id) != 1 {
		t.Error("a record that HubSpot has is not in the table any more")
	}
	w.hub.ClearFaults()
	w.exec(`update hubpg.suspects set since = now() - interval '1 minute'`)
	w.awaitEqual(30*time.Second, "contacts")
}
