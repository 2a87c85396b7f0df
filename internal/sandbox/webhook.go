package sandbox

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxWebhookSubscriptions = 1000
	minWebhookConcurrency   = 6
	// maxWebhooksPending bounds the deliveries that wait; those past it are dropped and counted.
	maxWebhooksPending = 500_000
)

// Webhooks bends the delivery of webhooks.
type Webhooks struct {
	// RetryOver is the time over which ten retries are spread (default 24 hours).
	RetryOver time.Duration
	// Delay is how late an event sets out at most (default 0: at once).
	Delay time.Duration
	// Timeout is how long a receiver may take (default 5 seconds).
	Timeout time.Duration
	// Shuffle sends events in any order; otherwise those of one moment come in theirs.
	Shuffle bool
	// Duplicates is the probability that an event is sent twice.
	Duplicates float64
	// V2 signs with version 2 instead of 1 in the older header. Version 3 is always there.
	V2 bool
}

// WebhookSubscription is what an app wants to hear of.
type WebhookSubscription struct {
	ID int64 `json:"id"`
	// EventType is for example contact.propertyChange, or object.creation with an ObjectTypeID.
	EventType string `json:"eventType"`
	// PropertyName is the property of a propertyChange.
	PropertyName string `json:"propertyName"`
	ObjectTypeID string `json:"objectTypeId"`
	Active       bool   `json:"active"`
	CreatedAt    int64  `json:"createdAt"`
	UpdatedAt    int64  `json:"updatedAt"`
}

// webhooks are all apps' subscriptions and what is to be delivered to them.
type webhooks struct {
	active atomic.Int64  // active subscriptions with a target
	wake   chan struct{} // of size 1: something is to be sent

	mu        sync.Mutex // guards below
	hooks     map[int64]*hook
	pending   []*delivery
	sending   int
	lastSub   int64
	lastEvent int64
	rng       *rand.Rand
	stats     WebhookStats
}

// WebhookStats counts deliveries.
type WebhookStats struct {
	// Events were due to subscribers; Requests were sent, Failed of them failed.
	Events   int64 `json:"events"`
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
	// Retried events were sent again, Duplicated ones twice on purpose, GivenUp ones failed ten retries, Dropped ones
	// found no place to wait.
	Retried    int64 `json:"retried"`
	Duplicated int64 `json:"duplicated"`
	GivenUp    int64 `json:"givenUp"`
	Dropped    int64 `json:"dropped"`
	// Pending events wait to be sent or answered.
	Pending int `json:"pending"`
}

// hook is the webhooks of one app.
type hook struct {
	app        *app
	target     string
	concurrent int
	created    int64
	updated    int64
	subs       []*WebhookSubscription
}

func newWebhooks(cfg Config, apps []*app) *webhooks {
	w := &webhooks{
		wake: make(chan struct{}, 1), hooks: map[int64]*hook{}, lastSub: 24, lastEvent: 3_816_279_339,
		rng: rand.New(rand.NewPCG(uint64(cfg.Seed), 0x776562)),
	}
	for _, a := range apps {
		w.hooks[a.ID] = &hook{app: a, concurrent: 10}
	}
	return w
}

// eventTypes are what can be subscribed to, without the object.* ones.
func webhookEventType(eventType string) (subject, verb string, ok bool) {
	subject, verb, _ = strings.Cut(eventType, ".")
	verbs := []string{"creation", "deletion", "merge", "restore", "propertyChange", "associationChange"}
	switch subject {
	case "contact":
		verbs = append(verbs, "privacyDeletion")
	case "product":
		verbs = verbs[:5]
	case "company", "deal", "ticket", "line_item", "object":
	default:
		return "", "", false
	}
	return subject, verb, slices.Contains(verbs, verb)
}

// validTarget tells whether events may be sent to a URL: https, or a loopback address.
func validTarget(target string) bool {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// check says what is wrong with a subscription.
func (s *Server) checkSubscription(sub *WebhookSubscription) string {
	subject, verb, ok := webhookEventType(sub.EventType)
	switch {
	case !ok:
		return fmt.Sprintf("Unknown event type %q", sub.EventType)
	case subject == "object" && sub.ObjectTypeID == "":
		return "objectTypeId is required for object events"
	case (verb == "propertyChange") != (sub.PropertyName != ""):
		return "propertyName is required for propertyChange events and not allowed for others"
	case sub.PropertyName == "hs_lastmodifieddate", sub.PropertyName == "lastmodifieddate",
		sub.PropertyName == "num_unique_conversion_events":
		return fmt.Sprintf("Property %q cannot be subscribed to", sub.PropertyName)
	}
	if subject == "object" {
		var t *table
		s.account.view(func() { t = s.account.table(sub.ObjectTypeID) })
		if t == nil {
			return "Unable to infer object type from: " + sub.ObjectTypeID
		}
		sub.ObjectTypeID = t.kind.typeID
	}
	return ""
}

// SetWebhookTarget makes an app's events go to a URL: https, or http on a loopback address.
func (s *Server) SetWebhookTarget(clientID, targetURL string, maxConcurrent int) error {
	a := s.oauth.app(clientID)
	switch {
	case a == nil:
		return fmt.Errorf("app %s: %w", clientID, ErrNotFound)
	case !validTarget(targetURL):
		return fmt.Errorf("%w: target of webhooks", ErrInvalid)
	case maxConcurrent < minWebhookConcurrency:
		return fmt.Errorf("%w: at least %d concurrent requests", ErrInvalid, minWebhookConcurrency)
	}
	s.webhooks.setTarget(a, targetURL, maxConcurrent)
	return nil
}

func (w *webhooks) setTarget(a *app, target string, concurrent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hooks[a.ID]
	now := nowMS()
	if h.created == 0 {
		h.created = now
	}
	h.target, h.concurrent, h.updated = target, concurrent, now
	w.recount()
}

// recount counts the active subscriptions; mu is held.
func (w *webhooks) recount() {
	n := int64(0)
	for _, h := range w.hooks {
		for _, sub := range h.subs {
			if sub.Active && h.target != "" {
				n++
			}
		}
	}
	w.active.Store(n)
}

// Subscribe makes an app hear of something.
func (s *Server) Subscribe(clientID string, sub WebhookSubscription) (id int64, err error) {
	a := s.oauth.app(clientID)
	if a == nil {
		return 0, fmt.Errorf("app %s: %w", clientID, ErrNotFound)
	}
	if problem := s.checkSubscription(&sub); problem != "" {
		return 0, fmt.Errorf("%w: %s", ErrInvalid, problem)
	}
	added, problem := s.webhooks.subscribe(a, sub)
	if problem != "" {
		return 0, fmt.Errorf("%w: %s", ErrInvalid, problem)
	}
	return added.ID, nil
}

func (w *webhooks) subscribe(a *app, sub WebhookSubscription) (added WebhookSubscription, problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hooks[a.ID]
	if len(h.subs) >= maxWebhookSubscriptions {
		return sub, fmt.Sprintf("An app can have at most %d subscriptions", maxWebhookSubscriptions)
	}
	for _, other := range h.subs {
		if other.EventType == sub.EventType && other.PropertyName == sub.PropertyName && other.ObjectTypeID == sub.ObjectTypeID {
			return sub, fmt.Sprintf("A subscription to %s already exists", sub.EventType)
		}
	}
	w.lastSub++
	sub.ID, sub.CreatedAt, sub.UpdatedAt = w.lastSub, nowMS(), nowMS()
	h.subs = append(h.subs, &sub)
	w.recount()
	return sub, ""
}
