package hubapi

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// BatchResult is the answer to BatchRead. Every id asked for is in exactly one of Records (by its own id), Missing,
// Moved and Unanswered.
type BatchResult struct {
	Records    []Record        // in HubSpot's order, each once; may hold records under ids that were not asked for, see Moved
	Missing    []int64         // HubSpot says these do not exist (any more): deleted, archived or erased
	Moved      map[int64]int64 // old id → the id of the record it was merged into
	Unanswered []int64         // neither found nor declared missing: nothing is known about them
	ReadAt     time.Time       // just before the request was sent
}

type batchReadBody struct {
	IDProperty string       `json:"idProperty,omitzero"`
	Inputs     []batchInput `json:"inputs"`
	Properties []string     `json:"properties"`
	History    []string     `json:"propertiesWithHistory"`
}

type batchInput struct {
	ID string `json:"id"`
}

// BatchRead returns live records by id, at most MaxPage. Ids must not repeat. The projection travels in the body, so it
// may be of any length.
func (c *Client) BatchRead(ctx context.Context, objectType string, ids []int64, p *Projection) (*BatchResult, error) {
	return c.batchRead(ctx, objectType, ids, p, "")
}

// BatchReadArchived is BatchRead for records in the recycle bin: Missing are those that are not in it.
func (c *Client) BatchReadArchived(ctx context.Context, objectType string, ids []int64, p *Projection) (*BatchResult, error) {
	return c.batchRead(ctx, objectType, ids, p, "archived=true")
}

func (c *Client) batchRead(ctx context.Context, objectType string, ids []int64, p *Projection, query string) (*BatchResult, error) {
	if len(ids) == 0 || len(ids) > MaxPage {
		return nil, fmt.Errorf("batch read %s: %d ids, want 1 to %d", objectType, len(ids), MaxPage)
	}
	b := batchReadBody{Inputs: make([]batchInput, len(ids)), Properties: p.Names(), History: []string{}}
	for i, id := range ids {
		b.Inputs[i].ID = strconv.FormatInt(id, 10)
	}
	if _, ok := p.Slot(mergedProperty); !ok {
		b.Properties = append(b.Properties, mergedProperty) // tells which record an old id has become
	}
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode batch read: %w", err)
	}
	r := read(FamilyObject, http.MethodPost, c.versions.objects()+"/"+segment(objectType)+"/batch/read")
	r.query = query
	r.body = body
	var out *recordsBody
	r.decode = func(body []byte) (err error) {
		out, err = decodeRecords(body, p, len(ids))
		return err
	}
	if err := c.call(ctx, r); err != nil {
		return nil, err
	}
	if out == nil { // 204
		return nil, &APIError{Status: http.StatusNoContent, Method: r.method, Path: r.path, Message: "empty answer to a batch read"}
	}
	res, chained := newBatchResult(ids, out, r.readAt)
	if !chained || len(res.Unanswered) != 1 {
		return res, nil
	}
	// The record that another id has become may be this one's, too, at the end of a chain of merges: alone it cannot be mistaken.
	one, err := c.batchRead(ctx, objectType, res.Unanswered, p, query)
	if err != nil {
		return nil, err
	}
	res.Unanswered = nil
	res.Add(one)
	return res, nil
}

// Add adds the answer to other ids. A record that both hold, as one that several have become, is there once; ReadAt is that of the
// earlier.
func (res *BatchResult) Add(more *BatchResult) {
	known := make(map[int64]bool, len(res.Records))
	for i := range res.Records {
		known[res.Records[i].ID] = true
	}
	for i := range more.Records {
		if !known[more.Records[i].ID] {
			res.Records = append(res.Records, more.Records[i])
		}
	}
	res.Missing, res.Unanswered = append(res.Missing, more.Missing...), append(res.Unanswered, more.Unanswered...)
	if res.Moved == nil && len(more.Moved) > 0 {
		res.Moved = map[int64]int64{}
	}
	maps.Copy(res.Moved, more.Moved)
	if more.ReadAt.Before(res.ReadAt) {
		res.ReadAt = more.ReadAt
	}
}

// KeyedResult is the answer to BatchReadBy.
type KeyedResult struct {
	Records map[string]Record // by the key asked for; a key without a record is not in it
	ReadAt  time.Time         // just before the request was sent
}

// BatchReadBy returns live records by the value of a unique property, at most MaxPage: how the creator of a record whose
// answer was lost learns whether it exists. Keys must not repeat; HubSpot compares them without regard to case.
func (c *Client) BatchReadBy(
	ctx context.Context, objectType, idProperty string, keys []string, p *Projection,
) (*KeyedResult, error) {
	if len(keys) == 0 || len(keys) > MaxPage || idProperty == "" {
		return nil, fmt.Errorf("batch read %s by %q: %d keys, want 1 to %d", objectType, idProperty, len(keys), MaxPage)
	}
	wide := NewProjection(append(p.Names(), idProperty))
	b := batchReadBody{IDProperty: idProperty, Properties: wide.Names(), History: []string{}}
	asked := make(map[string]string, len(keys))
	for _, key := range keys {
		b.Inputs = append(b.Inputs, batchInput{key})
		asked[fold(key)] = key
	}
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode batch read: %w", err)
	}
	r := read(FamilyObject, http.MethodPost, c.versions.objects()+"/"+segment(objectType)+"/batch/read")
	r.body = body
	var out *recordsBody
	r.decode = func(body []byte) (err error) {
		out, err = decodeRecords(body, wide, len(keys))
		return err
	}
	if err := c.call(ctx, r); err != nil {
		return nil, err
	}
	res := &KeyedResult{Records: make(map[string]Record, len(out.records)), ReadAt: r.readAt}
	slot, _ := wide.Slot(idProperty)
	for _, rec := range out.records {
		if key, ok := asked[fold(string(rec.Values[slot]))]; ok {
			rec.Values = rec.Values[:p.Len():p.Len()]
			res.Records[key] = rec
		}
	}
	return res, nil
}

// newBatchResult sorts the ids asked for by what HubSpot said about them. chained says that a record stands for an old id
// that it names, so that it may stand for one that it does not name, as well.
func newBatchResult(ids []int64, b *recordsBody, readAt time.Time) (res *BatchResult, chained bool) {
	res = &BatchResult{ReadAt: readAt, Records: b.records[:0]}
	open := make(map[int64]bool, len(ids))
	for _, id := range ids {
		open[id] = true
	}
	seen := make(map[int64]bool, len(b.records))
	strangers := map[int64]bool{} // records under ids that were not asked for, and that name none of those
	for _, rec := range b.records {
		if seen[rec.ID] {
			continue // asked for by an old id and by its own
		}
		seen[rec.ID] = true
		if !open[rec.ID] {
			strangers[rec.ID] = true
		}
		delete(open, rec.ID)
		res.Records = append(res.Records, rec)
	}
	for _, id := range missingIDs(b.errs) {
		if open[id] {
			res.Missing = append(res.Missing, id)
			delete(open, id)
		}
	}
	move := func(id, into int64) {
		if open[id] {
			if res.Moved == nil {
				res.Moved = make(map[int64]int64)
			}
			res.Moved[id] = into
			delete(open, id)
			if strangers[into] { // it is accounted for: it says nothing about an id that was merely left out
				delete(strangers, into)
				chained = true
			}
		}
	}
	for _, m := range b.merged {
		for part := range bytes.SplitSeq(m.ids, []byte{';'}) {
			if id, err := strconv.ParseInt(string(bytes.TrimSpace(part)), 10, 64); err == nil {
				move(id, m.into)
			}
		}
	}
	for _, id := range ids {
		if !open[id] {
			continue
		}
		if len(open) == 1 && len(strangers) == 1 {
			for into := range strangers {
				move(id, into) // the one left over on each side
			}
			continue
		}
		res.Unanswered = append(res.Unanswered, id)
	}
	return res, chained
}

// missingIDs returns the ids that a batch declares not found.
func missingIDs(errs []errorEntry) []int64 {
	var ids []int64
	for _, e := range errs {
		if e.Category != "OBJECT_NOT_FOUND" {
			continue
		}
		for _, s := range e.Context.lists()["ids"] {
			if id, err := strconv.ParseInt(s, 10, 64); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// decodeErrors reads the errors of a partial success.
func decodeErrors(v jsontext.Value) ([]errorEntry, error) {
	if v.Kind() != '[' {
		return nil, nil
	}
	var errs []errorEntry
	if err := json.Unmarshal(v, &errs, lenient()); err != nil {
		return nil, unexpected("read batch errors: %w", err)
	}
	return errs, nil
}
