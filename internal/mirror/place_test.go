package mirror_test

import (
	"testing"

	"hubpg/internal/mirror"
)

// What somebody has put in the place of a mirrored table is left alone, by what concerns the table and by what concerns others.
func TestWhatIsPutInThePlaceOfATableIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, mine := range map[string]string{
		"table": "create table hubspot.contacts_companies (id bigint, note text)",
		"view":  "create view hubspot.contacts_companies as select 1::bigint as id, 'mine' as note",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirrored(t)
			m.lookups()
			a, b := m.ensure(contacts()), m.ensure(companies())
			if _, _, err := m.mapper.EnsurePair(t.Context(), m.pool, a, b); err != nil {
				t.Fatal(err)
			}
			m.put(a, at(1), row(1, at(0), "a@x", nil, nil, nil, nil, nil))
			m.exec("drop table hubspot.contacts_companies")
			m.exec(mine)
			m.exec("drop table hubspot.companies, hubspot.owners")
			m.exec("create table hubspot.companies (id bigint not null, note text)")
			m.exec("create table hubspot.owners (note text)")
			if name == "table" {
				m.exec("insert into hubspot.contacts_companies values (1, 'mine')")
			}
			if err := m.mapper.EnsureAccount(t.Context(), m.pool); err != nil { // as each start does
				t.Fatal(err)
			}
			m.ensure(companies())
			if res := m.remove(a, at(2), 1); res.Deleted != 1 {
				t.Errorf("the contact stays: %+v", res)
			}
			if got := m.text("select note from hubspot.contacts_companies where id = 1"); got != "mine" {
				t.Errorf("somebody's row is %s", got)
			}
			m.exec("insert into hubspot.companies values (7, 'mine')")
			m.exec("insert into hubspot.owners values ('mine')")
			if got := m.text("select obj_description('hubspot.companies'::regclass)"); got != "<null>" {
				t.Errorf("somebody's table has the comment %s", got)
			}
			known, err := mirror.Load(t.Context(), m.pool, portal)
			if err != nil {
				t.Fatal(err)
			}
			if ids, err := mirror.Referred(t.Context(), m.pool, known.Pairs, a, []int64{1}); err != nil || len(ids) > 0 {
				t.Errorf("referred are %v: %v", ids, err)
			}
		})
	}
}

// With a table that is forgotten, its association tables go; what somebody has put in the place of one stays.
func TestForgettingATableDropsNobodysTable(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	a, b := m.ensure(contacts()), m.ensure(companies())
	if _, _, err := m.mapper.EnsurePair(t.Context(), m.pool, a, b); err != nil {
		t.Fatal(err)
	}
	m.exec("update hubpg.objects set phase = 'gone' where table_name in ('companies', 'contacts_companies')")
	m.exec("drop table hubspot.companies, hubspot.contacts_companies")
	m.exec("create table hubspot.contacts_companies as select 'mine' as note")
	if forgotten, err := m.mapper.ForgetDropped(t.Context(), m.pool); err != nil || !forgotten {
		t.Fatal(forgotten, err)
	}
	if got := m.text("select note from hubspot.contacts_companies"); got != "mine" {
		t.Errorf("somebody's row is %s", got)
	}
	if got := m.text("select string_agg(table_name, ', ') from hubpg.objects"); got != "contacts" {
		t.Errorf("known are %s", got)
	}
}
