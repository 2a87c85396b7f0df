package migrations

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// SetupError says why the schema could not be brought up to date, and what to do about it.
type SetupError struct {
	Problem string
	Hint    string // the next step, for an operator
	Err     error  // the cause; nil when the problem was found by looking
}

// Error gives the problem and the next step in one line.
func (e *SetupError) Error() string {
	text := e.Problem
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + " (" + e.Hint + ")"
}

// Unwrap returns the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// explain turns the refusals of Postgres that an operator can do something about into a SetupError.
func explain(action string, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return &SetupError{Problem: action, Err: err, Hint: "check that the database is reachable and start again; nothing was lost"}
	}
	e := &SetupError{Problem: action, Err: err}
	switch pg.Code {
	case "25006": // read_only_sql_transaction
		e.Hint = "the database is read-only: connect to the primary, or clear default_transaction_read_only for this role"
	case "42501": // insufficient_privilege
		e.Hint = "connect as the owner of the database and of its schema hubpg, or grant this role create on the database"
	case "57014", "55P03": // query_canceled, lock_not_available
		e.Hint = "another session holds the schema; end it or start again"
	case "53100": // disk_full
		e.Hint = "the database server has no disk space left; free some and start again"
	default:
		e.Hint = "the schema was left at its last complete version; start again, and report this if it repeats"
	}
	return e
}
