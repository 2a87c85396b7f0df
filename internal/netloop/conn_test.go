//go:build linux

package netloop_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hubpg/internal/netloop"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running returns a loop that lasts as long as the test.
func running(t testing.TB) *netloop.Loop {
	t.Helper()
	l, err := netloop.New()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Errorf("the loop ended: %v", err)
		}
	})
	return l
}

// pair returns both ends of a connection over the network.
func pair(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var dialer net.Dialer
	if a, err = dialer.DialContext(context.Background(), network, listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func adopt(t testing.TB, l *netloop.Loop, conn net.Conn) *netloop.Conn {
	t.Helper()
	c, err := l.Adopt(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAConnectionIsANetConn(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			l := running(t)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b := pair(t, network)
				c1, c2 = adopt(t, l, a), adopt(t, l, b)
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}

func TestAHandlerHearsOfEverythingOnce(t *testing.T) {
	l := running(t)
	a, b := pair(t, "tcp")
	c := adopt(t, l, b)
	var mu sync.Mutex
	var got []byte
	ended := make(chan error, 1)
	handle := func() {
		mu.Lock()
		defer mu.Unlock()
		buf := make([]byte, 100)
		for {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil && !errors.Is(err, netloop.ErrAgain) {
				select {
				case ended <- err:
				default:
				}
			}
			if err != nil || n < len(buf) && !c.Ended() {
				return
			}
		}
	}
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i * 7 / 5)
	}
	c.Attach(handle)
	handle()
	for rest := want; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(5000))
		if _, err := a.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	a.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Fatalf("ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler did not hear of the end")
	}
	if mu.Lock(); !bytes.Equal(got, want) {
		t.Fatalf("heard %d bytes of %d, or others", len(got), len(want))
	}
	mu.Unlock()
}

func TestAHandlerHearsOfAnEndThatCameWithTheLastBytes(t *testing.T) {
	l := running(t)
	for range 200 {
		a, b := pair(t, "tcp")
		if _, err := a.Write([]byte("goodbye")); err != nil {
			t.Fatal(err)
		}
		a.Close()
		c := adopt(t, l, b)
		ended := make(chan error, 1)
		var once sync.Mutex
		handle := func() {
			once.Lock()
			defer once.Unlock()
			buf := make([]byte, 100)
			for {
				n, err := c.Read(buf)
				if err != nil && !errors.Is(err, netloop.ErrAgain) {
					select {
					case ended <- err:
					default:
					}
				}
				if err != nil || n < len(buf) && !c.Ended() {
					return
				}
			}
		}
		c.Attach(handle)
		handle()
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				t.Fatalf("ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the handler did not hear of the end")
		}
		c.Close()
	}
}

// A relay that goes to and fro between handler and goroutine, with a reader that is slow at times, loses nothing.
func TestNothingIsLostBetweenHandlerAndGoroutine(t *testing.T) {
	l := running(t)
	a, b := pair(t, "tcp")
	c := adopt(t, l, b)
	const size = 8 << 20
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i*31 + i>>11)
	}
	go func() { // echo, in turns by the loop and by this goroutine
		defer c.CloseWrite()
		buf := make([]byte, 4096)
		for turn := 0; ; turn++ {
			if turn%2 == 0 {
				for range 50 {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
				continue
			}
			var mu sync.Mutex
			on, left, over := true, 50, make(chan error, 1) // mu guards on and left
			handle := func() {
				mu.Lock()
				defer mu.Unlock()
				for on {
					n, err := c.Read(buf)
					if errors.Is(err, netloop.ErrAgain) {
						return
					}
					if err == nil {
						_, err = c.Write(buf[:n])
					}
					if left--; err != nil || left == 0 || c.Spilled() {
						on = false
						over <- err
						return
					}
					if n < len(buf) && !c.Ended() {
						return
					}
				}
			}
			c.Attach(handle)
			handle()
			err := <-over
			c.Detach()
			mu.Lock()
			on = false // and no call is under way any more
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(20_000))
			if _, err := a.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		if err := a.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got := make([]byte, 0, size)
	buf := make([]byte, 64<<10)
	if err := a.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for {
		if rand.IntN(200) == 0 {
			time.Sleep(20 * time.Millisecond) // so that the other side cannot send
		}
		n, err := a.Read(buf)
		got = append(got, buf[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("echo of %d bytes has %d, or others", len(want), len(got))
	}
}

func TestWhatIsSpilledIsSentByTheLoop(t *testing.T) {
	l := running(t)
	a, b := pair(t, "tcp")
	c := adopt(t, l, b)
	c.Attach(func() {})
	want := bytes.Repeat([]byte("spilled "), 2<<20)
	if n, err := c.Write(want); n != len(want) || err != nil {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if !c.Spilled() {
		t.Fatal("16 MiB went into the buffers of the system: the test shows nothing")
	}
	got := make([]byte, len(want))
	if err := a.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(a, got); err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes arrived")
	}
	if c.Spilled() {
		t.Fatal("still spilled")
	}
}

func TestAWriteOfNothingWaitsForWhatIsSpilled(t *testing.T) {
	l := running(t)
	a, b := pair(t, "tcp")
	c := adopt(t, l, b)
	c.Attach(func() {})
	want := bytes.Repeat([]byte("spilled "), 2<<20)
	if n, err := c.Write(want); n != len(want) || err != nil {
		t.Fatalf("wrote %d: %v", n, err)
	}
	c.Detach()
	if err := c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("nobody has read, and the write ended with %v", err)
	}
	if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, a) // ends with the connection
		got <- n
	}()
	if _, err := c.Write(nil); err != nil || c.Spilled() {
		t.Fatalf("waited: %v, spilled %v", err, c.Spilled())
	}
	c.Close()
	if n := <-got; n != int64(len(want)) {
		t.Fatalf("%d bytes arrived of %d", n, len(want))
	}
}

func TestAWriterHearsOfRoomHoweverOftenThereIsNone(t *testing.T) {
	t.Parallel()
	for network, buffer := range map[string]int{"tcp": 1 << 20, "unix": 1} {
		t.Run(network, func(t *testing.T) {
			l := running(t)
			a, b := pair(t, network)
			if err := a.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(buffer); err != nil {
				t.Fatal(err)
			}
			c := adopt(t, l, a)
			for _, conn := range []net.Conn{b, c} {
				if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			const size = 64 << 20
			done := make(chan error, 1)
			go func() { // ends at the deadline at the latest
				_, err := c.Write(make([]byte, size))
				done <- err
			}()
			if n, err := io.CopyN(io.Discard, b, size); err != nil {
				t.Errorf("read %d bytes: %v", n, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADeadlineThatIsMovedReachesWhoWaits(t *testing.T) {
	l := running(t)
	_, b := pair(t, "tcp")
	c := adopt(t, l, b)
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	for range 3 {
		if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read ended with %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read ended with %v", err)
	}
}

// TestCloseCallsTheHandler: who owns an attached connection hears of its end from whoever closes it, even from the handler
// itself, and finds it closed.
func TestCloseCallsTheHandler(t *testing.T) {
	t.Parallel()
	l := running(t)
	a, b := pair(t, "tcp")
	defer b.Close()
	c, err := l.Adopt(a)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan error, 10)
	c.Attach(func() {
		_, _, err := c.TryRead(make([]byte, 10))
		heard <- err
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-heard:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("the handler found %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the handler was not called")
	}
}

// streamed is more than a connection must have read before it waits for large pieces.
const streamed = 20 << 20

// stream sends bytes through a connection, as a long result comes, and reads them.
func stream(t *testing.T, from net.Conn, to *netloop.Conn) {
	t.Helper()
	sent := make([]byte, streamed)
	for i := range sent {
		sent[i] = byte(i >> 3)
	}
	done := make(chan error, 1)
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 8<<10)
			if _, err := from.Write(rest[:n]); err != nil {
				done <- err
				return
			}
			rest = rest[n:]
		}
		done <- nil
	}()
	buf := make([]byte, 256<<10)
	for at := 0; at < streamed; {
		n, err := to.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], sent[at:at+n]) {
			t.Fatalf("%d bytes at %d are others than were sent", n, at)
		}
		at += n
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestWhatFollowsALongStreamIsReadAtOnce: its last piece, which may be small, an answer that is smaller still, and the end.
func TestWhatFollowsALongStreamIsReadAtOnce(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, network)
			c := adopt(t, running(t), b)
			if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			stream(t, a, c)
			for i := range 100 {
				sent := []byte{byte(i), 1}
				go func() {
					time.Sleep(time.Duration(i%5) * time.Millisecond) // the reader waits, or does not yet
					_, _ = a.Write(sent)                              // else there is nothing to read
				}()
				buf := make([]byte, 256<<10)
				n, err := io.ReadAtLeast(c, buf, len(sent))
				if err != nil || !bytes.Equal(buf[:n], sent) {
					t.Fatalf("read %v, %v, want %v", buf[:n], err, sent)
				}
			}
			stream(t, a, c)
			a.Close()
			if n, err := c.Read(make([]byte, 256<<10)); n != 0 || !errors.Is(err, io.EOF) {
				t.Fatalf("the end was read as %d bytes, %v", n, err)
			}
		})
	}
}

// TestAHandlerHearsOfLittleAfterALongStream: what the kernel was told to wait for is not what a handler is to wait for.
func TestAHandlerHearsOfLittleAfterALongStream(t *testing.T) {
	t.Parallel()
	a, b := pair(t, "tcp")
	c := adopt(t, running(t), b)
	stream(t, a, c)
	heard := make(chan struct{}, 64)
	c.Attach(func() { heard <- struct{}{} })
	defer c.Detach()
	if _, err := a.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was heard of a byte")
	}
}
