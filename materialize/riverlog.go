package materialize

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// riverQuiet is how long a message of River's is not repeated: while Postgres is away, each of its services has the same
// to say many times a second, and the life sign has said it once for all.
const riverQuiet = time.Minute

// riverLog passes on what River has to say from Warn upwards, each message once in a while; its life-cycle messages are
// not the user's.
type riverLog struct {
	slog.Handler
	last *lastSaid
}

// lastSaid remembers when which message was passed on. The messages are constants of River's, so it stays small.
type lastSaid struct {
	mu sync.Mutex // guards below
	at map[string]time.Time
}

func newRiverLog(h slog.Handler) *slog.Logger {
	return slog.New(&riverLog{h, &lastSaid{at: map[string]time.Time{}}})
}

// Enabled drops everything below Warn.
func (h *riverLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// Handle drops what was said a moment ago.
func (h *riverLog) Handle(ctx context.Context, r slog.Record) error {
	h.last.mu.Lock()
	said, ok := h.last.at[r.Message]
	if ok && r.Time.Sub(said) < riverQuiet {
		h.last.mu.Unlock()
		return nil
	}
	h.last.at[r.Message] = r.Time
	h.last.mu.Unlock()
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the threshold.
func (h *riverLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &riverLog{h.Handler.WithAttrs(attrs), h.last}
}

// WithGroup keeps the threshold.
func (h *riverLog) WithGroup(name string) slog.Handler {
	return &riverLog{h.Handler.WithGroup(name), h.last}
}
