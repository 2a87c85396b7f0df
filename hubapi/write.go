package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// CreateInput is one record to be created.
type CreateInput struct {
	Properties   map[string]string // HubSpot's text form; "" is left unset
	Associations []InlineAssociation
	Trace        string // unique in the batch; the input's index when empty
}

// InlineAssociation associates a record with another as it is created.
type InlineAssociation struct {
	ToID  int64
	Types []AssociationTypeRef
}

// UpdateInput changes one record.
type UpdateInput struct {
	ID         int64
	Properties map[string]string // "" clears
	Trace      string            // unique in the batch; the input's index when empty
}

// UpsertInput changes the record whose unique property has the value Key, or creates it.
type UpsertInput struct {
	Key        string
	Properties map[string]string // "" clears; the unique property itself may be left out
	Trace      string            // unique in the batch; the input's index when empty
}

// WriteResult is what became of one input.
type WriteResult struct {
	// Record is the record after the write; its ID is 0 when Err is set. HubSpot shows only what was sent and what it
	// set itself: a Value that is nil may also have been left out. Read the record to know it whole.
	Record Record
	New    bool // created; always set by BatchCreate

	// Err is nil, or the refusal of this row alone: *ValidationError, *ConflictError, *NotFoundError or *ScopeError; or
	// *AmbiguousError when the answer does not say what became of it.
	Err error
}

// WriteBatch is the answer to a batch write: Results[i] is what became of input i.
type WriteBatch struct {
	Results       []WriteResult
	CorrelationID string
	SentAt        time.Time // just before the request was sent
}

// Failed returns the number of results with an error.
func (b *WriteBatch) Failed() int {
	n := 0
	for i := range b.Results {
		if b.Results[i].Err != nil {
			n++
		}
	}
	return n
}

type writeBody struct {
	Inputs []writeInput `json:"inputs"`
}

type writeInput struct {
	ID           string            `json:"id,omitzero"`
	IDProperty   string            `json:"idProperty,omitzero"`
	Properties   map[string]string `json:"properties,omitzero"`
	Associations []writeLink       `json:"associations,omitzero"`
	Trace        string            `json:"objectWriteTraceId,omitzero"`
}

type writeLink struct {
	To    batchInput           `json:"to"`
	Types []AssociationTypeRef `json:"types"`
}

// BatchCreate creates at most MaxPage records. Every input may fail alone; the error of the call itself is *SplitError
// when HubSpot refused the whole batch, and *AmbiguousError when it may have run although no readable answer came.
//
// HubSpot answers in an order of its own. Results are told apart by trace, else by what was sent; records that were sent
// alike are told apart by nothing, so they are given to their inputs in the order of their ids.
func (c *Client) BatchCreate(ctx context.Context, objectType string, in []CreateInput, p *Projection) (*WriteBatch, error) {
	w := newRecordWrite(c, objectType, "create", p, len(in))
	for i, input := range in {
		row := writeInput{Properties: input.Properties, Trace: input.Trace}
		if row.Properties == nil {
			row.Properties = map[string]string{}
		}
		for _, a := range input.Associations {
			row.Associations = append(row.Associations, writeLink{
				To: batchInput{strconv.FormatInt(a.ToID, 10)}, Types: a.Types,
			})
		}
		w.add(i, row)
	}
	w.creates = true
	return w.send(ctx)
}

// BatchUpdate changes at most MaxPage records by id. Ids must not repeat; an id that was merged into another is not
// found. Errors are those of BatchCreate.
func (c *Client) BatchUpdate(ctx context.Context, objectType string, in []UpdateInput, p *Projection) (*WriteBatch, error) {
	w := newRecordWrite(c, objectType, "update", p, len(in))
	for i, input := range in {
		w.add(i, writeInput{ID: strconv.FormatInt(input.ID, 10), Properties: given(input.Properties), Trace: input.Trace})
	}
	w.byID = true
	return w.send(ctx)
}

// BatchUpsert changes or creates at most MaxPage records by the value of a unique property, such as a contact's email.
// Keys must not repeat. WriteResult.New tells which were created. Errors are those of BatchCreate.
func (c *Client) BatchUpsert(
	ctx context.Context, objectType, idProperty string, in []UpsertInput, p *Projection,
) (*WriteBatch, error) {
	w := newRecordWrite(c, objectType, "upsert", p, len(in))
	if idProperty == "" {
		return nil, fmt.Errorf("batch upsert %s: no unique property named", objectType)
	}
	for i, input := range in {
		w.add(i, writeInput{
			ID: input.Key, IDProperty: idProperty, Properties: given(input.Properties), Trace: input.Trace,
		})
	}
	w.keyProperty = idProperty
	return w.send(ctx)
}

// BatchArchive moves at most MaxPage records to the recycle bin. Ids must not repeat. Records that are archived already,
// or never were, count as archived: HubSpot does not tell them apart. Errors are those of BatchCreate.
func (c *Client) BatchArchive(ctx context.Context, objectType string, ids []int64) (*WriteBatch, error) {
	w := newRecordWrite(c, objectType, "archive", nil, len(ids))
	for i, id := range ids {
		w.add(i, writeInput{ID: strconv.FormatInt(id, 10)})
	}
	w.byID, w.archives = true, true
	return w.send(ctx)
}

func given(properties map[string]string) map[string]string {
	if properties == nil {
		return map[string]string{}
	}
	return properties
}

// recordWrite is a batch write of records on its way.
type recordWrite struct {
	c          *Client
	objectType string
	action     string
	inputs     []writeInput
	wanted     *Projection // the caller's
	p          *Projection // wanted, then what was sent and tells records apart

	creates     bool
	archives    bool
	byID        bool
	keyProperty string // of upserts
}

func newRecordWrite(c *Client, objectType, action string, p *Projection, n int) *recordWrite {
	return &recordWrite{c: c, objectType: objectType, action: action, wanted: p, inputs: make([]writeInput, 0, n)}
}

func (w *recordWrite) add(i int, row writeInput) {
	if row.Trace == "" && !w.archives {
		row.Trace = strconv.Itoa(i)
	}
	w.inputs = append(w.inputs, row)
}

// check refuses what HubSpot would refuse as a whole, before any call.
func (w *recordWrite) check() error {
	if len(w.inputs) == 0 || len(w.inputs) > MaxPage {
		return fmt.Errorf("batch %s %s: %d inputs, want 1 to %d", w.action, w.objectType, len(w.inputs), MaxPage)
	}
	ids, traces := make(map[string]bool, len(w.inputs)), make(map[string]bool, len(w.inputs))
	for i, in := range w.inputs {
		switch {
		case !w.creates && (in.ID == "" || in.ID == "0"):
			return fmt.Errorf("batch %s %s: input %d names no record", w.action, w.objectType, i)
		case !w.creates && ids[fold(in.ID)]:
			return fmt.Errorf("batch %s %s: input %d repeats a record", w.action, w.objectType, i)
		case !w.archives && traces[in.Trace]:
			return fmt.Errorf("batch %s %s: input %d repeats a trace", w.action, w.objectType, i)
		}
		ids[fold(in.ID)], traces[in.Trace] = true, true
	}
	return nil
}

func (w *recordWrite) send(ctx context.Context) (*WriteBatch, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(writeBody{w.inputs}, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encode batch %s: %w", w.action, err)
	}
	w.p = w.projection()
	r := write(FamilyObject, http.MethodPost, w.c.versions.objects()+"/"+segment(w.objectType)+"/batch/"+w.action)
	r.body = body
	var out *recordsBody
	r.decode = func(body []byte) (err error) {
		if len(body) == 0 {
			return nil // 204
		}
		out, err = decodeWritten(body, w.p, len(w.inputs))
		return err
	}
	err = w.c.call(ctx, r)
	b := &WriteBatch{Results: make([]WriteResult, len(w.inputs)), CorrelationID: r.correlation, SentAt: r.readAt}
	if err != nil {
		return b.refused(err)
	}
	newSettlement(w, r, b).settle(out)
	return b, nil
}

// refused says what a failed call means for its rows: a batch of one has no one else to blame.
func (b *WriteBatch) refused(err error) (*WriteBatch, error) {
	if !rowRefusal(err) {
		return nil, err
	}
	if len(b.Results) == 1 {
		b.Results[0].Err = err
		return b, nil
	}
	return nil, &SplitError{Err: err, Rows: len(b.Results)}
}
