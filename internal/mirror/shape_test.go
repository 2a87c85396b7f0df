package mirror_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// shape carries out a change and returns the table as it is then.
func (m *mirrored) shape(err error, def *mirror.ObjectDef) *catalog.Table {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	return m.ensure(def)
}

// filled is row 1 with the given values by property.
func filled(t *catalog.Table, updated time.Time, values map[string]string) mirror.Row {
	r := mirror.Row{ID: 1, UpdatedAt: updated}
	for _, c := range t.Readable() {
		r.Values = append(r.Values, []byte(values[c.Property]))
	}
	return r
}

func TestRenamedColumnKeepsItsValuesAndItsName(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := modelDef()
	table := m.ensure(def)
	m.exec("update hubpg.columns set placement = 'overflow' where property = 'extra'")
	m.exec("update hubpg.objects set catalog_version = catalog_version + 1")
	old := table
	table = m.ensure(def)
	values := map[string]string{"email": "a@example.com", "score": "many", "extra": "7", "note": ""}
	m.put(table, at(1), filled(table, at(0), values))
	m.exec("create view people as select email from hubspot.contacts")

	m.shape(m.mapper.RenameColumn(t.Context(), m.pool, "contacts", "email", "mail"), def)
	m.shape(m.mapper.RenameColumn(t.Context(), m.pool, "contacts", "score", "points"), def)
	m.shape(m.mapper.RenameColumn(t.Context(), m.pool, "contacts", "extra", "rest"), def)
	table = m.shape(m.mapper.RenameColumn(t.Context(), m.pool, "contacts", "lastmodifieddate", "touched"), def)
	if got := m.text("select concat_ws(' ', mail, _unparsed, _overflow) from hubspot.contacts"); got != `a@example.com {"points": "many"} {"rest": 7}` {
		t.Errorf("row is %s", got)
	}
	if got := m.text("select email from people"); got != "a@example.com" {
		t.Errorf("the view shows %s", got)
	}
	from := int64(len(m.log(0)))
	values["email"], values["extra"], values["lastmodifieddate"] = "b@example.com", "8", "2024-10-28T16:39:01.173Z"
	m.put(table, at(3), filled(table, at(2), values))
	if list := m.log(from); len(list) != 1 || strings.Join(list[0].Changed, " ") != "mail rest" {
		t.Errorf("changes %+v", list)
	}
	// Whoever knows the old names is told to look again.
	err := pgx.BeginFunc(context.Background(), m.pool, func(tx pgx.Tx) error {
		_, err := m.applier.Upsert(t.Context(), tx, &mirror.Batch{Table: old, Columns: old.Readable(), Rows: []mirror.Row{filled(old, at(9), values)}, ReadAt: at(9), Source: changes.Follow})
		return err
	})
	if !errors.Is(err, mirror.ErrStaleCatalog) {
		t.Errorf("an applier with the old names gets %v", err)
	}
	for name, reason := range map[string]string{"id": "taken", "archived_at": "taken", "birthday": "taken", "": "1 to 63", strings.Repeat("x", 64): "1 to 63"} {
		err := m.mapper.RenameColumn(t.Context(), m.pool, "contacts", "mail", name)
		if e, ok := errors.AsType[*mirror.ShapeError](err); !ok || !strings.Contains(e.Reason, reason) {
			t.Errorf("renaming to %q gives %v", name, err)
		}
	}
}

func TestExcludedPropertyHasNoColumnAndComesBackUnfilled(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	table := m.ensure(def)
	m.put(table, at(1), row(1, at(0), "a@example.com", "many", nil, nil, nil, nil))
	for range 2 { // once more changes nothing
		table = m.shape(m.mapper.Exclude(t.Context(), m.pool, "contacts", "score"), def)
	}
	if _, ok := table.Column("score"); ok || len(table.Excluded) != 1 {
		t.Errorf("columns %+v, excluded %+v", table.Columns, table.Excluded)
	}
	if got := m.text("select to_jsonb(t) ? 'score' or _unparsed is not null from hubspot.contacts t"); got != "false" {
		t.Error("something of the column is left")
	}
	// Its name stays its own.
	def.Properties = append(def.Properties, mirror.PropertyDef{Name: "Score", Type: "string"})
	table = m.ensure(def)
	if c, ok := table.Column("Score"); !ok || c.Name != "score_" {
		t.Errorf("another property with the name got %+v", c)
	}
	m.put(table, at(2), row(1, at(1), "b@example.com", nil, nil, nil, nil, "x"))
	table = m.shape(m.mapper.Include(t.Context(), m.pool, "contacts", "score"), def)
	if c, ok := table.Column("score"); !ok || c.Name != "score" || c.Filled {
		t.Errorf("column is %+v", c)
	}
	if names := table.Unfilled(); len(names) != 2 { // Score is new
		t.Errorf("unfilled are %+v", names)
	}
	m.exec("create view people as select email from hubspot.contacts")
	if err := m.mapper.Exclude(t.Context(), m.pool, "contacts", "email"); err == nil || !strings.Contains(err.Error(), "view people") {
		t.Errorf("dropping a column that a view uses gives %v", err)
	}
	if err := m.mapper.Exclude(t.Context(), m.pool, "contacts", "nothing"); err == nil || !strings.Contains(err.Error(), "schema list contacts") {
		t.Errorf("no such column gives %v", err)
	}
}

func TestPinnedColumnLeavesOverflowAndNeverMovesThere(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := modelDef()
	m.ensure(def)
	m.exec("alter table hubspot.contacts drop column tags, drop column seen, drop column note, drop column score")
	m.exec("update hubpg.columns set placement = 'overflow' where property in ('tags', 'seen', 'note', 'score')")
	m.exec("update hubpg.objects set catalog_version = catalog_version + 1")
	table := m.ensure(def)
	values := map[string]string{"tags": "x;y", "seen": "2024-10-28T16:39:01.173Z", "note": "n", "score": "1.50"}
	r := filled(table, at(0), values)
	m.put(table, at(1), r)
	before := m.text("select to_jsonb(t) - '_overflow' || _overflow from hubspot.contacts t")
	for _, name := range []string{"tags", "seen", "note", "score"} {
		table = m.shape(m.mapper.Pin(t.Context(), m.pool, "contacts", name, true), def)
		if c, _ := table.Column(name); c.Overflow || !c.Pinned {
			t.Errorf("column is %+v", c)
		}
	}
	if got := m.text("select _overflow from hubspot.contacts"); got != "<null>" {
		t.Errorf("_overflow is %s", got)
	}
	if got := m.text("select tags = '{x,y}' and seen = '2024-10-28T16:39:01.173Z' and note = 'n' and score = 1.5 from hubspot.contacts"); got != "true" {
		t.Errorf("row was %s, is %s", before, m.text("select to_jsonb(t) from hubspot.contacts t"))
	}
	m.put(table, at(1), r)
	if list := m.log(1); len(list) != 0 {
		t.Errorf("pinning made events %+v", list)
	}
}
