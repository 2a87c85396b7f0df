package status

import (
	"net/http"
	"sync/atomic"
)

// Starting serves the health checks of a process that waits for something before it can begin: it is alive, and not ready.
type Starting struct {
	checks *Handler
	reason atomic.Pointer[string]
}

// NewStarting makes a Starting. Of cfg it needs the database and the logger.
func NewStarting(cfg Config) *Starting {
	s := &Starting{checks: NewHandler(cfg)}
	s.Wait("the process is starting")
	return s
}

// Wait says what the process waits for now.
func (s *Starting) Wait(reason string) { s.reason.Store(&reason) }

// ServeHTTP answers /healthz as a [Handler] does, and anything else with 503 and what is waited for.
func (s *Starting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		s.checks.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	s.checks.reply(w, http.StatusServiceUnavailable, answer{Reason: *s.reason.Load()})
}
