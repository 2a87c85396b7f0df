package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

func TestPropertiesBecomeTypedCommentedColumns(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.ensure(contacts())
	got := m.text(`
select string_agg(format('%s %s %s', attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)), E'\n' order by attnum)
from pg_attribute where attrelid = 'hubspot.contacts'::regclass and attnum > 0 and attname !~ '^_' and attname !~ '(id|_at)$'`)
	want := strings.Join([]string{
		"email text Email", `score numeric Score: How hot's this lead \ really`, "optout boolean Opted out", "birthday date Birthday",
		"seen timestamp with time zone Last seen", "tags text[] Tags",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if key := m.text("select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'hubspot.contacts'::regclass and contype = 'p'"); key != "PRIMARY KEY (id)" {
		t.Errorf("primary key is %s", key)
	}
}

func TestTheTableFollowsItsDefinition(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	m.put(m.ensure(def), at(1), row(1, at(0), "a@x", "1", nil, nil, nil, nil))
	step := func(name string, edit func(), want mirror.SchemaChange, version int64) *catalog.Table {
		t.Helper()
		edit()
		for range 2 { // the second time there is nothing to do
			table, change, err := m.mapper.EnsureObject(t.Context(), m.pool, def)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, change, cmpopts.EquateEmpty()); diff != "" || table.Version != version {
				t.Errorf("%s: version %d, want %d\n%s", name, table.Version, version, diff)
			}
			want = mirror.SchemaChange{Retyped: want.Retyped}
		}
		table := m.ensure(def)
		loaded, err := mirror.Load(t.Context(), m.pool, portal)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table, loaded.Table("0-1")); diff != "" {
			t.Errorf("%s: loaded catalog differs: %s", name, diff)
		}
		return table
	}
	step("nothing", func() {}, mirror.SchemaChange{}, 1)
	table := step("property added", func() {
		def.Properties = append(def.Properties, mirror.PropertyDef{Name: "Order", Type: "string", Label: "Order"})
	}, mirror.SchemaChange{Added: []string{"order_"}}, 2)
	if due := table.Unfilled(); len(due) != 1 || due[0].Property != "Order" {
		t.Errorf("columns to fill: %+v", due)
	}
	m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return mirror.Result{}, m.mapper.Filled(t.Context(), tx, table, table.Unfilled())
	})
	step("label changed", func() { def.Properties[0].Label = "E-mail" }, mirror.SchemaChange{Redefined: []string{"email"}}, 2)
	if got := m.text("select col_description('hubspot.contacts'::regclass, 4)"); got != "E-mail" {
		t.Errorf("comment is %q", got)
	}
	step("type changed", func() { def.Properties[1].Type = "string" }, mirror.SchemaChange{Retyped: []string{"score"}}, 2)
	order := def.Properties[6]
	table = step("property archived", func() { def.Properties = slices.Delete(def.Properties, 6, 7) },
		mirror.SchemaChange{Archived: []string{"order_"}, Retyped: []string{"score"}}, 3)
	if len(table.Readable()) != 6 || len(table.Columns) != 7 {
		t.Errorf("%d of %d columns are readable", len(table.Readable()), len(table.Columns))
	}
	table = step("property restored", func() { def.Properties = append(def.Properties, order) },
		mirror.SchemaChange{Restored: []string{"order_"}, Redefined: []string{"order_"}, Retyped: []string{"score"}}, 4)
	if len(table.Unfilled()) != 1 {
		t.Error("a restored column has to be filled again")
	}
	m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return mirror.Result{}, m.mapper.Filled(t.Context(), tx, table, table.Unfilled())
	})
	last := &def.Properties[len(def.Properties)-1]
	step("definition dated", func() { last.ChangedAt = at(1) }, mirror.SchemaChange{Redefined: []string{"order_"}, Retyped: []string{"score"}}, 4)
	old := table
	table = step("archived and restored unseen", func() { last.ChangedAt = at(2) },
		mirror.SchemaChange{Restored: []string{"order_"}, Redefined: []string{"order_"}, Retyped: []string{"score"}}, 5)
	if due := table.Unfilled(); len(due) != 1 || !due[0].Lapsed {
		t.Errorf("columns to fill: %+v", due)
	}
	err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
		return m.mapper.Filled(t.Context(), tx, old, table.Unfilled())
	})
	if !errors.Is(err, mirror.ErrStaleCatalog) {
		t.Errorf("a fill that began before ended as %v", err)
	}
	// A column keeps its kind: what does not fit any more is kept aside.
	m.put(table, at(2), row(1, at(1), "a@x", "high", nil, nil, nil, nil, nil))
	if got := m.text("select _unparsed from hubspot.contacts"); got != `{"score": "high"}` {
		t.Errorf("_unparsed is %s", got)
	}
}

func TestADefinitionWithoutPropertiesIsRefused(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	m.ensure(def)
	def.Properties = nil
	if _, _, err := m.mapper.EnsureObject(t.Context(), m.pool, def); err == nil {
		t.Error("a failed read archived every column")
	}
}

func TestIgnoredPropertiesGetNoColumn(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	m.ensure(def)
	def.Properties = append(def.Properties, mirror.PropertyDef{Name: "late", Type: "string"})
	m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, IgnoreNew: true})
	if table := m.ensure(def); len(table.Columns) != 6 {
		t.Errorf("%d columns", len(table.Columns))
	}
}

func TestWhatIsAlreadyThereIsLeftAlone(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.exec("create table hubspot.contacts (mine text)")
	m.exec("create table hubspot.owners (mine text)")
	m.exec("create view hubspot.contacts_companies as select 1 as mine")
	var conflict *mirror.ConflictError
	_, _, err := m.mapper.EnsureObject(t.Context(), m.pool, contacts())
	if !errors.As(err, &conflict) || conflict.Name != "table hubspot.contacts" || !strings.Contains(conflict.Hint, "schema") {
		t.Errorf("got %v", err)
	}
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); !errors.As(err, &conflict) || conflict.Name != "table hubspot.owners" {
		t.Errorf("got %v", err)
	}
	m.exec("drop table hubspot.contacts")
	if _, _, err := m.mapper.EnsurePair(t.Context(), m.pool, m.ensure(contacts()), m.ensure(companies())); !errors.As(err, &conflict) {
		t.Errorf("got %v", err)
	}
	other := mirror.NewMapper(mirror.MapperConfig{PortalID: portal + 1})
	if err := other.EnsureAccount(t.Context(), m.pool); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "4711") {
		t.Errorf("got %v", err)
	}
	moved := mirror.NewMapper(mirror.MapperConfig{PortalID: portal, Schema: "elsewhere"})
	if err := moved.EnsureAccount(t.Context(), m.pool); !errors.As(err, &conflict) || !strings.Contains(conflict.Hint, "hubspot") {
		t.Errorf("got %v", err)
	}
	if err := mirror.NewMapper(mirror.MapperConfig{PortalID: portal + 1, Schema: "elsewhere"}).EnsureAccount(t.Context(), m.pool); err != nil {
		t.Errorf("a second account in its own schema: %v", err)
	}
}

func TestTablesOfCustomObjectsGiveWay(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	def.ObjectType, def.Name, def.Custom = "2-7", "Owners", true
	if table := m.ensure(def); table.Name != "custom_owners" {
		t.Errorf("table is %s", table.Name)
	}
	def.Name = "renamed" // the name was locked when it was given
	if table := m.ensure(def); table.Name != "custom_owners" {
		t.Errorf("table is %s", table.Name)
	}
	if err := m.mapper.EnsureLookups(t.Context(), m.pool); err != nil {
		t.Error(err)
	}
}

func TestTwoMappersMakeOneTable(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			_, _, err := m.mapper.EnsureObject(t.Context(), m.pool, contacts())
			if err == nil {
				err = m.mapper.EnsureLookups(t.Context(), m.pool)
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAddingAColumnDoesNotBlockReadersForLong(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	m.ensure(def)
	m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, LockTimeout: 50 * time.Millisecond})
	old, err := m.pool.Begin(t.Context()) // a reader that stays in its transaction
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := old.Exec(t.Context(), "select from hubspot.contacts"); err != nil {
		t.Fatal(err)
	}
	def.Properties = append(def.Properties, mirror.PropertyDef{Name: "late", Type: "string"})
	done := make(chan error, 1)
	go func() {
		_, _, err := m.mapper.EnsureObject(t.Context(), m.pool, def)
		done <- err
	}()
	for waiting := "0"; waiting == "0"; { // the ALTER TABLE queues up
		waiting = m.text("select count(*) from pg_locks where relation = 'hubspot.contacts'::regclass and not granted")
	}
	began := time.Now()
	m.text("select count(*) from hubspot.contacts") // and a new reader behind it
	if waited := time.Since(began); waited > 5*time.Second {
		t.Errorf("a reader waited %s", waited)
	}
	select {
	case err := <-done:
		t.Fatalf("altered under a reader: %v", err)
	default:
	}
	if err := old.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("not tried again: %v", err)
	}
}

func TestPropertiesThatDoNotFitOverflow(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	for i := range mirror.MaxColumns + 20 {
		def.Properties = append(def.Properties, mirror.PropertyDef{Name: fmt.Sprintf("p%04d", i), Type: "number", Hidden: i%100 == 0})
	}
	table := m.ensure(def)
	var over []string
	for _, c := range table.Columns {
		if c.Overflow {
			over = append(over, c.Name)
		}
	}
	if len(over) != 26 || !slices.Contains(over, "p0000") || !slices.Contains(over, "p1500") || slices.Contains(over, "p1001") {
		t.Errorf("%d columns overflow: %v", len(over), over)
	}
	values := make([][]byte, len(table.Columns))
	for i, c := range table.Columns {
		if c.Property == "p0000" || c.Property == "p1001" {
			values[i] = []byte("7.50")
		}
	}
	m.put(table, at(1), mirror.Row{ID: 1, UpdatedAt: at(0), Values: values})
	if got := m.text("select jsonb_build_array(p1001, _overflow) from hubspot.contacts"); got != `[7.50, {"p0000": 7.50}]` {
		t.Errorf("got %s", got)
	}
	if list := m.log(0); len(list) != 1 || len(list[0].Changed) != 2 {
		t.Errorf("log: %+v", list)
	}
}

// TestARowWithEveryPropertySetFitsAfterNarrow stores 2,000 properties of the most awkward length: what Postgres can
// neither leave in the row nor move out of it.
func TestARowWithEveryPropertySetFitsAfterNarrow(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	def.Properties = nil
	kinds := []string{"string", "string", "datetime", "string", "number", "date", "bool"}
	for i := range 2000 {
		def.Properties = append(def.Properties, mirror.PropertyDef{Name: fmt.Sprintf("p%04d", i), Type: kinds[i%len(kinds)]})
	}
	table := m.ensure(def)
	record := func(id int64, table *catalog.Table, n int) mirror.Row {
		r := mirror.Row{ID: id, UpdatedAt: at(n), Values: make([][]byte, len(table.Columns))}
		for i, c := range table.Columns {
			if number := c.Property[1:]; number < fmt.Sprintf("%04d", n) {
				r.Values[i] = []byte(map[catalog.Kind]string{
					catalog.Text: "exactly 20 bytes " + number[1:], catalog.Timestamp: "2026-01-02T03:04:05.678Z",
					catalog.Numeric: "0.20000000000000001110", catalog.Date: "2026-01-02", catalog.Bool: "true",
				}[c.Kind])
			}
		}
		return r
	}
	m.put(table, at(1), record(1, table, 300)) // a few are set: everything has its column
	before := m.tableRows("contacts")
	var wide *mirror.WideRowError
	err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
		_, err := m.applier.Upsert(t.Context(), tx, &mirror.Batch{
			Table: table, Columns: table.Readable(), ReadAt: at(2),
			Rows: []mirror.Row{record(2, table, 2000)}, Source: changes.Follow,
		})
		return err
	})
	if !errors.As(err, &wide) || wide.Table.Name != "contacts" {
		t.Fatalf("got %v, want a WideRowError", err)
	}
	stale := table
	table, err = m.mapper.Narrow(t.Context(), m.pool, wide.Table)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.tableRows("contacts")); diff != "" {
		t.Errorf("values changed on the way: %s", diff)
	}
	for _, c := range table.Columns {
		if c.Overflow && c.Property < "p0300" {
			t.Errorf("%s is used and was moved before the unused ones", c.Name)
			break
		}
	}
	m.put(table, at(2), record(2, table, 2000), record(1, table, 1999))
	rows := m.tableRows("contacts")
	if len(rows[2]) != 2001 || len(rows[1]) != 2000 {
		t.Errorf("stored %d and %d values", len(rows[2])-1, len(rows[1])-1)
	}
	replayed, err := replay(m.log(0), "contacts")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, replayed); diff != "" {
		t.Errorf("log is not the table: %.500s", diff)
	}
	if again, err := m.mapper.Narrow(t.Context(), m.pool, stale); err != nil || again.Version != table.Version {
		t.Errorf("a second process narrowed again: %v", err)
	}
}

func TestGroupRolesReadAndPublicDoesNot(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	roles := func() mirror.Roles {
		t.Helper()
		report, err := m.mapper.EnsureRoles(t.Context(), m.pool)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := roles(); report.Reader || report.Writer || !strings.Contains(report.Skipped, "create role "+mirror.ReaderRole) {
		t.Errorf("without the right to make roles: %+v", report)
	}
	admin := m.db.AdminConn(t)
	for _, role := range []string{mirror.ReaderRole, mirror.WriterRole} {
		if _, err := admin.Exec(t.Context(), "create role "+role); err != nil {
			t.Fatal(err)
		}
	}
	if report := roles(); !report.Reader || !report.Writer || report.Skipped != "" {
		t.Errorf("with the roles there: %+v", report)
	}
	m.ensure(contacts())
	for check, want := range map[string]string{
		"has_schema_privilege('public', 'hubspot', 'usage')":                  "false",
		"has_table_privilege('public', 'hubspot.contacts', 'select')":         "false",
		"has_table_privilege('public', 'hubpg.changes', 'select')":            "false",
		"has_table_privilege('hubspot_reader', 'hubspot.contacts', 'select')": "true",
		"has_table_privilege('hubspot_writer', 'hubspot.contacts', 'select')": "true",
		"has_table_privilege('hubspot_reader', 'hubspot.contacts', 'insert')": "false",
		"has_table_privilege('hubspot_reader', 'hubpg.changes', 'select')":    "true",
		"has_table_privilege('hubspot_reader', 'hubpg.status', 'select')":     "true",
		"has_table_privilege('hubspot_reader', 'hubpg.cursors', 'select')":    "false",
		"has_schema_privilege('hubspot_reader', 'hubspot', 'create')":         "false",
		"has_schema_privilege('hubspot_reader', 'hubpg', 'usage')":            "true",
		// pg_dump reads where the identities stand.
		"has_sequence_privilege('hubspot_reader', pg_get_serial_sequence('hubspot.contacts', 'id'), 'select')": "true",
		"has_sequence_privilege('hubspot_reader', pg_get_serial_sequence('hubspot.contacts', 'id'), 'usage')":  "false",
	} {
		if got := m.text("select " + check); got != want {
			t.Errorf("%s is %s", check, got)
		}
	}
}

func TestChangeLogIsPartitionedByDayAndForgets(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.put(m.ensure(contacts()), at(1), row(1, at(0), "a", nil, nil, nil, nil, nil)) // into the default partition
	m.exec("insert into hubpg.changes (seq, at, schema_name, table_name, op, source) values (0, now() - interval '30 days', 'hubspot', 'old', 'insert', 'follow')")
	for range 2 {
		if err := mirror.MaintainChangeLog(t.Context(), m.pool, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.text("select count(*) from hubpg.changes_default"); got != "0" {
		t.Errorf("default partition has %s rows", got)
	}
	if list := m.log(0); len(list) != 1 {
		t.Errorf("log: %+v", list)
	}
	if got := m.text("select count(*) from pg_inherits where inhparent = 'hubpg.changes'::regclass"); got != "9" {
		t.Errorf("%s partitions", got)
	}
	today := time.Now().UTC().Format("20060102")
	if got := m.text("select count(*) from hubpg.changes_" + today); got != "1" {
		t.Errorf("%s rows of today", got)
	}
	old := "changes_" + time.Now().UTC().AddDate(0, 0, -20).Format("20060102")
	m.exec("create table hubpg." + old + " partition of hubpg.changes for values from ('" +
		time.Now().UTC().AddDate(0, 0, -20).Format(time.DateOnly) + "Z') to ('" + time.Now().UTC().AddDate(0, 0, -19).Format(time.DateOnly) + "Z')")
	if err := mirror.MaintainChangeLog(t.Context(), m.pool, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := m.text("select to_regclass('hubpg." + old + "')"); got != "<null>" {
		t.Error("an old partition stays")
	}
	if _, err := changes.Read(t.Context(), m.pool, 0, 10); err != nil {
		t.Error(err)
	}
}

// TestIDsAreAnIdentityAlsoOfTablesMadeBefore holds that what reads the catalogs learns that ids need not be given.
func TestIDsAreAnIdentityAlsoOfTablesMadeBefore(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	m.ensure(contacts())
	const said = "select is_identity || ' ' || identity_generation from information_schema.columns where table_schema = 'hubspot' and table_name = 'contacts' and column_name = 'id'"
	if got := m.text(said); got != "YES BY DEFAULT" {
		t.Errorf("a new table: %s", got)
	}
	if _, err := m.pool.Exec(t.Context(), "alter table hubspot.contacts alter id drop identity"); err != nil {
		t.Fatal(err)
	}
	m.ensure(contacts())
	if got := m.text(said); got != "YES BY DEFAULT" {
		t.Errorf("one made before: %s", got)
	}
}
