package materialize

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
)

// Bounds of the pause after a failure. The pause doubles with each failure in a row.
const (
	firstPause = time.Second
	lastPause  = time.Minute
	authPause  = 30 * time.Second // HubSpot refuses the token: every lane waits, the first to come back tries
	dailyPause = 10 * time.Minute // never sleep longer than this on a quota, it may be raised meanwhile
)

// faults counts failures in a row per lane.
type faults struct {
	mu      sync.Mutex // guards below
	inRow   map[laneArgs]int
	cleared map[laneArgs]time.Time // when no failure of the lane stood in hubpg.objects any more
}

// clearedFor is how long a process believes that no failure of a lane is shown: another may have shown one.
const clearedFor = 30 * time.Second

func newFaults() *faults {
	return &faults{inRow: map[laneArgs]int{}, cleared: map[laneArgs]time.Time{}}
}

func (f *faults) add(a laneArgs) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inRow[a]++
	return f.inRow[a]
}

// clear forgets the lane's failures and says whether its message may still be shown. A lane that will not be back for a
// while, or has ended, does not take the belief for granted: nobody else takes its message away.
func (f *faults) clear(a laneArgs, away time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.inRow, a)
	if time.Since(f.cleared[a]) < clearedFor && away < clearedFor {
		return false
	}
	f.cleared[a] = time.Now()
	return true
}

func (f *faults) show(a laneArgs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cleared, a)
}

func (f *faults) forget(a laneArgs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.inRow, a)
	delete(f.cleared, a)
}

// pause holds all lanes of the account back while HubSpot refuses the token.
type pause struct {
	mu    sync.Mutex // guards below
	on    bool
	until time.Time
}

// probe is how long the one lane that tries after a pause keeps the others waiting.
const probe = 5 * time.Second

func (p *pause) extend(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on, p.until = true, time.Now().Add(d)
}

func (p *pause) lift() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = false
}

// wait says how long a lane has to wait. The first to come when the pause is over may try, alone: the others wait until
// it has lifted the pause or extended it.
func (p *pause) wait() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on {
		return 0
	}
	if left := time.Until(p.until); left > 0 {
		return left
	}
	p.until = time.Now().Add(probe)
	return 0
}

// failed records why a lane failed, with the remedy, and says how long it pauses.
func (e *Engine) failed(ctx context.Context, a laneArgs, err error) time.Duration {
	n := e.faults.add(a)
	if away(err) {
		return jitter(min(firstPause<<min(n-1, 3), lastPause)) // the life sign has said so, once for all lanes
	}
	wait := jitter(min(firstPause<<min(n-1, 10), lastPause))
	level := slog.LevelWarn
	if _, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		wait = jitter(e.cfg.Pace.Retry)
	} else if _, ok := errors.AsType[*endError](err); ok {
		wait = jitter(min(e.cfg.Pace.Retry, lastPause))
		level = slog.LevelDebug // the end itself has been logged
	} else if _, ok := errors.AsType[*hubapi.AuthError](err); ok {
		rest := min(authPause, e.cfg.Pace.Retry)
		wait = jitter(rest)
		e.pause.extend(rest)
		e.accountFailed(ctx, err)
		level = slog.LevelError
	} else if rate, ok := errors.AsType[*hubapi.RateError](err); ok {
		wait = jitter(min(max(rate.RetryAfter, firstPause), dailyPause))
		level = slog.LevelInfo
	} else if _, ok := errors.AsType[*mirror.OccupiedError](err); ok {
		level = slog.LevelInfo
	}
	e.showFailure(ctx, a, err)
	if n == 1 || n&(n-1) == 0 { // first, then ever more rarely
		e.log.Log(ctx, level, "lane failed", slog.String("lane", string(a.Lane)), slog.String("object", a.Table),
			slog.Int("in_row", n), slog.Duration("wait", wait), slog.String("hint", hint(err)),
			slog.String("error", err.Error()))
	}
	return wait
}

// away says that an error comes from Postgres being restarted, or not being there.
func away(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
	}
	// A connection that was cut in the middle of a query says no more than that.
	_, hubspot := errors.AsType[*hubapi.UnavailableError](err)
	return !hubspot && (pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET))
}

// succeeded takes the lane's last failure off the status. shown says that it is known to stand there; away is how long the
// lane sleeps now.
func (e *Engine) succeeded(ctx context.Context, a laneArgs, calls int, shown bool, away time.Duration) {
	if calls > 0 {
		e.pause.lift()
	}
	if e.faults.clear(a, away) || shown {
		e.clearFailure(ctx, a)
	}
}

// jitter spreads d over ±20 %, so that lanes that failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d - d/5 + rand.N(2*d/5+1)
}
