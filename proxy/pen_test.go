package proxy

import (
	"testing"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// reads are messages that claims must cost next to nothing for.
func reads() map[string][]byte {
	return map[string][]byte{
		"query":               pgwire.AppendQuery(nil, "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"),
		"parse":               pgwire.AppendParse(nil, "", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"),
		"of a mirrored table": pgwire.AppendQuery(nil, "select * from hubspot.contacts where email = 'a'"),
		"write of one's own":  pgwire.AppendQuery(nil, "update pgbench_accounts set abalance = 1 where aid = 12345"),
	}
}

func watchedPen() *pen {
	s := newScope([]string{"hubspot"})
	for _, name := range []string{"contacts", "companies", "deals", "deals_contacts"} {
		s.addTable(sqlstmt.Name{Schema: "hubspot", Name: name})
	}
	s.build()
	w := &watch{}
	w.current.Store(s)
	return &pen{watch: w, writer: struct{ Writer }{}} // without one a pen claims nothing
}

func TestReadsCostNoAllocation(t *testing.T) {
	p := watchedPen()
	if !p.claims(pgwire.AppendQuery(nil, "update contacts set email = 'a'")) {
		t.Fatal("a write was not claimed")
	}
	for name, message := range reads() {
		allocated := testing.AllocsPerRun(100, func() {
			if p.claims(message) {
				t.Fatalf("%s was claimed", name)
			}
		})
		if allocated != 0 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func BenchmarkClaims(b *testing.B) {
	p := watchedPen()
	for name, message := range reads() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p.claims(message) {
					b.Fatal("claimed")
				}
			}
		})
	}
}
