package materialize_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) count(sql string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// lanes are those of a table that have not ended, with what River has them as.
func (w *world) lanes(table string) (list string) {
	w.t.Helper()
	w.must(w.pool.QueryRow(w.t.Context(), `
select coalesce(string_agg(concat_ws(' ', args ->> 'lane', state, attempted_at, scheduled_at, errors[cardinality(errors)] ->> 'error'), ', ' order by id), '')
from hubpg.river_job
where args ->> 'table' = $1 and state <> 'completed'`, table).Scan(&list))
	return list
}

// config2 is cfg for another process: with a pool of its own.
func (w *world) config2(cfg materialize.Config) materialize.Config {
	cfg.Pool = w.newPool()
	return cfg
}

func (w *world) status(table string) materialize.TableStatus {
	w.t.Helper()
	list, err := materialize.Status(context.Background(), w.pool)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range list {
		if s.Table == table {
			return s
		}
	}
	return materialize.TableStatus{}
}

// awaitCursor waits until n tables have a cursor of the lane with a field set.
func (w *world) awaitCursor(lane, field string, n int64) {
	w.t.Helper()
	eventually(w.t, 30*time.Second, func() string {
		if got := w.count(`select count(*) from hubpg.cursors where lane = $1 and position ? $2`, lane, field); got < n {
			return fmt.Sprintf("%d of %d %s cursors have %s", got, n, lane, field)
		}
		return ""
	})
}

// scramble makes the nth change of a table: an update, a create or, now and then, an archive.
func (w *world) scramble(objectType string, n int) {
	w.t.Helper()
	if w.ids == nil {
		w.ids = map[string][]int64{}
	}
	if w.ids[objectType] == nil {
		for _, r := range w.live(objectType) {
			w.ids[objectType] = append(w.ids[objectType], r.ID)
		}
	}
	ids := w.ids[objectType]
	name := "firstname"
	switch objectType {
	case "companies":
		name = "name"
	case "deals":
		name = "dealname"
	}
	switch {
	case n%10 == 3:
		props := map[string]string{name: fmt.Sprintf("new %d", n)}
		switch objectType {
		case "contacts":
			props["email"] = fmt.Sprintf("scramble%d@example.com", n)
		case "deals":
			props["pipeline"], props["dealstage"] = "default", "appointmentscheduled"
		}
		id, err := w.hub.Create(objectType, props)
		w.must(err)
		w.ids[objectType] = append(ids, id)
	case n%10 == 7 && len(ids) > 10:
		i := n % len(ids)
		w.must(w.hub.Archive(objectType, ids[i]))
		w.ids[objectType] = slices.Delete(ids, i, i+1)
	default:
		w.must(w.hub.Update(objectType, ids[(n*7919)%len(ids)], map[string]string{name: fmt.Sprintf("changed %d", n)}))
	}
}

func (w *world) live(objectType string) []sandbox.Record {
	var live []sandbox.Record
	for _, r := range w.hub.Snapshot(objectType) {
		if !r.Archived {
			live = append(live, r)
		}
	}
	return live
}

// wakeLane lets lanes that sleep take their next step.
func (w *world) wakeLane(lane string) {
	w.t.Helper()
	w.exec(`
update hubpg.river_job
set state = 'available', scheduled_at = now()
where args ->> 'lane' = $1 and state in ('available', 'scheduled') and scheduled_at > now()`, lane)
}
