package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A portal that writes is what it was bound to, as long as Postgres has it.
func TestAPortalIsWhatItWasBoundTo(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("portal@example.com")
	set := func(name string) string {
		return fmt.Sprintf("update hubspot.contacts set firstname = '%s' where id = %d", name, id)
	}
	none := &pgproto3.Describe{ObjectType: 'S', Name: "none"} // fails
	const was = "before"
	for name, p := range map[string]struct {
		script []pgproto3.FrontendMessage
		code   string // of the only error; "" is none
	}{
		"replaced": {[]pgproto3.FrontendMessage{parse(set("A")), bind, parse(set("B")), execute, sync1}, ""},
		"closed":   {[]pgproto3.FrontendMessage{parse(set("A")), bind, &pgproto3.Close{ObjectType: 'S'}, execute, sync1}, ""},
		"with types": {[]pgproto3.FrontendMessage{
			&pgproto3.Parse{Query: strings.Replace(set("A"), "'A'", "case $1 when 7 then 'A' end", 1), ParameterOIDs: []uint32{20}},
			&pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 0, 0, 0, 0, 7}}}, parse(set("B")), execute, sync1,
		}, ""},
		"in a block": {[]pgproto3.FrontendMessage{query("begin"), parse(set("A")), bind, sync1, execute, sync1, query("commit")}, ""},
		"of a statement that a query has ended": {[]pgproto3.FrontendMessage{
			query("begin"), parse(set("A")), &pgproto3.Bind{DestinationPortal: "p"}, sync1, query("select 1"), &pgproto3.Execute{Portal: "p"}, sync1, query("commit"),
		}, ""},
		"over with its transaction": {[]pgproto3.FrontendMessage{parse(set("B")), bind, sync1, execute, sync1}, "34000"},
		"over with a savepoint": {[]pgproto3.FrontendMessage{
			query("begin"), query("savepoint a"), parse(set("B")), bind, sync1, query("rollback to a"), execute, sync1, query("rollback"),
		}, "34000"},
		"in a block that has failed": {[]pgproto3.FrontendMessage{
			query("begin"), parse(set("B")), bind, sync1, none, sync1, execute, sync1, query("rollback"),
		}, "25P02"},
		"never bound": {[]pgproto3.FrontendMessage{none, parse(set("B")), bind, sync1, execute, sync1}, "34000"},
		"made by prepare and replaced": {[]pgproto3.FrontendMessage{
			query("prepare p as " + set("B")), &pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Close{ObjectType: 'S', Name: "p"},
			&pgproto3.Parse{Name: "p", Query: set("C")}, execute, sync1,
		}, "0A000"},
	} {
		for _, pieces := range []*rand.Rand{nil, rand.New(rand.NewPCG(1, 1))} {
			exec(t, c.session(nil), set(was))
			lines, ended := discuss(t, c.server.Addr().String(), c.db.Name, append(slices.Clip(p.script), query(theEnd)), pieces)
			want := "A"
			if p.code != "" {
				want = was
			}
			all := strings.Join(lines, "\n")
			if got := c.hubspot("contacts", id, "firstname"); got != want || !ended || !strings.Contains(all, "C"+p.code) {
				t.Errorf("%s: HubSpot has %q, want %q; answers:\n%s", name, got, want, all)
			}
			for _, line := range lines {
				if strings.HasPrefix(line, `"ES`) && (p.code == "" || !strings.Contains(line, "C"+p.code) && !strings.Contains(line, "C26000")) {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
	}
	c.agree("contacts", "firstname")
}
