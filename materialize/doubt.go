package materialize

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hubpg/internal/mirror"
)

// doubts remembers since when HubSpot has listed nothing where a lookup table has rows. On bad days it answers an
// empty list with status 200, and a table that is read whole would be emptied by one such answer. So nothing is believed
// only when it has been said again and again, for two periods of the lookup lanes. What a process has forgotten when it
// ends is asked for again.
type doubts struct {
	mu    sync.Mutex // guards below
	since map[[2]string]time.Time
}

func newDoubts() *doubts { return &doubts{since: map[[2]string]time.Time{}} }

// of reports whether anything that was listed of a table is not believed yet.
func (d *doubts) of(table string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.since {
		if key[0] == table {
			return true
		}
	}
	return false
}

// emptyError says that an empty list is not believed yet.
type emptyError struct {
	table, scope string
	since        time.Time
	believed     time.Duration // after since
}

func (e *emptyError) Error() string {
	of := ""
	if e.scope != "" {
		of = " of " + e.scope
	}
	return fmt.Sprintf("HubSpot lists no %s%s at all, and the table has some", e.table, of)
}

func (e *emptyError) hint() string {
	return fmt.Sprintf("the table stays as it is; if HubSpot still lists nothing after %s, it is emptied", e.since.Add(e.believed).UTC().Format(time.DateTime+" MST"))
}

// believe returns an [emptyError] if a list of n rows, which is to replace what a scope of a lookup table holds, must be
// heard again first.
func (s *step) believe(ctx context.Context, table, scope string, n int) error {
	d, key := s.e.doubts, [2]string{table, scope}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > 0 {
		delete(d.since, key)
		return nil
	}
	held, err := mirror.Holds(ctx, s.e.cfg.Pool, s.e.cfg.Schema, table, scope)
	if err != nil || !held {
		return err
	}
	since, ok := d.since[key]
	if !ok {
		since = time.Now()
		d.since[key] = since
	}
	believed := 2 * s.e.cfg.Pace.Lookups
	if time.Since(since) >= believed {
		delete(d.since, key)
		return nil
	}
	return &emptyError{table: table, scope: scope, since: since, believed: believed}
}
