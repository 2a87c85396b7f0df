package netloop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// maxEvents is how many connections one look at epoll may report.
const maxEvents = 128

// yieldEvery is how long the loop goes on without a word to Go's scheduler. After 10 ms of that the runtime's monitor would
// take the processor from it at each wait, which makes the monitor look every 20 µs: a tenth of all that a relay costs, and
// more where many others want the processor and one look at epoll finds work for as long.
const yieldEvery = 8 * time.Millisecond

// eventsPerClock is how many events share one look at the clock.
const eventsPerClock = 16

// interest is what a connection is watched for, each new occurrence once. It is registered for as long as the
// connection lives: nothing has to be asked again when a goroutine takes over from the loop or back.
const interest = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | syscall.EPOLLET&0xffffffff

// Loop watches connections. Its methods are safe for concurrent use.
type Loop struct {
	epoll int
	wake  [2]int // a pipe that ends Run
	over  atomic.Bool

	conns atomic.Pointer[[]atomic.Pointer[Conn]] // by descriptor; only Run reads it without mu

	mu     sync.Mutex // guards below, and changes of conns
	number int32      // of the last connection adopted
}

// New returns a Loop that is to be Run. It fails where the system has no epoll or no descriptor left.
func New() (*Loop, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open event loop: %w", err)
	}
	l := &Loop{epoll: epoll}
	l.conns.Store(&[]atomic.Pointer[Conn]{})
	if err := syscall.Pipe2(l.wake[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		syscall.Close(epoll)
		return nil, fmt.Errorf("open event loop: %w", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(l.wake[0])}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, l.wake[0], &event); err != nil {
		l.release()
		return nil, fmt.Errorf("open event loop: %w", err)
	}
	return l, nil
}

// Run serves the connections until Close. It must be called once; its goroutine is the one that handlers run on.
func (l *Loop) Run() error {
	defer l.release()
	// Otherwise each yield has another thread take the loop over, which was on another processor; with little to do Linux then
	// moved it at every wake-up, and its caches were cold.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	served, yielded := 0, time.Now()
	events := make([]syscall.EpollEvent, maxEvents)
	for {
		n, err := syscall.EpollWait(l.epoll, events, -1)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for connections: %w", err)
		}
		for i := range events[:n] {
			e := &events[i]
			if e.Fd == int32(l.wake[0]) {
				return nil
			}
			if c := l.conn(e); c != nil {
				c.happened(e.Events)
			}
			if served++; served%eventsPerClock == 0 && time.Since(yielded) > yieldEvery {
				runtime.Gosched()
				yielded = time.Now()
			}
		}
	}
}

// Close ends Run. Connections that are still open must not be used any more.
func (l *Loop) Close() {
	if l.over.CompareAndSwap(false, true) {
		_, _ = syscall.Write(l.wake[1], []byte{0}) // the pipe is empty
	}
}

func (l *Loop) release() {
	syscall.Close(l.epoll)
	syscall.Close(l.wake[0])
	syscall.Close(l.wake[1])
}

// Adopt makes conn, a plain TCP or Unix connection, one of the loop's. Nothing may be using conn; it is closed, unless
// Adopt fails: then it is as it was.
func (l *Loop) Adopt(conn net.Conn) (*Conn, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("adopt connection: %w", errors.ErrUnsupported)
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("adopt connection: %w", err)
	}
	fd := -1
	var dupErr error
	err = control.Control(func(old uintptr) {
		n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			dupErr = os.NewSyscallError("fcntl", errno)
			return
		}
		fd = int(n)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return nil, fmt.Errorf("adopt connection: %w", err)
	}
	c := &Conn{
		loop: l, fd: fd, local: conn.LocalAddr(), remote: conn.RemoteAddr(),
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	c.readBy.wake, c.writeBy.wake = c.readable, c.writable
	l.mu.Lock()
	l.number++
	c.number = l.number
	l.place(fd, c)
	l.mu.Unlock()
	event := syscall.EpollEvent{Events: interest, Fd: int32(fd), Pad: c.number}
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		l.forget(fd)
		syscall.Close(fd)
		return nil, fmt.Errorf("adopt connection: %w", err)
	}
	// This takes the original out of the runtime's own poller, which would otherwise wake for each message too.
	conn.Close()
	return c, nil
}

// place enters c under its descriptor. mu is held.
func (l *Loop) place(fd int, c *Conn) {
	conns := *l.conns.Load()
	if fd >= len(conns) {
		grown := make([]atomic.Pointer[Conn], 2*fd+1)
		for i := range conns {
			grown[i].Store(conns[i].Load())
		}
		conns = grown
		l.conns.Store(&grown)
	}
	conns[fd].Store(c)
}

// conn returns the connection that an event is of, which was entered before epoll was told of it; nil if it is closed.
func (l *Loop) conn(e *syscall.EpollEvent) *Conn {
	c := (*l.conns.Load())[e.Fd].Load()
	if c == nil || c.number != e.Pad { // it is another that has the descriptor now
		return nil
	}
	return c
}

func (l *Loop) forget(fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	(*l.conns.Load())[fd].Store(nil)
}

// receive and send never wait, so they need not tell the scheduler.
func receive(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), //nolint:gosec // the kernel keeps to b's length
		syscall.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func send(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), //nolint:gosec // the kernel keeps to b's length
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}
