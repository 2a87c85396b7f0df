package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// readerBuffer is the size at which a Reader's buffer starts.
const readerBuffer = 4096

// Reader takes messages from a stream one at a time. It is meant for the handshake; a [Pump] carries the rest.
type Reader struct {
	src     io.Reader
	limit   int // largest message that Read accepts
	buf     []byte
	pooled  *[readerBuffer]byte // the pooled array that buf began as
	r, w    int
	pending int // bytes of the message handed out by the last Read
}

// NewReader returns a Reader of src that refuses to hold a message of more than limit bytes, header included.
func NewReader(src io.Reader, limit int) *Reader {
	r := &Reader{src: src, limit: limit, pooled: readerBuffers.Get().(*[readerBuffer]byte)}
	r.buf = r.pooled[:min(readerBuffer, max(limit, HeaderLen))]
	return r
}

// readerBuffers are those of Readers that have given up their rest: of logins, which come in crowds.
var readerBuffers = sync.Pool{New: func() any { return new([readerBuffer]byte) }}

// Peek returns the header of the next message and consumes nothing.
func (r *Reader) Peek() (Header, error) {
	r.release()
	if err := r.fill(HeaderLen); err != nil {
		return Header{}, err
	}
	return parseHeader(r.buf[r.r:r.w], MaxMessage)
}

// Read returns the next message whole, header included. The bytes belong to the Reader and are valid until its next
// call. It returns [ErrTooLarge] and consumes nothing if the message is larger than the limit.
func (r *Reader) Read() (Header, []byte, error) {
	h, err := r.Peek()
	if err != nil {
		return Header{}, nil, err
	}
	if h.Size > r.limit {
		return Header{}, nil, fmt.Errorf("%w: type %q has %d bytes, at most %d allowed", ErrTooLarge, h.Type, h.Size, r.limit)
	}
	if err := r.fill(h.Size); err != nil {
		return Header{}, nil, err
	}
	r.pending = h.Size
	return h, r.buf[r.r : r.r+h.Size], nil
}

// Head returns the first n bytes of the next message, header included, as far as it has so many, and consumes nothing.
// They are valid until the next call.
func (r *Reader) Head(n int) ([]byte, error) {
	h, err := r.Peek()
	if err != nil {
		return nil, err
	}
	n = min(n, h.Size)
	if err := r.fill(n); err != nil {
		return nil, err
	}
	return r.buf[r.r : r.r+n], nil
}

// Shrink gives up a buffer that a large message has made grow, and with it the message that Read returned last.
func (r *Reader) Shrink() {
	r.release()
	rest := r.buf[r.r:r.w]
	if len(r.buf) <= readerBuffer || len(rest) > len(r.buf)/2 {
		return
	}
	small := make([]byte, max(len(rest), readerBuffer))
	r.w = copy(small, rest)
	r.buf, r.r = small, 0
}

// Skip reads over the next message, of which some may have been read already. The memory that holds it is given up first:
// then before is called.
func (r *Reader) Skip(before func()) error {
	h, err := r.Peek()
	if err != nil {
		return err
	}
	left := h.Size
	if have := r.w - r.r; have < h.Size {
		left -= have
		r.r, r.w = 0, 0
		if len(r.buf) > readerBuffer {
			r.buf = make([]byte, readerBuffer)
		}
	}
	before()
	for left > 0 {
		if r.r == r.w {
			if err := r.fill(1); err != nil {
				return err
			}
		}
		n := min(left, r.w-r.r)
		r.r += n
		left -= n
	}
	return nil
}

// Forward copies the next message, of any size up to [MaxMessage], to dst without holding it.
func (r *Reader) Forward(dst io.Writer) (Header, error) {
	h, err := r.Peek()
	if err != nil {
		return Header{}, err
	}
	for left := h.Size; left > 0; {
		if r.r == r.w {
			if err := r.fill(1); err != nil {
				return h, err
			}
		}
		n := min(left, r.w-r.r)
		if _, err := dst.Write(r.buf[r.r : r.r+n]); err != nil {
			return h, fmt.Errorf("forward message: %w", err)
		}
		r.r += n
		left -= n
	}
	return h, nil
}

// Buffered returns the bytes that were read from the stream but not consumed, valid until the next call.
func (r *Reader) Buffered() []byte { return r.buf[r.r+r.pending : r.w] }

// Rest gives up the bytes that were read from the stream but not consumed, for whoever reads it next. They stay
// valid, unlike messages that were read; the Reader may not be used again.
func (r *Reader) Rest() []byte {
	r.release()
	rest := bytes.Clone(r.buf[r.r:r.w])
	r.buf, r.r, r.w = nil, 0, 0
	if r.pooled != nil {
		clear(r.pooled[:]) // there may have been a password in it
		readerBuffers.Put(r.pooled)
		r.pooled = nil
	}
	return rest
}

func (r *Reader) release() {
	r.r += r.pending
	r.pending = 0
}

// fill makes at least n bytes available. Its callers have checked n against a cap.
func (r *Reader) fill(n int) error {
	if r.w-r.r >= n {
		return nil
	}
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if len(r.buf) < n {
		grown := make([]byte, n)
		copy(grown, r.buf[:r.w])
		r.buf = grown
	}
	got, err := io.ReadAtLeast(r.src, r.buf[r.w:], n-r.w)
	r.w += got
	if errors.Is(err, io.EOF) && r.w > r.r {
		err = io.ErrUnexpectedEOF
	}
	return err
}
