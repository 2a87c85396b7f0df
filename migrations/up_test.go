package migrations_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestUpMakesTheSchemaAndIsRepeatable(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	for range 2 {
		if err := migrations.Up(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"accounts", "changes", "river_job", "schema_version"} {
		var owner string
		const sql = "select tableowner from pg_tables where schemaname = 'hubpg' and tablename = $1"
		if err := conn.QueryRow(t.Context(), sql, table).Scan(&owner); err != nil {
			t.Errorf("table hubpg.%s: %v", table, err)
		}
		if owner != pgtest.Owner {
			t.Errorf("table hubpg.%s belongs to %s", table, owner)
		}
	}
	var open bool
	if err := conn.QueryRow(t.Context(), "select has_schema_privilege('public', 'hubpg', 'usage')").Scan(&open); err != nil {
		t.Fatal(err)
	}
	if open {
		t.Error("schema hubpg is open to PUBLIC")
	}
}

func TestUpMayRunInSeveralProcessesAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var group errgroup.Group
	for range 4 {
		conn := db.Conn(t)
		group.Go(func() error { return migrations.Up(t.Context(), conn) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := db.Conn(t).QueryRow(t.Context(), "select count(*) from hubpg.change_counter").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != 1 {
		t.Errorf("change_counter has %d rows, want 1", rows)
	}
}

func TestUpWaitsForTheLockOnlyAsLongAsItsContext(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	holder, conn := db.Conn(t), db.Conn(t)
	if _, err := holder.Exec(t.Context(), "select pg_advisory_lock($1)", int64(0x687562706701)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- migrations.Up(ctx, conn) }()
	for waiting := false; !waiting; {
		const sql = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
		if err := holder.QueryRow(t.Context(), sql).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context canceled", err)
	}
}

func TestUpNamesTheNextStep(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare string // as the superuser
		want    []string
	}{
		"read-only database": {
			"alter role " + pgtest.Owner + " in database %db% set default_transaction_read_only = on",
			[]string{"read-only", "primary"},
		},
		"no right to create": {
			"alter database %db% owner to current_user",
			[]string{"may not create schemas", "grant create on database"},
		},
		"schema of a newer version": {
			"create schema hubpg; create table hubpg.schema_version (version int4 primary key); " +
				"insert into hubpg.schema_version values (9999); alter schema hubpg owner to " + pgtest.Owner +
				"; alter table hubpg.schema_version owner to " + pgtest.Owner,
			[]string{"version 9999", "run that version or a later one"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			prepare := strings.ReplaceAll(test.prepare, "%db%", pgx.Identifier{db.Name}.Sanitize())
			if _, err := db.AdminConn(t).Exec(t.Context(), prepare, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			err := migrations.Up(t.Context(), db.Conn(t))
			var setup *migrations.SetupError
			if !errors.As(err, &setup) || setup.Hint == "" {
				t.Fatalf("got %v, want a SetupError with a hint", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// A migration that has landed is history: databases that are past it do not see what it says now.
func TestMigrationsThatHaveLandedStay(t *testing.T) {
	t.Parallel()
	landed, err := os.ReadFile("testdata/landed")
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("*.sql") // in order
	if err != nil {
		t.Fatal(err)
	}
	var now strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&now, "%x  %s\n", sha256.Sum256(text), name)
	}
	if got := now.String(); got != string(landed) {
		t.Errorf("testdata/landed has other migrations (sha256sum *.sql): leave those that are there alone and add one\n%s", got)
	}
}
