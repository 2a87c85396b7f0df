package sandbox

import (
	"maps"
	"sync"
)

// stats counts calls.
type stats struct {
	mu       sync.Mutex // guards below
	calls    int64
	byFamily map[string]int64
	byStatus map[int]int64
}

func newStats() *stats {
	return &stats{byFamily: map[string]int64{}, byStatus: map[int]int64{}}
}

func (s *stats) count(family string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.byFamily[family]++
	s.byStatus[status]++
}

// Stats returns the counts since the server was made or [Server.ResetStats] was called. A dropped
// connection has status 0.
func (s *Server) Stats() Stats {
	st := Stats{}
	s.stats.mu.Lock()
	st.Calls = s.stats.calls
	st.ByFamily = maps.Clone(s.stats.byFamily)
	st.ByStatus = maps.Clone(s.stats.byStatus)
	s.stats.mu.Unlock()

	s.limiter.mu.Lock()
	st.RateLimited = maps.Clone(s.limiter.limited)
	st.Violations = maps.Clone(s.limiter.violations)
	st.Peak = maps.Clone(s.limiter.peak)
	st.DailyUsed = s.limiter.daily
	s.limiter.mu.Unlock()

	s.webhooks.mu.Lock()
	st.Webhooks = s.webhooks.stats
	st.Webhooks.Pending = len(s.webhooks.pending) + s.webhooks.sending
	s.webhooks.mu.Unlock()

	s.account.mu.RLock()
	st.Changes = s.account.changes
	s.account.mu.RUnlock()
	return st
}

// ResetStats sets the counts to zero. The limiters' windows and the daily count go on.
func (s *Server) ResetStats() {
	s.stats.mu.Lock()
	s.stats.calls = 0
	clear(s.stats.byFamily)
	clear(s.stats.byStatus)
	s.stats.mu.Unlock()

	s.webhooks.mu.Lock()
	s.webhooks.stats = WebhookStats{}
	s.webhooks.mu.Unlock()

	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	clear(s.limiter.limited)
	clear(s.limiter.violations)
	clear(s.limiter.peak)
}
