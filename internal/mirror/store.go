package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Bounds of what an applier waits for clients.
const (
	// lockWait bounds the wait for a table that a client's write keeps, from its call to HubSpot to the end of its performance.
	lockWait = "10s"

	// rowWait bounds the wait, under the table's lock, for a row that a client's open transaction has written. The next
	// statement of that client waits for the table meanwhile: it is less than deadlock_timeout, so that it is the applier that
	// gives way, before Postgres has to choose.
	rowWait = "200ms"

	storePatience = 3 * time.Second        // for how long Store tries
	storePause    = 100 * time.Millisecond // times the number of the attempt
)

// OccupiedError means that somebody else's transaction kept a row or a table for as long as an applier or the mapper waits.
// Nothing was stored or changed; the same can be done later.
type OccupiedError struct{ Err error }

// Error says what is the matter, and Postgres's words.
func (e *OccupiedError) Error() string {
	return fmt.Sprintf("somebody else's transaction keeps a row or the table: %v", e.Err)
}

// Unwrap returns Postgres's error.
func (e *OccupiedError) Unwrap() error { return e.Err }

// Hint says what can be done about it.
func (e *OccupiedError) Hint() string {
	return "it is tried again by itself; pg_stat_activity shows transactions that stay open (state idle in transaction), " +
		"idle_in_transaction_session_timeout ends them"
}

// Store runs f, which calls an [Applier], in a transaction. A client's transaction that is open may have written a row that
// f needs, and wait itself for the table that f has: f then gives way, and is run again from its beginning when the client
// had time to go on. After three seconds of that the error is an [OccupiedError]. It is run again, too, when the client commits,
// while f waits, a record that f was about to insert.
func Store(ctx context.Context, db DB, f func(tx pgx.Tx) error) error {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, db, f)
		switch kept := hasCode(err, lockNotAvailable, deadlockDetected); {
		case !kept && !hasCode(err, uniqueViolation):
			return err
		case time.Since(began) <= storePatience:
		case kept:
			return &OccupiedError{err}
		default:
			return err
		}
		pause := time.NewTimer(storePause * time.Duration(attempt))
		select {
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(ctx.Err(), err)
		case <-pause.C:
		}
	}
}

// What Postgres says where transactions meet.
const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
	uniqueViolation  = "23505"
)

func hasCode(err error, codes ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pg.Code)
}
