package sandbox

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// serveWebhooks answers {appId}/settings and {appId}/subscriptions….
func (s *Server) serveWebhooks(c *call) *reply {
	id, err := strconv.ParseInt(c.rest[0], 10, 64)
	if err != nil {
		return c.notFound()
	}
	h := s.webhooks.hooks[id] // never changes
	if h == nil {
		return c.notFound()
	}
	if key := c.query.Get("hapikey"); key != h.app.DeveloperKey {
		if c.token == nil || c.token.app != h.app || c.token.grant != nil {
			return c.fail(failure{
				status: http.StatusUnauthorized, category: "INVALID_AUTHENTICATION", message: "The API key provided is invalid.",
			})
		}
		if expires, live := s.oauth.live(c.token); !live {
			return c.expired(expires)
		}
	}
	switch rest := strings.Join(c.rest[1:], "/"); {
	case rest == "settings":
		return s.webhookSettings(c, h)
	case rest == "subscriptions":
		return s.webhookSubscriptions(c, h)
	case rest == "subscriptions/batch/update":
		return s.updateSubscriptions(c, h)
	case len(c.rest) == 3 && c.rest[1] == "subscriptions":
		return s.webhookSubscription(c, h, loose{text: c.rest[2]}.id())
	default:
		return c.notFound()
	}
}

func (s *Server) webhookSettings(c *call, h *hook) *reply {
	if r := c.only(http.MethodGet, http.MethodPut, http.MethodDelete); r != nil {
		return r
	}
	w := s.webhooks
	if c.method == http.MethodPut {
		var body struct {
			TargetURL  string `json:"targetUrl"`
			Throttling struct {
				MaxConcurrentRequests int `json:"maxConcurrentRequests"`
			} `json:"throttling"`
		}
		if r := c.decode(&body); r != nil {
			return r
		}
		if !validTarget(body.TargetURL) {
			return c.invalid("targetUrl must be a URL with https")
		}
		if body.Throttling.MaxConcurrentRequests < minWebhookConcurrency {
			return c.invalid("maxConcurrentRequests must be greater than 5")
		}
		w.setTarget(h.app, body.TargetURL, body.Throttling.MaxConcurrentRequests)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.method == http.MethodDelete {
		h.target, h.created = "", 0
		w.recount()
		return c.noContent()
	}
	if h.target == "" {
		return c.notFound()
	}
	return c.answer(http.StatusOK, map[string]any{
		"targetUrl": h.target, "throttling": map[string]any{"maxConcurrentRequests": h.concurrent},
		"createdAt": instantText(h.created), "updatedAt": instantText(h.updated),
	})
}

func instantText(ms int64) string { return string(appendInstant(nil, ms)) }

func (sub *WebhookSubscription) answer() map[string]any {
	out := map[string]any{
		"id": strconv.FormatInt(sub.ID, 10), "eventType": sub.EventType, "active": sub.Active,
		"createdAt": instantText(sub.CreatedAt), "updatedAt": instantText(sub.UpdatedAt),
	}
	if sub.PropertyName != "" {
		out["propertyName"] = sub.PropertyName
	}
	if sub.ObjectTypeID != "" {
		out["objectTypeId"] = sub.ObjectTypeID
	}
	return out
}

func (s *Server) webhookSubscriptions(c *call, h *hook) *reply {
	if r := c.only(http.MethodGet, http.MethodPost); r != nil {
		return r
	}
	if c.method == http.MethodPost {
		var sub WebhookSubscription
		if r := c.decode(&sub); r != nil {
			return r
		}
		problem := s.checkSubscription(&sub)
		if problem == "" {
			sub, problem = s.webhooks.subscribe(h.app, sub)
		}
		if problem != "" {
			return c.invalid(problem)
		}
		return c.answer(http.StatusCreated, sub.answer())
	}
	s.webhooks.mu.Lock()
	defer s.webhooks.mu.Unlock()
	results := []any{}
	for _, sub := range h.subs {
		results = append(results, sub.answer())
	}
	return c.answer(http.StatusOK, map[string]any{"results": results})
}

// activate switches a subscription on or off, and tells whether there is one.
func (w *webhooks) activate(h *hook, id int64, active bool) *WebhookSubscription {
	for _, sub := range h.subs {
		if sub.ID == id {
			sub.Active, sub.UpdatedAt = active, nowMS()
			w.recount()
			return sub
		}
	}
	return nil
}

func (s *Server) webhookSubscription(c *call, h *hook, id int64) *reply {
	if r := c.only(http.MethodGet, http.MethodPatch, http.MethodDelete); r != nil {
		return r
	}
	var body struct {
		Active bool `json:"active"`
	}
	if c.method == http.MethodPatch {
		if r := c.decode(&body); r != nil {
			return r
		}
	}
	w := s.webhooks
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(h.subs, func(sub *WebhookSubscription) bool { return sub.ID == id })
	switch {
	case i < 0:
		return c.notFound()
	case c.method == http.MethodDelete:
		h.subs = slices.Delete(h.subs, i, i+1)
		w.recount()
		return c.noContent()
	case c.method == http.MethodPatch:
		w.activate(h, id, body.Active)
	}
	return c.answer(http.StatusOK, h.subs[i].answer())
}

func (s *Server) updateSubscriptions(c *call, h *hook) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		Inputs []struct {
			ID     loose `json:"id"`
			Active bool  `json:"active"`
		} `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxBatch); r != nil {
		return r
	}
	w := s.webhooks
	w.mu.Lock()
	defer w.mu.Unlock()
	results := []any{}
	for _, in := range body.Inputs {
		if sub := w.activate(h, in.ID.id(), in.Active); sub != nil {
			results = append(results, sub.answer())
		}
	}
	now := instantText(nowMS())
	return c.answer(http.StatusOK, map[string]any{
		"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now,
	})
}
