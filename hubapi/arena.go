package hubapi

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// arena holds the values of a page in few large pieces.
type arena struct {
	free  []byte
	chunk int
}

// text returns the text of a scalar; other values keep their JSON form.
func (a *arena) text(v jsontext.Value) ([]byte, error) {
	if len(v) > cap(a.free) {
		a.free = make([]byte, 0, max(a.chunk, len(v)))
	}
	var out []byte
	var err error
	if v.Kind() == '"' {
		out, err = unquote(a.free, v)
	} else {
		out = append(a.free, v...)
	}
	if err != nil {
		return nil, err
	}
	a.free = out[len(out):cap(out):cap(out)][:0]
	return slices.Clip(out), nil
}

// unquote appends the text of a JSON string. Invalid UTF-8 becomes U+FFFD, as Postgres would not store it.
func unquote(dst []byte, v jsontext.Value) ([]byte, error) {
	raw := bare(v)
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return append(dst, raw...), nil
	}
	out, err := jsontext.AppendUnquote(dst, v)
	if err != nil && len(out) == len(dst) && len(raw) > 0 {
		return nil, err
	}
	return out, nil
}

// bare returns what stands between the quotes of a string, still escaped, or the value itself.
func bare(v []byte) []byte {
	if len(v) >= 2 && v[0] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// scalar returns the text of a string or number.
func scalar(v jsontext.Value) (string, error) {
	if v.Kind() == '"' {
		out, err := unquote(nil, v)
		return string(out), err
	}
	return string(v), nil
}
