package materialize

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// fenced returns an Engine over an account with one table, things, that has not been filled.
func fenced(t *testing.T) *Engine {
	t.Helper()
	pool := pgtest.Migrated(t, migrations.Up).Pool(t)
	_, err := pool.Exec(t.Context(), `
insert into hubpg.accounts (portal_id, schema_name) values (1, 'hubspot');
insert into hubpg.objects (portal_id, table_name, kind, object_type, path, singular) values (1, 'things', 'object', '2-1', 'things', 'thing');
create table stored (by text)`)
	if err != nil {
		t.Fatal(err)
	}
	client, err := hubapi.New("http://localhost", hubapi.StaticToken("none"))
	if err != nil {
		t.Fatal(err)
	}
	return &Engine{
		cfg: Config{Pool: pool, Client: client, Schema: "hubspot"}, applier: mirror.NewApplier(mirror.Config{PortalID: 1}),
		tables: newTables(),
	}
}

// TestFenceLetsOneOfTwoWorkersStore: both have read the same position; the second must store nothing, however its
// transaction lies to the first's.
func TestFenceLetsOneOfTwoWorkersStore(t *testing.T) {
	t.Parallel()
	e := fenced(t)
	ctx, pool := t.Context(), e.cfg.Pool
	store := func(s *step, c *cursor, by string) error {
		return s.commit(ctx, "things", move{cursor: c, position: by}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
			_, err := tx.Exec(ctx, `insert into stored values ($1)`, by)
			return mirror.Result{}, err
		})
	}
	for round := range 2 { // the first round begins the cursor, the second moves it
		var position string
		first, second := newStep(e, laneArgs{1, "things", LaneFollow}), newStep(e, laneArgs{1, "things", LaneFollow})
		a, err := first.load(ctx, &position)
		if err != nil {
			t.Fatal(err)
		}
		b, err := second.load(ctx, &position)
		if err != nil {
			t.Fatal(err)
		}
		if err := store(first, a, "first"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := store(second, b, "second"); !errors.Is(err, errMoved) {
			t.Fatalf("round %d: the second worker got %v", round, err)
		}
		if err := store(first, a, "first"); err != nil {
			t.Fatalf("round %d: the first worker cannot go on: %v", round, err)
		}
		var position2 string
		if _, err := second.load(ctx, &position2); err != nil || position2 != "first" {
			t.Fatalf("round %d: position is %q, %v", round, position2, err)
		}
	}
	var bySecond int
	if err := pool.QueryRow(ctx, `select count(*) from stored where by = 'second'`).Scan(&bySecond); err != nil {
		t.Fatal(err)
	}
	if bySecond != 0 {
		t.Fatalf("the second worker stored %d rows", bySecond)
	}
}

// TestFenceHoldsForWindowsWithoutRows: what a worker has verified counts only if the cursor was its to move, and only for
// a table that is complete.
func TestFenceHoldsForWindowsWithoutRows(t *testing.T) {
	t.Parallel()
	e := fenced(t)
	ctx, pool := t.Context(), e.cfg.Pool
	at := func(seconds int64) time.Time { return time.Unix(1_700_000_000+seconds, 0) }
	seen := func() (s string) {
		t.Helper()
		if err := pool.QueryRow(ctx, `
select format('%s %s %s', extract(epoch from verified_at)::bigint - 1700000000, extract(epoch from settled_at)::bigint - 1700000000, expected_rows)
from hubpg.objects`).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, second := newStep(e, laneArgs{1, "things", LaneFollow}), newStep(e, laneArgs{1, "things", LaneFollow})
	var position int
	begin, err := first.load(ctx, &position)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.commit(ctx, "things", move{cursor: begin, position: 1}, nil); err != nil {
		t.Fatal(err)
	}
	a, err := first.load(ctx, &position)
	if err != nil {
		t.Fatal(err)
	}
	b, err := second.load(ctx, &position)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.commit(ctx, "things", move{cursor: a, position: 2, verified: at(5), expected: 9}, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := seen(), "  9"; got != want || first.phase != "new" {
		t.Errorf("the table is %s and shows %q, want %q", first.phase, got, want)
	}
	if _, err := pool.Exec(ctx, `update hubpg.objects set phase = 'live', error_lane = 'ids'`); err != nil {
		t.Fatal(err)
	}
	if err := second.commit(ctx, "things", move{cursor: b, position: 7, verified: at(7), settled: at(7)}, nil); !errors.Is(err, errMoved) {
		t.Fatalf("the second worker got %v", err)
	}
	for _, m := range []move{{verified: at(5)}, {settled: at(3)}, {}, {verified: at(4), settled: at(2)}} {
		m.cursor, m.position = a, 3
		if err := first.commit(ctx, "things", m, nil); err != nil {
			t.Fatalf("the first worker cannot go on: %v", err)
		}
	}
	if got, want := seen(), "5 3 9"; got != want || first.phase != "live" || first.failing != LaneIDs {
		t.Errorf("the table is %s, failing in %q, and shows %q, want %q", first.phase, first.failing, got, want)
	}
	if c, err := first.load(ctx, &position); err != nil || position != 3 || c.revision != 6 {
		t.Errorf("position %d, revision %d, %v", position, c.revision, err)
	}
}

// TestAPassRestsForItsWork: not for the time in which nobody could go on with it.
func TestAPassRestsForItsWork(t *testing.T) {
	t.Parallel()
	e := fenced(t)
	day := 24 * time.Hour
	p := sweepPosition{Began: time.Now().Add(-day)}
	for range 3 { // steps, of which each but the first goes on where the one before has stopped
		s := newStep(e, laneArgs{1, "things", LaneIDs})
		c, err := s.load(t.Context(), &p)
		if err != nil {
			t.Fatal(err)
		}
		s.lapped = time.Now().Add(-time.Minute)
		if p.Next += "1"; len(p.Next) == 3 {
			s.finish(&p)
		}
		if err := s.commit(t.Context(), "things", move{cursor: c, position: &p}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if p.Took < day {
		t.Errorf("the pass took %s", p.Took)
	}
	if wait := p.wait(time.Second); wait < 11*time.Minute || wait > 13*time.Minute {
		t.Errorf("after three minutes' work it rests for %s", wait)
	}
	if p.begin(); p.Worked != 0 {
		t.Errorf("the next pass begins with %s", p.Worked)
	}
}
