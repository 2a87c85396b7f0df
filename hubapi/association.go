package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// MaxAssociationInputs is the largest batch of BatchReadAssociations.
const MaxAssociationInputs = 1000

// AssociationInput asks for the associations of one record, from its beginning or from a cursor on.
type AssociationInput struct {
	ID    int64
	After string
}

// AssociationType is one kind of association. A pair of records may carry several: the unlabeled one is listed beside
// a primary or custom one.
type AssociationType struct {
	Category string `json:"category"` // HUBSPOT_DEFINED, USER_DEFINED, INTEGRATOR_DEFINED, WORK
	TypeID   int    `json:"typeId"`
	Label    string `json:"label"` // "" for the unlabeled type
}

// AssociatedTo is one associated record.
type AssociatedTo struct {
	ToID  int64             `json:"toObjectId"`
	Types []AssociationType `json:"associationTypes"`
}

// AssociationsOf lists the records that one record is associated with.
type AssociationsOf struct {
	FromID int64
	To     []AssociatedTo
	After  string // "" when To is complete from the input's cursor on
}

// AssociationResult is the answer to BatchReadAssociations. Every input is in exactly one of Results, Missing,
// Unmentioned and Unanswered.
type AssociationResult struct {
	Results []AssociationsOf // a record that HubSpot says has no associations is here with an empty To
	Missing []int64          // HubSpot says that these records do not exist
	// Unmentioned are left out of an answer that is complete otherwise. They may have no associations, or HubSpot may have
	// left them out: on bad days it answers nothing at all with status 200. Ask again before concluding anything.
	Unmentioned []int64
	Unanswered  []int64   // nothing is known about these: do not conclude anything
	ReadAt      time.Time // just before the request was sent
}

type associationReadBody struct {
	Inputs []associationReadInput `json:"inputs"`
}

type associationReadInput struct {
	ID    string `json:"id"`
	After string `json:"after,omitzero"`
}

type associationAnswer struct {
	Results []struct {
		From struct {
			ID int64 `json:"id"`
		} `json:"from"`
		To     []AssociatedTo `json:"to"`
		Paging struct {
			Next struct {
				After string `json:"after"`
			} `json:"next"`
		} `json:"paging"`
	} `json:"results"`
	NumErrors int          `json:"numErrors"`
	Errors    []errorEntry `json:"errors"`
}

// BatchReadAssociations returns what records of one type are associated with in another type, for at most
// MaxAssociationInputs records. Ids must not repeat.
func (c *Client) BatchReadAssociations(ctx context.Context, from, to string, in []AssociationInput) (*AssociationResult, error) {
	if len(in) == 0 || len(in) > MaxAssociationInputs {
		return nil, fmt.Errorf("read associations %s to %s: %d inputs, want 1 to %d", from, to, len(in), MaxAssociationInputs)
	}
	b := associationReadBody{Inputs: make([]associationReadInput, len(in))}
	for i, input := range in {
		b.Inputs[i] = associationReadInput{ID: strconv.FormatInt(input.ID, 10), After: input.After}
	}
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode association read: %w", err)
	}
	r := read(FamilyAssociation, http.MethodPost,
		c.versions.associations()+"/"+segment(from)+"/"+segment(to)+"/batch/read")
	r.body = body
	answer, err := get[associationAnswer](ctx, c, r)
	if err != nil {
		return nil, err
	}
	return answer.result(in, r.readAt), nil
}

// result accounts for every input.
func (a *associationAnswer) result(in []AssociationInput, readAt time.Time) *AssociationResult {
	res := &AssociationResult{ReadAt: readAt, Results: make([]AssociationsOf, 0, len(in))}
	open := make(map[int64]bool, len(in))
	for _, input := range in {
		open[input.ID] = true
	}
	for _, r := range a.Results {
		if !open[r.From.ID] {
			continue
		}
		delete(open, r.From.ID)
		res.Results = append(res.Results, AssociationsOf{FromID: r.From.ID, To: r.To, After: r.Paging.Next.After})
	}
	unexplained := a.NumErrors > len(a.Errors)
	for _, e := range a.Errors {
		ids, none := e.fromIDs(), text(e.SubCategory) == "crm.associations.NO_ASSOCIATIONS_FOUND"
		missing := text(e.SubCategory) == "crm.associations.FROM_OBJECT_NOT_FOUND"
		if len(ids) == 0 || (!none && !missing) {
			unexplained = true
		}
		for _, id := range ids {
			switch {
			case !open[id]:
			case none:
				res.Results = append(res.Results, AssociationsOf{FromID: id})
				delete(open, id)
			case missing:
				res.Missing = append(res.Missing, id)
				delete(open, id)
			}
		}
	}
	for _, input := range in {
		switch {
		case !open[input.ID]:
		case unexplained, input.After != "": // a cursor says that there is more
			res.Unanswered = append(res.Unanswered, input.ID)
		default:
			res.Unmentioned = append(res.Unmentioned, input.ID)
		}
	}
	return res
}

// fromIDs returns the inputs that an error of an association batch is about.
func (e *errorEntry) fromIDs() []int64 {
	lists := e.Context.lists()
	var ids []int64
	for _, key := range []string{"fromObjectId", "objectId", "ids", "id"} {
		for _, s := range lists[key] {
			if id, err := strconv.ParseInt(s, 10, 64); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// ListAssociationLabels returns the types of association from records of one type to records of another.
func (c *Client) ListAssociationLabels(ctx context.Context, from, to string) ([]AssociationType, error) {
	r := read(FamilyAssociation, http.MethodGet, c.versions.associations()+"/"+segment(from)+"/"+segment(to)+"/labels")
	return list[AssociationType](ctx, c, r)
}
