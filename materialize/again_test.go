package materialize_test

import (
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// TestAPassThatHasGoneByIsFollowedByAnother: while a pair is refused, records change that the pass under way has behind it.
func TestAPassThatHasGoneByIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	w := pendingWorld(t)
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultStatus, Method: "POST", Path: dealsContacts, Status: 400,
		Body: `{"status":"error","message":"Unable to infer object type from: 0-3","category":"VALIDATION_ERROR"}`,
	})
	w.exec(`
update hubpg.cursors
set revision = revision + 1, position = (position - 'ended' - 'took') || jsonb_build_object(
	'next', (select max(id) from hubspot.deals), 'rows', 1, 'of', 2, 'began', now())
where lane = 'associations' and table_name = 'deals_contacts'`)
	w.relink()
	eventually(t, 60*time.Second, func() string { return w.pairDifference("contacts", "companies", "contacts_companies") })
	w.nothingPends(30 * time.Second)
	w.hub.ClearFaults()
	eventually(t, 60*time.Second, func() string {
		w.wakeLane("associations")
		return w.edgeDifference()
	})
}
