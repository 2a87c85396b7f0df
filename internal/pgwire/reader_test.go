package pgwire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"hubpg/internal/pgwire"

	"github.com/google/go-cmp/cmp"
)

func TestReaderPeeksReadsAndForwards(t *testing.T) {
	t.Parallel()
	big := pgwire.AppendMessage(nil, 'd', bytes.Repeat([]byte("x"), 50_000))
	in := pgwire.AppendReady(nil, 'I')
	in = append(in, big...)
	in = pgwire.AppendReady(in, 'T')
	in = append(in, "rest"...)
	r := pgwire.NewReader(iotest.HalfReader(bytes.NewReader(in)), 100)
	for range 2 {
		if h, err := r.Peek(); err != nil || h != (pgwire.Header{Type: 'Z', Size: 6}) {
			t.Fatalf("peek: %v, %v", h, err)
		}
	}
	if _, m, err := r.Read(); err != nil || m[5] != 'I' {
		t.Fatalf("read: %q, %v", m, err)
	}
	if _, _, err := r.Read(); !errors.Is(err, pgwire.ErrTooLarge) {
		t.Fatalf("read over the limit: %v", err)
	}
	var out bytes.Buffer
	if h, err := r.Forward(&out); err != nil || h.Size != len(big) || !bytes.Equal(out.Bytes(), big) {
		t.Fatalf("forward: %v, %v, %d bytes", h, err, out.Len())
	}
	if _, m, err := r.Read(); err != nil || m[5] != 'T' {
		t.Fatalf("read: %q, %v", m, err)
	}
	if rest := r.Rest(); !bytes.HasPrefix([]byte("rest"), rest) {
		t.Errorf("rest: %q", rest)
	}
}

func TestReaderGivesALargeBufferUp(t *testing.T) {
	t.Parallel()
	big := pgwire.AppendMessage(nil, 'Q', bytes.Repeat([]byte("x"), 1<<20))
	in := append(slices.Clone(big), pgwire.AppendReady(nil, 'T')...)
	in = append(in, "rest"...)
	r := pgwire.NewReader(bytes.NewReader(in), 2<<20)
	if head, err := r.Head(100); err != nil || !bytes.Equal(head, big[:100]) {
		t.Fatalf("head: %q, %v", head, err)
	}
	if _, m, err := r.Read(); err != nil || !bytes.Equal(m, big) {
		t.Fatalf("read: %d bytes, %v", len(m), err)
	}
	r.Shrink()
	if head, err := r.Head(100); err != nil || string(head) != "Z\x00\x00\x00\x05T" {
		t.Fatalf("head of a short message: %q, %v", head, err)
	}
	r.Shrink() // changes nothing
	if _, m, err := r.Read(); err != nil || m[5] != 'T' {
		t.Fatalf("read: %q, %v", m, err)
	}
	if rest := r.Rest(); !bytes.HasPrefix([]byte("rest"), rest) || cap(rest) > 8<<10 {
		t.Errorf("rest: %q", rest)
	}
}

func TestReaderSkipsWhatHasPartlyCome(t *testing.T) {
	t.Parallel()
	big := pgwire.AppendMessage(nil, 'Q', bytes.Repeat([]byte("x"), 1<<20))
	in := append(slices.Clone(big), pgwire.AppendReady(nil, 'T')...)
	for _, cut := range []int{0, 10, 5000, len(big) - 1, len(big)} {
		stopped := errors.New("stopped")
		src := io.MultiReader(bytes.NewReader(in[:cut]), iotest.ErrReader(stopped))
		r := pgwire.NewReader(readerFunc(func(b []byte) (int, error) { return src.Read(b) }), 2<<20)
		if _, err := r.Head(len(big)); cut < len(big) && !errors.Is(err, stopped) {
			t.Fatalf("%d bytes: head: %v", cut, err)
		}
		src = bytes.NewReader(in[cut:])
		told := 0
		if err := r.Skip(func() { told++ }); err != nil || told != 1 {
			t.Fatalf("%d bytes: skip: %v, told %d times", cut, err, told)
		}
		if _, m, err := r.Read(); err != nil || string(m) != "Z\x00\x00\x00\x05T" {
			t.Fatalf("%d bytes: then %q, %v", cut, m, err)
		}
	}
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestAnErrorIsShortenedToOneThatCanBeRead(t *testing.T) {
	t.Parallel()
	e := pgwire.Error{Severity: "ERROR", Code: "22P02", Message: "of " + strings.Repeat("é", 100), Detail: "more"}
	whole := e.Append(nil)
	for n := pgwire.HeaderLen; n <= len(whole); n++ {
		short := pgwire.ShortenError(whole[:n])
		h, m, err := pgwire.NewReader(bytes.NewReader(short), 1<<20).Read()
		if err != nil || h.Size != len(short) || m[len(m)-1] != 0 {
			t.Fatalf("%d bytes: %q, %v", n, m, err)
		}
		got := pgwire.ParseError(short)
		if !strings.HasPrefix(e.Message, got.Message) || !utf8.ValidString(got.Message) || !strings.HasPrefix(e.Code, got.Code) {
			t.Fatalf("%d bytes: %+v", n, got)
		}
		if n > 50 && (got.Code != e.Code || got.Message == "") {
			t.Fatalf("%d bytes: %+v", n, got)
		}
	}
}

func TestReaderNeverAllocatesByAClaimedLength(t *testing.T) {
	in := []byte{'d', 0x3f, 0xff, 0xff, 0xff, 1, 2, 3}
	allocs := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := pgwire.NewReader(bytes.NewReader(in), 1<<20)
			if _, _, err := r.Read(); !errors.Is(err, pgwire.ErrTooLarge) {
				b.Fatalf("read: %v", err)
			}
			if _, err := r.Forward(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				b.Fatalf("forward: %v", err)
			}
		}
	})
	if n := allocs.AllocedBytesPerOp(); n > 16<<10 {
		t.Errorf("%d bytes allocated for a claim of a gigabyte", n)
	}
}

func TestStartupPacketsAreReadExactly(t *testing.T) {
	t.Parallel()
	parameters := []pgwire.Parameter{{Name: "user", Value: "u"}, {Name: "database", Value: "d"}, {Name: "user", Value: "v"}}
	packet := pgwire.AppendStartup(nil, pgwire.Protocol32, append(slices.Clone(parameters), pgwire.Parameter{Name: "_pq_.x", Value: "1"}))
	src := bytes.NewReader(append(packet, "TLS"...))
	s, err := pgwire.ReadStartup(src)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	want := &pgwire.Startup{Kind: pgwire.StartSession, Version: pgwire.Protocol32, Parameters: parameters, Extensions: []string{"_pq_.x"}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.Parameter("user") != "v" || s.Parameter("none") != "" {
		t.Errorf("user %q", s.Parameter("user"))
	}
	if src.Len() != 3 {
		t.Errorf("%d bytes left, want 3", src.Len())
	}
	key := bytes.Repeat([]byte{7}, pgwire.MaxCancelKey)
	if s, err = pgwire.ReadStartup(bytes.NewReader(pgwire.AppendCancelRequest(nil, 42, key))); err != nil || s.PID != 42 || !bytes.Equal(s.Key, key) {
		t.Errorf("cancel: %+v, %v", s, err)
	}
	if s, err = pgwire.ReadStartup(bytes.NewReader(pgwire.AppendTLSRequest(nil))); err != nil || s.Kind != pgwire.StartTLS {
		t.Errorf("tls: %+v, %v", s, err)
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(pgwire.AppendStartup(nil, pgwire.Protocol30, []pgwire.Parameter{{Name: "user", Value: "u"}}))
	f.Add(pgwire.AppendTLSRequest(nil))
	f.Add(pgwire.AppendCancelRequest(nil, 1, []byte("1234")))
	f.Add([]byte{0, 0, 0, 8, 0, 2, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		src := bytes.NewReader(in)
		s, err := pgwire.ReadStartup(src)
		if err != nil {
			return
		}
		if took := len(in) - src.Len(); took != int(binary.BigEndian.Uint32(in)) {
			t.Fatalf("took %d bytes of a packet of %d", took, binary.BigEndian.Uint32(in))
		}
		if s.Kind == pgwire.StartSession && len(s.Extensions) == 0 {
			if out := pgwire.AppendStartup(nil, s.Version, s.Parameters); !bytes.Equal(out, in[:len(out)]) {
				t.Fatalf("%q came back as %q", in, out)
			}
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add(answer())
	f.Add([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 10})
	f.Add([]byte{'R', 0, 0, 0, 12, 0, 0, 0, 10, 'S', 'C', 'R', 'A'})
	f.Add([]byte{'K', 0, 0, 0, 9, 0, 0, 0, 1, 2})
	f.Add([]byte{'p', 0, 0, 0, 6, 'x', 0})
	f.Add(append(pgwire.AppendMessage(nil, 'Q', bytes.Repeat([]byte("x"), 5000)), answer()...))
	f.Add((&pgwire.Error{Severity: "ERROR", Code: "22P02", Message: "é"}).Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := pgwire.NewReader(bytes.NewReader(in), 8<<10)
		for n := 0; ; n++ {
			head, err := r.Head(n)
			head = slices.Clone(head)
			if err != nil {
				head = nil // there may still be a shorter message
			}
			h, m, err := r.Read()
			if err != nil {
				return
			}
			if !bytes.HasPrefix(m, head) {
				t.Fatalf("%q does not begin with %q", m, head)
			}
			if len(m) != h.Size || h.Size > 8<<10 {
				t.Fatalf("message of %d bytes for %+v", len(m), h)
			}
			// What takes messages apart must refuse, not panic.
			_, _, _ = pgwire.ParseAuthentication(m)
			_, _, _ = pgwire.ParseBackendKeyData(m)
			_, _ = pgwire.ParsePassword(m)
			_, _ = pgwire.ParseDataRow(m)
			_ = pgwire.ParseError(m)
			_ = pgwire.ParseError(pgwire.WithoutContext(m))
			_ = pgwire.ParseError(pgwire.ShortenError(m))
			if n%2 == 1 {
				r.Shrink()
			}
		}
	})
}
