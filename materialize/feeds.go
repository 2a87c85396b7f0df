package materialize

import (
	"context"

	"github.com/riverqueue/river"
)

// withJournal adds the queue of the journal's lane in a process that can read it.
func (e *Engine) withJournal(queues map[string]river.QueueConfig) map[string]river.QueueConfig {
	if e.cfg.Journal != nil {
		queues[queue(e.portal, LaneJournal)] = river.QueueConfig{MaxWorkers: 1}
	}
	return queues
}

// ensureFeeds starts the lanes that hear what HubSpot tells by itself. The news may come from a receiver in another process.
func (e *Engine) ensureFeeds(ctx context.Context) error {
	lanes := []laneArgs{{e.portal, "", LaneNews}}
	if e.cfg.Journal != nil {
		lanes = append(lanes, laneArgs{e.portal, "", LaneJournal})
	}
	return e.ensureLanes(ctx, lanes...)
}
