package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
)

func TestTheRecipeOfTheREADMEMountsHubSpotInAnotherPostgres(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "### HubSpot in another Postgres")
	_, rest, okBlock := strings.Cut(rest, "```sql\n")
	recipe, _, okEnd := strings.Cut(rest, "```")
	if !ok || !okBlock || !okEnd {
		t.Fatal("the README has no such recipe")
	}
	other := pgtest.New(t).AdminConn(t)
	var there bool
	if err := other.QueryRow(t.Context(), "select exists (select from pg_available_extensions where name = 'postgres_fdw')").Scan(&there); err != nil {
		t.Fatal(err)
	}
	if !there {
		t.Skip("Postgres has no extension postgres_fdw: install its contrib package")
	}

	s := serve(t, sandbox.Config{}, nil)
	proxy, web := s.addresses(t)
	ready(t, web)
	host, port, err := net.SplitHostPort(proxy)
	if err != nil {
		t.Fatal(err)
	}
	through := connect(t, proxied(s.env["HUBPG_DATABASE_URL"], proxy))
	for from, to := range map[string]string{
		"host '127.0.0.1'": fmt.Sprintf("host '%s'", host), "port '6543'": fmt.Sprintf("port '%s'", port),
		"dbname 'hubpg'": fmt.Sprintf("dbname '%s'", through.Config().Database), "user 'hubpg'": fmt.Sprintf("user '%s'", pgtest.Owner),
	} {
		if !strings.Contains(recipe, from) {
			t.Fatalf("the recipe has no %s", from)
		}
		recipe = strings.Replace(recipe, from, to, 1)
	}
	for statement := range strings.SplitSeq(strings.TrimSpace(recipe), ";\n") {
		// The proxy learns of new tables a moment after they are there, and of a unique index likewise.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if _, err = other.Exec(t.Context(), statement); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	gold := 0
	for _, r := range s.account.Snapshot("contacts") {
		if r.Properties["jobtitle"] == "gold customer" {
			gold++
		}
	}
	if gold != 2 {
		t.Errorf("HubSpot has %d gold customers, want 2", gold)
	}
	var foreign int
	if err := other.QueryRow(t.Context(), "select count(*) from information_schema.foreign_tables where foreign_table_schema = 'hubspot'").Scan(&foreign); err != nil || foreign < 50 {
		t.Errorf("%d tables were imported, %v", foreign, err)
	}
}
