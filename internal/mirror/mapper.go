package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// MaxColumns is how many properties of a type get columns of their own. Postgres allows 1,600 columns, which
	// counts hubpg's own and every column that was ever dropped.
	MaxColumns = 1500
	// defaultLockTimeout bounds how long readers wait behind an ALTER TABLE that itself waits for older readers.
	defaultLockTimeout = 500 * time.Millisecond
	// lockAttempts bounds how often an ALTER TABLE is tried before the error is the caller's.
	lockAttempts = 20
	// lockPause is the longest pause between two attempts.
	lockPause = 2 * time.Second
)

// DB is the part of a pgx pool or connection that the mapper needs.
type DB interface {
	Querier
	Begin(ctx context.Context) (pgx.Tx, error)
}

// MapperConfig configures a [Mapper].
type MapperConfig struct {
	PortalID    int64
	Schema      string // the account's schema; "" means hubspot
	TimeZone    string // the account's time zone; "" means UTC
	SoftDeletes bool   // rows of deleted records stay, with archived_at set (deletes: soft)
	IgnoreNew   bool   // properties that appear after the table was made get no column (new_properties: ignore)
	LockTimeout time.Duration
}

// Mapper makes and alters the tables of one account. Every call is safe to repeat and safe to run in two processes.
type Mapper struct {
	c MapperConfig
}

// NewMapper returns a Mapper with the defaults filled in.
func NewMapper(c MapperConfig) *Mapper {
	if c.Schema == "" {
		c.Schema = "hubspot"
	}
	if c.TimeZone == "" {
		c.TimeZone = "UTC"
	}
	if c.LockTimeout <= 0 {
		c.LockTimeout = defaultLockTimeout
	}
	return &Mapper{c: c}
}

// Schema returns the name of the account's schema.
func (m *Mapper) Schema() string { return m.c.Schema }

// ConflictError means that the database already has something under a name that hubpg needs.
type ConflictError struct {
	Name  string // what is there, as the user would write it
	Table string // the table that hubpg would make, if it is one
	Held  string // who holds it
	Hint  string // the next step
}

// Error gives the conflict and the next step in one line.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s already exists and %s (%s)", e.Name, e.Held, e.Hint)
}

// Conflicts takes the [ConflictError]s out of an error that may join several. rest is nil if there was nothing else.
func Conflicts(err error) (list []*ConflictError, rest error) {
	switch e := err.(type) { //nolint:errorlint // it is taken apart here
	case nil:
		return nil, nil
	case *ConflictError:
		return []*ConflictError{e}, nil
	case interface{ Unwrap() []error }:
		var left []error
		for _, part := range e.Unwrap() {
			more, err := Conflicts(part)
			list, left = append(list, more...), append(left, err)
		}
		return list, errors.Join(left...)
	case interface{ Unwrap() error }:
		if list, rest = Conflicts(e.Unwrap()); rest == nil && len(list) > 0 {
			return list, nil
		}
		return list, err
	}
	return nil, err
}

// EnsureAccount registers the account and makes its schema. A schema that belongs to another account is a
// [ConflictError], as is an account that was kept in another schema before.
func (m *Mapper) EnsureAccount(ctx context.Context, db DB) error {
	err := m.locked(ctx, db, "", func(tx pgx.Tx) error {
		var portal int64
		var schema string
		const sql = "select portal_id, schema_name from hubpg.accounts where portal_id = $1 or schema_name = $2 order by portal_id = $1 desc limit 1"
		switch err := tx.QueryRow(ctx, sql, m.c.PortalID, m.c.Schema).Scan(&portal, &schema); {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return err
		case portal != m.c.PortalID:
			return &ConflictError{
				Name: "schema " + m.c.Schema, Held: fmt.Sprintf("holds HubSpot account %d, not %d", portal, m.c.PortalID),
				Hint: "give this account a schema of its own with the setting schema, or check the token",
			}
		case schema != m.c.Schema:
			return &ConflictError{
				Name: fmt.Sprintf("HubSpot account %d", portal), Held: "is kept in schema " + schema + ", not " + m.c.Schema,
				Hint: "set schema back to " + schema,
			}
		}
		if _, err := tx.Exec(ctx, `
insert into hubpg.accounts as a (portal_id, schema_name, time_zone)
values ($1, $2, $3)
on conflict (portal_id) do update
set time_zone = excluded.time_zone
where a.time_zone <> excluded.time_zone`, m.c.PortalID, m.c.Schema, m.c.TimeZone); err != nil {
			return err
		}
		if err := m.createSchema(ctx, tx); err != nil {
			return err
		}
		return m.guardAll(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("register account %d: %w", m.c.PortalID, err)
	}
	return nil
}

func (m *Mapper) createSchema(ctx context.Context, tx pgx.Tx) error {
	var exists, may bool
	err := tx.QueryRow(ctx, `
select exists (select from pg_namespace where nspname = $1),
       coalesce(has_schema_privilege((select oid from pg_namespace where nspname = $1), 'create'), true)`, m.c.Schema).Scan(&exists, &may)
	switch {
	case err != nil:
		return err
	case !exists:
		_, err := tx.Exec(ctx, "create schema "+ident(m.c.Schema))
		return err
	case !may:
		return &ConflictError{
			Name: "schema " + m.c.Schema, Held: "this role may not create tables in it",
			Hint: "grant create on the schema, or choose another with the setting schema",
		}
	}
	return nil
}

// locked runs change in a transaction under the mapper's lock of the account and, when table is given, under the
// table's lock, which waits for its appliers to commit. Locks that readers hold are waited for only briefly, because
// new readers queue up behind a waiting ALTER TABLE; then everything is rolled back and tried again, in the end with an [OccupiedError].
func (m *Mapper) locked(ctx context.Context, db DB, table string, change func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			keys := []int64{lockKey(m.c.Schema, "")}
			if table != "" {
				keys = append(keys, lockKey(m.c.Schema, table))
			}
			for _, key := range keys {
				if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", key); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, "select set_config('lock_timeout', $1, true)",
				fmt.Sprintf("%dms", m.c.LockTimeout.Milliseconds())); err != nil {
				return err
			}
			return change(tx)
		})
		if !hasCode(err, lockNotAvailable, deadlockDetected) {
			return err
		}
		if attempt == lockAttempts {
			return &OccupiedError{err}
		}
		pause := time.NewTimer(lockPause/4 + rand.N(lockPause*3/4))
		select {
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(ctx.Err(), err)
		case <-pause.C:
		}
	}
}

// script runs several statements without parameters. They are not prepared.
func script(ctx context.Context, tx pgx.Tx, sql string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// absent makes sure that a table may be created: a relation of that name that is there already is not hubpg's.
func (m *Mapper) absent(ctx context.Context, tx pgx.Tx, table string) error {
	var exists bool
	if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", ident(m.c.Schema, table)).Scan(&exists); err != nil {
		return err
	}
	if exists {
		return &ConflictError{
			Name: "table " + m.c.Schema + "." + table, Table: table, Held: "was not made by hubpg",
			Hint: "rename or drop it, or keep the mirror elsewhere with the setting schema",
		}
	}
	return nil
}
