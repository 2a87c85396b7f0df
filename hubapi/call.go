package hubapi

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// Call describes one attempt, for metrics. It holds no ids, values or secrets.
type Call struct {
	Family   string // of limits: FamilyObject, …
	Class    Class
	Method   string
	Path     string // without record ids
	Status   int    // 0 when there was no whole answer
	Duration time.Duration
	Attempt  int // from 1
	Err      error
}

type countKey struct{}

// WithCount returns a context whose calls are counted in n: every attempt that goes out, with all its pages and
// repetitions, which is what HubSpot counts.
func WithCount(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, countKey{}, n)
}

// traceLayer notes when an attempt is sent and reports how it ended.
type traceLayer struct {
	observers []func(Call)
	logger    *slog.Logger
	userAgent string
	hands     *hands
	next      http.RoundTripper
}

func (l *traceLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	r := requestOf(req)
	req.Header.Set("User-Agent", l.userAgent) // req is this attempt's own copy
	r.readAt, r.open = time.Now(), true
	if n, ok := req.Context().Value(countKey{}).(*atomic.Int64); ok {
		n.Add(1)
	}
	resp, err := l.next.RoundTrip(req)
	call := Call{
		Family: r.family, Class: r.class, Method: r.method, Path: r.template,
		Duration: time.Since(r.readAt), Attempt: r.attempt, Err: err,
	}
	if err == nil {
		call.Status = resp.StatusCode
		l.hands.see(resp, time.Now())
	}
	for _, observe := range l.observers {
		observe(call)
	}
	l.logger.LogAttrs(req.Context(), slog.LevelDebug, "hubspot call",
		slog.String("method", call.Method), slog.String("path", call.Path), slog.Int("status", call.Status),
		slog.Duration("took", call.Duration), slog.Int("attempt", call.Attempt), slog.String("class", string(call.Class)))
	return resp, err
}
