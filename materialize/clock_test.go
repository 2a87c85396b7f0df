package materialize_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// shiftClock has Postgres tell the statements of this database a time that is so much later.
func (w *world) shiftClock(by time.Duration) {
	w.t.Helper()
	var name string
	w.must(w.pool.QueryRow(w.t.Context(), "select current_database()").Scan(&name))
	w.exec("create schema shifted; grant usage on schema shifted to public")
	for _, f := range []string{"now", "clock_timestamp"} {
		w.exec(fmt.Sprintf("create function shifted.%[1]s() returns timestamptz language sql stable as $$ select pg_catalog.%[1]s() + interval '%[2]d ms' $$",
			f, by.Milliseconds()))
	}
	w.exec("alter database " + pgx.Identifier{name}.Sanitize() + " set search_path = shifted, pg_catalog, public")
	w.pool = w.newPool()
}

// The clocks of a machine and of Postgres are apart: lanes pause as long as they are to.
func TestLanesPauseAlikeWhateverPostgresTakesForTheTime(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": 6 * time.Second, "behind": -6 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandbox.Config{Contacts: 30})
			w.shiftClock(by)
			cfg := w.config()
			cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
			cfg.Pace.Busy, cfg.Pace.Idle = time.Second, time.Second
			w.start(cfg)
			w.awaitLive(60*time.Second, "contacts")
			polls := func() int64 {
				return w.count(`select revision from hubpg.cursors where lane = 'follow' and table_name = 'contacts'`)
			}
			before := polls()
			time.Sleep(15 * time.Second)
			if n := polls() - before; n < 8 || n > 25 {
				t.Errorf("%d polls in 15 s, one a second is meant", n)
			}
		})
	}
}

// A sweep that somebody asks for is made, and once.
func TestASweepIsMadeOnceWhateverPostgresTakesForTheTime(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": 8 * time.Second, "behind": -8 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandbox.Config{Contacts: 30})
			w.shiftClock(by)
			cfg := w.config()
			cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts"}
			w.start(cfg)
			w.awaitLive(60*time.Second, "contacts")
			w.awaitCursor("ids", "ended", 1)
			passes := func() int64 {
				w.exec(`
update hubpg.river_job
set state = 'available', scheduled_at = now()
where args ->> 'lane' = 'ids' and state in ('available', 'scheduled') and scheduled_at > now()`)
				return w.count(`select revision from hubpg.cursors where lane = 'ids' and table_name = 'contacts'`)
			}
			before := passes()
			w.exec(`update hubpg.objects set sweep_from = now() where table_name = 'contacts'`)
			for range 20 {
				passes()
				time.Sleep(250 * time.Millisecond)
			}
			if n := passes() - before; n < 1 || n > 2 {
				t.Errorf("%d passes", n)
			}
		})
	}
}

// A record is named again right after it was read: what was read before does not count as read since.
func TestNewsAreReadWhateverPostgresTakesForTheTime(t *testing.T) {
	t.Parallel()
	w := hearing(t, sandbox.Config{Contacts: 30}, func(w *world, c *materialize.Config) {
		w.shiftClock(-8 * time.Second)
		c.Pool = w.newPool()
	})
	id := w.live("contacts")[0].ID
	for _, name := range []string{"first", "second"} {
		w.must(w.hub.Update("contacts", id, map[string]string{"firstname": name}))
		w.exec(`
insert into hubpg.news (portal_id, table_name, record_id, feed, since)
select portal_id, 'contacts', $1, 'webhook', clock_timestamp() from hubpg.accounts`, id)
		eventually(t, 20*time.Second, func() string {
			if n := w.count(`select count(*) from hubpg.news`); n > 0 {
				return "nobody has looked"
			}
			return ""
		})
		if d := w.difference("contacts"); d != "" {
			t.Errorf("the %s change: %.80s", name, d)
		}
	}
}
