package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"hubpg/hubapi"
	"hubpg/internal/budget"
)

// Lane is one detector of change. Each lane of each table is one River job that does a bounded step and snoozes.
type Lane string

// The lanes. Those of the account have no table.
const (
	LaneSchema     Lane = "schema"       // account: object types, properties, pipelines, owners
	LanePending    Lane = "pending"      // account: associations of changed records
	LaneCounts     Lane = "counts"       // account: how many records there are
	LaneLog        Lane = "log"          // account: partitions and retention of the change log
	LaneBackfill   Lane = "backfill"     // object: every record, once
	LaneFollow     Lane = "follow"       // object: what changed just now
	LaneTrailing   Lane = "trailing"     // object: the last hour again
	LaneFill       Lane = "fill"         // object: properties younger than the table
	LaneArchived   Lane = "archived"     // object: records in the recycle bin
	LaneIDs        Lane = "ids"          // object: records that are not there any more, or not here yet
	LaneCalculated Lane = "calculated"   // object: values that HubSpot sets by itself
	LanePairs      Lane = "associations" // association table: every edge, again and again
	LaneLookup     Lane = "lookup"       // lists, forms, marketing objects and what is in them
)

// laneArgs identifies a lane; it is the whole content of its job.
type laneArgs struct {
	Portal int64  `json:"portal"`
	Table  string `json:"table"`
	Lane   Lane   `json:"lane"`
}

// Kind names the one kind of job there is.
func (laneArgs) Kind() string { return laneKind }

const laneKind = "hubpg_lane"

// queue names the River queue of a group of lanes. Each group has workers of its own, so that a long backfill never
// holds up what keeps tables fresh; each account has queues of its own, since a process holds one account's token. The
// journal's is worked by processes that have the app's token, too.
func queue(portal int64, l Lane) string {
	group := "fresh"
	switch l {
	case LaneBackfill, LaneFill, LanePairs:
		group = "backfill"
	case LaneArchived, LaneIDs, LaneTrailing, LaneLookup, LaneCalculated, LaneCounts, LaneLog:
		group = "sweeps"
	}
	if l == LaneJournal {
		group = "journal"
	}
	return "p" + strconv.FormatInt(portal, 10) + "_" + group
}

// queues names all queues of an account.
func queues(portal int64) []string {
	return []string{queue(portal, LaneFollow), queue(portal, LaneBackfill), queue(portal, LaneArchived), queue(portal, LaneJournal)}
}

// class is the share of the quota that a lane draws on.
func (l Lane) class() hubapi.Class {
	switch l {
	case LaneBackfill, LaneFill:
		return hubapi.Backfill
	case LaneArchived, LaneIDs, LaneTrailing, LaneLookup, LaneCalculated, LaneCounts, LanePairs:
		return hubapi.Sweeps
	default:
		return hubapi.Fresh
	}
}

// maxAttempts is River's largest: a lane is never given up. Its failures are counted by the Engine.
const maxAttempts = 32767

func (a laneArgs) options() *river.InsertOpts {
	return &river.InsertOpts{
		Queue:       queue(a.Portal, a.Lane),
		MaxAttempts: maxAttempts,
		UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
			rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
			rivertype.JobStateRunning, rivertype.JobStateScheduled,
		}},
	}
}

// noteWithin bounds how long the outcome of a step that hung may take to write.
const noteWithin = 10 * time.Second

// errEnded is returned by a step whose lane has nothing left to do, ever; the job is then complete.
var errEnded = errors.New("lane has ended")

// worker runs steps of lanes for River.
type worker struct {
	river.WorkerDefaults[laneArgs]
	engine *Engine
}

// Timeout bounds one step.
func (*worker) Timeout(*river.Job[laneArgs]) time.Duration { return jobTimeout }

// Work runs one step. It never returns an error to River: what failed is recorded with its remedy, and the lane comes
// back after a pause that grows with every failure.
func (w *worker) Work(ctx context.Context, job *river.Job[laneArgs]) error {
	e, a := w.engine, job.Args
	e.running.add(job.ID)
	defer e.running.remove(job.ID)

	if wait := e.pause.wait(); wait > 0 {
		return river.JobSnooze(jitter(wait))
	}
	s := newStep(e, a)
	e.spent.begin(s)
	defer e.spent.end(s)
	start := time.Now()
	next, err := s.run(ctx)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return river.JobSnooze(0) // shutting down: whoever comes next goes on from the cursor
	}
	if ctx.Err() != nil { // the step hung, but what it has to say must still be written
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
		defer cancel()
	}
	own, reported := errors.AsType[*selfReported](err)
	told := err
	if errors.Is(err, errEnded) || errors.Is(err, errMoved) || errors.Is(err, errSchemaMoved) {
		told = nil // how lanes end or give way, not failures
	}
	e.cfg.Meter.Step(Step{
		Lane: a.Lane, Table: a.Table, Calls: s.calls(), Rows: int(s.rows.Load()), Took: time.Since(start), Err: told,
	})
	switch {
	case errors.Is(err, errEnded):
		e.succeeded(ctx, a, s.calls(), true, lookAgain)
		e.faults.forget(a)
		return nil
	case errors.Is(err, errMoved), errors.Is(err, errSchemaMoved):
		// Not a failure: another worker or the schema lane was first, and nothing was stored.
		return river.JobSnooze(jitter(50 * time.Millisecond))
	case reported:
		return river.JobSnooze(own.wait)
	case unreadable(err) && e.gone(ctx, a.Table):
		e.faults.forget(a)
		return nil
	case err != nil:
		return river.JobSnooze(e.failed(ctx, a, err))
	}
	next = min(max(next, 0), lookAgain)
	e.succeeded(ctx, a, s.calls(), s.failing == a.Lane, next)
	return river.JobSnooze(next)
}

// caught turns a panic, in whose course it is called, into an error.
func (s *step) caught(err *error) {
	if p := recover(); p != nil {
		s.e.log.Error("lane panicked", slog.String("lane", string(s.args.Lane)), slog.String("object", s.args.Table),
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		*err = fmt.Errorf("%s: internal error: %v", s.args.Lane, p)
	}
}

// run does the step and turns a panic into an error.
func (s *step) run(ctx context.Context) (next time.Duration, err error) {
	defer s.caught(&err)
	ctx = budget.Piece(hubapi.WithCount(ctx, &s.count))
	switch s.args.Lane {
	case LaneSchema:
		return s.schema(ctx)
	case LanePending:
		return s.pending(ctx)
	case LaneNews:
		return s.news(ctx)
	case LaneJournal:
		return s.journal(ctx)
	case LaneLog:
		return s.pruneLog(ctx)
	case LaneBackfill:
		return s.backfill(ctx)
	case LaneFollow:
		return s.follow(ctx)
	case LaneTrailing:
		return s.trailing(ctx)
	case LaneFill:
		return s.fill(ctx)
	case LaneArchived:
		return s.archived(ctx)
	case LaneIDs:
		return s.ids(ctx)
	case LanePairs:
		return s.pairs(ctx)
	case LaneCalculated:
		return s.calculated(ctx)
	case LaneCounts:
		return s.counts(ctx)
	case LaneLookup:
		return s.lookup(ctx)
	default:
		return 0, fmt.Errorf("unknown lane %q: started by a newer version?", s.args.Lane)
	}
}
