package sqlstmt_test

import (
	"fmt"
	"strings"
	"testing"

	"hubpg/internal/sqlstmt"

	"github.com/google/go-cmp/cmp"
)

func TestReadsNamesTheTablesOfQueriesAndChanges(t *testing.T) {
	t.Parallel()
	type names = []sqlstmt.Name
	for text, want := range map[string]sqlstmt.Reading{
		"select 1":                     {},
		"select * from contacts":       {Tables: names{{"", "contacts"}}},
		`select contacts from "Odd".x`: {Tables: names{{"Odd", "x"}}},
		"select d.id from hubspot.deals d join deals_contacts dc on dc.deal_id = d.id where exists (select from owners)": {
			Tables: names{{"", "deals_contacts"}, {"", "owners"}, {"hubspot", "deals"}},
		},
		"with n as (select id from tickets) select * from n, n b": {Tables: names{{"", "n"}, {"", "tickets"}}},
		"update mine set a = c.b from contacts c":                 {Tables: names{{"", "contacts"}, {"", "mine"}}},
		"insert into mine select id from contacts":                {Tables: names{{"", "contacts"}, {"", "mine"}}},
		"copy (select * from deals) to stdout":                    {Tables: names{{"", "deals"}}},
		"copy deals to stdout":                                    {Tables: names{{"", "deals"}}},
		"create table t as select * from deals":                   {Tables: names{{"", "deals"}}},
		"declare c cursor for select * from deals":                {Tables: names{{"", "deals"}}},
		"explain analyze select * from deals":                     {Tables: names{{"", "deals"}}},
		"prepare p as select * from deals":                        {Tables: names{{"", "deals"}}, Prepares: []string{"p"}},
		"execute p(1); execute q":                                 {Executes: []string{"p", "q"}},
		"vacuum deals":                                            {},
		"alter table deals add x int; set a.b = 'deals'":          {},
		"table deals":                  {Tables: names{{"", "deals"}}},
		"selec * from hubspot.deals x": {Tables: names{{"", "from"}, {"", "hubspot"}, {"", "selec"}, {"", "x"}, {"hubspot", "deals"}}},
	} {
		if diff := cmp.Diff(want, sqlstmt.Reads(text)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", text, diff)
		}
	}
}

func TestReadsOfATextBeyondTheParserNamesEverything(t *testing.T) {
	t.Parallel()
	text := "select " + strings.Repeat("(", sqlstmt.MaxDepth+1) + "1" + strings.Repeat(")", sqlstmt.MaxDepth+1) + " from hubspot.deals"
	want := []sqlstmt.Name{{Name: "from"}, {Name: "hubspot"}, {Name: "select"}, {Schema: "hubspot", Name: "deals"}}
	if diff := cmp.Diff(want, sqlstmt.Reads(text).Tables); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestHoldsFindsAWordInAnyCase(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"":                                    false,
		"max_staleness":                       true,
		"set hubpg.MAX_Staleness = '5s'":      true,
		"set hubpg.max_stalenes":              false,
		"_max_staleness_":                     true,
		"select max_stale, a_b from _x":       false,
		"x_staleness":                         false,
		"select set_config('hubpg.max_stale'": false,
	} {
		if got := sqlstmt.Holds([]byte(text), "max_staleness"); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestIdentifiersSplitsASearchPath(t *testing.T) {
	t.Parallel()
	got := sqlstmt.Identifiers(`"$user", public,"a "", b" , Odd`)
	if diff := cmp.Diff([]string{"$user", "public", `a ", b`, "odd"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzReads(f *testing.F) {
	for _, text := range []string{"select * from a.b", "with x as (select 1) table x", "execute p", "copy t from stdin", "\x00\"", "U&\"x\".y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if diff := cmp.Diff(sqlstmt.Reads(text), sqlstmt.Reads(text)); diff != "" {
			t.Errorf("%q: two answers: %s", text, diff)
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	text := []byte("select id, email, firstname, lastname, hs_object_id from hubspot.contacts where lifecyclestage = $1 and hs_lead_status = $2")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if sqlstmt.Holds(text, "max_staleness") {
			b.Fatal("found")
		}
	}
}

func TestReadsKeepsAFewNamesOfALongText(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for n := range 20_000 {
		fmt.Fprintf(&text, "select * from t%d; ", n)
	}
	got := sqlstmt.Reads(text.String())
	if !got.Beyond || len(got.Tables) != 10_000 {
		t.Errorf("%d names, beyond: %v", len(got.Tables), got.Beyond)
	}
}
