package pgwire

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Sizes of a Pump's buffer: small while a session chats, large while a result streams.
const (
	SmallBuffer = 8 << 10
	LargeBuffer = 256 << 10
)

// MaxTake is the largest message, header included, that a [Filter] may ask to see whole. A larger one passes unseen.
const MaxTake = 64<<10 + HeaderLen

// ErrHalted ends [Pump.Run] after [Pump.Halt].
var ErrHalted = errors.New("halted before a message")

// Filter watches the messages that a [Pump] moves. Its methods are called on the Pump's goroutine, in this order for
// each buffer: Begin, then Header once for each message that starts in it, and perhaps Take, then Scanned, then Write.
type Filter interface {
	// Begin announces a buffer.
	Begin()
	// Header is told of each message and says whether Take must see it whole. Messages larger than MaxTake pass
	// without Take whatever it says.
	Header(typ byte, size int) (take bool)
	// Take sees a whole message, header included, valid until it returns, and returns what to send instead. Returning
	// the message itself, the usual case, costs nothing; nil drops it.
	Take(message []byte) []byte
	// Scanned says that every message that starts in the buffer has been shown.
	Scanned()
	// Write sends bytes on. It is called exactly once after Scanned, with nothing to send if a message that must be
	// seen whole has not arrived yet. boundary reports whether a message ends with the last of the bytes.
	Write(chunk []byte, boundary bool) error
	// Resting reports, after Write, whether nothing more is expected soon: a large buffer is then not kept waiting.
	Resting() bool
}

var (
	smallBuffers = sync.Pool{New: func() any { return new([SmallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([LargeBuffer]byte) }}
)

// patient is a stream that can be waited for without a buffer to read into.
type patient interface {
	TryRead(b []byte) (n int, ready bool, err error) // not ready where Read would wait
	AwaitRead() error                                // returns when to try again, or fails where one must not wait
}

// Pump moves messages from a stream through a [Filter] in whole buffers. It decodes nothing, allocates nothing per
// message, makes one read and one write per buffer, and holds no more than one buffer: none while it waits for a
// patient stream between two messages.
type Pump struct {
	src    io.Reader
	waits  patient // src, if it is one
	filter Filter
	buf    []byte             // nil while nothing is in it and waits is there
	small  *[SmallBuffer]byte // the pooled array behind buf, if it is the small one
	large  *[LargeBuffer]byte // the pooled array behind buf, if it is the large one
	w      int                // bytes in buf, all not yet sent
	skip   int                // bytes still to come of a message that passes unseen
	asked  bool               // the filter wants to see the message at the start of buf
	halted bool               // the message at the start of buf is somebody else's
	out    []byte             // the buffer with replacements made, when there were any
}

// NewPump returns a Pump that has already read rest from src. [Pump.Close] gives its buffers back.
func NewPump(src io.Reader, rest []byte, filter Filter) *Pump {
	p := &Pump{src: src, filter: filter}
	p.waits, _ = src.(patient)
	p.resize(max(len(rest), SmallBuffer))
	p.w = copy(p.buf, rest)
	p.lend()
	return p
}

// Halt stops the Pump before the message being shown. A [Filter] calls it from Header or Take. What came before the message
// is still written, then Run returns [ErrHalted]. The message is the first of what Rest returns.
func (p *Pump) Halt() { p.halted = true }

// Rest returns the bytes that were read and not sent on, valid until the Pump is closed. It is for whoever reads the
// stream next, once Run has returned.
func (p *Pump) Rest() []byte { return p.buf[:p.w] }

// Between reports whether all that was sent on so far ends with a whole message.
func (p *Pump) Between() bool { return p.skip == 0 }

// Close gives the buffers back. The Pump may not be used again.
func (p *Pump) Close() {
	p.putBack()
	p.buf, p.out = nil, nil
}

// Run moves messages until the stream ends or something fails. The end of the stream between two messages is io.EOF.
func (p *Pump) Run() error {
	if err := p.Resume(); err != nil {
		return err
	}
	for {
		if err := p.Step(); err != nil {
			return err
		}
	}
}

// Resume sends on what was read before, as far as it is complete. A message before which the Pump was halted passes: the
// filter's Take is shown it once more, its Header is not.
func (p *Pump) Resume() error {
	if p.halted {
		p.halted, p.asked = false, true
	}
	if p.w == 0 {
		return nil
	}
	return p.send()
}

// Step makes one read and sends on what it completed.
func (p *Pump) Step() error {
	n, err := p.read()
	if n > 0 {
		p.w += n
		full := p.w == len(p.buf)
		if err := p.send(); err != nil {
			return err
		}
		p.adapt(full, n)
	}
	p.lend()
	if errors.Is(err, io.EOF) && (p.skip > 0 || p.w > 0) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// read reads behind what is in the buffer.
func (p *Pump) read() (int, error) {
	if p.waits == nil {
		return p.src.Read(p.buf[p.w:])
	}
	for {
		if p.buf == nil {
			p.resize(SmallBuffer)
		}
		n, ready, err := p.waits.TryRead(p.buf[p.w:])
		if ready || err != nil {
			return n, err
		}
		p.lend()
		if err := p.waits.AwaitRead(); err != nil {
			return 0, err
		}
	}
}

// lend gives a small buffer that is empty to others while there is nothing to read: most sessions are silent most of the
// time, and a buffer that was just used is still in the processor's cache.
func (p *Pump) lend() {
	if p.waits == nil || p.w > 0 || p.small == nil {
		return
	}
	smallBuffers.Put(p.small)
	p.small, p.buf = nil, nil
}

// send scans what is in the buffer and writes all but a trailing piece that must be seen whole first.
func (p *Pump) send() error {
	p.filter.Begin()
	chunk, kept, need, err := p.scan()
	p.filter.Scanned()
	// A chunk that ends inside a message that passes unseen leaves skip > 0.
	if werr := p.filter.Write(chunk, p.skip == 0); werr != nil {
		return werr
	}
	if cap(p.out) > SmallBuffer {
		p.out = nil
	}
	if err != nil {
		return err
	}
	tail := p.buf[p.w-kept : p.w]
	if need > len(p.buf) {
		p.grow(need, tail)
	} else {
		copy(p.buf, tail)
	}
	p.w = kept
	if p.halted {
		return ErrHalted
	}
	return nil
}

// scan walks the headers. It returns what to send, how many bytes at the end of the buffer to keep, and how large
// the buffer must be for the kept message to fit. On an error what came before the bad message is still sent.
func (p *Pump) scan() (chunk []byte, kept, need int, err error) {
	pos, done := 0, 0 // done: how much of the buffer is already in out
	replaced := false
	if p.skip > 0 {
		pos = min(p.skip, p.w)
		p.skip -= pos
	}
	for p.w-pos >= HeaderLen {
		var h Header
		if h, err = parseHeader(p.buf[pos:p.w], MaxMessage); err != nil {
			break
		}
		take := p.asked || p.filter.Header(h.Type, h.Size)
		p.asked = false
		if p.halted {
			break
		}
		if !take || h.Size > MaxTake {
			if pos += h.Size; pos > p.w {
				p.skip = pos - p.w
				pos = p.w
			}
			continue
		}
		if p.w-pos < h.Size {
			need, p.asked = h.Size, true
			break
		}
		message := p.buf[pos : pos+h.Size]
		out := p.filter.Take(message)
		if p.halted {
			break
		}
		if len(out) != len(message) || &out[0] != &message[0] {
			if !replaced {
				p.out, replaced = p.out[:0], true
			}
			p.out = append(append(p.out, p.buf[done:pos]...), out...)
			done = pos + h.Size
		}
		pos += h.Size
	}
	kept = p.w - pos
	if err != nil {
		kept = 0
	}
	if replaced {
		p.out = append(p.out, p.buf[done:pos]...)
		return p.out, kept, need, err
	}
	return p.buf[:pos], kept, need, err
}

// adapt changes the size of the buffer after a read of n bytes that did or did not fill it.
func (p *Pump) adapt(full bool, n int) {
	switch {
	case full && len(p.buf) < LargeBuffer:
		p.grow(LargeBuffer, p.buf[:p.w])
	case len(p.buf) > SmallBuffer && p.w < SmallBuffer/2 && !full && (n < SmallBuffer || p.filter.Resting()):
		p.grow(SmallBuffer, p.buf[:p.w])
	}
}

// grow replaces the buffer by one of at least n bytes that starts with content.
func (p *Pump) grow(n int, content []byte) {
	small, large := p.small, p.large
	p.small, p.large = nil, nil
	p.resize(n)
	copy(p.buf, content)
	if small != nil {
		smallBuffers.Put(small)
	}
	if large != nil {
		largeBuffers.Put(large)
	}
}

func (p *Pump) resize(n int) {
	switch {
	case n <= SmallBuffer:
		p.small = smallBuffers.Get().(*[SmallBuffer]byte)
		p.buf = p.small[:]
	case n <= LargeBuffer:
		p.large = largeBuffers.Get().(*[LargeBuffer]byte)
		p.buf = p.large[:]
	default:
		panic(fmt.Sprintf("pgwire: buffer of %d bytes", n))
	}
}

func (p *Pump) putBack() {
	if p.small != nil {
		smallBuffers.Put(p.small)
	}
	if p.large != nil {
		largeBuffers.Put(p.large)
	}
	p.small, p.large = nil, nil
}
