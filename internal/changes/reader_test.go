package changes_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubpg/internal/changes"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestReadFollowsTheLogInOrder(t *testing.T) {
	t.Parallel()
	conn := pgtest.Migrated(t, migrations.Up).Conn(t)
	_, err := conn.Exec(t.Context(), `
insert into hubpg.changes (seq, schema_name, table_name, record_id, op, changed, before, after, source)
select n, 'hubspot', case when n = 4 then 'pipelines' else 'deals' end, case when n <> 4 then 100 + n end, 'update',
    '{amount}', '{"amount": 1}', jsonb_build_object('amount', n), 'follow'
from generate_series(5, 3, -1) n`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "update hubpg.change_counter set last = 5"); err != nil {
		t.Fatal(err)
	}

	oldest, newest, err := changes.Bounds(t.Context(), conn)
	if err != nil || oldest != 3 || newest != 5 {
		t.Errorf("bounds = %d, %d, %v, want 3, 5", oldest, newest, err)
	}
	list, err := changes.Read(t.Context(), conn, 3, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, c := range list {
		got = append(got, c.Seq, c.RecordID)
	}
	if diff := cmp.Diff([]int64{4, 0, 5, 105}, got); diff != "" {
		t.Errorf("seq and record of what follows 3 (-want +got):\n%s", diff)
	}
	if len(list) == 2 && (list[1].Op != changes.Update || list[1].Source != changes.Follow || string(list[1].After) != `{"amount": 5}`) {
		t.Errorf("change 5 = %+v", list[1])
	}
	if list, err = changes.Read(t.Context(), conn, 2, 1); err != nil || len(list) != 1 || list[0].Seq != 3 {
		t.Errorf("one change after 2 = %+v, %v", list, err)
	}
}

func TestBoundsOfAnEmptyLogAskForNothing(t *testing.T) {
	t.Parallel()
	conn := pgtest.Migrated(t, migrations.Up).Conn(t)
	oldest, newest, err := changes.Bounds(t.Context(), conn)
	if err != nil || oldest != 1 || newest != 0 {
		t.Errorf("bounds = %d, %d, %v, want 1, 0", oldest, newest, err)
	}
}

func TestReadSaysWhatItWasDoing(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t) // without hubpg's schema
	_, err := changes.Read(t.Context(), conn, 7, 1)
	var pg interface{ SQLState() string }
	if !errors.As(err, &pg) || pg.SQLState() != "42P01" {
		t.Errorf("read without a log: %v", err)
	}
}
