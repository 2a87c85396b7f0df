package hubapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// replyLayer reads the whole body of an answer, so that a body that is cut or stalls fails the attempt and not the
// decoder. The body of the response that it returns is in memory; bodyOf gives its bytes.
type replyLayer struct {
	inactivity time.Duration
	maxBody    int64
	next       http.RoundTripper
	buffers    sync.Pool // of *bytes.Buffer
}

// errInactive says that an attempt made no progress for too long.
var errInactive = errors.New("no answer, or the answer stalled")

// errBodyLimit says that an answer is longer than the client reads.
var errBodyLimit = errors.New("answer exceeds the size limit")

// maxKeptBuffer is the largest body buffer that is kept for the next answer.
const maxKeptBuffer = 4 << 20

func (l *replyLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	watchdog := time.AfterFunc(l.inactivity, func() { cancel(errInactive) })
	defer watchdog.Stop()

	resp, err := l.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, inactiveOr(ctx, err)
	}
	defer resp.Body.Close()

	buf, ok := l.buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	buf.Reset()
	if n := resp.ContentLength; n > 0 && n <= l.maxBody {
		buf.Grow(int(n) + bytes.MinRead)
	}
	body := &progressReader{r: io.LimitReader(resp.Body, l.maxBody+1), watchdog: watchdog, limit: l.inactivity}
	if _, err := buf.ReadFrom(body); err != nil {
		l.keep(buf)
		return nil, fmt.Errorf("read answer: %w", inactiveOr(ctx, err))
	}
	if int64(buf.Len()) > l.maxBody {
		return nil, fmt.Errorf("%w of %d bytes", errBodyLimit, l.maxBody)
	}
	resp.Body = &replyBody{Reader: bytes.NewReader(buf.Bytes()), data: buf.Bytes(), release: func() { l.keep(buf) }}
	return resp, nil
}

func (l *replyLayer) keep(buf *bytes.Buffer) {
	if buf.Cap() <= maxKeptBuffer {
		l.buffers.Put(buf)
	}
}

// inactiveOr names the watchdog as the cause when it was the one that ended the attempt.
func inactiveOr(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errInactive) {
		return errInactive
	}
	return err
}

// progressReader winds the watchdog up again with each read that brings something.
type progressReader struct {
	r        io.Reader
	watchdog *time.Timer
	limit    time.Duration
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.watchdog.Reset(p.limit)
	}
	return n, err
}

// replyBody is a body in memory. Close gives the memory back, so nothing decoded may point into it.
type replyBody struct {
	*bytes.Reader
	data    []byte
	release func()
	once    sync.Once
}

// Close releases the buffer; data must not be used afterwards.
func (b *replyBody) Close() error {
	b.once.Do(b.release)
	return nil
}

// bodyOf returns the bytes of an answer that passed the replyLayer, valid until its Body is closed.
func bodyOf(resp *http.Response) []byte {
	if b, ok := resp.Body.(*replyBody); ok {
		return b.data
	}
	return nil
}
