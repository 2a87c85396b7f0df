package materialize_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// More properties than a table can have columns, with more text in each record than a page of a table can hold.
func TestTwoThousandPropertiesWithAllValuesSet(t *testing.T) {
	t.Parallel()
	const properties, records = 2000, 30
	w := newWorld(t, sandbox.Config{Contacts: 10})
	def := sandbox.SchemaDef{Name: "wide", SingularLabel: "Wide", PluralLabel: "Wides", PrimaryDisplayProperty: "p_0"}
	for i := range properties {
		def.Properties = append(def.Properties, sandbox.PropertyDef{
			Name: fmt.Sprint("p_", i), Label: fmt.Sprint("Property ", i), Type: "string", FieldType: "text",
		})
	}
	typeID, err := w.hub.AddObjectType(def)
	w.must(err)
	values := func(record int) map[string]string {
		props := map[string]string{}
		for i := range properties {
			props[fmt.Sprint("p_", i)] = fmt.Sprint(strings.Repeat("wide ", 8), i, " ", record)
		}
		return props
	}
	var last int64
	for i := range records {
		last, err = w.hub.Create(typeID, values(i))
		w.must(err)
	}
	cfg := w.config()
	cfg.Objects = []string{"wide"}
	w.start(cfg)
	w.awaitLive(5*time.Minute, "wide")
	same := func() {
		t.Helper()
		eventually(t, 30*time.Second, func() string {
			n := w.count(`
select count(*)
from hubspot.wide t
cross join lateral jsonb_each_text((to_jsonb(t) - '_overflow') || t._overflow) v
where v.key like 'p\_%' and v.value like repeat('wide ', 8) || substr(v.key, 3) || ' %'`)
			if n != properties*records {
				return fmt.Sprintf("%d values of %d", n, properties*records)
			}
			return ""
		})
	}
	same()
	w.must(w.hub.Update(typeID, last, values(records)))
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.changes where op = 'update' and cardinality(changed) = $1`, properties); n != 1 {
			return fmt.Sprintf("%d events with all columns", n)
		}
		return ""
	})
	same()
	if n := w.count(`select count(*) from hubpg.columns where placement = 'overflow'`); n < properties-1500 {
		t.Errorf("%d columns in _overflow", n)
	}
}
