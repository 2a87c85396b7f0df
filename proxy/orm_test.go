package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// orm is a program under testdata/drivers that creates, updates, upserts and deletes contacts through an ORM, once for
// each of its ways to speak to Postgres, and prints what it has seen to hold.
type orm struct {
	name string
	part string // of what .ci/drivers installs
	argv []string
	ways []string
	left int // contacts of each way in the end
}

func orms(home string) []orm {
	return []orm{
		{"SQLAlchemy", "python", []string{filepath.Join(home, "python", "bin", "python"), "sqlalchemy_writes.py"}, []string{"psycopg2", "psycopg"}, 5},
		{"Drizzle", "node", []string{"node", "drizzle_writes.cjs"}, []string{"node-postgres", "postgres.js"}, 3},
		{"GORM", "gorm", []string{filepath.Join(home, "gorm", "gorm")}, []string{"extended", "simple"}, 2},
	}
}

func TestORMsWriteToHubSpot(t *testing.T) {
	t.Parallel()
	home := driversHome(t)
	for _, o := range orms(home) {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(filepath.Join(home, o.part, ".installed")); err != nil {
				if os.Getenv("HUBPG_DRIVERS_REQUIRED") != "" {
					t.Fatalf("the ORM is not installed: %v", err)
				}
				t.Skip("the ORM is not installed: run .ci/drivers")
			}
			o.write(t, home)
		})
	}
}

func (o orm) write(t *testing.T, home string) {
	c := newCRM(t, nil)
	c.unique()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	addr := c.server.Addr().(*net.TCPAddr)
	cmd := osexec.CommandContext(ctx, o.argv[0], o.argv[1:]...)
	cmd.Dir = filepath.Join("testdata", "drivers")
	cmd.Env = append(os.Environ(), "PGHOST="+addr.IP.String(), fmt.Sprintf("PGPORT=%d", addr.Port), "PGUSER=app", "PGDATABASE="+c.db.Name,
		"PGPASSWORD=", "PGSSLMODE=disable", "PYTHONDONTWRITEBYTECODE=1", "NODE_PATH="+filepath.Join(home, "node", "node_modules"))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, complaints.String())
	}
	var want, got []string
	for _, way := range o.ways {
		for _, what := range []string{"create", "update", "upsert", "delete"} {
			want = append(want, what+" with "+way)
		}
	}
	for line := range strings.Lines(out.String()) {
		if claim, ok := strings.CutPrefix(strings.TrimSpace(line), "ok "); ok {
			got = append(got, claim)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("claims %q, want %q", got, want)
	}
	// What the programs say is what HubSpot has.
	for _, way := range o.ways {
		left := 0
		for _, r := range c.hub.Snapshot("contacts") {
			local, _, _ := strings.Cut(r.Properties["email"], "@")
			number, own := strings.CutPrefix(local, way+"-orm")
			if r.Archived || !own {
				continue
			}
			left++
			if number == "" && (r.Properties["firstname"] != "Upserted" || r.Properties["lastname"] != "Updated") {
				t.Errorf("%s: HubSpot has %v", way, r.Properties)
			}
			if number != "" && r.Properties["lastname"] != "All" {
				t.Errorf("%s: HubSpot has %v", way, r.Properties)
			}
		}
		if left != o.left {
			t.Errorf("%s: HubSpot has %d contacts, want %d", way, left, o.left)
		}
	}
	c.agree("contacts", "email")
	c.agree("contacts", "firstname")
	c.agree("contacts", "lastname")
}
