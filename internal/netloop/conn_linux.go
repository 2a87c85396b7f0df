package netloop

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection that a [Loop] watches. As a [net.Conn] it may be used by any number of goroutines.
type Conn struct {
	number  int32 // of those that the loop has adopted
	fd      int   // -1 once closed; used with readers or sending held, changed with both
	handler atomic.Pointer[func()]
	ended   atomic.Bool
	full    atomic.Bool // the peer has not taken what it was sent, as far as the loop has heard

	readers   sync.Mutex // one TryRead at a time; guards stream; never held while waiting
	stream    stream
	writers   sync.Mutex // one Write at a time
	sending   sync.Mutex // guards below; never held while waiting
	spill     []byte     // accepted by Write and not yet sent
	spillFail error      // why it cannot be

	readBy, writeBy deadline

	// Each channel holds one when its waiter must look again: at the connection, at the deadline, whether it is closed.
	readable, writable chan struct{}

	closed        chan struct{}
	loop          *Loop
	local, remote net.Addr
}

// Attach has f called by the loop whenever there may be something to read, or the peer has ended. From now on Read
// and Write do not wait: Read returns [ErrAgain], and Write keeps what cannot be sent yet, without bound: whoever
// writes stops when Spilled says so. What arrived before Attach is not reported: call f once. f must not wait, and must
// read until a read does not fill its buffer or, once the connection has Ended, until a read fails. Close calls it once more,
// on a goroutine of its own.
func (c *Conn) Attach(f func()) {
	c.handler.Store(&f)
	c.readers.Lock()
	defer c.readers.Unlock()
	c.stream.slack()
	_, _ = c.heed() // a descriptor that the kernel does not know fails whoever reads it
}

// Detach ends what Attach began. A call of the handler that is under way may still go on.
func (c *Conn) Detach() {
	c.handler.Store(nil)
	signal(c.readable) // what the loop has reported to the handler, a reader must look at itself
}

// Spilled reports whether something written is still waiting to be sent.
func (c *Conn) Spilled() bool {
	c.sending.Lock()
	defer c.sending.Unlock()
	return len(c.spill) > 0
}

// Ended reports whether the peer has sent all that it will send. There may be more to read, but no more news of it.
func (c *Conn) Ended() bool { return c.ended.Load() }

// happened is called by the loop with what epoll has reported.
func (c *Conn) happened(events uint32) {
	const ended = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	if events&ended != 0 || events&syscall.EPOLLOUT != 0 && c.full.Load() {
		c.sending.Lock()
		c.full.Store(false)
		c.drain()
		c.sending.Unlock()
		signal(c.writable)
	}
	if events&(syscall.EPOLLIN|ended) == 0 {
		return
	}
	if events&ended != 0 {
		c.ended.Store(true)
	}
	if f := c.handler.Load(); f != nil {
		(*f)()
		return
	}
	signal(c.readable)
}

// Read implements [net.Conn].
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, ready, err := c.TryRead(b)
		if ready || err != nil {
			return n, err
		}
		if err := c.AwaitRead(); err != nil {
			return 0, err
		}
	}
}

// TryRead is a Read that is not ready where Read would wait. With [Conn.AwaitRead] it lets a reader do without a buffer
// while it waits.
func (c *Conn) TryRead(b []byte) (n int, ready bool, err error) {
	c.readers.Lock()
	defer c.readers.Unlock()
	for {
		if c.readBy.over.Load() {
			signal(c.readable) // for another reader
			return 0, false, c.fail("read", os.ErrDeadlineExceeded)
		}
		n, errno := receive(c.fd, b)
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, false, nil
		}
		c.stream.read(n, len(b))
		if n <= 0 || n == len(b) { // there is more for another reader, who has not been told of it
			signal(c.readable)
		}
		switch {
		case errno != 0:
			return 0, false, c.failed("read", "recvfrom", errno)
		case n == 0:
			return 0, true, io.EOF
		default:
			return n, true, nil
		}
	}
}

// AwaitRead waits until a Read that would wait may have become one that does not: there is something to read, the
// deadline has passed, the connection is closed, or none of these. Attached, it returns [ErrAgain] at once.
func (c *Conn) AwaitRead() error {
	if c.handler.Load() != nil {
		return ErrAgain
	}
	c.readers.Lock()
	changed, err := c.heed()
	much := c.stream.much
	c.readers.Unlock()
	switch {
	case err != nil:
		return err
	case much:
		c.awaitMuch()
	case changed: // what is there has perhaps not been reported
	default:
		<-c.readable
	}
	return nil
}

// Write implements [net.Conn]. Detached, a Write of nothing waits until what was spilled has been sent.
func (c *Conn) Write(b []byte) (int, error) {
	c.writers.Lock()
	defer c.writers.Unlock()
	return c.write(b)
}

// write is Write with writers held.
func (c *Conn) write(b []byte) (int, error) {
	done := 0
	for {
		if c.writeBy.over.Load() {
			return done, c.fail("write", os.ErrDeadlineExceeded)
		}
		n, wait, err := c.offer(b[done:])
		if done += n; err != nil || !wait {
			return done, err
		}
		<-c.writable
	}
}

// offer sends what can be sent of b, behind what has been spilled, and reports whether to wait for more.
func (c *Conn) offer(b []byte) (n int, wait bool, err error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.drain()
	if c.spillFail != nil {
		return 0, false, c.spillFail
	}
	if len(c.spill) == 0 {
		var errno syscall.Errno
		if n, errno = c.push(b); n == len(b) {
			return n, false, nil
		}
		if errno != syscall.EAGAIN {
			return n, false, c.failed("write", "sendto", errno)
		}
	}
	if c.handler.Load() == nil {
		return n, true, nil
	}
	c.spill = append(c.spill, b[n:]...)
	return len(b), false, nil
}

// drain sends what was spilled. sending is held.
func (c *Conn) drain() {
	if len(c.spill) == 0 {
		return
	}
	n, errno := c.push(c.spill)
	switch c.spill = c.spill[n:]; {
	case len(c.spill) == 0:
		c.spill = nil
	case errno != syscall.EAGAIN:
		c.spill, c.spillFail = nil, c.failed("write", "sendto", errno)
	}
}

// push sends what can be sent of b, or says why not. sending is held.
func (c *Conn) push(b []byte) (n int, errno syscall.Errno) {
	for n < len(b) {
		k, errno := send(c.fd, b[n:])
		switch {
		case errno == 0:
			n += k
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN && !c.full.Swap(true):
			// The loop heeds news of room from now on. What it heard of before, it has not told: look again.
		default:
			return n, errno
		}
	}
	return n, 0
}

// CloseWrite tells the peer that nothing more will come, once everything written has been sent. The connection must
// not be attached.
func (c *Conn) CloseWrite() error {
	c.writers.Lock()
	defer c.writers.Unlock()
	if _, err := c.write(nil); err != nil {
		return err
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.fd < 0 {
		return c.fail("close", net.ErrClosed)
	}
	if err := syscall.Shutdown(c.fd, syscall.SHUT_WR); err != nil {
		return c.fail("close", os.NewSyscallError("shutdown", err))
	}
	return nil
}

// Close implements [net.Conn]. What waits in Read or Write ends with [net.ErrClosed].
func (c *Conn) Close() error {
	c.readers.Lock()
	defer c.readers.Unlock()
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.fd < 0 {
		return c.fail("close", net.ErrClosed)
	}
	c.loop.forget(c.fd)
	err := syscall.Close(c.fd) // which takes it out of epoll
	c.fd = -1
	close(c.closed)
	signal(c.readable)
	signal(c.writable)
	if f := c.handler.Load(); f != nil {
		go (*f)()
	}
	c.readBy.set(time.Time{})
	c.writeBy.set(time.Time{})
	if err != nil {
		return c.fail("close", os.NewSyscallError("close", err))
	}
	return nil
}

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.move(&c.readBy, t) }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.move(&c.writeBy, t) }

func (c *Conn) move(d *deadline, t time.Time) error {
	if isClosed(c.closed) {
		return c.fail("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

// failed words an error of the system.
func (c *Conn) failed(op, call string, errno syscall.Errno) error {
	if errno == syscall.EBADF && isClosed(c.closed) {
		return c.fail(op, net.ErrClosed)
	}
	return c.fail(op, os.NewSyscallError(call, errno))
}

func (c *Conn) fail(op string, err error) error {
	network := "tcp"
	if c.remote != nil {
		network = c.remote.Network()
	}
	return &net.OpError{Op: op, Net: network, Source: c.local, Addr: c.remote, Err: err}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
