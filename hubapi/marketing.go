package hubapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MarketingEmail is an email to many, as opposed to the emails among a contact's activities.
type MarketingEmail struct {
	ID          int64      `json:"id"`
	Name        string     `json:"name"`
	Subject     string     `json:"subject"`
	State       string     `json:"state"`
	Type        string     `json:"type"`
	CampaignID  string     `json:"campaign"`
	IsPublished bool       `json:"isPublished"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   time.Time  `json:"updatedAt"`
	PublishDate time.Time  `json:"publishDate"`
	Archived    bool       `json:"archived"`
	Stats       EmailStats `json:"stats"` // empty unless asked for
}

// EmailStats counts what became of an email.
type EmailStats struct {
	Counters map[string]int64 `json:"counters"`
}

// EmailOptions says which marketing emails are listed.
type EmailOptions struct {
	Archived     bool      // the archived ones instead, which HubSpot lists apart
	Stats        bool      // HubSpot then leaves some emails out: list twice, with and without
	UpdatedAfter time.Time // exclusive; zero for all
}

// ListEmails returns marketing emails.
func (c *Client) ListEmails(ctx context.Context, o EmailOptions) ([]MarketingEmail, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.emails())
	q := url.Values{"limit": {"100"}, "sort": {"id"}} // a stable order: pages must not shift
	if o.Archived {
		q.Set("archived", "true")
	}
	if o.Stats {
		q.Set("includeStats", "true")
	}
	if !o.UpdatedAfter.IsZero() {
		q.Set("updatedAfter", o.UpdatedAfter.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	r.query = q.Encode()
	return list[MarketingEmail](ctx, c, r)
}

// Campaign groups marketing assets.
type Campaign struct {
	ID         string            `json:"id"` // a UUID
	Properties map[string]string `json:"properties"`
	CreatedAt  time.Time         `json:"createdAt"`
	UpdatedAt  time.Time         `json:"updatedAt"`
}

// ListCampaigns returns all campaigns with the properties named.
func (c *Client) ListCampaigns(ctx context.Context, properties []string) ([]Campaign, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.campaigns())
	q := url.Values{"limit": {strconv.Itoa(MaxPage)}, "sort": {"createdAt"}}
	if len(properties) > 0 {
		q.Set("properties", strings.Join(properties, ","))
	}
	r.query = q.Encode()
	return list[Campaign](ctx, c, r)
}
