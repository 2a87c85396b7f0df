package mirror_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/mirror"
)

// The log is pruned by the clock that dates it, not by that of the machine which prunes.
func TestAMachineWhoseClockIsAheadKeepsTheLog(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.put(m.ensure(contacts()), at(1), row(1, at(0), "a@x", nil, nil, nil, nil, nil))
	m.exec("update hubpg.changes set at = at - interval '10 days'")
	m.exec("create schema shifted; grant usage on schema shifted to public")
	m.exec("create function shifted.now() returns timestamptz language sql stable as $$ select pg_catalog.now() - interval '10 days' $$")
	var name string
	m.scan("select current_database()", &name)
	m.exec("alter database " + pgx.Identifier{name}.Sanitize() + " set search_path = shifted, pg_catalog, public")
	pool := m.db.Pool(t)
	if err := mirror.MaintainChangeLog(t.Context(), pool, 0); err != nil {
		t.Fatal(err)
	}
	if n := len(m.log(0)); n != 1 {
		t.Errorf("%d changes of today are left", n)
	}
}
