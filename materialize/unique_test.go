package materialize_test

import (
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// TestATableIsNeverCompleteWithoutItsUniqueIndexes looks at tables while they are filled: an app may use ON CONFLICT as
// soon as it is told that a table is complete.
func TestATableIsNeverCompleteWithoutItsUniqueIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 400, Latency: 5 * time.Millisecond})
	err := w.hub.AddProperty("companies", sandbox.PropertyDef{
		Name: "erp_id", Label: "ERP id", Type: "string", FieldType: "text", HasUniqueValue: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies", "deals"}
	w.start(cfg)
	const state = `
select count(*) filter (where o.phase = 'live'),
       count(*) filter (where o.phase = 'live' and not exists (
           select from pg_indexes i
           where i.schemaname = 'hubspot' and i.tablename = o.table_name and i.indexdef like 'CREATE UNIQUE INDEX % (' || want.column_name || ')'))
from (values ('contacts', 'email'), ('companies', 'erp_id')) want (table_name, column_name)
join hubpg.objects o using (table_name)`
	eventually(t, 60*time.Second, func() string {
		var complete, without int
		if err := w.pool.QueryRow(t.Context(), state).Scan(&complete, &without); err != nil {
			t.Fatal(err)
		}
		if without > 0 {
			t.Fatalf("%d of %d complete tables lack their unique index", without, complete)
		}
		if complete < 2 {
			return "the tables are not complete"
		}
		return ""
	})
	if n := w.count("select count(*) from pg_indexes where schemaname = 'hubspot' and tablename = 'contacts' and indexdef like '% (email)'"); n != 1 {
		t.Errorf("email has %d indexes", n)
	}
	w.awaitEqual(30 * time.Second)
}
