package materialize

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"hubpg/hubapi"
)

// step is one run of a lane: its identity, its share of the quota, and what it has cost so far.
type step struct {
	e        *Engine
	args     laneArgs
	client   *hubapi.Client
	deadline time.Time // aim, not limit: a step looks at it between bounded pieces of work
	count    atomic.Int64
	rows     atomic.Int64
	lapped   time.Time       // up to when its time has been counted as work on a pass
	entered                  // of the table, at the last commit
	foreign  map[string]bool // schema lane: lookup tables whose name something else has
	hidden   bool            // schema lane: HubSpot does not show the custom objects
}

// longSteps is how many times longer than others a lane may work that reads a whole table: the end of each step costs a
// moment in which its share of the quota goes unused.
const longSteps = 4

func newStep(e *Engine, a laneArgs) *step {
	lasting := e.cfg.Pace.Step
	switch a.Lane {
	case LaneBackfill, LaneFill, LanePairs:
		lasting = min(longSteps*lasting, jobTimeout/2)
	}
	return &step{
		e:        e,
		args:     a,
		client:   e.cfg.Client.As(a.Lane.class()),
		deadline: time.Now().Add(lasting),
		lapped:   time.Now(),
	}
}

// lap is how long the step has worked since it was asked last.
func (s *step) lap() time.Duration {
	now := time.Now()
	lap := now.Sub(s.lapped)
	s.lapped = now
	return lap
}

func (s *step) calls() int { return int(s.count.Load()) }

// over says whether the step has had its time.
func (s *step) over() bool { return time.Now().After(s.deadline) }

func (s *step) list(ctx context.Context, path string, o hubapi.ListOptions) (*hubapi.Page, error) {
	return s.client.ListObjects(ctx, path, o)
}

func (s *step) read(ctx context.Context, path string, ids []int64, p *hubapi.Projection) (*hubapi.BatchResult, error) {
	return batchRead(ctx, s.client, path, ids, p)
}

// batchRead reads records by id, in parts where the answer would be too large.
func batchRead(ctx context.Context, client *hubapi.Client, path string, ids []int64, p *hubapi.Projection) (*hubapi.BatchResult, error) {
	got, err := client.BatchRead(ctx, path, ids, p)
	if _, large := errors.AsType[*hubapi.TooLargeError](err); !large || len(ids) == 1 {
		return got, err
	}
	half := len(ids) / 2
	if got, err = batchRead(ctx, client, path, ids[:half], p); err != nil {
		return nil, err
	}
	rest, err := batchRead(ctx, client, path, ids[half:], p)
	if err != nil {
		return nil, err
	}
	got.Add(rest)
	return got, nil
}

func (s *step) search(ctx context.Context, path string, r hubapi.SearchRequest) (*hubapi.SearchResult, error) {
	return s.client.Search(ctx, path, r)
}
