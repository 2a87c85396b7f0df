package materialize

import (
	"context"
	"sync/atomic"
	"time"

	"hubpg/hubapi"
)

// step is one run of a lane: its identity, its share of the quota, and what it has cost so far. All calls to HubSpot
// of a lane go through its step, which counts them.
type step struct {
	e        *Engine
	args     laneArgs
	client   *hubapi.Client
	deadline time.Time // aim, not limit: a step looks at it between bounded pieces of work
	count    atomic.Int64
	rows     atomic.Int64
	phase    string // of the table, at the last commit
}

func newStep(e *Engine, a laneArgs) *step {
	return &step{
		e:        e,
		args:     a,
		client:   e.cfg.Client.As(a.Lane.class()),
		deadline: time.Now().Add(e.cfg.Pace.Step),
	}
}

func (s *step) calls() int { return int(s.count.Load()) }

// over says whether the step has had its time.
func (s *step) over() bool { return time.Now().After(s.deadline) }

func (s *step) list(ctx context.Context, path string, o hubapi.ListOptions) (*hubapi.Page, error) {
	s.count.Add(1)
	return s.client.ListObjects(ctx, path, o)
}

func (s *step) read(ctx context.Context, path string, ids []int64, p *hubapi.Projection) (*hubapi.BatchResult, error) {
	s.count.Add(1)
	return s.client.BatchRead(ctx, path, ids, p)
}

func (s *step) search(ctx context.Context, path string, r hubapi.SearchRequest) (*hubapi.SearchResult, error) {
	s.count.Add(1)
	return s.client.Search(ctx, path, r)
}
