package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// How a backend serves one client after another, where [Limits.KeptBackends] allows it.
//
// Most of what it costs to connect is that Postgres starts a process. A client that says Terminate between transactions leaves its
// backend behind: front stops before that message, takes the baton, and gives the backend to the keeper, which has it forget the
// client (DISCARD ALL) and holds it for a while. A login gets it that would come to the same: with the same start-up parameters,
// proved by the same means, to a role and a database of which the catalogs say the same as before the backend's own login. That is
// asked anew for each login. What cannot be known so, pg_hba.conf above all, ends with the backend, a minute after its login.

// Times of kept backends.
const (
	resetTimeout = 5 * time.Second // to forget a client
	partTimeout  = time.Second     // to end
)

// maxReset bounds a message of a backend that forgets its client.
const maxReset = 64 << 10

// forgetting is what has a backend forget its client, and namespace asks for the schema of its temporary objects, which stays: none where
// there was no such object.
const (
	forgetting = "discard all"
	namespace  = "select pg_catalog.pg_my_temp_schema()"
)

// keeper holds the backends whose clients have left; nil keeps none. It may be used by any goroutine.
type keeper struct {
	pool     *pgxpool.Pool // for standingQuery
	most     int
	lasts    time.Duration // since the login
	log      *slog.Logger
	counters *counters

	watching sync.WaitGroup
	closing  context.Context
	close    context.CancelFunc

	mu   sync.Mutex // guards below
	list []*kept    // in the order in which they were left
}

// kept is a backend between two clients. A goroutine of its own watches it, so that it is known when it ends.
type kept struct {
	*upstream
	claim    claim
	database string
	told     statuses // its parameters
	until    time.Time
	taken    bool          // out of the list, for a session; under the keeper's mu
	done     chan struct{} // closed when nobody watches it any more
	alive    bool          // it may be used; read once done is closed
}

func newKeeper(config *Config, counters *counters) *keeper {
	if config.Limits.KeptBackends <= 0 {
		return nil
	}
	k := &keeper{
		pool: config.AuthPool, most: config.Limits.KeptBackends, lasts: config.Limits.KeptFor, log: config.Logger, counters: counters,
	}
	k.closing, k.close = context.WithCancel(context.Background())
	return k
}

// leave takes in the backend of a session that is over. It does not wait.
func (k *keeper) leave(b *kept) {
	b.done = make(chan struct{})
	k.watching.Go(func() { k.watch(b) })
}

// watch sees a backend through its time without a client.
func (k *keeper) watch(b *kept) {
	defer close(b.done)
	// A connection on which deadlines fail is about to fail in the reading below.
	stop := context.AfterFunc(k.closing, func() { _ = b.conn.SetDeadline(time.Now()) })
	quiet := b.forget() == nil && k.hold(b) && b.silent()
	k.mu.Lock()
	taken := b.taken
	k.drop(b)
	k.mu.Unlock()
	open := stop()
	if b.alive = taken && quiet && open; !b.alive {
		b.part()
	}
}

// forget has the backend forget its client.
func (b *kept) forget() error {
	if err := b.conn.SetDeadline(time.Now().Add(resetTimeout)); err != nil {
		return fmt.Errorf("forget a client: %w", err)
	}
	if _, err := b.conn.Write(pgwire.AppendQuery(pgwire.AppendQuery(nil, forgetting), namespace)); err != nil {
		return fmt.Errorf("forget a client: %w", err)
	}
	reader := pgwire.NewReader(b.conn, maxReset)
	clean := false
	for rounds := 2; rounds > 0; {
		h, message, err := reader.Read()
		if err != nil {
			return fmt.Errorf("forget a client: %w", err)
		}
		switch h.Type {
		case 'Z':
			rounds--
		case 'S':
			if p, ok := parameterOf(message); ok {
				b.told.note(p)
			}
		case 'D':
			columns, err := pgwire.ParseDataRow(message)
			if err != nil {
				return fmt.Errorf("forget a client: %w", err)
			}
			clean = len(columns) == 1 && string(columns[0]) == "0"
		case 'E':
			return pgwire.ParseError(message)
		}
	}
	if !clean || len(reader.Rest()) > 0 {
		return errors.New("forget a client: something of it is left")
	}
	return b.conn.SetDeadline(time.Time{})
}

// hold puts the backend on the list, in the place of the first where that is full.
func (k *keeper) hold(b *kept) bool {
	if b.conn.SetReadDeadline(b.until) != nil || !time.Now().Before(b.until) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing.Err() != nil { // which may have come before the deadline was set
		return false
	}
	if len(k.list) == k.most {
		k.release(k.list[0])
	}
	k.list = append(k.list, b)
	k.counters.kept.Store(int64(len(k.list)))
	return true
}

// silent waits until it is to be read no more, and reports whether it has said nothing meanwhile.
func (b *kept) silent() bool {
	_, err := b.conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// release ends the watch over a backend and takes it off the list. mu is held.
func (k *keeper) release(b *kept) {
	k.drop(b)
	_ = b.conn.SetReadDeadline(time.Now()) // where this fails, the connection is gone, and with it the watch
}

// drop takes a backend off the list, if it is there. mu is held.
func (k *keeper) drop(b *kept) {
	if i := slices.Index(k.list, b); i >= 0 {
		k.list = slices.Delete(k.list, i, i+1)
		k.counters.kept.Store(int64(len(k.list)))
	}
}

// part ends the backend, and waits for a moment until Postgres has.
func (b *kept) part() {
	defer b.conn.Close()
	if b.conn.SetDeadline(time.Now().Add(partTimeout)) != nil {
		return
	}
	if _, err := b.conn.Write(pgwire.AppendMessage(nil, 'X')); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, b.conn) // up to the end, or the deadline
}

// take returns the backend that was left last among those of the same claim; nil if there is none.
func (k *keeper) take(c claim) *kept {
	for c != (claim{}) {
		b := k.pick(c)
		if b == nil {
			return nil
		}
		if <-b.done; !b.alive { // its watch has ended it
			continue
		}
		if b.conn.SetDeadline(time.Time{}) == nil {
			k.counters.reused.Add(1)
			return b
		}
		b.conn.Close()
	}
	return nil
}

// login is take as a login.
func (k *keeper) login(c claim) *loginResult {
	b := k.take(c)
	if b == nil {
		return nil
	}
	in := &loginResult{upstream: b.upstream}
	for _, p := range b.told {
		in.status = append(in.status, p.Value())
	}
	return in
}

// has reports whether a backend waits for a claim.
func (k *keeper) has(c claim) bool {
	if k == nil || c == (claim{}) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.list, func(b *kept) bool { return b.claim == c })
}

func (k *keeper) pick(c claim) *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range slices.Backward(k.list) {
		if b.claim == c {
			b.taken = true
			k.release(b)
			return b
		}
	}
	return nil
}

// stop ends what is kept. Nothing may be left by sessions any more.
func (k *keeper) stop() {
	if k == nil {
		return
	}
	k.close()
	k.watching.Wait()
}

// keeps reports whether the backend of a client that says Terminate now may serve another one. mu is held.
func (f *front) keeps() bool {
	return f.pump != nil && f.claim != (claim{}) && f.ledger.settled() && !f.draining.Load()
}

// bequeath leaves the backend to the next client and returns errFarewell, or returns nil where it has to end after all.
func (f *front) bequeath() error {
	rest, err := f.takeBaton()
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		if b := f.detach(); b != nil {
			f.pump.Close()
			f.server.keeper.leave(b)
			return errFarewell
		}
	}
	f.returnBaton(rest)
	return nil
}

// detach takes the backend from the session, if that is still right; nil if not.
func (f *front) detach() *kept {
	// A cancel on its way to the backend comes first, and breaks off the forgetting at most; later ones have nothing to cancel.
	f.life.Lock()
	defer f.life.Unlock()
	f.link.Lock()
	defer f.link.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hungUp || !f.keeps() || f.pen != nil && f.pen.permit != "" {
		return nil
	}
	b := &kept{upstream: f.upstream, claim: f.claim, database: databaseOf(f.session), told: slices.Clone(f.told)}
	b.until = b.began.Add(f.server.keeper.lasts)
	f.dozing = true
	nowhere, _ := net.Pipe()
	nowhere.Close()
	f.upstream = &upstream{conn: nowhere, pid: b.pid}
	return b
}

// heeds reports whether a message must be seen for what it may leave behind, and ends the claim where it cannot be seen. mu is held.
func (f *front) heeds(typ byte, size int) bool {
	if f.claim == (claim{}) {
		return false
	}
	if typ == 'F' || size > pgwire.MaxTake {
		f.claim = claim{}
		return false
	}
	return true
}

// heed ends the claim where a Query or Parse may leave behind what forgetting does not take back. mu is held.
func (f *front) heed(message []byte) {
	if f.claim == (claim{}) || message[0] != 'Q' && message[0] != 'P' {
		return
	}
	text := message[pgwire.HeaderLen:]
	if message[0] == 'P' {
		_, text, _ = pgwire.CutString(text)
	}
	text, _, _ = pgwire.CutString(text)
	if sqlstmt.MayOutlast(text) {
		f.claim = claim{}
	}
}
