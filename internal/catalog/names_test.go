package catalog_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hubpg/internal/catalog"
)

func TestColumnNamesStayCloseToTheProperty(t *testing.T) {
	t.Parallel()
	names := catalog.NewColumnNames()
	for _, test := range []struct{ property, want string }{
		{"email", "email"},
		{"Email", "email_"},
		{"EMAIL", "email__2"},
		{"VIN", "vin"},
		{"id", "id_"},
		{"created_at", "created_at_"},
		{"_unparsed", "_unparsed_"},
		{"ctid", "ctid_"},
		{"order", "order_"},
		{"user", "user_"},
		{"order_", "order__"},
		{"2nd line", "_2nd_line"},
		{"größe", "größe"},
		{"a-b", "a_b"},
		{"a.b", "a_b_"},
		{"", "_"},
	} {
		if got := names.Column(test.property); got != test.want {
			t.Errorf("%q: got %q, want %q", test.property, got, test.want)
		}
	}
}

func TestNamesAreUniqueAndFit(t *testing.T) {
	t.Parallel()
	plain := regexp.MustCompile(`^[\p{L}_][\p{L}0-9_]*$`)
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.SampledFrom([]string{"", "x", strings.Repeat("long_", 12), strings.Repeat("ü", 31)}).Draw(t, "head")
		properties := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			return head + rapid.StringMatching(`[aA_\- ]{0,4}`).Draw(t, "tail")
		}), 1, 40).Draw(t, "properties")
		names := catalog.NewColumnNames()
		seen := map[string]bool{"id": true, "created_at": true, "updated_at": true, "_unparsed": true, "_overflow": true, "_read_at": true, "xmin": true}
		for _, p := range properties {
			name := names.Column(p)
			if len(name) > catalog.MaxName || !plain.MatchString(name) || name != strings.ToLower(name) {
				t.Fatalf("%q became %q", p, name)
			}
			if seen[name] {
				t.Fatalf("%q was given twice", name)
			}
			seen[name] = true
		}
	})
}

func TestLongNamesKeepTheirHeadAndDiffer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("abcdefghij", 10)
	names := catalog.NewColumnNames()
	one, two := names.Column(long+"1"), names.Column(long+"2")
	if one == two || !strings.HasPrefix(one, long[:50]) || len(one) != catalog.MaxName {
		t.Errorf("got %q and %q", one, two)
	}
}

func TestCustomObjectsGiveWay(t *testing.T) {
	t.Parallel()
	names := catalog.NewTableNames()
	if got := names.Table("contacts", false); got != "contacts" {
		t.Errorf("contacts became %q", got)
	}
	for _, test := range []struct{ name, want string }{
		{"cars", "cars"},
		{"Contacts", "custom_contacts"},
		{"contacts", "custom_contacts_2"},
		{"owners", "custom_owners"},
		{"merges", "custom_merges"},
		{"deals", "custom_deals"},
		{"contacts_companies", "custom_contacts_companies"},
		{"Cars", "custom_cars"},
		{"table", "custom_table"},
	} {
		if got := names.Table(test.name, true); got != test.want {
			t.Errorf("%q: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestPairsAreNamedInCatalogOrder(t *testing.T) {
	t.Parallel()
	table := func(name, singular, objectType string) *catalog.Table {
		return &catalog.Table{Schema: "hubspot", Name: name, Singular: singular, ObjectType: objectType}
	}
	contacts, companies := table("contacts", "contact", "0-1"), table("companies", "company", "0-2")
	deals, tickets := table("deals", "deal", "0-3"), table("tickets", "ticket", "0-5")
	lines, notes := table("line_items", "line_item", "0-8"), table("notes", "note", "0-46")
	cars, boats := table("cars", "car", "2-99"), table("boats", "boat", "2-100")
	for _, test := range []struct {
		x, y *catalog.Table
		want string
	}{
		{companies, contacts, "contacts_companies"},
		{contacts, deals, "deals_contacts"},
		{companies, deals, "deals_companies"},
		{contacts, tickets, "tickets_contacts"},
		{deals, tickets, "tickets_deals"},
		{deals, lines, "line_items_deals"},
		{contacts, notes, "notes_contacts"},
		{cars, contacts, "contacts_cars"},
		{boats, cars, "cars_boats"},
		{companies, companies, "companies_companies"},
	} {
		for _, p := range []*catalog.Pair{catalog.NewPair(test.x, test.y), catalog.NewPair(test.y, test.x)} {
			if p.Name != test.want {
				t.Errorf("got %s, want %s", p.Name, test.want)
			}
			if p.ColumnA() == p.ColumnB() {
				t.Errorf("%s has column %s twice", p.Name, p.ColumnA())
			}
		}
	}
	if p := catalog.NewPair(companies, companies); p.ColumnA() != "company_id" || p.ColumnB() != "to_company_id" {
		t.Errorf("got columns %s and %s", p.ColumnA(), p.ColumnB())
	}
}
