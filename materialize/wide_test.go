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

// Records of a type with too many properties for a URL are read by id in the first filling. Those about which HubSpot says
// nothing come all the same, without a sweep.
func TestAnEmptyReadLeavesNothingOutOfTheFirstFilling(t *testing.T) {
	t.Parallel()
	const properties, records = 400, 5
	w := newWorld(t, sandbox.Config{Contacts: 10})
	def := sandbox.SchemaDef{Name: "wide", SingularLabel: "Wide", PluralLabel: "Wides", PrimaryDisplayProperty: "p_0"}
	for i := range properties {
		name := "p_0"
		if i > 0 {
			name = fmt.Sprint(strings.Repeat("long_", 8), i)
		}
		def.Properties = append(def.Properties, sandbox.PropertyDef{Name: name, Label: name, Type: "string", FieldType: "text"})
	}
	typeID, err := w.hub.AddObjectType(def)
	w.must(err)
	for i := range records {
		_, err := w.hub.Create(typeID, map[string]string{"p_0": fmt.Sprint(i)})
		w.must(err)
	}
	w.must(w.hub.StampAll(typeID, records, time.Now().Add(-time.Hour))) // for the index to have nothing new
	w.hub.InjectFault(sandbox.Fault{Kind: sandbox.FaultSilence, Path: "/objects/([^/]+/)?" + typeID + "/batch/read$", Count: 1})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"wide"}
	w.start(cfg)
	w.awaitLive(2*time.Minute, "wide")
	eventually(t, 60*time.Second, func() string {
		if n := w.count(`select count(*) from hubspot.wide where p_0 is not null`); n != records {
			return fmt.Sprintf("%d rows of %d", n, records)
		}
		return ""
	})
}
