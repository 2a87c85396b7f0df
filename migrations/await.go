package migrations

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// awaitEvery is how often [Await] looks.
const awaitEvery = time.Second

// Await returns once schema hubpg is at the version of this binary or a newer one. It is for a process that leaves [Up]
// to others. If it has to wait it first calls waiting, once, with what is missing.
func Await(ctx context.Context, pool *pgxpool.Pool, waiting func(missing string)) error {
	numbered, err := fs.Glob(files, "*.sql")
	if err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	for told := false; ; {
		current, err := versionOf(ctx, pool)
		if err != nil {
			return err
		}
		if current >= len(numbered) {
			return nil
		}
		if !told {
			told = true
			missing := "this database holds no hubpg schema"
			if current > 0 {
				missing = fmt.Sprintf("schema hubpg is at version %d, this binary needs %d", current, len(numbered))
			}
			waiting(missing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(awaitEvery):
		}
	}
}

// versionOf reads the version that schema hubpg is at, 0 where there is none.
func versionOf(ctx context.Context, pool *pgxpool.Pool) (version int, err error) {
	err = pool.QueryRow(ctx, "select version from "+versionTable).Scan(&version)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000") { // undefined_table, invalid_schema_name
		return 0, nil
	}
	if err != nil {
		return 0, explain("read "+versionTable, err)
	}
	return version, nil
}
