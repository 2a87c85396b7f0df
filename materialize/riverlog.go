package materialize

import (
	"context"
	"log/slog"
)

// riverLog passes on what River has to say from Warn upwards; its life-cycle messages are not the user's.
type riverLog struct{ slog.Handler }

// Enabled drops everything below Warn.
func (h *riverLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// WithAttrs keeps the threshold.
func (h *riverLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &riverLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the threshold.
func (h *riverLog) WithGroup(name string) slog.Handler { return &riverLog{h.Handler.WithGroup(name)} }
