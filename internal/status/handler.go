package status

import (
	"context"
	_ "embed" // the page
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"
)

// Deadlines of the questions to Postgres.
const (
	pingTimeout = 3 * time.Second
	readTimeout = 5 * time.Second
)

// Database is what the handlers ask: a pgx pool.
type Database interface {
	Querier
	Ping(ctx context.Context) error
}

// Handler serves the page at /, its data at /status.json, and the health checks.
type Handler struct {
	cfg    Config
	page   *template.Template
	mux    *http.ServeMux
	flight singleflight.Group
}

// Config says what a Handler shows.
type Config struct {
	Database Database
	Version  string
	Role     string
	Quota    func() []Quota // nil where no quota is spent
	Awaits   func() string  // what this process has yet to reach before it can serve, "" once it has; nil where it need not
	Metrics  http.Handler   // served at /metrics; nil for none
	Logger   *slog.Logger
}

// Quota is one of HubSpot's limits as this process uses it.
type Quota struct {
	Bucket      string     `json:"bucket"`
	Limit       float64    `json:"limit_per_second"` // what HubSpot allows the account
	Granted     int64      `json:"granted"`          // calls of this process
	Waiting     int        `json:"waiting"`
	PausedUntil *time.Time `json:"paused_until,omitempty"`
}

//go:embed page.html
var pageText string

// NewHandler makes a Handler.
func NewHandler(cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux()}
	h.page = template.Must(template.New("page").Funcs(functions).Parse(pageText))
	h.mux.HandleFunc("GET /{$}", h.servePage)
	h.mux.HandleFunc("GET /status.json", h.serveJSON)
	h.mux.HandleFunc("GET /healthz", h.serveHealth)
	h.mux.HandleFunc("GET /readyz", h.serveReady)
	if cfg.Metrics != nil {
		h.mux.Handle("GET /metrics", cfg.Metrics)
	}
	return h
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.mux.ServeHTTP(w, r)
}

// answer is the body of a health check.
type answer struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// serveHealth says whether the process is alive and reaches Postgres. A process that is only not ready yet is healthy.
func (h *Handler) serveHealth(w http.ResponseWriter, r *http.Request) {
	_, err := h.once(r.Context(), "ping", pingTimeout, func(ctx context.Context) (*Report, error) { return nil, h.cfg.Database.Ping(ctx) })
	if err != nil {
		h.cfg.Logger.Debug("health check failed", slog.Any("error", err))
		h.reply(w, http.StatusServiceUnavailable, answer{Reason: "the database is unreachable"})
		return
	}
	h.reply(w, http.StatusOK, answer{OK: true})
}

// serveReady says whether the first backfill of every table is complete, and this process has what it needs to serve.
func (h *Handler) serveReady(w http.ResponseWriter, r *http.Request) {
	report, reason := h.read(r.Context())
	switch {
	case report == nil:
		h.reply(w, http.StatusServiceUnavailable, answer{Reason: reason})
	case !report.Ready:
		h.reply(w, http.StatusServiceUnavailable, answer{Reason: report.Reason})
	default:
		if missing := h.awaits(); missing != "" {
			h.reply(w, http.StatusServiceUnavailable, answer{Reason: missing})
			return
		}
		h.reply(w, http.StatusOK, answer{OK: true})
	}
}

func (h *Handler) awaits() string {
	if h.cfg.Awaits == nil {
		return ""
	}
	return h.cfg.Awaits()
}

func (h *Handler) serveJSON(w http.ResponseWriter, r *http.Request) {
	report, reason := h.read(r.Context())
	if report == nil {
		h.reply(w, http.StatusServiceUnavailable, answer{Reason: reason})
		return
	}
	h.reply(w, http.StatusOK, struct {
		*Report
		Quota []Quota `json:"quota,omitempty"`
	}{report, h.quota()})
}

func (h *Handler) servePage(w http.ResponseWriter, r *http.Request) {
	report, reason := h.read(r.Context())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	err := h.page.Execute(w, map[string]any{
		"Version": h.cfg.Version, "Role": h.cfg.Role, "Report": report, "Reason": reason, "Quota": h.quota(),
	})
	if err != nil { // the reader has gone, or the page has a bug that its test would show
		h.cfg.Logger.Debug("page not delivered", slog.Any("error", err))
	}
}

// read reads the report, or says in words for the reader why that is impossible.
func (h *Handler) read(ctx context.Context) (*Report, string) {
	report, err := h.once(ctx, "read", readTimeout, func(ctx context.Context) (*Report, error) { return Read(ctx, h.cfg.Database) })
	if err == nil {
		return report, ""
	}
	if errors.Is(err, ErrNoSchema) {
		return nil, ErrNoSchema.Error()
	}
	h.cfg.Logger.Debug("status not read", slog.Any("error", err))
	return nil, "the database is unreachable"
}

// once asks the database on behalf of all who want the same at one time: it is that of the lanes and of the proxy, who wait for the
// same connections, and anybody who reaches the address may ask.
func (h *Handler) once(ctx context.Context, what string, within time.Duration, ask func(context.Context) (*Report, error)) (*Report, error) {
	answer, err, _ := h.flight.Do(what, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		return ask(ctx)
	})
	report, _ := answer.(*Report)
	return report, err
}

func (h *Handler) quota() []Quota {
	if h.cfg.Quota == nil {
		return nil
	}
	return h.cfg.Quota()
}

func (h *Handler) reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.cfg.Logger.Debug("answer not delivered", slog.Any("error", err))
	}
}
