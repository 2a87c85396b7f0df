package materialize

import (
	"context"
	"time"

	"hubpg/internal/mirror"
)

// pruneLog makes the next partitions of the change log and drops those past their retention.
func (s *step) pruneLog(ctx context.Context) (time.Duration, error) {
	if err := mirror.MaintainChangeLog(ctx, s.e.cfg.Pool, s.e.cfg.KeepChanges); err != nil {
		return 0, err
	}
	return s.e.cfg.Pace.Log, nil
}
