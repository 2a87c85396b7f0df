package sandbox

import (
	"strconv"
	"strings"
	"time"
)

// webhookEvent is an event as it is delivered.
type webhookEvent struct {
	EventID          int64  `json:"eventId"`
	SubscriptionID   int64  `json:"subscriptionId"`
	PortalID         int64  `json:"portalId"`
	AppID            int64  `json:"appId"`
	OccurredAt       int64  `json:"occurredAt"`
	SubscriptionType string `json:"subscriptionType"`
	AttemptNumber    int    `json:"attemptNumber"`
	ObjectID         int64  `json:"objectId,omitempty"`
	ObjectTypeID     string `json:"objectTypeId,omitempty"`

	PropertyName  string  `json:"propertyName,omitempty"`
	PropertyValue *string `json:"propertyValue,omitempty"`
	ChangeFlag    string  `json:"changeFlag,omitempty"`

	PrimaryObjectID         int64   `json:"primaryObjectId,omitempty"`
	MergedObjectIDs         []int64 `json:"mergedObjectIds,omitempty"`
	NewObjectID             int64   `json:"newObjectId,omitempty"`
	NumberOfPropertiesMoved *int    `json:"numberOfPropertiesMoved,omitempty"`

	AssociationType      string `json:"associationType,omitempty"`
	FromObjectID         int64  `json:"fromObjectId,omitempty"`
	ToObjectID           int64  `json:"toObjectId,omitempty"`
	FromObjectTypeID     string `json:"fromObjectTypeId,omitempty"`
	ToObjectTypeID       string `json:"toObjectTypeId,omitempty"`
	AssociationTypeID    int    `json:"associationTypeId,omitempty"`
	AssociationCategory  string `json:"associationCategory,omitempty"`
	AssociationRemoved   *bool  `json:"associationRemoved,omitempty"`
	IsPrimaryAssociation *bool  `json:"isPrimaryAssociation,omitempty"`

	ChangeSource string `json:"changeSource"`
	SourceID     string `json:"sourceId,omitempty"`
	IsSensitive  *bool  `json:"isSensitive,omitempty"`
}

// delivery is an event on its way to an app.
type delivery struct {
	hook *hook
	due  time.Time
	body webhookEvent
}

// legacySubjects are the types with event types of their own.
var legacySubjects = map[string]bool{
	"contact": true, "company": true, "deal": true, "ticket": true, "product": true, "line_item": true,
}

// record queues what an event means to the subscribers. The account is locked.
func (w *webhooks) record(portalID int64, cfg Webhooks, ev event) {
	if w.active.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hooks {
		if h.target == "" {
			continue
		}
		for _, sub := range h.subs {
			if !sub.Active {
				continue
			}
			for _, body := range match(sub, ev) {
				w.lastEvent++
				body.EventID, body.SubscriptionID, body.PortalID, body.AppID = w.lastEvent, sub.ID, portalID, h.app.ID
				body.OccurredAt, body.SubscriptionType = ev.at, sub.EventType
				body.ChangeSource, body.SourceID = ev.source, ev.sourceID
				w.queue(h, body, cfg)
			}
		}
	}
}

// queue adds a delivery; mu is held.
func (w *webhooks) queue(h *hook, body webhookEvent, cfg Webhooks) {
	w.stats.Events++
	if len(w.pending) >= maxWebhooksPending {
		w.stats.Dropped++
		return
	}
	due := time.Now().Add(time.Duration(w.rng.Int64N(int64(cfg.Delay) + 1)))
	w.pending = append(w.pending, &delivery{hook: h, due: due, body: body})
	if cfg.Duplicates > 0 && w.rng.Float64() < cfg.Duplicates {
		w.stats.Duplicated++
		w.pending = append(w.pending, &delivery{hook: h, due: due, body: body})
	}
	w.rouse()
}

func (w *webhooks) rouse() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// match makes the bodies that an event has for a subscription: one for each change of its property.
func match(sub *WebhookSubscription, ev event) []webhookEvent {
	subject, verb, _ := strings.Cut(sub.EventType, ".")
	generic := subject == "object"
	if generic && sub.ObjectTypeID != ev.t.kind.typeID ||
		!generic && (subject != ev.t.kind.singular || !legacySubjects[subject]) {
		return nil
	}
	body := webhookEvent{ObjectID: ev.id}
	if generic {
		body.ObjectTypeID = ev.t.kind.typeID
	}
	no := false
	switch verb {
	case "creation":
		body.ChangeFlag = "CREATED"
		return only(ev.kind == recordCreated, body)
	case "deletion":
		body.ChangeFlag = "DELETED"
		return only(ev.kind == recordDeleted, body)
	case "restore":
		body.ChangeFlag = "RESTORED"
		return only(ev.kind == recordRestored, body)
	case "privacyDeletion":
		return only(ev.kind == recordErased, body)
	case "merge":
		body.PrimaryObjectID, body.MergedObjectIDs, body.NewObjectID = ev.primary, []int64{ev.loser}, ev.id
		body.NumberOfPropertiesMoved = &ev.moved
		return only(ev.kind == recordMerged, body)
	case "propertyChange":
		if ev.kind != recordChanged && ev.kind != recordCreated {
			return nil
		}
		var out []webhookEvent
		for _, c := range ev.values {
			if c.p.Name == sub.PropertyName {
				one := body
				text := webhookValue(c)
				one.PropertyName, one.PropertyValue, one.IsSensitive = c.p.Name, &text, &no
				out = append(out, one)
			}
		}
		return out[max(0, len(out)-1):] // what was set last counts
	case "associationChange":
		if ev.kind != linkAdded && ev.kind != linkRemoved {
			return nil
		}
		removed, primary := ev.kind == linkRemoved, ev.link.primary
		body.ObjectID, body.FromObjectID, body.ToObjectID = 0, ev.id, ev.to
		body.AssociationType = strings.ToUpper(ev.t.kind.singular + "_to_" + ev.other.kind.singular)
		body.AssociationRemoved, body.IsPrimaryAssociation = &removed, &primary
		if generic {
			body.FromObjectTypeID, body.ToObjectTypeID = ev.d.from, ev.d.to
			body.AssociationTypeID, body.AssociationCategory = ev.link.id, ev.link.category
		}
		return []webhookEvent{body}
	default:
		return nil
	}
}

func only(is bool, body webhookEvent) []webhookEvent {
	if !is {
		return nil
	}
	return []webhookEvent{body}
}

// webhookValue is a value as events carry it: times are epoch ms.
func webhookValue(c change) string {
	text := string(c.text)
	if c.p.Type == "datetime" || c.p.Type == "date" {
		if ms, ok := parseInstant(text); ok {
			return strconv.FormatInt(ms, 10)
		}
	}
	return text
}
