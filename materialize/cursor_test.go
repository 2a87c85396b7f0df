package materialize

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

// TestFenceLetsOneOfTwoWorkersStore: both have read the same position; the second must store nothing, however its
// transaction lies to the first's.
func TestFenceLetsOneOfTwoWorkersStore(t *testing.T) {
	t.Parallel()
	pool := pgtest.Migrated(t, migrations.Up).Pool(t)
	ctx := t.Context()
	_, err := pool.Exec(ctx, `
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
	e := &Engine{
		cfg: Config{Pool: pool, Client: client, Schema: "hubspot"}, applier: mirror.NewApplier(mirror.Config{PortalID: 1}),
		tables: newTables(),
	}
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
