package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	// schema is the home of hubpg's own state, and versionTable the place where tern keeps its version.
	schema       = "hubpg"
	versionTable = schema + ".schema_version"
	// lockKey is the session advisory lock under which one process at a time migrates; "hubpg" in ASCII and one.
	lockKey int64 = 0x687562706701
	// oldest is the first server version that hubpg supports.
	oldest = 140000
	// unlockWithin bounds the wait for the unlock after the caller's context has ended.
	unlockWithin = 5 * time.Second
)

//go:embed *.sql
var files embed.FS

// Up brings schema hubpg of conn's database to the version of this binary. When it is there already, it costs a few
// queries. It waits while another process migrates, as long as ctx allows. conn must be a session of its own (not one
// behind a pooler that switches sessions between transactions) and is left with its settings reset.
func Up(ctx context.Context, conn *pgx.Conn) (err error) {
	if err := check(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", lockKey); err != nil {
		return explain("lock schema hubpg", err)
	}
	defer func() {
		unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockWithin)
		defer cancel()
		if _, unlockErr := conn.Exec(unlock, "select pg_advisory_unlock($1)", lockKey); err == nil && unlockErr != nil {
			err = explain("unlock schema hubpg", unlockErr)
		}
	}()
	if err := createSchema(ctx, conn); err != nil {
		return err
	}
	if err := own(ctx, conn); err != nil {
		return err
	}
	return jobs(ctx, conn)
}

// check looks for what would make every step fail, so that the message names the cause and not the first victim.
func check(ctx context.Context, conn *pgx.Conn) error {
	const sql = `
select current_setting('server_version_num')::int,
       current_setting('server_version'),
       pg_is_in_recovery(),
       current_setting('transaction_read_only')::bool,
       current_user,
       current_database()`
	var number int
	var version, user, database string
	var standby, readOnly bool
	if err := conn.QueryRow(ctx, sql).Scan(&number, &version, &standby, &readOnly, &user, &database); err != nil {
		return explain("look at the database", err)
	}
	switch {
	case number < oldest:
		return &SetupError{Problem: fmt.Sprintf("Postgres %s is too old", version), Hint: "use Postgres 14 or newer"}
	case standby:
		return &SetupError{
			Problem: fmt.Sprintf("database %s is a standby and cannot be written", database),
			Hint:    "connect to the primary",
		}
	case readOnly:
		return &SetupError{
			Problem: fmt.Sprintf("database %s is read-only for role %s", database, user),
			Hint:    "connect to the primary, or clear default_transaction_read_only for this role",
		}
	}
	return nil
}

// createSchema makes schema hubpg. It asks for the privilege first because "create schema if not exists" wants it even
// when there is nothing to do.
func createSchema(ctx context.Context, conn *pgx.Conn) error {
	const sql = `
select exists (select from pg_namespace where nspname = $1),
       has_database_privilege(current_database(), 'create'),
       current_user,
       current_database()`
	var exists, may bool
	var user, database string
	if err := conn.QueryRow(ctx, sql, schema).Scan(&exists, &may, &user, &database); err != nil {
		return explain("look for schema hubpg", err)
	}
	switch {
	case exists:
		return nil
	case !may:
		return &SetupError{
			Problem: fmt.Sprintf("role %s may not create schemas in database %s", user, database),
			Hint: fmt.Sprintf("as the owner of the database: grant create on database %s to %s",
				pgx.Identifier{database}.Sanitize(), pgx.Identifier{user}.Sanitize()),
		}
	}
	if _, err := conn.Exec(ctx, "create schema "+schema); err != nil {
		return explain("create schema hubpg", err)
	}
	return nil
}

// own runs hubpg's numbered migrations.
func own(ctx context.Context, conn *pgx.Conn) error {
	migrator, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return explain("prepare "+versionTable, err)
	}
	if err := migrator.LoadMigrations(files); err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	current, err := migrator.GetCurrentVersion(ctx)
	if err != nil {
		return explain("read "+versionTable, err)
	}
	if known := int32(len(migrator.Migrations)); current > known {
		return &SetupError{
			Problem: fmt.Sprintf("schema hubpg is at version %d, this binary knows %d", current, known),
			Hint:    "a newer hubpg has used this database: run that version or a later one",
		}
	}
	if err := migrator.Migrate(ctx); err != nil {
		name := "migrate schema hubpg"
		var failed migrate.MigrationPgError
		if errors.As(err, &failed) && failed.MigrationName != "" {
			name += " by " + failed.MigrationName
		}
		return explain(name, err)
	}
	return nil
}

// jobs runs the job engine's migrations. Each of them needs a transaction of its own, which the engine takes from a
// pool; conn meanwhile keeps the lock.
func jobs(ctx context.Context, conn *pgx.Conn) error {
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		return fmt.Errorf("configure the migration pool: %w", err)
	}
	config.ConnConfig = conn.Config()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("open the migration pool: %w", err)
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool),
		&rivermigrate.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("load the job engine's migrations: %w", err)
	}
	done, err := jobsVersion(ctx, conn)
	if err != nil {
		return explain("read the version of the job engine's tables", err)
	}
	versions := migrator.AllVersions()
	if done == versions[len(versions)-1].Version {
		return nil
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return explain("migrate the job engine's tables", err)
	}
	return nil
}

// jobsVersion returns the newest version of the job engine's tables that is in the database, 0 for none.
func jobsVersion(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regclass('hubpg.river_migration') is not null").Scan(&exists); err != nil || !exists {
		return 0, err
	}
	err = conn.QueryRow(ctx, "select coalesce(max(version), 0) from hubpg.river_migration").Scan(&version)
	return version, err
}
