package budget

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says how much of an account's quota this database may use. Zero fields have working defaults.
type Config struct {
	PortalID int64
	Share    float64        // of every limit, for all reads together; 1/3 by default
	Location *time.Location // of the account: the daily count starts again at midnight here; UTC by default
	Guard    time.Duration  // how unevenly calls may travel; by default DefaultGuard for searches, DefaultLongGuard for all others
	Reserve  float64        // part of the daily limit that reads leave untouched for all other apps; 0.05 by default

	// Limits to assume until HubSpot's headers tell. Zero fields mean those of the smallest plan.
	Burst       int // calls per 10 s; 100
	Association int // calls per 10 s; 100
	Search      int // calls per second; 5
	Daily       int // calls per day; none

	// Unlimited lets every call pass at once, counting it. For benchmarks against a server without limits.
	Unlimited bool
}

// The guards of windows of one second and of ten. The first makes 4 searches a second of 5. The second leaves 96.2 % of the
// limit: with 250 ms, two calls of ten thousand arrived over it on a busy machine. All of what is left is used, by any
// number of processes: 18.27 calls a second of 19 in 10,000 on an account where one in ten fails
// (TestHostileAccountIsReadRightWithinItsLimits).
const (
	DefaultGuard     = 250 * time.Millisecond
	DefaultLongGuard = 400 * time.Millisecond
)

// guard returns the guard of a limit.
func (c Config) guard(bucket string) time.Duration {
	switch {
	case c.Guard > 0:
		return c.Guard
	case bucket == searchBucket:
		return DefaultGuard
	}
	return DefaultLongGuard
}

func (c Config) withDefaults() Config {
	if c.Share <= 0 || c.Share > 1 {
		c.Share = 1.0 / 3
	}
	if c.Location == nil {
		c.Location = time.UTC
	}
	if c.Reserve <= 0 || c.Reserve >= 1 {
		c.Reserve = 0.05
	}
	if c.Burst <= 0 {
		c.Burst = 100
	}
	if c.Association <= 0 {
		c.Association = 100
	}
	if c.Search <= 0 {
		c.Search = 5
	}
	return c
}

// The limits that HubSpot counts, as they are named in hubpg.quota.
const (
	burstBucket       = "burst"
	searchBucket      = "search"
	associationBucket = "association"
	dailyBucket       = "daily"
)

// Budget hands out the quota of one account. It has the methods that the HubSpot client wants of its limiter.
type Budget struct {
	cfg    Config
	ledger ledger
	queues map[string]*queue // by bucket; not changed after New
	day    *day

	mu      sync.Mutex // guards below
	open    bool       // the rows exist, as far as is known
	learned map[string]*lesson
	refused map[string]int64 // 429s by policy
	exempt  int64
	free    [classes]int64 // calls counted while Unlimited
}

// New returns the budget of cfg.PortalID. It does not touch the database before the first Wait.
func New(pool *pgxpool.Pool, cfg Config) *Budget {
	return newBudget(&rows{pool: pool, portal: cfg.PortalID}, cfg)
}

func newBudget(l ledger, cfg Config) *Budget {
	b := &Budget{
		cfg:     cfg.withDefaults(),
		ledger:  l,
		queues:  make(map[string]*queue),
		learned: make(map[string]*lesson),
		refused: make(map[string]int64),
	}
	b.day = newDay(b.cfg)
	for _, bucket := range []string{burstBucket, searchBucket, associationBucket} {
		b.learned[bucket] = new(lesson)
		b.queues[bucket] = newQueue(bucket, func(ctx context.Context, c class, want int, horizon time.Duration) (grant, error) {
			return b.reserve(ctx, bucket, c, want, horizon)
		})
	}
	return b
}

// Wait blocks until one call of the family may go out for the class. It takes a connection of the pool for a moment, so
// its caller must not hold the last one. It fails with *ExhaustedError when the day's quota
// is used up, with ctx's error when ctx ends first, and with another error when Postgres cannot be asked: then nothing
// may be sent.
func (b *Budget) Wait(ctx context.Context, family, className string) error {
	c := classOf(className)
	bucket := bucketOf(family)
	if bucket == "" || b.cfg.Unlimited {
		b.mu.Lock()
		defer b.mu.Unlock()
		if bucket == "" {
			b.exempt++
		} else {
			b.free[c]++
		}
		return ctx.Err()
	}
	if err := b.refreshDay(ctx, false); err != nil {
		return err
	}
	if err := b.day.check(c, time.Now()); err != nil {
		return err
	}
	wait, err := b.day.spread(c, begun(ctx), time.Now())
	if err != nil {
		return err
	}
	if err := pause(ctx, wait); err != nil {
		return err
	}
	if err := b.queues[bucket].wait(ctx, c); err != nil {
		return err
	}
	return b.day.take(c, time.Now())
}

type pieceKey struct{}

// Piece returns a context for calls that are of use together only. Of them the first waits until the pace of the day allows it,
// or is refused; the others go on, at the cost of whatever comes next.
func Piece(ctx context.Context) context.Context {
	return context.WithValue(ctx, pieceKey{}, new(atomic.Bool))
}

// begun is whether a call of the piece has gone out, nil for a call that is none of a piece.
func begun(ctx context.Context) *atomic.Bool {
	b, _ := ctx.Value(pieceKey{}).(*atomic.Bool)
	return b
}

// pause returns after d, or with ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run keeps the shared counts and pauses current while no call waits, until ctx ends; then it writes the last counts.
// A Budget works without it, but tells other processes about a refusal only with its next call.
func (b *Budget) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// Postgres being away is reported by Wait; here it only delays the counts.
			_ = b.share(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			_ = b.share(last)
			return nil
		}
	}
}

// share writes what this process knows and no call has carried along yet.
func (b *Budget) share(ctx context.Context) error {
	if b.cfg.Unlimited {
		return nil
	}
	var errs []error
	for bucket := range b.queues {
		b.mu.Lock()
		news := b.learned[bucket].news()
		b.mu.Unlock()
		if news {
			_, err := b.reserve(ctx, bucket, sweeps, 0, 0)
			errs = append(errs, err)
		}
	}
	if b.day.pending() {
		errs = append(errs, b.refreshDay(ctx, true))
	}
	return errors.Join(errs...)
}

// reserve asks the ledger for calls and carries along what was learned.
func (b *Budget) reserve(ctx context.Context, bucket string, c class, want int, horizon time.Duration) (grant, error) {
	r := reservation{
		bucket: bucket, want: want, reads: c != writes, share: b.cfg.Share, horizon: horizon, guard: b.cfg.guard(bucket),
	}
	b.mu.Lock()
	taken := b.learned[bucket].take(&r, time.Now())
	b.mu.Unlock()
	var g grant
	err := b.persist(ctx, func(ctx context.Context) (err error) {
		g, err = b.ledger.reserve(ctx, r)
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.learned[bucket].putBack(taken)
		return grant{}, err
	}
	b.learned[bucket].know(g, time.Now())
	return g, nil
}

// refreshDay brings the day's count up to date: always when forced, otherwise when it is a second old.
func (b *Budget) refreshDay(ctx context.Context, force bool) error {
	entry, due := b.day.entry(time.Now(), force)
	if !due {
		return nil
	}
	var state dayState
	err := b.persist(ctx, func(ctx context.Context) (err error) {
		state, err = b.ledger.today(ctx, entry)
		return err
	})
	b.day.settle(entry, state, err, time.Now())
	return err
}

const (
	askTimeout = 3 * time.Second  // one statement
	askElapsed = 10 * time.Second // all tries of it
)

// persist runs one step of the ledger, for a bounded time, and creates the account's rows where they are missing.
func (b *Budget) persist(ctx context.Context, step func(context.Context) error) error {
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval, pace.MaxInterval = 50*time.Millisecond, 2*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		err := b.ensure(ask)
		if err == nil {
			err = step(ask)
		}
		if errors.Is(err, errNoRow) {
			b.mu.Lock()
			b.open = false
			b.mu.Unlock()
		}
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(refused.Code, "42") {
			err = backoff.Permanent(err) // not migrated, or not permitted
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(askElapsed))
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("ask postgres for quota: %w", err)
}

// ensure creates the account's rows once, and again after they were lost.
func (b *Budget) ensure(ctx context.Context) error {
	b.mu.Lock()
	open := b.open
	b.mu.Unlock()
	if open {
		return nil
	}
	err := b.ledger.open(ctx, []limit{
		{burstBucket, b.cfg.Burst, 10 * time.Second},
		{searchBucket, b.cfg.Search, time.Second},
		{associationBucket, b.cfg.Association, 10 * time.Second},
		{dailyBucket, b.cfg.Daily, 0},
	}, b.cfg.Share)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.open = true
	b.mu.Unlock()
	return nil
}

// Observe learns from an answer: limits from its headers, and from a refusal how to go on. It does not block.
func (b *Budget) Observe(family string, status int, header http.Header, policy string) {
	bucket := bucketOf(family)
	if bucket == "" || b.cfg.Unlimited {
		return
	}
	b.day.learn(header)
	b.mu.Lock()
	if l, ok := burstLimit(header); ok && bucket == burstBucket {
		b.learned[burstBucket].limit(l)
		b.learned[associationBucket].limit(associationLimit(l))
	}
	if status != http.StatusTooManyRequests {
		b.mu.Unlock()
		return
	}
	r := reactionTo(policy, bucket)
	b.refused[r.policy]++
	if bucket == burstBucket && contradicted(r, header) {
		b.mu.Unlock()
		return
	}
	b.learned[bucket].react(r, time.Now())
	b.mu.Unlock()
	if r.pause > 0 {
		b.queues[bucket].hold(r.pause)
	}
	if r.daily {
		b.day.exhaust(time.Now())
	}
}

// Usage is HubSpot's own count of the day, for all private apps and service keys of the account.
type Usage struct {
	Limit, Used int
	CollectedAt time.Time // zero when not known
	ResetsAt    time.Time // zero when not known
}

// Learn takes in what HubSpot's usage endpoint says: what other apps have used, and when the day ends. It does not block. As
// long as no answer has named a limit of the day, none of it concerns this app.
func (b *Budget) Learn(u Usage) {
	if !b.cfg.Unlimited {
		b.day.learnUsage(u, time.Now())
	}
}

// bucketOf returns the limit that a family counts against; "" for none.
func bucketOf(family string) string {
	switch family {
	case "exempt":
		return ""
	case "search":
		return searchBucket
	case "association":
		return associationBucket
	}
	return burstBucket
}
