package writeback

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/internal/catalog"
)

const (
	// reserved is how many connections are kept out of the pool.
	reserved = 4
	// trusted is how long a connection that has just worked is taken to work still.
	trusted = time.Second
)

// reserve is a few connections for what has to be done while a client's session keeps appliers waiting. Those wait
// with connections of the pool in their hands: a write that needed one too could wait for them, and they for it.
// Nothing that runs here takes a table's lock.
type reserve struct {
	config *pgx.ConnConfig
	slots  chan struct{} // capacity reserved; a slot is a right to a connection
	idle   chan resting  // open connections that nobody uses
}

// resting is a connection and when it last worked.
type resting struct {
	conn  *pgx.Conn
	since time.Time
}

func newReserve(pool *pgxpool.Pool) *reserve {
	return &reserve{
		config: pool.Config().ConnConfig, slots: make(chan struct{}, reserved), idle: make(chan resting, reserved),
	}
}

// with lends a connection to work.
func (r *reserve) with(ctx context.Context, work func(*pgx.Conn) error) error {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.slots }()
	var conn *pgx.Conn
	select {
	case rest := <-r.idle:
		if conn = rest.conn; conn.IsClosed() || time.Since(rest.since) > trusted && conn.Ping(ctx) != nil {
			r.drop(ctx, conn)
			conn = nil
		}
	default:
	}
	if conn == nil {
		var err error
		if conn, err = pgx.ConnectConfig(ctx, r.config.Copy()); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	err := work(conn)
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		r.drop(ctx, conn)
		return err
	}
	r.idle <- resting{conn, time.Now()} // there is room: a connection for each slot
	return err
}

// turn has work done while no other process and no other session of this one does any for the same pair. It keeps a connection of
// its own, since work may ask for one of the reserve.
func (w *Writer) turn(ctx context.Context, p *catalog.Pair, work func() error) error {
	return w.turns.with(ctx, func(conn *pgx.Conn) error {
		name := "hubpg labels " + p.Schema + "." + p.Name
		if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
			return fmt.Errorf("wait for others who label %s: %w", p.Name, err)
		}
		defer func() {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
			defer cancel()
			if _, err := conn.Exec(end, "select pg_advisory_unlock(hashtextextended($1, 0))", name); err != nil {
				_ = conn.Close(end) // which ends the lock too
			}
		}()
		return work()
	})
}

func (r *reserve) drop(ctx context.Context, conn *pgx.Conn) {
	_ = conn.Close(context.WithoutCancel(ctx)) // it is broken already
}

// close ends the idle connections.
func (r *reserve) close(ctx context.Context) {
	for {
		select {
		case rest := <-r.idle:
			r.drop(ctx, rest.conn)
		default:
			return
		}
	}
}
