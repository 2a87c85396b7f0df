package materialize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/changes"
)

// Bounds of a delivery.
const (
	maxDelivery       = 8 << 20 // bytes: 100 events whose values are as long as HubSpot lets them be
	maxDeliveryEvents = 100     // HubSpot sends no more
	deliveriesAtOnce  = 16      // HubSpot sends ten at a time unless told otherwise
	deliveryTimeout   = 4 * time.Second
)

// Reasons for which a delivery is refused.
const (
	refusedMethod    = "method"
	refusedSignature = "signature"
	refusedSize      = "size"
	refusedMalformed = "malformed"
	refusedBusy      = "busy"
	refusedStorage   = "storage"
)

// ReceiverConfig says whose webhooks are believed. Pool and Secret are required.
type ReceiverConfig struct {
	// Pool leads to the database that an Engine keeps; the Engine may run in another process.
	Pool *pgxpool.Pool
	// Schema is the schema of the account's tables; "hubspot" by default.
	Schema string
	// Secret is the client secret of the app whose webhooks these are. It is never logged.
	Secret string
	// Legacy accepts signatures of versions 1 and 2, which can be replayed at any time, where there is none of version 3.
	Legacy bool
	// URL is the address that HubSpot calls, which is part of what it signs. Empty: what the request itself says, by its
	// Host and X-Forwarded-Proto.
	URL string
	// Logger is told what needs a human; nil discards.
	Logger *slog.Logger
}

// Receiver is the [http.Handler] that takes HubSpot's webhooks.
//
// It believes nothing of what a delivery says about records: whatever is named is read from HubSpot soon, and only what
// is read reaches the tables. Lost, repeated, late and disordered deliveries are therefore harmless. A delivery is
// answered with 204 once its records stand in the database; anything else makes HubSpot deliver it again.
//
//	405  not POST              401  signature wrong, missing, or older than five minutes
//	413  over 8 MiB            400  not a list of at most 100 events
//	503  too many at once, or Postgres is away
//
// A Receiver may be used by any number of goroutines, and an account may have any number of them.
type Receiver struct {
	cfg      ReceiverConfig
	log      *slog.Logger
	verifier hubapi.WebhookVerifier
	subjects map[string]string
	slots    chan struct{} // one for each delivery under way
	portal   atomic.Int64  // 0 until it is known

	mu         sync.Mutex // guards below
	stats      ReceiverStats
	complained bool
}

// ReceiverStats count what a Receiver has been sent since it was made.
type ReceiverStats struct {
	Deliveries int64            // stored
	Events     int64            // in them
	Refused    map[string]int64 // deliveries, by reason: method, signature, size, malformed, busy, storage
}

// NewReceiver checks the configuration. Nothing is asked of the database before the first delivery.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if cfg.Pool == nil || cfg.Secret == "" {
		return nil, errors.New("create webhook receiver: Pool and Secret are required")
	}
	if cfg.Schema == "" {
		cfg.Schema = "hubspot"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Receiver{
		cfg: cfg, log: cfg.Logger, verifier: hubapi.WebhookVerifier{Secret: cfg.Secret, Legacy: cfg.Legacy},
		subjects: subjects(), slots: make(chan struct{}, deliveriesAtOnce),
		stats: ReceiverStats{Refused: map[string]int64{}},
	}, nil
}

// Stats returns the counts so far.
func (r *Receiver) Stats() ReceiverStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Refused = maps.Clone(s.Refused)
	return s
}

// ServeHTTP takes one delivery.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		r.refuse(w, http.StatusMethodNotAllowed, refusedMethod)
		return
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		r.refuse(w, http.StatusServiceUnavailable, refusedBusy)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), deliveryTimeout)
	defer cancel()
	body, reason := r.body(w, req)
	switch reason {
	case refusedSize:
		r.refuse(w, http.StatusRequestEntityTooLarge, reason)
		return
	case refusedMalformed:
		r.refuse(w, http.StatusBadRequest, reason)
		return
	}
	delivery := hubapi.Delivery{Method: req.Method, URL: r.address(req), Header: req.Header, Body: body}
	if err := r.verifier.Verify(delivery, time.Now()); err != nil {
		r.refuse(w, http.StatusUnauthorized, refusedSignature)
		if signed(req) {
			r.complain(ctx, delivery.URL)
		}
		return
	}
	events, err := hubapi.ParseWebhook(body)
	if err != nil || len(events) > maxDeliveryEvents {
		r.refuse(w, http.StatusBadRequest, refusedMalformed)
		return
	}
	if err := r.note(ctx, events); err != nil {
		r.log.Warn("webhooks were not stored, HubSpot will send them again", slog.String("error", err.Error()))
		r.refuse(w, http.StatusServiceUnavailable, refusedStorage)
		return
	}
	r.mu.Lock()
	r.stats.Deliveries++
	r.stats.Events += int64(len(events))
	r.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// body reads the request's body, or says why it is refused. A request without any signature is not read at all.
func (r *Receiver) body(w http.ResponseWriter, req *http.Request) (body []byte, reason string) {
	if !signed(req) {
		return nil, ""
	}
	// A sender that stalls would hold its slot; not every ResponseWriter can set a deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(deliveryTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxDelivery))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, refusedSize
	}
	if err != nil {
		return nil, refusedMalformed
	}
	return body, ""
}

// signed says that a request claims to be HubSpot's.
func signed(req *http.Request) bool {
	return req.Header.Get("X-HubSpot-Signature-v3") != "" || req.Header.Get("X-HubSpot-Signature") != ""
}

// address is the URL as HubSpot called it.
func (r *Receiver) address(req *http.Request) string {
	if r.cfg.URL != "" {
		if req.URL.RawQuery == "" {
			return r.cfg.URL
		}
		base, _, _ := strings.Cut(r.cfg.URL, "?")
		return base + "?" + req.URL.RawQuery
	}
	scheme := "http"
	if forwarded := req.Header.Get("X-Forwarded-Proto"); forwarded == "https" || req.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + req.Host + req.URL.RequestURI()
}

func (r *Receiver) refuse(w http.ResponseWriter, status int, reason string) {
	r.mu.Lock()
	r.stats.Refused[reason]++
	r.mu.Unlock()
	http.Error(w, http.StatusText(status), status)
}

// note stores what the events name, in one statement, with the state of the feed.
func (r *Receiver) note(ctx context.Context, events []hubapi.WebhookEvent) error {
	portal, err := r.account(ctx)
	if err != nil {
		return err
	}
	m, newest := newMentions(), time.Time{}
	for i := range events {
		if e := &events[i]; e.PortalID == portal {
			m.webhook(e, r.subjects)
			if e.OccurredAt.After(newest) {
				newest = e.OccurredAt
			}
		} else {
			m.took(false) // the app is installed in other accounts too
		}
	}
	_, err = r.cfg.Pool.Exec(ctx, noteMentions+`
insert into hubpg.feed_state as f (portal_id, feed, events, ignored, last_event_at, heard_at)
select $1::bigint, $2::text, $7::bigint, $8::bigint + (select count(*) from said) - (select count(*) from known),
	$9::timestamptz, clock_timestamp()
on conflict (portal_id, feed) do update
set events = f.events + excluded.events, ignored = f.ignored + excluded.ignored,
	last_event_at = greatest(f.last_event_at, excluded.last_event_at), heard_at = excluded.heard_at,
	last_error = null, hint = null, error_at = null`,
		append(m.arguments(portal, changes.Webhook), m.events, m.ignored, instant(newest))...)
	if err != nil {
		return fmt.Errorf("note webhooks: %w", err)
	}
	return nil
}

// account is the account of the schema.
func (r *Receiver) account(ctx context.Context) (int64, error) {
	if portal := r.portal.Load(); portal != 0 {
		return portal, nil
	}
	var portal int64
	err := r.cfg.Pool.QueryRow(ctx, `select portal_id from hubpg.accounts where schema_name = $1`, r.cfg.Schema).Scan(&portal)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("schema %s holds no account yet", r.cfg.Schema)
	}
	if err != nil {
		return 0, fmt.Errorf("look for the account: %w", err)
	}
	r.portal.Store(portal)
	return portal, nil
}

// complain says, once, that no delivery so far could be believed: then it is not somebody's forgery but a wrong setting. A
// complaint that could not be stored is made again with the next.
func (r *Receiver) complain(ctx context.Context, address string) {
	r.mu.Lock()
	first := !r.complained && r.stats.Deliveries == 0
	r.complained = true
	r.mu.Unlock()
	if !first {
		return
	}
	const problem = "a delivery was refused: its signature does not match, or its time is more than five minutes off"
	hint := "check that hubspot.client_secret is that of the app that sends the webhooks, that webhooks.url is the address that " +
		"HubSpot calls (" + cut(strings.ToValidUTF8(address, "")) + " was assumed), and the clock of this machine"
	if !r.cfg.Legacy {
		hint += "; an app that signs with version 1 or 2 only needs webhooks.signatures: any"
	}
	r.log.Warn(problem, slog.String("hint", hint))
	portal, err := r.account(ctx)
	if err == nil {
		_, err = r.cfg.Pool.Exec(ctx, `
insert into hubpg.feed_state as f (portal_id, feed, last_error, hint, error_at)
values ($1, $2, $3, $4, clock_timestamp())
on conflict (portal_id, feed) do update
set last_error = excluded.last_error, hint = excluded.hint, error_at = excluded.error_at
where f.heard_at is null`, portal, changes.Webhook, problem, hint)
	}
	if err != nil {
		r.log.Warn("show failure of webhooks", slog.String("error", err.Error()))
		r.mu.Lock()
		r.complained = false
		r.mu.Unlock()
	}
}
