package materialize_test

import (
	"context"
	"testing"
	"time"

	"hubpg/internal/mirror"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// What the user wants of the columns holds while everything goes on.
func TestColumnsAreRenamedExcludedAndIncludedUnderWay(t *testing.T) {
	t.Parallel()
	w, _ := liveContacts(t, sandbox.Config{Contacts: 150}, func(c *materialize.Config) {
		c.Pace.Schema, c.Pace.Archived = 300*time.Millisecond, 300*time.Millisecond
	})
	ctx := context.Background()
	m := mirror.NewMapper(mirror.MapperConfig{PortalID: w.count("select portal_id from hubpg.accounts")})
	change := func(n int) {
		for i := range 10 {
			w.scramble("contacts", n+i)
		}
	}
	w.must(m.RenameColumn(ctx, w.pool, "contacts", "firstname", "given name"))
	w.must(m.Exclude(ctx, w.pool, "contacts", "lastname"))
	change(0)
	w.awaitEqual(30*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.contacts where "given name" like 'changed %'`); n == 0 {
		t.Fatal("nothing arrives in the renamed column")
	}
	w.must(m.Include(ctx, w.pool, "contacts", "lastname"))
	change(10)
	eventually(t, 30*time.Second, func() string {
		if n := w.count(`select count(*) from hubpg.columns where property = 'lastname' and filled_at is not null`); n != 1 {
			return "the included column is not filled"
		}
		return ""
	})
	w.awaitEqual(30*time.Second, "contacts")
	if n := w.count(`select count(*) from hubspot.contacts where lastname is not null`); n < 100 {
		t.Fatalf("%d rows have the included property", n)
	}
}
