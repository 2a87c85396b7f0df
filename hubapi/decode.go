package hubapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// contentError says that an answer is whole JSON but not what HubSpot promises; another attempt would not mend it.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

func unexpected(format string, args ...any) error {
	return &contentError{fmt.Errorf(format, args...)}
}

// recordsBody is what list, batch/read and search have in common.
type recordsBody struct {
	records []Record
	merged  []mergedIDs // of records whose answer named the ids that were merged into them
	after   string
	total   int
	errs    []errorEntry

	extras    []writeExtra // of answers to writes, one per record
	numErrors int
}

// writeExtra is what the answer to a write says about a record besides its content.
type writeExtra struct {
	trace string
	isNew bool
}

// mergedIDs is the value of hs_merged_object_ids of a record.
type mergedIDs struct {
	into int64
	ids  []byte // 12;34
}

// mergedProperty names the ids that a record has swallowed, separated by semicolons.
const mergedProperty = "hs_merged_object_ids"

// recordDecoder walks one body. Names of properties are looked up without being copied, values are unquoted into one
// arena, and nothing it returns points into the body.
type recordDecoder struct {
	dec   *jsontext.Decoder
	p     *Projection
	order []int // slots in the order of the names of the last record: HubSpot sorts them, so records agree
	names [][]byte
	arena arena
	slots [][]byte // values not yet given to records
	out   recordsBody
	hint  int  // expected number of records
	write bool // the body answers a write
}

// decodeRecords reads a page of records; expect is the number of records asked for.
func decodeRecords(body []byte, p *Projection, expect int) (*recordsBody, error) {
	d := newRecordDecoder(body, p, expect)
	return d.whole(func() error { return d.object(d.member) })
}

// decodeWritten reads the answer to a batch write.
func decodeWritten(body []byte, p *Projection, expect int) (*recordsBody, error) {
	d := newRecordDecoder(body, p, expect)
	d.write = true
	return d.whole(func() error { return d.object(d.member) })
}

// decodeRecord reads an answer that is one record.
func decodeRecord(body []byte, p *Projection) (Record, error) {
	d := newRecordDecoder(body, p, 1)
	b, err := d.whole(d.record)
	if err != nil {
		return Record{}, err
	}
	return b.records[0], nil
}

func newRecordDecoder(body []byte, p *Projection, expect int) *recordDecoder {
	return &recordDecoder{
		dec:   jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
		p:     p,
		hint:  max(1, min(expect, 1000)),
		arena: arena{chunk: max(1<<10, len(body)/8)},
	}
}

// whole reads the body with value and nothing after it.
func (d *recordDecoder) whole(value func() error) (*recordsBody, error) {
	if err := value(); err != nil {
		return nil, err
	}
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("answer does not end after its object: %w", errTrailing)
	}
	return &d.out, nil
}

var errTrailing = errors.New("trailing data")

// object calls member with each name of the object at hand; member reads the value.
func (d *recordDecoder) object(member func(name []byte) error) error {
	if kind := d.dec.PeekKind(); kind != '{' {
		return d.mismatch("object", kind)
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != '}' {
		name, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		if err := member(bare(name)); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

// array calls element for each element of the array at hand; null is an empty array.
func (d *recordDecoder) array(element func() error) error {
	switch kind := d.dec.PeekKind(); kind {
	case 'n':
		return d.dec.SkipValue()
	case '[':
	default:
		return d.mismatch("array", kind)
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != ']' {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

// mismatch reports a value of another kind than expected, or the error that hides behind kind 0.
func (d *recordDecoder) mismatch(want string, kind jsontext.Kind) error {
	if kind == 0 {
		if _, err := d.dec.ReadToken(); err != nil {
			return err
		}
	}
	return unexpected("%s expected at %q, found %v", want, d.dec.StackPointer(), kind)
}

func (d *recordDecoder) member(name []byte) error {
	switch string(name) {
	case "results":
		if d.out.records == nil {
			d.out.records = make([]Record, 0, d.hint)
		}
		return d.array(d.record)
	case "paging":
		return d.paging()
	case "total":
		return d.count(&d.out.total)
	case "numErrors":
		return d.count(&d.out.numErrors)
	case "errors":
		v, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		d.out.errs, err = decodeErrors(v)
		return err
	}
	return d.dec.SkipValue()
}

func (d *recordDecoder) count(n *int) error {
	v, err := d.dec.ReadValue()
	if err != nil {
		return err
	}
	if *n, err = strconv.Atoi(string(bare(v))); err != nil {
		return unexpected("read count: %w", err)
	}
	return nil
}

func (d *recordDecoder) paging() error {
	if d.dec.PeekKind() != '{' {
		return d.dec.SkipValue()
	}
	return d.object(func(name []byte) error {
		if string(name) != "next" || d.dec.PeekKind() != '{' {
			return d.dec.SkipValue()
		}
		return d.object(func(name []byte) error {
			if string(name) != "after" {
				return d.dec.SkipValue()
			}
			v, err := d.dec.ReadValue()
			if err == nil && v.Kind() != 'n' {
				d.out.after, err = scalar(v)
			}
			return err
		})
	})
}

func (d *recordDecoder) record() error {
	rec := Record{Values: d.row()}
	var merged []byte
	var extra writeExtra
	err := d.object(func(name []byte) error {
		if string(name) == "properties" {
			var err error
			merged, err = d.properties(rec.Values)
			return err
		}
		v, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		if d.write {
			switch string(name) {
			case "new":
				extra.isNew = v.Kind() == 't'
			case "objectWriteTraceId":
				if v.Kind() != 'n' {
					extra.trace, err = scalar(v)
				}
			}
			if err != nil {
				return err
			}
		}
		return rec.set(name, v)
	})
	if err != nil {
		return err
	}
	if rec.ID == 0 {
		return unexpected("record without an id in answer")
	}
	if len(merged) > 0 {
		d.out.merged = append(d.out.merged, mergedIDs{into: rec.ID, ids: merged})
	}
	if d.write {
		d.out.extras = append(d.out.extras, extra)
	}
	d.out.records = append(d.out.records, rec)
	return nil
}

// set reads one member of a record outside its properties.
func (r *Record) set(name []byte, v jsontext.Value) error {
	var err error
	switch string(name) {
	case "id":
		if r.ID, err = strconv.ParseInt(string(bare(v)), 10, 64); err != nil {
			return unexpected("read record id: %w", err)
		}
	case "createdAt":
		r.CreatedAt, err = parseTime(v)
	case "updatedAt":
		r.UpdatedAt, err = parseTime(v)
	case "archivedAt":
		r.ArchivedAt, err = parseTime(v)
	case "archived":
		r.Archived = v.Kind() == 't'
	}
	return err
}

// row cuts the values of one record from a block that serves the whole page.
func (d *recordDecoder) row() [][]byte {
	n := d.p.Len()
	if n == 0 {
		return nil
	}
	if len(d.slots) < n {
		d.slots = make([][]byte, n*max(1, d.hint-len(d.out.records)))
	}
	row := d.slots[:n:n]
	d.slots = d.slots[n:]
	return row
}

func (d *recordDecoder) properties(row [][]byte) (merged []byte, err error) {
	i := 0
	err = d.object(func(name []byte) error {
		slot := d.slot(i, name)
		i++
		if slot == slotUnwanted {
			return d.dec.SkipValue()
		}
		v, err := d.dec.ReadValue()
		if err != nil || v.Kind() == 'n' {
			return err
		}
		value, err := d.arena.text(v)
		if err != nil {
			return err
		}
		if slot >= 0 {
			row[slot] = value
		}
		if slot == slotMerged || string(d.names[i-1]) == mergedProperty {
			merged = value
		}
		return nil
	})
	return merged, err
}

// The slots of names outside the Projection.
const (
	slotUnwanted = -1 - iota
	slotMerged
)

// slot finds the slot of the i-th name of a record. It first tries the slot that the i-th name had in the record before.
func (d *recordDecoder) slot(i int, name []byte) int {
	if i < len(d.names) && bytes.Equal(d.names[i], name) {
		return d.order[i]
	}
	slot := slotUnwanted
	if d.p != nil {
		if s, ok := d.p.slots[string(name)]; ok {
			slot = s
		}
	}
	if slot == slotUnwanted && string(name) == mergedProperty {
		slot = slotMerged
	}
	if i < len(d.names) {
		d.names[i], d.order[i] = append(d.names[i][:0], name...), slot
	} else {
		d.names, d.order = append(d.names, bytes.Clone(name)), append(d.order, slot)
	}
	return slot
}
