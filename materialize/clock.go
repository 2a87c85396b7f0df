package materialize

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// clock tells the time as Postgres has it, which decides when a lane is due. River writes down when by the clock of the process
// and looks by that of Postgres: where they are apart, every pause would be longer by as much, or none at all.
type clock struct {
	ahead atomic.Int64 // Postgres's clock of this machine's, in nanoseconds
}

// slowLook is how long an answer of Postgres may take and still tell what time it is there.
const slowLook = 500 * time.Millisecond

// compare asks Postgres for its time.
func (c *clock) compare(ctx context.Context, conn *pgx.Conn) error {
	asked := time.Now()
	var there time.Time
	if err := conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&there); err != nil {
		return fmt.Errorf("compare clocks: %w", err)
	}
	if took := time.Since(asked); took < slowLook {
		c.ahead.Store(int64(there.Sub(asked.Add(took / 2))))
	}
	return nil
}

// Now is the time in Postgres.
func (c *clock) Now() time.Time { return time.Now().Add(c.lead()) }

// NowOrNil leaves it to Postgres what time a statement takes it to be.
func (c *clock) NowOrNil() *time.Time { return nil }

// lead is by how much Postgres's clock is ahead.
func (c *clock) lead() time.Duration { return time.Duration(c.ahead.Load()) }
