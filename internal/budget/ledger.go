package budget

import (
	"context"
	"errors"
	"time"
)

// ledger is where all processes meet. Each method is one atomic step.
type ledger interface {
	// open makes sure that the account's limits are there.
	open(ctx context.Context, defaults []limit, share float64) error
	// reserve gives away up to r.want calls. errNoRow says that open is due.
	reserve(ctx context.Context, r reservation) (grant, error)
	// today adds to the day's counts.
	today(ctx context.Context, d dayEntry) (dayState, error)
}

// errNoRow says that a limit's row is missing: new account, or the database has crashed since.
var errNoRow = errors.New("no quota row")

// limit is one of HubSpot's limits.
type limit struct {
	bucket string
	calls  int
	window time.Duration
}

// reservation asks for calls, and tells what this process has learned since the last one.
type reservation struct {
	bucket  string
	want    int
	reads   bool // counts against the share
	share   float64
	horizon time.Duration
	guard   time.Duration
	pause   time.Duration // from now; 0 for none
	slow    time.Duration
	learned *limit // nil when nothing new was learned
}

// grant is the answer to a reservation.
type grant struct {
	calls  int
	first  time.Duration // from now until the first of them, or, without any, until the next could be given away
	step   time.Duration // between them
	pause  time.Duration // left of a pause
	slow   time.Duration // left of the slow pace
	limit  int
	window time.Duration
}

// dayEntry adds calls to the day's count and tells what HubSpot said about it.
type dayEntry struct {
	start, reset  time.Time
	reads, writes int
	limit         int // 0 when not learned
	remaining     int // -1 when not learned
	// refused is until when HubSpot refuses, as this process has heard itself: what others have heard it does not tell again,
	// or the time that each telling takes would be added to the pause.
	refused time.Time
}

// dayState is the day's count of all processes.
type dayState struct {
	reads, writes int
	limit         int // 0 when there is none or none is known
	remaining     int // of all apps; -1 when not known
	remainingAge  time.Duration
	pause         time.Duration // left of a pause
}
