package mirror

import (
	"encoding/json"
	"time"
)

// The lookup tables that have a lane of their own, see [Lookup.Own].
const (
	Lists           = "lists"
	ListMemberships = "list_memberships"
	Forms           = "forms"
	FormSubmissions = "form_submissions"
	MarketingEmails = "marketing_emails"
	Campaigns       = "campaigns"
)

// List is a row of lists. ObjectTable is empty for records that have no table.
type List struct {
	ID               int64      `json:"id"`
	Name             string     `json:"name,omitempty"`
	ObjectTable      string     `json:"object_table,omitempty"`
	ObjectType       string     `json:"object_type"`
	ProcessingType   string     `json:"processing_type,omitempty"`
	ProcessingStatus string     `json:"processing_status,omitempty"`
	Size             *int64     `json:"size,omitempty"`
	CreatedAt        *time.Time `json:"created_at,omitempty"`
	UpdatedAt        *time.Time `json:"updated_at,omitempty"`
	FiltersUpdatedAt *time.Time `json:"filters_updated_at,omitempty"`
}

// ListMembership is a row of list_memberships.
type ListMembership struct {
	ListID   int64      `json:"list_id"`
	RecordID int64      `json:"record_id"`
	JoinedAt *time.Time `json:"joined_at,omitempty"`
}

// Form is a row of forms.
type Form struct {
	ID        string          `json:"id"`
	Name      string          `json:"name,omitempty"`
	Type      string          `json:"type,omitempty"`
	Fields    json.RawMessage `json:"fields,omitempty"`
	Archived  bool            `json:"archived"`
	CreatedAt *time.Time      `json:"created_at,omitempty"`
	UpdatedAt *time.Time      `json:"updated_at,omitempty"`
}

// MarketingEmail is a row of marketing_emails.
type MarketingEmail struct {
	ID          int64           `json:"id"`
	Name        string          `json:"name,omitempty"`
	Subject     string          `json:"subject,omitempty"`
	State       string          `json:"state,omitempty"`
	Type        string          `json:"type,omitempty"`
	CampaignID  string          `json:"campaign_id,omitempty"`
	Published   bool            `json:"published"`
	PublishedAt *time.Time      `json:"published_at,omitempty"`
	Stats       json.RawMessage `json:"stats,omitempty"`
	Archived    bool            `json:"archived"`
	CreatedAt   *time.Time      `json:"created_at,omitempty"`
	UpdatedAt   *time.Time      `json:"updated_at,omitempty"`
}

// Campaign is a row of campaigns. StartDate and EndDate are days, YYYY-MM-DD.
type Campaign struct {
	ID         string            `json:"id"`
	Name       string            `json:"name,omitempty"`
	Status     string            `json:"status,omitempty"`
	StartDate  string            `json:"start_date,omitempty"`
	EndDate    string            `json:"end_date,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	CreatedAt  *time.Time        `json:"created_at,omitempty"`
	UpdatedAt  *time.Time        `json:"updated_at,omitempty"`
}

func (List) lookup() string           { return Lists }
func (ListMembership) lookup() string { return ListMemberships }
func (Form) lookup() string           { return Forms }
func (MarketingEmail) lookup() string { return MarketingEmails }
func (Campaign) lookup() string       { return Campaigns }

// ownLookups are the lookup tables beside CRM records, each of which the account may keep from the token.
func ownLookups() []Lookup {
	return []Lookup{
		{
			Name: Lists, Comment: "lists of records, which HubSpot also calls segments", Key: []string{"id"}, ID: "id", Own: true,
			columns: []lookupColumn{
				{"id", "bigint not null", ""},
				{"name", "text", ""},
				{"object_table", "text", "the table that the records are in"},
				{"object_type", "text not null", "HubSpot's type id of the records"},
				{"processing_type", "text", "MANUAL, DYNAMIC or SNAPSHOT"},
				{"processing_status", "text", ""},
				{"size", "bigint", "how many records HubSpot counts in it"},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
				{"filters_updated_at", "timestamptz", ""},
			},
		},
		{
			Name: ListMemberships, Comment: "which records are in which list", Key: []string{"list_id", "record_id"},
			Scope: "list_id", Range: "record_id", ID: "record_id", Own: true,
			columns: []lookupColumn{
				{"list_id", "bigint not null", ""},
				{"record_id", "bigint not null", "a record of the list's object_table"},
				{"joined_at", "timestamptz", ""},
			},
		},
		{
			Name: Forms, Comment: "forms of every type, archived ones included", Key: []string{"id"}, Own: true,
			columns: []lookupColumn{
				{"id", "text not null", ""},
				{"name", "text", ""},
				{"type", "text", "hubspot, captured, flow or blog_comment"},
				{"fields", "jsonb", "what visitors fill in"},
				{"archived", "boolean not null", ""},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
		{
			Name: FormSubmissions, Comment: "what visitors have filled in", Key: []string{"form_id", "submitted_at", "digest"},
			Scope: "form_id", Own: true,
			columns: []lookupColumn{
				{"form_id", "text not null", ""},
				{"submitted_at", "timestamptz not null", ""},
				{"digest", "text not null", "tells apart what was submitted in one millisecond: HubSpot gives submissions no id"},
				{"fields", "jsonb", "as HubSpot sends them: name, value and object type of each"},
				{"page_url", "text", ""},
				{"_read_at", "timestamptz not null", "when HubSpot last showed the submission to a pass over all of them"},
			},
		},
		{
			Name: MarketingEmails, Comment: "emails to many, archived ones included", Key: []string{"id"}, ID: "id", Own: true,
			columns: []lookupColumn{
				{"id", "bigint not null", ""},
				{"name", "text", ""},
				{"subject", "text", ""},
				{"state", "text", ""},
				{"type", "text", ""},
				{"campaign_id", "text", ""},
				{"published", "boolean not null", ""},
				{"published_at", "timestamptz", ""},
				{"stats", "jsonb", "HubSpot's counters, as they last were shown"},
				{"archived", "boolean not null", ""},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
		{
			Name: Campaigns, Comment: "marketing campaigns", Key: []string{"id"}, Own: true,
			columns: []lookupColumn{
				{"id", "text not null", ""},
				{"name", "text", ""},
				{"status", "text", ""},
				{"start_date", "date", ""},
				{"end_date", "date", ""},
				{"properties", "jsonb", "all that were asked for, as HubSpot sends them"},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
	}
}
