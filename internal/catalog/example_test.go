package catalog_test

import (
	"fmt"

	"hubpg/internal/catalog"
)

func ExampleKind_AppendText() {
	kind := catalog.KindOf("datetime", "date")
	for _, raw := range []string{"2024-10-28T16:39:01.173Z", "1762212973632", "next week"} {
		text, ok := kind.AppendText(nil, []byte(raw))
		fmt.Printf("%s %q %v\n", kind, text, ok)
	}
	// Output:
	// timestamptz "2024-10-28T16:39:01.173Z" true
	// timestamptz "2025-11-03T23:36:13.632Z" true
	// timestamptz "" false
}

func ExampleNewPair() {
	companies := &catalog.Table{Name: "companies", Singular: "company", ObjectType: "0-2"}
	contacts := &catalog.Table{Name: "contacts", Singular: "contact", ObjectType: "0-1"}
	p := catalog.NewPair(companies, contacts)
	fmt.Println(p.Name, p.ColumnA(), p.ColumnB())
	// Output: contacts_companies contact_id company_id
}
