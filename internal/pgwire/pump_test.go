package pgwire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"hubpg/internal/pgwire"

	"pgregory.net/rapid"
)

// tape is a Filter that records what it is told and doubles the body of every message of type Q.
type tape struct {
	types   []byte
	out     bytes.Buffer
	open    bool // between Begin and Write
	scanned bool
	t       interface {
		Helper()
		Fatalf(string, ...any)
	}
	whole int // bytes after which the last message ended
}

func (f *tape) Begin() {
	if f.open {
		f.t.Fatalf("Begin before Write")
	}
	f.open, f.scanned = true, false
}

func (f *tape) Scanned() { f.scanned = true }

func (f *tape) Resting() bool { return f.out.Len()%2 == 0 }

func (f *tape) Header(typ byte, _ int) bool {
	f.types = append(f.types, typ)
	return typ == 'Q' || typ == 'x'
}

func (f *tape) Take(m []byte) []byte {
	if int(binary.BigEndian.Uint32(m[1:]))+1 != len(m) {
		f.t.Fatalf("took %d bytes of %d", len(m), binary.BigEndian.Uint32(m[1:])+1)
	}
	if m[0] == 'x' {
		return nil
	}
	return pgwire.AppendMessage(nil, 'Q', m[pgwire.HeaderLen:], m[pgwire.HeaderLen:])
}

func (f *tape) Write(chunk []byte, boundary bool) error {
	if !f.open || !f.scanned {
		f.t.Fatalf("Write out of turn")
	}
	f.open = false
	f.out.Write(chunk)
	if boundary {
		f.whole = f.out.Len()
	}
	return nil
}

func TestAPumpKeepsEveryMessageWhereverTheStreamIsCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var in, want, types []byte
		for range rapid.IntRange(0, 25).Draw(t, "messages") {
			typ := rapid.SampledFrom([]byte("QxPdDZ")).Draw(t, "type")
			size := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(8100, 8300), rapid.IntRange(60_000, 70_000), rapid.IntRange(262_000, 263_000)).Draw(t, "size")
			body := bytes.Repeat([]byte{typ, 0}, size/2+1)[:size]
			message := pgwire.AppendMessage(nil, typ, body)
			in, types = append(in, message...), append(types, typ)
			switch {
			case len(message) > pgwire.MaxTake || typ != 'Q' && typ != 'x':
				want = append(want, message...)
			case typ == 'Q':
				want = pgwire.AppendMessage(want, 'Q', body, body)
			}
		}
		var src io.Reader = bytes.NewReader(in)
		switch rapid.IntRange(0, 3).Draw(t, "cut") {
		case 1:
			src = iotest.HalfReader(src)
		case 2:
			src = iotest.DataErrReader(src)
		case 3:
			src = &chunked{src: src, sizes: rapid.SliceOfN(rapid.IntRange(1, 9000), 1, 20).Draw(t, "sizes")}
		}
		rest := in[:min(len(in), rapid.IntRange(0, 20_000).Draw(t, "rest"))]
		if _, err := io.CopyN(io.Discard, src, int64(len(rest))); err != nil {
			t.Fatalf("skip rest: %v", err)
		}
		f := &tape{t: t}
		p := pgwire.NewPump(src, rest, f)
		defer p.Close()
		if err := p.Run(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("run: %v", err)
		}
		if !bytes.Equal(f.out.Bytes(), want) || !bytes.Equal(f.types, types) {
			t.Fatalf("%d bytes in, %d out, %d wanted; types %q, want %q", len(in), f.out.Len(), len(want), f.types, types)
		}
		if f.whole != len(want) {
			t.Fatalf("the last boundary was at %d of %d", f.whole, len(want))
		}
	})
}

type chunked struct {
	src   io.Reader
	sizes []int
	next  int
}

func (c *chunked) Read(p []byte) (int, error) {
	n := c.sizes[c.next%len(c.sizes)]
	c.next++
	return c.src.Read(p[:min(n, len(p))])
}

func TestAPumpStopsAtTheFirstBadHeaderAndSendsWhatCameBefore(t *testing.T) {
	t.Parallel()
	good := pgwire.AppendMessage(nil, 'D', []byte("row"))
	for name, c := range map[string]struct {
		bad  []byte
		want error
	}{
		"length 3": {[]byte{'D', 0, 0, 0, 3, 0}, pgwire.ErrFraming}, "negative": {[]byte{'D', 0xff, 0xff, 0xff, 0xff}, pgwire.ErrTooLarge},
		"two gigabytes": {[]byte{'Q', 0x7f, 0xff, 0xff, 0xff}, pgwire.ErrTooLarge},
		"half a header": {[]byte{'D', 0, 0}, io.ErrUnexpectedEOF}, "half a body": {[]byte{'D', 0, 0, 0, 9, 1}, io.ErrUnexpectedEOF},
		"half of a message to take": {[]byte{'Q', 0, 0, 0, 9, 1}, io.ErrUnexpectedEOF},
	} {
		f := &tape{t: t}
		p := pgwire.NewPump(bytes.NewReader(append(bytes.Clone(good), c.bad...)), nil, f)
		if err := p.Run(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(f.out.Bytes(), good) {
			t.Errorf("%s: sent %q", name, f.out.Bytes())
		}
		p.Close()
	}
}

// quiet is a Filter that does what a relay does with most messages: nothing.
type quiet struct{ messages int }

func (q *quiet) Begin()                      {}
func (q *quiet) Header(typ byte, _ int) bool { q.messages++; return typ == 'Z' }
func (q *quiet) Take(m []byte) []byte        { return m }
func (q *quiet) Scanned()                    {}
func (q *quiet) Write([]byte, bool) error    { return nil }
func (q *quiet) Resting() bool               { return false }

// stream repeats the answer to a small query for ever.
type stream struct {
	answer []byte
	at     int
}

func (s *stream) Read(p []byte) (int, error) {
	n := copy(p, s.answer[s.at:])
	s.at = (s.at + n) % len(s.answer)
	return n, nil
}

func answer() []byte {
	m := pgwire.AppendMessage(nil, 'T', make([]byte, 33))
	m = pgwire.AppendMessage(m, 'D', make([]byte, 11))
	m = pgwire.AppendMessage(m, 'C', []byte("SELECT 1\x00"))
	return pgwire.AppendReady(m, 'I')
}

func TestRelayingAllocatesNothing(t *testing.T) {
	p := pgwire.NewPump(&stream{answer: answer()}, nil, &quiet{})
	defer p.Close()
	allocs := testing.AllocsPerRun(1000, func() {
		if err := p.Step(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per buffer", allocs)
	}
}

func BenchmarkPump(b *testing.B) {
	for name, a := range map[string][]byte{"chat": answer(), "rows": bytes.Repeat(pgwire.AppendMessage(nil, 'D', make([]byte, 100)), 600)} {
		b.Run(name, func(b *testing.B) {
			f := &quiet{}
			p := pgwire.NewPump(&stream{answer: a}, nil, f)
			defer p.Close()
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Step(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(f.messages), "ns/message")
		})
	}
}

func FuzzPump(f *testing.F) {
	f.Add(answer(), uint8(3))
	f.Add([]byte{'Q', 0, 0, 0, 3}, uint8(1))
	f.Add([]byte{'Q', 0xff, 0xff, 0xff, 0xff, 0}, uint8(0))
	f.Add(append(answer(), 'D', 0, 1, 0, 0, 'x'), uint8(200))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		f := &tape{t: t}
		p := pgwire.NewPump(&chunked{src: bytes.NewReader(in), sizes: []int{int(cut) + 1}}, nil, f)
		defer p.Close()
		if err := p.Run(); err == nil {
			t.Fatal("a stream that ends has no error")
		}
		if !bytes.ContainsAny(f.types, "Qx") && !bytes.HasPrefix(in, f.out.Bytes()) {
			t.Fatalf("%q became %q", in, f.out.Bytes())
		}
	})
}
