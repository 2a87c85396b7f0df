package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// WebhookEvent is one element of what HubSpot delivers. It says that something happened; the record has to be read to
// learn what it is now. Events come in any order, and more than once.
type WebhookEvent struct {
	EventID             int64     `json:"eventId"` // not unique
	SubscriptionID      int64     `json:"subscriptionId"`
	PortalID            int64     `json:"portalId"`
	AppID               int64     `json:"appId"`
	OccurredAt          time.Time `json:"occurredAt"`
	Type                string    `json:"subscriptionType"` // contact.creation, object.propertyChange, …
	Attempt             int       `json:"attemptNumber"`
	ObjectID            int64     `json:"objectId"`
	ObjectTypeID        string    `json:"objectTypeId"`
	PropertyName        string    `json:"propertyName"`
	PropertyValue       string    `json:"propertyValue"`
	ChangeSource        string    `json:"changeSource"`
	SourceID            string    `json:"sourceId"`
	IsSensitive         bool      `json:"isSensitive"`
	PrimaryObjectID     int64     `json:"primaryObjectId"` // of a merge
	MergedObjectIDs     []int64   `json:"mergedObjectIds"`
	NewObjectID         int64     `json:"newObjectId"`
	FromObjectID        int64     `json:"fromObjectId"` // of an association
	ToObjectID          int64     `json:"toObjectId"`
	FromObjectTypeID    string    `json:"fromObjectTypeId"`
	ToObjectTypeID      string    `json:"toObjectTypeId"`
	AssociationType     string    `json:"associationType"`
	AssociationTypeID   int       `json:"associationTypeId"`
	AssociationCategory string    `json:"associationCategory"`
	AssociationRemoved  bool      `json:"associationRemoved"`
	IsPrimary           bool      `json:"isPrimaryAssociation"`
}

// unmarshalWebhookEvent reads an event. One of a shape that is not known here is empty.
func unmarshalWebhookEvent(dec *jsontext.Decoder, e *WebhookEvent) error {
	type known WebhookEvent
	return orEmpty[known](dec, func(k known) { *e = WebhookEvent(k) })
}

// ParseWebhook reads the body of a delivery. Check its signature first: see WebhookVerifier.
func ParseWebhook(body []byte) ([]WebhookEvent, error) {
	var events []WebhookEvent
	if err := decodeJSON(body, &events); err != nil {
		return nil, fmt.Errorf("read webhook: %w", err)
	}
	return events, nil
}

// WebhookSettings say where an app's events go.
type WebhookSettings struct {
	TargetURL     string
	MaxConcurrent int // requests at a time, over 5
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

type webhookSettingsBody struct {
	TargetURL  string `json:"targetUrl"`
	Throttling struct {
		MaxConcurrent int `json:"maxConcurrentRequests"`
	} `json:"throttling"`
	CreatedAt time.Time `json:"createdAt,omitzero"`
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
}

func (b *webhookSettingsBody) settings() WebhookSettings {
	return WebhookSettings{b.TargetURL, b.Throttling.MaxConcurrent, b.CreatedAt, b.UpdatedAt}
}

// WebhookSubscription is one kind of event that an app wants to hear of.
type WebhookSubscription struct {
	ID           int64     `json:"id,omitzero"`
	EventType    string    `json:"eventType"`
	PropertyName string    `json:"propertyName,omitzero"` // of propertyChange
	ObjectTypeID string    `json:"objectTypeId,omitzero"` // of object.…
	Active       bool      `json:"active"`
	CreatedAt    time.Time `json:"createdAt,omitzero"`
	UpdatedAt    time.Time `json:"updatedAt,omitzero"`
}

// Webhooks manages the webhooks of one app. Calls are made with the client's token and, where it is given, the developer
// key, which older apps need.
type Webhooks struct {
	c            *Client
	path         string
	developerKey string
}

// Webhooks returns the management of an app's webhooks.
func (c *Client) Webhooks(appID int64, developerKey string) *Webhooks {
	return &Webhooks{c, c.versions.webhooks() + "/" + strconv.FormatInt(appID, 10), developerKey}
}

func (w *Webhooks) request(r *request, body any) (*request, error) {
	if w.developerKey != "" {
		r.query = "hapikey=" + url.QueryEscape(w.developerKey)
	}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode webhook request: %w", err)
		}
		r.body = text
	}
	return r, nil
}

// Settings returns where events go.
func (w *Webhooks) Settings(ctx context.Context) (WebhookSettings, error) {
	r, err := w.request(read(FamilyObject, http.MethodGet, w.path+"/settings"), nil)
	if err != nil {
		return WebhookSettings{}, err
	}
	b, err := get[webhookSettingsBody](ctx, w.c, r)
	return b.settings(), err
}

// Configure sets where events go. HubSpot takes up to five minutes to notice.
func (w *Webhooks) Configure(ctx context.Context, targetURL string, maxConcurrent int) (WebhookSettings, error) {
	b := webhookSettingsBody{TargetURL: targetURL}
	b.Throttling.MaxConcurrent = maxConcurrent
	r := read(FamilyObject, http.MethodPut, w.path+"/settings") // the same again changes nothing
	r, err := w.request(r, b)
	if err != nil {
		return WebhookSettings{}, err
	}
	b, err = get[webhookSettingsBody](ctx, w.c, r)
	return b.settings(), err
}

// Subscriptions returns all subscriptions of the app.
func (w *Webhooks) Subscriptions(ctx context.Context) ([]WebhookSubscription, error) {
	r, err := w.request(read(FamilyObject, http.MethodGet, w.path+"/subscriptions"), nil)
	if err != nil {
		return nil, err
	}
	return list[WebhookSubscription](ctx, w.c, r)
}

// Subscribe adds a subscription.
func (w *Webhooks) Subscribe(ctx context.Context, s WebhookSubscription) (WebhookSubscription, error) {
	r, err := w.request(write(FamilyObject, http.MethodPost, w.path+"/subscriptions"), s)
	if err != nil {
		return WebhookSubscription{}, err
	}
	return get[WebhookSubscription](ctx, w.c, r)
}

// Unsubscribe removes a subscription.
func (w *Webhooks) Unsubscribe(ctx context.Context, id int64) error {
	r := write(FamilyObject, http.MethodDelete, w.path+"/subscriptions/"+strconv.FormatInt(id, 10))
	r.template = w.path + "/subscriptions/{id}"
	r, err := w.request(r, nil)
	if err != nil {
		return err
	}
	return w.c.call(ctx, r)
}
