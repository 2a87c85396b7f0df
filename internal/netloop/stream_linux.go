package netloop

import (
	"os"
	"syscall"
	"time"
)

// A long stream is read a large piece at a time. Senders write some KiB at a time, Postgres eight, and each would wake the
// reader, who is quick, and the one it writes to in turn: a third to a half of what a stream costs.
const (
	muchBytes = 64 << 10 // the kernel does not report less
	// muchRoom is what the kernel must hold for the connection, which it lets grow as a stream goes on: it would make room for
	// muchBytes itself, but then never let the sender send more than that at a time.
	muchRoom  = 4 * muchBytes
	muchAfter = 16 << 20 // bytes of a stream, so that waiting for the last piece is little beside it
	// muchWithin is how long to wait for a large piece. One that has not come by then is the last, or the stream has slowed down:
	// then every piece is read as it comes.
	muchWithin = time.Millisecond
)

// stream is what is known of how much comes in.
type stream struct {
	bytes int  // read in a row into large buffers
	much  bool // the kernel reports large pieces only
}

// read counts a read of n bytes into a buffer of size bytes.
func (s *stream) read(n, size int) {
	if size < muchBytes {
		s.slack()
		return
	}
	s.bytes += max(n, 0)
}

// slack says that what comes next may be little.
func (s *stream) slack() { s.bytes = 0 }

// heed has the kernel report what the stream is worth waiting for, and tells whether that has changed. readers is held.
func (c *Conn) heed() (changed bool, err error) {
	s := &c.stream
	want := s.bytes >= muchAfter
	if want == s.much || c.fd < 0 {
		return false, nil
	}
	low := 1
	if want {
		if room, err := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF); err != nil || room < muchRoom {
			s.slack()
			return false, nil
		}
		low = muchBytes
	}
	if err := syscall.SetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, low); err != nil {
		return false, c.fail("read", os.NewSyscallError("setsockopt", err))
	}
	s.much = want
	return true, nil
}

// awaitMuch waits for a large piece, or as long as that is worth it.
func (c *Conn) awaitMuch() {
	late := time.NewTimer(muchWithin)
	defer late.Stop()
	select {
	case <-c.readable:
	case <-late.C:
		c.readers.Lock()
		c.stream.slack()
		c.readers.Unlock()
	}
}
