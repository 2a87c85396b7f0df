package mirror_test

import (
	"testing"

	"hubpg/internal/mirror"
)

// TestNoChangeOfTheSchemaRewritesATable: whatever HubSpot or the user changes, the table keeps its file. A rewrite would hold
// everybody off for as long as it takes, and a large table is never small enough for that.
func TestNoChangeOfTheSchemaRewritesATable(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	table := m.ensure(def)
	m.put(table, at(0), row(1, at(0), "a@example.com", "1", "true", "2026-01-02", "", "a;b"))
	file := func() string { return m.text("select pg_relation_filenode('hubspot.contacts')::text") }
	before := file()
	ctx := t.Context()
	ensure := func() error {
		_, _, err := m.mapper.EnsureObject(ctx, m.pool, def)
		return err
	}
	property := def.Properties[len(def.Properties)-1]
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"a property is added", func() error {
			def.Properties = append(def.Properties, mirror.PropertyDef{Name: "late", Type: "datetime"}, mirror.PropertyDef{Name: "more", Type: "enumeration", FieldType: "checkbox"})
			return ensure()
		}},
		{"a property is archived", func() error { def.Properties[len(def.Properties)-1].Archived = true; return ensure() }},
		{"a property is restored", func() error { def.Properties[len(def.Properties)-1].Archived = false; return ensure() }},
		{"a property is relabelled and retyped", func() error {
			def.Properties[len(def.Properties)-1].Label, def.Properties[len(def.Properties)-1].Type = "Other", "number"
			return ensure()
		}},
		{"the type is relabelled", func() error { def.Label = "People"; return ensure() }},
		{"a column is renamed", func() error { return m.mapper.RenameColumn(ctx, m.pool, "contacts", "late", "later") }},
		{"a column is excluded", func() error { return m.mapper.Exclude(ctx, m.pool, "contacts", property.Name) }},
		{"a column is included", func() error { return m.mapper.Include(ctx, m.pool, "contacts", property.Name) }},
		{"deletes become soft", func() error {
			m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, SoftDeletes: true})
			return ensure()
		}},
		{"deletes become hard", func() error {
			m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal})
			return ensure()
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if after := file(); after != before {
			t.Errorf("%s: the table has another file", step.what)
			before = after
		}
	}
	if got := m.text("select email from hubspot.contacts"); got != "a@example.com" {
		t.Errorf("the row has become %q", got)
	}
}

// TestPropertiesThatDifferByCaseKeepTheirValues: HubSpot's names are lower case as a rule, and not always.
func TestPropertiesThatDifferByCaseKeepTheirValues(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	def.Properties = []mirror.PropertyDef{{Name: "VIN", Type: "string"}, {Name: "vin", Type: "string"}, {Name: "Vin", Type: "string"}}
	table := m.ensure(def)
	columns := map[string]string{}
	for _, c := range table.Columns {
		columns[c.Property] = c.Name
	}
	values := make([]any, len(table.Columns))
	for i, c := range table.Columns {
		values[i] = "of " + c.Property
	}
	m.put(table, at(0), row(1, at(0), values...))
	seen := map[string]bool{}
	for property, column := range columns {
		if seen[column] {
			t.Errorf("two properties have the column %s", column)
		}
		seen[column] = true
		if got := m.text(`select "` + column + `" from hubspot.contacts`); got != "of "+property {
			t.Errorf("%s of column %s is %q", property, column, got)
		}
	}
}
