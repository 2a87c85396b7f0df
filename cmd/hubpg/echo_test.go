package main

import "testing"

// TestAWritesOwnEchoMakesNoSecondEvent holds that a change made through the proxy stands in the change log once, although
// HubSpot tells of it by webhook and in its journal, and the lanes that follow changes, read the last hour again and look for calculated values
// all read the record afterwards.
func TestAWritesOwnEchoMakesNoSecondEvent(t *testing.T) {
	t.Parallel()
	s, proxy, _, db := hear(t)
	before := text(t, db, "select coalesce(max(seq), 0)::text from hubpg.changes")
	app := connect(t, proxied(s.env["HUBPG_DATABASE_URL"], proxy))
	id := s.account.Snapshot("contacts")[0].ID
	if _, err := app.Exec(t.Context(), "update hubspot.contacts set jobtitle = 'Echo' where id = $1", id); err != nil {
		t.Fatal(err)
	}
	written := text(t, db, "select now()::text")
	changed := text(t, db, "select date_trunc('milliseconds', updated_at)::text from hubspot.contacts where id = $1", id)
	lanes := []string{"follow", "trailing", "calculated"}
	const due = `
with rested as (
  update hubpg.cursors
  set position = position - 'ended' - 'took', revision = revision + 1
  where table_name = 'contacts' and lane = any ($1) and position ? 'ended' and moved_at < $2::text::timestamptz
)
update hubpg.river_job
set state = 'available', scheduled_at = now()
where kind = 'hubpg_lane' and state = 'scheduled' and args ->> 'table' = 'contacts' and args ->> 'lane' = any ($1)`
	eventually(t, func() string {
		if _, err := db.Exec(t.Context(), due, lanes, written); err != nil {
			t.Fatal(err)
		}
		for _, lane := range lanes {
			if text(t, db, "select (max(moved_at) > $2::text::timestamptz)::text from hubpg.cursors where table_name = 'contacts' and lane = $1", lane, written) != "true" {
				return "the lane " + lane + " has not come by"
			}
		}
		if text(t, db, "select count(*)::text from hubpg.feed_state where feed = 'webhook' and events > 0") != "1" {
			return "HubSpot has not told of it"
		}
		if text(t, db, "select count(*)::text from hubpg.feed_state where feed = 'journal' and last_event_at >= $1::text::timestamptz", changed) != "1" {
			return "the journal has not been read that far"
		}
		if text(t, db, "select count(*)::text from hubpg.news where table_name = 'contacts'") != "0" {
			return "what HubSpot has told has not been looked at"
		}
		return ""
	})
	if got := text(t, db, "select string_agg(concat_ws(' ', op, source, changed), ', ' order by seq) from hubpg.changes where seq > $1::text::bigint and table_name = 'contacts'", before); got != "update write {jobtitle}" {
		t.Errorf("the log has %s", got)
	}
	if got := text(t, db, "select jobtitle from hubspot.contacts where id = $1", id); got != "Echo" {
		t.Errorf("the row says %q", got)
	}
}
