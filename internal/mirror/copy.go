package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// copyChunk is about how much encoded text goes to the server at once. Small chunks let the server read the first rows
// while later ones are still being rendered: at 100 rows a page that is a fifth more rows per second than 64 KiB.
const copyChunk = 12 << 10

// rowEncoder renders rows in the text format of COPY, a chunk at a time, as an io.Reader.
type rowEncoder struct {
	columns []catalog.Column
	rows    []*Row
	readAt  []byte // encoded once; empty when the target has no _read_at

	buf     []byte // encoded and not yet read
	off     int
	scratch []byte
}

// copyColumns names the columns that a rowEncoder fills, in its order.
func copyColumns(columns []catalog.Column, readAt bool) []string {
	names := make([]string, 0, len(columns)+6)
	names = append(names, catalog.ID, catalog.CreatedAt, catalog.UpdatedAt, catalog.Unparsed, catalog.Overflow)
	if readAt {
		names = append(names, catalog.ReadAt)
	}
	for _, c := range columns {
		if !c.Overflow {
			names = append(names, c.Name)
		}
	}
	return names
}

// copyRows sends rows to target through COPY. lead is a statement to run just before it, without parameters and without
// a result; it travels in the same message, which saves a round trip.
func copyRows(ctx context.Context, tx pgx.Tx, lead, target string, columns []catalog.Column, rows []*Row, readAt time.Time) error {
	e := &rowEncoder{columns: columns, rows: rows}
	if !readAt.IsZero() {
		e.readAt = appendInstant(nil, readAt)
	}
	sql := []byte(lead + "copy " + target + " (")
	for i, name := range copyColumns(columns, !readAt.IsZero()) {
		if i > 0 {
			sql = append(sql, ", "...)
		}
		sql = append(sql, ident(name)...)
	}
	sql = append(sql, ") from stdin"...)
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, e, string(sql))
	if err != nil {
		return err
	}
	if tag.RowsAffected() != int64(len(rows)) {
		return fmt.Errorf("copied %d of %d rows", tag.RowsAffected(), len(rows))
	}
	return nil
}

// Read implements io.Reader.
func (e *rowEncoder) Read(p []byte) (int, error) {
	if e.off == len(e.buf) {
		e.buf, e.off = e.buf[:0], 0
		for len(e.rows) > 0 && len(e.buf) < copyChunk {
			e.encode(e.rows[0])
			e.rows = e.rows[1:]
		}
		if len(e.buf) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, e.buf[e.off:])
	e.off += n
	return n, nil
}

// encode appends one row. The values of the columns come last because what does not fit them is known only then;
// they are rendered into the scratch buffer first.
func (e *rowEncoder) encode(r *Row) {
	var unparsed, overflow map[string]json.RawMessage
	values := e.scratch[:0]
	for i := range e.columns {
		c := &e.columns[i]
		raw := r.Values[i]
		if c.Overflow {
			if len(raw) == 0 {
				continue
			}
			text, ok := c.Kind.AppendJSON(nil, raw)
			if ok {
				overflow = keep(overflow, c.Name, text)
			} else {
				unparsed = keep(unparsed, c.Name, quoteJSON(raw))
			}
			continue
		}
		values = append(values, '\t')
		if len(raw) == 0 {
			values = append(values, '\\', 'N')
			continue
		}
		mark := len(values)
		var ok bool
		if values, ok = c.Kind.AppendText(values, raw); !ok {
			unparsed = keep(unparsed, c.Name, quoteJSON(raw))
			values = append(values, '\\', 'N')
			continue
		}
		if c.Kind == catalog.Text || c.Kind == catalog.TextArray {
			values = escapeFrom(values, mark)
		}
	}
	e.scratch = values

	e.buf = strconv.AppendInt(e.buf, r.ID, 10)
	e.buf = appendInstant(append(e.buf, '\t'), r.CreatedAt)
	e.buf = appendInstant(append(e.buf, '\t'), r.UpdatedAt)
	e.buf = appendObject(append(e.buf, '\t'), unparsed)
	e.buf = appendObject(append(e.buf, '\t'), overflow)
	if len(e.readAt) > 0 {
		e.buf = append(append(e.buf, '\t'), e.readAt...)
	}
	e.buf = append(append(e.buf, values...), '\n')
}

// escapeFrom escapes buf[mark:] for COPY in place.
func escapeFrom(buf []byte, mark int) []byte {
	special := false
	for _, c := range buf[mark:] {
		special = special || c == '\\' || c == '\t' || c == '\n' || c == '\r'
	}
	if !special {
		return buf
	}
	plain := bytes.Clone(buf[mark:])
	buf = buf[:mark]
	for _, c := range plain {
		switch c {
		case '\\':
			buf = append(buf, '\\', '\\')
		case '\t':
			buf = append(buf, '\\', 't')
		case '\n':
			buf = append(buf, '\\', 'n')
		case '\r':
			buf = append(buf, '\\', 'r')
		default:
			buf = append(buf, c)
		}
	}
	return buf
}

// appendInstant renders an instant for COPY; the zero time is NULL.
func appendInstant(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, '\\', 'N')
	}
	return t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999Z")
}

// appendObject renders a JSON object for COPY; an empty one is NULL.
func appendObject(dst []byte, object map[string]json.RawMessage) []byte {
	if len(object) == 0 {
		return append(dst, '\\', 'N')
	}
	text, err := json.Marshal(object)
	if err != nil { // the values were made by this package and are valid
		return append(dst, '\\', 'N')
	}
	mark := len(dst)
	return escapeFrom(append(dst, text...), mark)
}

func keep(object map[string]json.RawMessage, name string, text []byte) map[string]json.RawMessage {
	if object == nil {
		object = map[string]json.RawMessage{}
	}
	object[name] = text
	return object
}

// quoteJSON renders raw as a JSON string that jsonb takes, which is any but one with a NUL in it.
func quoteJSON(raw []byte) []byte {
	text, _ := catalog.Text.AppendJSON(nil, raw) // every text is a value of Text
	return text
}
