package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
)

// Engine keeps the tables of one account true. Any number of Engines, in any number of processes, may keep the same
// account in the same database; each step of each lane is done by one of them.
type Engine struct {
	cfg        Config
	log        *slog.Logger
	portal     int64
	applier    *mirror.Applier
	mapper     *mirror.Mapper
	river      *river.Client[pgx.Tx]
	seen       *seen
	tables     *tables
	running    *running
	faults     *faults
	doubts     *doubts
	pause      *pause
	counts     usage
	spent      *spent
	shortfalls *shortfalls
	clock      *clock
	zone       *time.Location // of the account, for the days of its daily quota
}

// New checks the configuration. Nothing is started and nobody is called before Run.
func New(cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if n := cfg.Pool.Config().MaxConns; n < MinConns {
		return nil, fmt.Errorf("create engine: the pool has %d connections, want at least %d (pool_max_conns in the database URL)",
			n, MinConns)
	}
	return &Engine{
		cfg:        cfg,
		log:        cfg.Logger,
		tables:     newTables(),
		running:    newRunning(),
		faults:     newFaults(),
		doubts:     newDoubts(),
		pause:      new(pause),
		spent:      newSpent(),
		shortfalls: newShortfalls(),
		clock:      new(clock),
		zone:       time.UTC,
	}, nil
}

// Tuning of River. A job that its process lost is found by the life sign within a second, and by River's own rescue in
// the end.
const (
	fetchCooldown = 50 * time.Millisecond
	slowPoll      = time.Second
	rescueAfter   = jobTimeout + time.Minute
	keepCompleted = 10 * time.Minute
)

// fetchPoll is how often workers look for lanes that are due: often in comparison with the shortest pause of a lane.
func (e *Engine) fetchPoll() time.Duration {
	return min(max(e.cfg.Pace.Busy/5, 2*fetchCooldown), slowPoll)
}

// workers is how many steps of each group of lanes run at once in this process. Steps mostly wait: for the quota, for
// HubSpot, for Postgres. Only the lanes that keep tables fresh are looked for often.
func (e *Engine) workers() map[string]river.QueueConfig {
	slow := max(e.fetchPoll(), slowPoll/2)
	return map[string]river.QueueConfig{
		queue(e.portal, LaneFollow):   {MaxWorkers: 64},
		queue(e.portal, LaneBackfill): {MaxWorkers: 8, FetchPollInterval: slow},
		queue(e.portal, LaneArchived): {MaxWorkers: 4, FetchPollInterval: slow},
	}
}

// Run keeps the account until ctx ends, and returns when everything it started has ended. It returns an error at once
// only for what will not pass by itself: a token of another account, a token that was never accepted, a database that
// has not been migrated.
func (e *Engine) Run(ctx context.Context) (err error) {
	if err := e.bootstrap(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if e.seen, err = newSeen(e.cfg.Remember); err != nil {
		return err
	}
	defer e.seen.close()
	if err := e.newRiver(); err != nil {
		return err
	}
	life := &holder{e: e, id: e.river.ID()}
	if err := e.retry(ctx, "connect to postgres", life.acquire); err != nil {
		return nil //nolint:nilerr // ended by ctx
	}
	// The life sign outlasts the lanes, so that no neighbour takes them over while they are being stopped.
	alive, rest := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error { return life.run(alive) })
	g.Go(func() error { return e.keepSpent(alive) })
	g.Go(func() error {
		defer rest()
		return e.runRiver(ctx)
	})
	return g.Wait()
}

func (e *Engine) newRiver() error {
	jobs := river.NewWorkers()
	if err := river.AddWorkerSafely(jobs, &worker{engine: e}); err != nil {
		return fmt.Errorf("register lanes: %w", err)
	}
	client, err := river.NewClient(riverpgxv5.New(e.cfg.Pool), &river.Config{
		ID:                          "hubpg-" + uuid.NewString(),
		Schema:                      "hubpg",
		Queues:                      e.withJournal(e.workers()),
		Workers:                     jobs,
		Logger:                      newRiverLog(e.log.Handler()),
		FetchCooldown:               fetchCooldown,
		FetchPollInterval:           e.fetchPoll(),
		JobTimeout:                  jobTimeout,
		RescueStuckJobsAfter:        rescueAfter,
		CompletedJobRetentionPeriod: keepCompleted,
		CancelledJobRetentionPeriod: keepCompleted,
		DiscardedJobRetentionPeriod: keepCompleted,
		MaxAttempts:                 maxAttempts,
		Test:                        river.TestConfig{Time: e.clock}, // the way to give River a clock
	})
	if err != nil {
		return fmt.Errorf("set up lanes: %w", err)
	}
	e.river = client
	return nil
}

// runRiver works lanes until ctx ends. Steps under way are then cancelled: each is a transaction that either
// has happened or has not.
func (e *Engine) runRiver(ctx context.Context) error {
	// River gets a context of its own, so that stopping it is one act and it can still write down how the jobs ended.
	work := context.WithoutCancel(ctx)
	if err := e.retry(ctx, "start lanes", func(context.Context) error { return e.startRiver(work) }); err != nil {
		return nil //nolint:nilerr // ended by ctx
	}
	e.log.Info("materializer started", slog.Int64("portal", e.portal), slog.String("schema", e.cfg.Schema))
	<-ctx.Done()
	if err := e.river.StopAndCancel(work); err != nil {
		return fmt.Errorf("stop lanes: %w", err)
	}
	e.log.Info("materializer stopped", slog.Int64("portal", e.portal))
	return nil
}

func (e *Engine) startRiver(ctx context.Context) error {
	if err := e.ensureLanes(ctx, laneArgs{e.portal, "", LaneSchema}, laneArgs{e.portal, "", LanePending},
		laneArgs{e.portal, "", LaneCounts}, laneArgs{e.portal, "", LaneLog}); err != nil {
		return err
	}
	if err := e.ensureFeeds(ctx); err != nil {
		return err
	}
	if err := e.river.Start(ctx); err != nil {
		return fmt.Errorf("start lanes: %w", err)
	}
	return nil
}

// ensureLanes makes sure that each lane has its job; one that has is left alone.
func (e *Engine) ensureLanes(ctx context.Context, lanes ...laneArgs) error {
	if len(lanes) == 0 {
		return nil
	}
	params := make([]river.InsertManyParams, len(lanes))
	for i, a := range lanes {
		params[i] = river.InsertManyParams{Args: a, InsertOpts: a.options()}
	}
	if _, err := e.river.InsertMany(ctx, params); err != nil {
		return fmt.Errorf("insert lanes: %w", err)
	}
	return nil
}

// bootstrap learns which account the token belongs to and finds or makes its row.
func (e *Engine) bootstrap(ctx context.Context) error {
	var account hubapi.Account
	err := e.retry(ctx, "ask hubspot for the account", func(ctx context.Context) (err error) {
		account, err = e.cfg.Client.GetAccount(ctx)
		return err
	})
	if _, ok := errors.AsType[*hubapi.AuthError](err); ok {
		return e.refused(ctx, err)
	}
	if err != nil {
		return err
	}
	e.portal, e.zone = account.PortalID, account.Location()
	e.mapper = mirror.NewMapper(mirror.MapperConfig{
		PortalID: e.portal, Schema: e.cfg.Schema, TimeZone: account.TimeZone, IgnoreNew: e.cfg.IgnoreNewProperties,
		SoftDeletes: e.cfg.SoftDeletes,
	})
	err = e.retry(ctx, "register the account", func(ctx context.Context) error {
		return e.mapper.EnsureAccount(ctx, e.cfg.Pool)
	})
	if err != nil {
		return err
	}
	e.makeRoles(ctx)
	notify := mirror.NotifyOff
	if e.cfg.RowNotify {
		notify = mirror.NotifyRows
	}
	e.applier = mirror.NewApplier(mirror.Config{PortalID: e.portal, Notify: notify})
	return nil
}

// makeRoles makes the group roles. Without them everything works for the tables' owner, so nothing fails over it.
func (e *Engine) makeRoles(ctx context.Context) {
	roles, err := e.mapper.EnsureRoles(ctx, e.cfg.Pool)
	switch {
	case ctx.Err() != nil: // stopping
	case err != nil:
		e.log.Warn("group roles were not made", slog.String("error", err.Error()))
	case roles.Skipped != "":
		e.log.Info("group roles were not made", slog.String("hint", roles.Skipped))
	}
}

// refused notes on the account, if it is known already, that its token is not accepted.
func (e *Engine) refused(ctx context.Context, err error) error {
	e.note(ctx, "show failure", `
update hubpg.accounts
set last_error = $2, hint = nullif($3, ''), error_at = now()
where schema_name = $1`, e.cfg.Schema, cut(err.Error()), hubapi.Hint(err))
	return fmt.Errorf("%w (%s)", err, hubapi.Hint(err))
}

// retry repeats what fails for a reason that may pass, until ctx ends. What a human has to mend is returned.
func (e *Engine) retry(ctx context.Context, what string, f func(context.Context) error) error {
	for n := 0; ; n++ {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
		wait := jitter(min(firstPause<<min(n, 10), lastPause))
		e.log.Warn(what, slog.String("error", err.Error()), slog.Duration("wait", wait), slog.String("hint", hubapi.Hint(err)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// final says that trying again will not help.
func final(err error) bool {
	if _, ok := errors.AsType[*hubapi.AuthError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*hubapi.NotFoundError](err); ok {
		return true // whatever answers at this URL is not HubSpot
	}
	if _, ok := errors.AsType[*mirror.ConflictError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "42P01", "3F000", "42501", "42703": // tables of hubpg are missing or not ours
			return true
		}
	}
	return false
}
