package pgwire

import (
	"encoding/binary"
	"fmt"
)

// AppendQuery appends a Query.
func AppendQuery(dst []byte, text string) []byte {
	dst = append(dst, 'Q')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(text)+1))
	return append(append(dst, text...), 0)
}

// AppendParse appends a Parse that leaves the types of the parameters to Postgres.
func AppendParse(dst []byte, name, text string) []byte {
	dst = append(dst, 'P')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(name)+1+len(text)+1+2))
	dst = append(append(dst, name...), 0)
	dst = append(append(dst, text...), 0)
	return append(dst, 0, 0)
}

// AppendBind appends a Bind with parameters and results in text format; a nil parameter is null.
func AppendBind(dst []byte, portal, statement string, parameters ...[]byte) []byte {
	start := len(dst)
	dst = append(dst, 'B', 0, 0, 0, 0)
	dst = append(append(dst, portal...), 0)
	dst = append(append(dst, statement...), 0)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(parameters)))
	for _, p := range parameters {
		if p == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p)))
		dst = append(dst, p...)
	}
	dst = append(dst, 0, 0)
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
}

// AppendExecute appends an Execute of a portal; rows 0 is without a limit.
func AppendExecute(dst []byte, portal string, rows uint32) []byte {
	dst = append(dst, 'E')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(portal)+1+4))
	dst = append(append(dst, portal...), 0)
	return binary.BigEndian.AppendUint32(dst, rows)
}

// AppendClose appends a Close of a statement ('S') or a portal ('P').
func AppendClose(dst []byte, what byte, name string) []byte {
	dst = append(dst, 'C')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+1+len(name)+1))
	dst = append(dst, what)
	return append(append(dst, name...), 0)
}

// AppendSync appends a Sync.
func AppendSync(dst []byte) []byte { return append(dst, 'S', 0, 0, 0, 4) }

// ParseDataRow returns the columns of a DataRow, nil for a null. They share the message's memory.
func ParseDataRow(message []byte) ([][]byte, error) {
	body := message[HeaderLen:]
	if len(body) < 2 {
		return nil, fmt.Errorf("%w: row of %d bytes", ErrFraming, len(body))
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	columns := make([][]byte, 0, n)
	for range n {
		if len(body) < 4 {
			return nil, fmt.Errorf("%w: row ends in a column", ErrFraming)
		}
		size := int32(binary.BigEndian.Uint32(body))
		body = body[4:]
		if size < 0 {
			columns = append(columns, nil)
			continue
		}
		if int(size) > len(body) {
			return nil, fmt.Errorf("%w: column of %d bytes in a row with %d left", ErrFraming, size, len(body))
		}
		columns = append(columns, body[:size:size])
		body = body[size:]
	}
	return columns, nil
}

// ParseError returns what an ErrorResponse or NoticeResponse says.
func ParseError(message []byte) *Error {
	e := &Error{}
	body := message[HeaderLen:]
	for len(body) > 1 && body[0] != 0 {
		value, rest, ok := cutString(body[1:])
		if !ok {
			break
		}
		switch body[0] {
		case 'S':
			e.Severity = value
		case 'C':
			e.Code = value
		case 'M':
			e.Message = value
		case 'D':
			e.Detail = value
		case 'H':
			e.Hint = value
		case 's':
			e.Schema = value
		case 't':
			e.Table = value
		case 'c':
			e.Column = value
		}
		body = rest
	}
	return e
}
