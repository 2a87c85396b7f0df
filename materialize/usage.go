package materialize

import (
	"context"
	"errors"
	"sync"
	"time"

	"hubpg/hubapi"
)

// usageAge is how old HubSpot's record counts may grow; they show progress and decide nothing.
const usageAge = time.Minute

// usage is HubSpot's own count of records by type id.
type usage struct {
	mu     sync.Mutex // guards below; held while HubSpot is asked, so that many tables ask once
	counts map[string]hubapi.RecordUsage
	read   time.Time
}

// usage returns how many records HubSpot says a type has, 0 when it does not say.
func (e *Engine) usage(ctx context.Context, s *step, t *target) (int64, error) {
	u := &e.counts
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.read) > usageAge {
		counts, err := s.client.GetRecordLimits(ctx)
		if _, throttled := errors.AsType[*hubapi.RateError](err); throttled || ctx.Err() != nil {
			return 0, err
		}
		u.counts, u.read = counts, time.Now() // none if HubSpot refuses
	}
	if n, ok := u.counts[t.table.ObjectType]; ok {
		return n.Usage, nil
	}
	// The counts do not cover every type; the search index knows, a moment late.
	res, err := s.search(ctx, t.table.Path, hubapi.SearchRequest{Limit: 1})
	if _, throttled := errors.AsType[*hubapi.RateError](err); throttled || ctx.Err() != nil {
		return 0, err
	}
	if err != nil {
		return 0, nil //nolint:nilerr // the listing will say what is wrong, if anything is
	}
	return int64(res.Total), nil
}
