package hubapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Form is a form of the account, of any type.
type Form struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Type        string           `json:"formType"` // hubspot, captured, flow, blog_comment
	CreatedAt   time.Time        `json:"createdAt"`
	UpdatedAt   time.Time        `json:"updatedAt"`
	Archived    bool             `json:"archived"`
	FieldGroups []FormFieldGroup `json:"fieldGroups"`
}

// FormFieldGroup is a row of fields.
type FormFieldGroup struct {
	Fields []FormField `json:"fields"`
}

// FormField is a field that visitors fill in.
type FormField struct {
	ObjectTypeID string `json:"objectTypeId"`
	Name         string `json:"name"` // of the property
	Label        string `json:"label"`
	Required     bool   `json:"required"`
	Hidden       bool   `json:"hidden"`
}

// Submission is what one visitor filled in.
type Submission struct {
	SubmittedAt time.Time         `json:"submittedAt"`
	Values      []SubmissionValue `json:"values"`
	PageURL     string            `json:"pageUrl"`
}

// SubmissionValue is one field's text. A field may have several.
type SubmissionValue struct {
	Name         string `json:"name"`
	Value        string `json:"value"`
	ObjectTypeID string `json:"objectTypeId"`
}

// SubmissionPage is a page of submissions, newest first.
type SubmissionPage struct {
	Submissions []Submission
	After       string // "" on the last page
	ReadAt      time.Time
}

// maxSubmissionPage is the largest page of submissions.
const maxSubmissionPage = 50

// ListForms returns all forms of every type: those in use, or the archived ones, which HubSpot lists apart.
func (c *Client) ListForms(ctx context.Context, archived bool) ([]Form, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.forms())
	r.query = "limit=500&formTypes=all" // without it only HubSpot's own type is listed
	if q := archivedQuery(archived); q != "" {
		r.query += "&" + q
	}
	return list[Form](ctx, c, r)
}

// ListSubmissions returns one page of what was submitted to a form, newest first: a reader stops at what it knows. Forms
// of blog comments have none and are a *ValidationError.
func (c *Client) ListSubmissions(ctx context.Context, formID, after string) (*SubmissionPage, error) {
	const base = "/form-integrations/v1/submissions/forms/"
	r := read(FamilyObject, http.MethodGet, base+segment(formID))
	r.template = base + "{id}"
	r.query = "limit=" + strconv.Itoa(maxSubmissionPage)
	if after != "" {
		r.query += "&after=" + url.QueryEscape(after)
	}
	b, err := get[listBody[Submission]](ctx, c, r)
	if err != nil {
		return nil, err
	}
	return &SubmissionPage{Submissions: b.Results, After: b.Paging.Next.After, ReadAt: r.readAt}, nil
}
