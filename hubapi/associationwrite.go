package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Limits of writes of associations.
const (
	MaxAssociationWrites   = 2000 // inputs of a batch
	MaxAssociationArchives = 100  // records of one side in BatchArchiveAssociations
)

// AssociationTypeRef names a type of association.
type AssociationTypeRef struct {
	Category string `json:"associationCategory"` // HUBSPOT_DEFINED, USER_DEFINED, …
	TypeID   int    `json:"associationTypeId"`
}

// AssociationWrite is a pair of records and the types of association between them, in the direction of the call.
type AssociationWrite struct {
	From, To int64
	Types    []AssociationTypeRef
}

// AssociationArchive names the records that one record is no longer to be associated with.
type AssociationArchive struct {
	From int64
	To   []int64
}

// AssociationBatch is the answer to a write of associations: Errs[i] is nil, or what became of input i, of the types of
// WriteResult.Err.
type AssociationBatch struct {
	Errs          []error
	CorrelationID string
	SentAt        time.Time // just before the request was sent
}

// Failed returns the number of inputs with an error.
func (b *AssociationBatch) Failed() int {
	return len(b.Errs) - len(slices.DeleteFunc(slices.Clone(b.Errs), func(err error) bool { return err != nil }))
}

type associationWriteBody struct {
	Inputs []associationWriteInput `json:"inputs"`
}

type associationWriteInput struct {
	From  batchInput           `json:"from"`
	To    any                  `json:"to"` // batchInput, or a list of them
	Types []AssociationTypeRef `json:"types,omitzero"`
}

// BatchCreateAssociations makes the types given the types of association between each pair, in place of those that the
// pair has: send all that are to stay. At most MaxAssociationWrites pairs, none twice. Errors are those of BatchCreate.
func (c *Client) BatchCreateAssociations(ctx context.Context, from, to string, in []AssociationWrite) (*AssociationBatch, error) {
	return c.writeAssociations(ctx, from, to, "create", in, true)
}

// BatchAssociateDefault associates each pair without a label; Types are ignored. At most MaxAssociationWrites pairs, none
// twice. Errors are those of BatchCreate.
func (c *Client) BatchAssociateDefault(ctx context.Context, from, to string, in []AssociationWrite) (*AssociationBatch, error) {
	bare := slices.Clone(in)
	for i := range bare {
		bare[i].Types = nil
	}
	return c.writeAssociations(ctx, from, to, "associate/default", bare, true)
}

// BatchArchiveAssociationLabels takes the types given from each pair and leaves its others. Taking the unlabeled type
// ends the association. At most MaxAssociationWrites pairs, none twice. Errors are those of BatchCreate.
func (c *Client) BatchArchiveAssociationLabels(
	ctx context.Context, from, to string, in []AssociationWrite,
) (*AssociationBatch, error) {
	return c.writeAssociations(ctx, from, to, "labels/archive", in, false)
}

// BatchArchiveAssociations ends all associations between the records named. At most MaxAssociationArchives inputs, no
// From twice. Associations that do not exist count as ended. Errors are those of BatchCreate.
func (c *Client) BatchArchiveAssociations(
	ctx context.Context, from, to string, in []AssociationArchive,
) (*AssociationBatch, error) {
	if len(in) == 0 || len(in) > MaxAssociationArchives {
		return nil, fmt.Errorf("archive associations %s to %s: %d inputs, want 1 to %d", from, to, len(in), MaxAssociationArchives)
	}
	pairs, inputs := make([]AssociationWrite, len(in)), make([]associationWriteInput, len(in))
	for i, a := range in {
		others := make([]batchInput, len(a.To))
		for j, id := range a.To {
			others[j].ID = strconv.FormatInt(id, 10)
		}
		pairs[i].From = a.From
		inputs[i] = associationWriteInput{From: batchInput{strconv.FormatInt(a.From, 10)}, To: others}
	}
	return c.sendAssociations(ctx, from, to, "archive", pairs, inputs, false)
}

func (c *Client) writeAssociations(
	ctx context.Context, from, to, action string, in []AssociationWrite, answered bool,
) (*AssociationBatch, error) {
	if len(in) == 0 || len(in) > MaxAssociationWrites {
		return nil, fmt.Errorf("%s associations %s to %s: %d inputs, want 1 to %d", action, from, to, len(in), MaxAssociationWrites)
	}
	inputs := make([]associationWriteInput, len(in))
	for i, a := range in {
		inputs[i] = associationWriteInput{
			From: batchInput{strconv.FormatInt(a.From, 10)}, To: batchInput{strconv.FormatInt(a.To, 10)}, Types: a.Types,
		}
	}
	return c.sendAssociations(ctx, from, to, action, in, inputs, answered)
}

// sendAssociations sends a batch. Answered says that the answer lists the pairs that were written.
func (c *Client) sendAssociations(
	ctx context.Context, from, to, action string, pairs []AssociationWrite, inputs []associationWriteInput, answered bool,
) (*AssociationBatch, error) {
	body, err := json.Marshal(associationWriteBody{inputs})
	if err != nil {
		return nil, fmt.Errorf("encode associations: %w", err)
	}
	r := write(FamilyAssociation, http.MethodPost,
		c.versions.associations()+"/"+segment(from)+"/"+segment(to)+"/batch/"+action)
	r.body = body
	var out associationWritten
	r.decode = func(body []byte) error {
		if len(body) == 0 {
			return nil // 204
		}
		return decodeJSON(body, &out)
	}
	err = c.call(ctx, r)
	b := &AssociationBatch{Errs: make([]error, len(pairs)), CorrelationID: r.correlation, SentAt: r.readAt}
	switch {
	case err == nil:
		out.settle(b, r, pairs, answered)
		return b, nil
	case !rowRefusal(err):
		return nil, err
	case len(pairs) == 1:
		b.Errs[0] = err
		return b, nil
	}
	return nil, &SplitError{Err: err, Rows: len(pairs)}
}

// associationWritten is the answer to a write of associations.
type associationWritten struct {
	Results   []associationPair `json:"results"`
	NumErrors int               `json:"numErrors"`
	Errors    []errorEntry      `json:"errors"`
}

// associationPair is one pair that was written: flat, or with the ends as HubSpot names them elsewhere.
type associationPair struct {
	FromID int64 `json:"fromObjectId"`
	ToID   int64 `json:"toObjectId"`
	From   struct {
		ID int64 `json:"id"`
	} `json:"from"`
	To struct {
		ID int64 `json:"id"`
	} `json:"to"`
}

func (p *associationPair) ends() [2]int64 {
	ends := [2]int64{p.FromID, p.ToID}
	if ends[0] == 0 {
		ends[0] = p.From.ID
	}
	if ends[1] == 0 {
		ends[1] = p.To.ID
	}
	return ends
}

// settle accounts for every pair.
func (a *associationWritten) settle(b *AssociationBatch, r *request, pairs []AssociationWrite, answered bool) {
	written := make(map[[2]int64]bool, len(a.Results))
	for i := range a.Results {
		written[a.Results[i].ends()] = true
	}
	refusals := make([]pairRefusal, 0, len(a.Errors))
	var general []error
	for i := range a.Errors {
		f := newPairRefusal(&a.Errors[i], r)
		if len(f.ids) == 0 && f.types == nil {
			general = append(general, f.err)
			continue
		}
		refusals = append(refusals, f)
	}
	// Without errors everything was done; with errors that name their records, all that they do not name.
	quiet := a.NumErrors <= len(a.Errors) && len(general) == 0
	for i, p := range pairs {
		if written[[2]int64{p.From, p.To}] {
			continue
		}
		if k := slices.IndexFunc(refusals, func(f pairRefusal) bool { return f.concerns(p) }); k >= 0 {
			b.Errs[i] = refusals[k].err
			continue
		}
		if quiet && (!answered || (len(a.Results) == 0 && len(a.Errors) == 0)) {
			continue
		}
		general, b.Errs[i] = r.leftover(general)
	}
}

// pairRefusal is an error that names records, or else types of association.
type pairRefusal struct {
	err   error
	ids   map[int64]bool
	types []string // when it names no records
	both  bool     // the pair must have both its ends among ids
}

func newPairRefusal(e *errorEntry, r *request) pairRefusal {
	f := pairRefusal{err: e.rowError(r), ids: map[int64]bool{}}
	lists := e.Context.lists()
	for _, key := range []string{"fromObjectId", "toObjectId", "objectId", "id", "ids"} {
		for _, s := range lists[key] {
			if id, err := strconv.ParseInt(s, 10, 64); err == nil {
				f.ids[id] = true
			}
		}
	}
	if len(f.ids) == 0 && text(e.SubCategory) == "crm.associations.INVALID_ASSOCIATION_TYPE" {
		f.types = lists["type"]
	}
	f.both = len(lists["fromObjectId"]) > 0 && len(lists["toObjectId"]) > 0
	return f
}

func (f *pairRefusal) concerns(p AssociationWrite) bool {
	if f.both {
		return f.ids[p.From] && f.ids[p.To]
	}
	for _, t := range p.Types {
		if slices.Contains(f.types, strconv.Itoa(t.TypeID)) {
			return true
		}
	}
	return f.ids[p.From] || f.ids[p.To]
}
