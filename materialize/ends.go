package materialize

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// endError says that a pair cannot be filled, because one of its ends cannot be read. Its remedy is the end's.
type endError struct{ end, reason, hint string }

func (e *endError) Error() string {
	return fmt.Sprintf("waits for %s, which cannot be read: %s", e.end, e.reason)
}

// hint is the next step for whoever sees the error.
func hint(err error) string {
	if e, ok := errors.AsType[*endError](err); ok {
		return e.hint
	}
	if e, ok := errors.AsType[*emptyError](err); ok {
		return e.hint()
	}
	if e, ok := errors.AsType[*mirror.OccupiedError](err); ok {
		return e.Hint()
	}
	pg, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, errMisshapen):
		return hintMisshapen
	case pg != nil && pg.Code == "42P01": // undefined_table
		return "the table is not there: the next look at the schema makes it again and fills it"
	case pg != nil && slices.Contains(misshapen, pg.Code):
		return hintMisshapen
	}
	return hubapi.Hint(err)
}

const hintMisshapen = "the table is not as hubpg made it: rename or drop it, and hubpg makes it again and fills it"

// errMisshapen says that an association table is not there, and something else in its place.
var errMisshapen = errors.New("somebody has put something else in the place of the table")

// misshapen are what Postgres says of a table that somebody has put another in the place of: undefined_column,
// invalid_column_reference (no key), datatype_mismatch, wrong_object_type (a view).
var misshapen = []string{"42703", "42P10", "42804", "42809"}

// stuck returns an [endError] if an end of the pair cannot be read, for as long as nobody acts.
func (s *step) stuck(ctx context.Context, pair *catalog.Pair) error {
	var e endError
	err := s.e.cfg.Pool.QueryRow(ctx, `
select table_name, coalesce(last_error, phase), coalesce(hint, 'see ' || table_name || ' in hubpg.status')
from hubpg.objects
where portal_id = $1 and table_name in ($2, $3) and phase in ('degraded', 'gone')
order by table_name
limit 1`, s.args.Portal, pair.A.Name, pair.B.Name).Scan(&e.end, &e.reason, &e.hint)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look at the ends of %s: %w", pair.Name, err)
	}
	return &e
}
